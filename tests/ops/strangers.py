"""Networks of somebody else: two binary convolutions in plain torch, and between them what a test asks for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 32


class PlainBinaryConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.sign(), self.weight.sign(), None, self.stride, self.padding)


class Net(nn.Module):
    """For 32×32; its maps are 32×4×4."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.bn = nn.Conv2d(3, WIDTH, 3, 8, 1), nn.BatchNorm2d(WIDTH)
        self.first = PlainBinaryConv(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.second = PlainBinaryConv(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.between, self.fc = between, nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x))
        x = x + self.first(x)
        if self.between is not None:
            x = x + self.between(x)
        logits: Tensor = self.fc((x + self.second(x)).mean((2, 3)))
        return logits


class Between(nn.Module):
    """A function of the map, with a module and weights drawn at random."""

    def __init__(
        self,
        function: Callable[["Between", Tensor], Tensor],
        shape: tuple[int, ...] = (),
        module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.function, self.module, self.w = function, module, nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def map_of(t: Tensor, x: Tensor) -> Tensor:
    return t.transpose(1, 2).reshape(x.shape)


def on_tokens(module: nn.Module) -> nn.Module:
    def run(self: Between, x: Tensor) -> Tensor:
        assert self.module is not None
        out = self.module(tokens(x).contiguous())
        return map_of(out[0] if isinstance(out, tuple) else out, x)

    return Between(run, module=module)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.w).sigmoid()


class Units(nn.ModuleList):
    """That share a map, and whose results are added up."""

    def forward(self, x: Tensor) -> Tensor:
        return sum((unit(x) for unit in self), start=torch.zeros(1))


class Bilinear(nn.Bilinear):
    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return super().forward(x, x)


class Attention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        out: Tensor = super().forward(x, x, x, need_weights=False)[0]
        return out


def loop_over_outputs(self: Between, x: Tensor) -> Tensor:
    return map_of(torch.stack([(tokens(x) * row).sum(-1) for row in self.w], -1), x)


def loop_over_inputs(self: Between, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i in range(WIDTH):
        out += x[:, i : i + 1] * self.w[i][:, None, None]
    return out


def shifts(self: Between, x: Tensor) -> list[Tensor]:
    padded, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
    return [
        padded[:, :, i : i + height, j : j + width] * self.w[:, i, j, None, None] for i in range(3) for j in range(3)
    ]


def _columns(self: Between) -> Tensor:
    return self.w[:, :, None, None]


def _distances_and_layer(self: Between, x: Tensor) -> Tensor:
    assert isinstance(self.module, nn.Linear)
    self.module.weight.data.fill_(1)
    return map_of(self.module((tokens(x)[:, :, None] - self.w).abs())[..., 0], x)


def convolution_by_fft(self: Between, x: Tensor) -> Tensor:
    size = x.shape[2:]
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * torch.fft.rfft2(self.w, s=size), s=size)
    return out


def dot_product_attention(self: Between, x: Tensor) -> Tensor:
    q = tokens(x)[:, None]
    return map_of(F.scaled_dot_product_attention(q, q, q)[:, 0], x)


def in_inference_mode(self: Between, x: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = F.conv2d(x, self.w[:, :, None, None]).clone()
        return out


_WIDE = (WIDTH, WIDTH)
_LINEAR = WIDTH * WIDTH * 16

# ruff: noqa: E501
# name -> what is between, and its real multiply-accumulates for one image
REAL: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "attention": (lambda: on_tokens(Attention(WIDTH, 4, batch_first=True)), 4 * _LINEAR + 2 * 16 * 16 * WIDTH),
    "attention of a function": (
        lambda: Between(dot_product_attention),
        2 * 16 * 16 * WIDTH,
    ),
    "encoder": (
        lambda: on_tokens(nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True)),
        4 * _LINEAR + 2 * 16 * 16 * WIDTH + 4 * _LINEAR,
    ),
    "lstm": (lambda: on_tokens(nn.LSTM(WIDTH, WIDTH, batch_first=True)), 8 * _LINEAR),
    "gru": (lambda: on_tokens(nn.GRU(WIDTH, WIDTH, batch_first=True)), 6 * _LINEAR),
    "rnn": (lambda: on_tokens(nn.RNN(WIDTH, WIDTH, batch_first=True)), 2 * _LINEAR),
    "bilinear": (lambda: on_tokens(Bilinear(WIDTH, WIDTH, WIDTH)), 16 * WIDTH**3),
    "einsum": (lambda: Between(lambda self, x: torch.einsum("nchw,dc->ndhw", x, self.w), _WIDE), _LINEAR),
    "activations": (lambda: Between(lambda self, x: map_of(tokens(x) @ x.flatten(2) @ tokens(x), x)), 2 * 16 * 16 * WIDTH),
    "weights first": (lambda: Between(lambda self, x: (self.w @ x.flatten(2)).reshape(x.shape), _WIDE), _LINEAR),
    "multiply and sum": (
        lambda: Between(lambda self, x: map_of((tokens(x)[:, :, None] * self.w).sum(-1), x), _WIDE),
        _LINEAR,
    ),
    "multiply, copy and sum": (
        lambda: Between(
            lambda self, x: (x[:, None] * self.w[:, :, None, None]).permute(0, 1, 3, 4, 2).contiguous().sum(-1), _WIDE
        ),
        _LINEAR,
    ),
    "repeat, multiply and average": (
        lambda: Between(lambda self, x: (x[:, None].repeat(1, WIDTH, 1, 1, 1) * self.w[:, :, None, None]).mean(2), _WIDE),
        _LINEAR,
    ),
    "divide and sum": (
        lambda: Between(lambda self, x: (x[:, None] / self.w[:, :, None, None]).sum(2), _WIDE),
        _LINEAR,
    ),
    "multiply and norm": (
        lambda: Between(lambda self, x: (x[:, None] * self.w[:, :, None, None]).norm(dim=2), _WIDE),
        _LINEAR,
    ),
    "multiply and ones": (
        lambda: Between(lambda self, x: map_of(((tokens(x)[:, :, None] * self.w) @ torch.ones(WIDTH, 1))[..., 0], x), _WIDE),
        _LINEAR,
    ),
    "loop over outputs": (lambda: Between(loop_over_outputs, _WIDE), _LINEAR),
    "loop over inputs": (lambda: Between(loop_over_inputs, _WIDE), _LINEAR),
    "shifts": (lambda: Between(lambda self, x: sum(shifts(self, x), start=torch.zeros(1)), (WIDTH, 3, 3)), 9 * WIDTH * 16),
    "stacked shifts": (lambda: Between(lambda self, x: torch.stack(shifts(self, x)).sum(0), (WIDTH, 3, 3)), 9 * WIDTH * 16),
    "unfold": (
        lambda: Between(
            lambda self, x: (F.unfold(x, 3, padding=1)[:, None] * self.w[..., None]).sum(2).reshape(x.shape),
            (WIDTH, 9 * WIDTH),
        ),
        9 * _LINEAR,
    ),
    "vectors": (
        lambda: Between(lambda self, x: map_of(torch.stack([torch.stack([self.w.mv(v) for v in t]) for t in tokens(x)]), x), _WIDE),
        _LINEAR,
    ),
    "inference mode": (lambda: Between(in_inference_mode, _WIDE), _LINEAR),
}  # fmt: skip

# name -> what is between, and a part of the name of the operation that nobody can look into
UNKNOWN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "fft": (lambda: Between(convolution_by_fft, (WIDTH, 3, 3)), "aten._fft_r2c"),
    "distances": (lambda: Between(lambda self, x: map_of(torch.cdist(tokens(x), self.w), x), _WIDE), "_dist"),
    "grid": (lambda: Between(lambda self, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False)), "grid_sampler"),
    "numpy": (lambda: Between(lambda self, x: torch.from_numpy(x.detach().numpy() * 2)), "Tensor.numpy"),
    "list": (lambda: Between(lambda self, x: torch.tensor(x.tolist())), "Tensor.tolist"),
    "bags": (
        lambda: Between(
            lambda self, x: map_of(
                F.embedding_bag(
                    torch.arange(WIDTH).repeat(x.numel() // WIDTH, 1), self.w, mode="sum",
                    per_sample_weights=tokens(x).reshape(-1, WIDTH),
                ).reshape(tokens(x).shape),
                x,
            ),
            _WIDE,
        ),
        "_embedding_bag",
    ),
    "custom": (lambda: Between(lambda self, x: torch.ops.strangers.twice(x)), "strangers.twice"),
}  # fmt: skip

# name -> what is between: real-valued layers that are no products, and the operations that tell
NO_PRODUCTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "distances of tokens": (
        lambda: Between(lambda self, x: map_of(-(tokens(x)[:, :, None] - self.w).abs().sum(-1), x), _WIDE),
        "aten.sub with aten.sum",
    ),
    "product through logarithms": (
        lambda: Between(
            lambda self, x: map_of(((tokens(x).abs() + 1).log()[:, :, None] + self.w.abs().log()).exp().sum(-1), x), _WIDE
        ),
        "aten.add with aten.sum",
    ),
    "distances of patches": (
        lambda: Between(
            lambda self, x: (F.unfold(x, 3, padding=1)[:, None] - self.w[..., None]).abs().sum(2).reshape(x.shape),
            (WIDTH, 9 * WIDTH),
        ),
        "aten.sub with aten.sum",
    ),
    "maximum of sums": (lambda: Between(lambda self, x: (x[:, None] + _columns(self)).amax(2), _WIDE), "aten.add with aten.amax"),
    "minimum": (lambda: Between(lambda self, x: torch.minimum(x[:, None], _columns(self)).mean(2), _WIDE), "aten.minimum with aten.mean"),
    "power": (lambda: Between(lambda self, x: (x.abs()[:, None] ** _columns(self)).sum(2), _WIDE), "aten.pow with aten.sum"),
    "rectified product": (lambda: Between(lambda self, x: (x[:, None] * _columns(self)).relu().sum(2), _WIDE), "aten.mul with aten.sum"),
    "comparison": (lambda: Between(lambda self, x: (x[:, None] > _columns(self)).float().sum(2), _WIDE), "aten.gt with aten.sum"),
    "norm": (lambda: Between(lambda self, x: (x[:, None] - _columns(self)).norm(dim=2), _WIDE), "aten.sub with aten.linalg_vector_norm"),
    "logsumexp": (lambda: Between(lambda self, x: (x[:, None] + _columns(self)).logsumexp(2), _WIDE), "aten.add with aten.logsumexp"),
    "quarter squares": (
        lambda: Between(lambda self, x: ((x[:, None] + _columns(self)) ** 2 - (x[:, None] - _columns(self)) ** 2).sum(2), _WIDE),
        "aten.sub with aten.s",
    ),
    "sum as a product with ones": (
        lambda: Between(
            lambda self, x: map_of(((tokens(x)[:, :, None] - self.w).abs() @ torch.ones(WIDTH, 1))[..., 0], x), _WIDE
        ),
        "aten.sub with aten.bmm",
    ),
    "sum as a layer of ones": (lambda: Between(_distances_and_layer, _WIDE, nn.Linear(WIDTH, 1, bias=False)), "aten.sub with aten."),
    "repeated first": (
        lambda: Between(lambda self, x: (x[:, None].repeat(1, WIDTH, 1, 1, 1) - _columns(self)).abs().sum(2), _WIDE),
        "aten.sub with aten.sum",
    ),
    "expanded and copied first": (
        lambda: Between(
            lambda self, x: (x[:, None].expand(-1, WIDTH, -1, -1, -1).contiguous() - _columns(self)).abs().sum(2), _WIDE
        ),
        "aten.sub with aten.sum",
    ),
    "added piece by piece": (
        lambda: Between(lambda self, x: sum((x[:, None] - _columns(self)).abs().unbind(2), start=torch.zeros(1)), _WIDE),
        "aten.sub with aten.add",
    ),
    "loop over outputs": (
        lambda: Between(lambda self, x: map_of(torch.stack([(tokens(x) - row).abs().sum(-1) for row in self.w], -1), x), _WIDE),
        "aten.sub with aten.sum",
    ),
    "loop over inputs": (
        lambda: Between(
            lambda self, x: sum(((x[:, i : i + 1] - self.w[i][:, None, None]).abs() for i in range(WIDTH)), start=torch.zeros(1)), _WIDE
        ),
        "aten.sub with aten.add",
    ),
    "distances between tokens": (
        lambda: Between(
            lambda self, x: x * (tokens(x)[:, :, None] - tokens(x)[:, None]).abs().sum(-1).mean(-1).reshape(-1, 1, 4, 4)
        ),
        "aten.sub with aten.sum",
    ),
}  # fmt: skip

# what ordinary binary networks have between their convolutions
HARMLESS: dict[str, Callable[[], nn.Module]] = {
    "layer scale": lambda: Between(lambda self, x: x * self.w, (WIDTH, 1, 1)),
    "scaled shortcut": lambda: Between(lambda self, x: x * self.w + x.relu() * self.w[0], (WIDTH, 1, 1)),
    "three branches": lambda: Between(lambda self, x: x * self.w + x * self.w.abs() + x * self.w.exp(), (WIDTH, 1, 1)),
    "hard-swish": lambda: Between(lambda self, x: x * F.relu6(x + 3) / 6),
    "swish": lambda: Between(lambda self, x: x * x.sigmoid()),
    "spatial gate": lambda: Between(lambda self, x: x * x.mean(1, keepdim=True).sigmoid()),
    "coordinates": lambda: Between(lambda self, x: x * (x.mean(3, keepdim=True) * x.mean(2, keepdim=True)).sigmoid()),
    "rms norm": lambda: Between(lambda self, x: x / x.square().mean(1, keepdim=True).sqrt() * self.w, (WIDTH, 1, 1)),
    "layer norm": lambda: on_tokens(nn.LayerNorm(WIDTH)),
    "unit length": lambda: Between(lambda self, x: F.normalize(x, dim=1)),
    "polynomial": lambda: Between(lambda self, x: x * self.w + x * x * self.w + x**3 * self.w, (WIDTH, 1, 1)),
    "parts with scales": lambda: Between(
        lambda self, x: torch.cat([part * w for part, w in zip(x.chunk(8, 1), self.w, strict=True)], 1), (8, 4, 1, 1)
    ),
    "prelu": lambda: nn.PReLU(WIDTH),
    "thresholds": lambda: Between(lambda self, x: (x[..., None] > self.w).float().sum(-1) / 8, (8,)),
    "soft thresholds": lambda: Between(lambda self, x: (x[..., None] - self.w).tanh().sum(-1), (8,)),
    "shifted soft thresholds": lambda: Between(
        lambda self, x: ((x[..., None] - self.w).tanh() + self.w).relu().sum(-1), (WIDTH, 1, 1, 8)
    ),
    "largest of two lines": lambda: Between(lambda self, x: (x[:, None] * self.w + self.w).amax(1), (2, WIDTH, 1, 1)),
    "thresholds of the image": lambda: Between(
        lambda self, x: x - x.mean((2, 3), keepdim=True) * self.w, (WIDTH, 1, 1)
    ),
    "biases and branches": lambda: Between(
        lambda self, x: (x + self.w).relu() + (x - self.w).sigmoid() - (x + self.w.exp()).mean(1, keepdim=True),
        (WIDTH, 1, 1),
    ),
    "added coordinates": lambda: Between(
        lambda self, x: F.normalize(x * (x.mean(3, keepdim=True) + x.mean(2, keepdim=True)).sigmoid(), dim=1)
    ),
    "gate of channels and places": lambda: Between(
        lambda self, x: x * (x.mean(1, keepdim=True) + x.mean((2, 3), keepdim=True)).sigmoid()
    ),
    "units that share a map": lambda: Units(Scale() for _ in range(6)),
    "places": lambda: Between(lambda self, x: map_of(F.layer_norm(tokens(x) + self.w, (WIDTH,)), x), (16, WIDTH)),
    "centred": lambda: Between(lambda self, x: (x + self.w) - (x + self.w).mean(1, keepdim=True), (WIDTH, 1, 1)),
    "pooling": lambda: nn.AvgPool2d(3, 1, 1),
}


def _signs(self: nn.Conv2d) -> Tensor:
    return self.weight.sign().flatten(1)


def _among_zeros(x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), WIDTH, 6, 6)
    out[:, :, 1:-1, 1:-1] = x.sign()
    return out


def _joined_to_zeros(x: Tensor) -> Tensor:
    row, column = torch.zeros(len(x), WIDTH, 1, 4), torch.zeros(len(x), WIDTH, 6, 1)
    return torch.cat([column, torch.cat([row, x.sign(), row], 2), column], 3)


def _patches_by_views(x: Tensor) -> Tensor:
    views = F.pad(x.sign(), (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
    return views.permute(0, 2, 3, 1, 4, 5).reshape(len(x), 16, -1)


def _patches_by_shifts(x: Tensor) -> Tensor:
    padded = F.pad(x.sign(), (1, 1, 1, 1))
    return (
        torch.stack([padded[:, :, i : i + 4, j : j + 4] for i in range(3) for j in range(3)], 2)
        .flatten(1, 2)
        .flatten(2)
    )


# a binary convolution with a padding of zeros, otherwise than by torch's own padding
PADDED: dict[str, Callable[[nn.Conv2d, Tensor], Tensor]] = {
    "weights first": lambda self, x: (_signs(self) @ F.unfold(x.sign(), 3, padding=1)).reshape(x.shape),
    "patches first": lambda self, x: map_of(F.unfold(x.sign(), 3, padding=1).transpose(1, 2) @ _signs(self).t(), x),
    "signs last": lambda self, x: torch.einsum(
        "ok,nkl->nol", _signs(self), F.unfold(F.pad(x, (1, 1, 1, 1)), 3).sign()
    ).reshape(x.shape),
    "scaled": lambda self, x: (_signs(self) @ (F.unfold(x.sign(), 3, padding=1) * x.abs().mean())).reshape(x.shape),
    "views": lambda self, x: map_of(F.linear(_patches_by_views(x), _signs(self)), x),
    "shifts": lambda self, x: (_signs(self) @ _patches_by_shifts(x)).reshape(x.shape),
    "among zeros": lambda self, x: F.conv2d(_among_zeros(x), self.weight.sign()),
    "joined to zeros": lambda self, x: F.conv2d(_joined_to_zeros(x), self.weight.sign()),
}


class Padded(nn.Conv2d):
    """Computes as one of these."""

    def __init__(self, function: Callable[[nn.Conv2d, Tensor], Tensor]) -> None:
        super().__init__(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)
