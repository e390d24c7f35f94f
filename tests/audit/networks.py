"""Networks of somebody else that say they are binary, each with one thing wrong, and some with nothing."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 32


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


class Conv(nn.Conv2d):
    """Binarizes its real-valued weights for every use, as most codes do: its type says nothing of that."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True)
        return F.conv2d(x, _sign(self.weight) * scale, self.bias, padding=self.padding)


class OneChannelReal(nn.Conv2d):
    """Forgets its fourth output channel."""

    def forward(self, x: Tensor) -> Tensor:
        signs = _sign(self.weight)
        return F.conv2d(x, torch.cat([signs[:3], self.weight[3:4], signs[4:]]), padding=self.padding)


class Block(nn.Module):
    def __init__(self, sign: Callable[[Tensor], Tensor], conv: nn.Module, hidden: nn.Module | None = None) -> None:
        super().__init__()
        self.sign, self.conv, self.bn, self.hidden = sign, conv, nn.BatchNorm2d(WIDTH), hidden

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(self.sign(x)))
        return out + (x if self.hidden is None else self.hidden(x))


class Network(nn.Module):
    """A real-valued stem, two blocks of which the second is in question, and a classifier; for 28×28."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, stride=2, padding=1)
        self.first = Block(_sign, Conv(WIDTH, WIDTH, 3, padding=1, bias=False))
        self.second = block
        self.fc = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.second(self.first(self.stem(images)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def around(block: nn.Module) -> nn.Module:
    """A block of the zoo between a real-valued stem and a classifier."""
    stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), nn.BatchNorm2d(WIDTH))
    return nn.Sequential(stem, block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))


def _plain(bias: bool = False) -> nn.Module:
    return Conv(WIDTH, WIDTH, 3, padding=1, bias=bias)


def honest() -> nn.Module:
    return Network(Block(_sign, _plain()))


def estimator() -> nn.Module:
    """Its sign is ``sign(x) - y + y`` with the masks of a piecewise polynomial, as in ReActNet's released code."""

    def binarize(x: Tensor) -> Tensor:
        below, middle, above = ((x < edge).float() for edge in (-1, 0, 1))
        y = -(1 - below) + (x * x + 2 * x) * (1 - middle) + (2 * x - x * x) * above * middle
        return torch.sign(x) - y + y

    return Network(Block(binarize, _plain()))


def hidden() -> nn.Module:
    return Network(Block(_sign, _plain(), hidden=nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)))


def hidden_linear() -> nn.Module:
    """Real-valued linear layers on a map whose channels are last, as in the MLP of a transformer."""

    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widen, narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), widen, nn.ReLU(), narrow)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.mlp(x.permute(0, 2, 3, 1).contiguous())
            return out.permute(0, 3, 1, 2)

    return _between(Mixes())


def hidden_bottleneck() -> nn.Module:
    """Real-valued 1×1 convolutions to other channels and back, on a map that stays as it is."""
    return _between(nn.Sequential(nn.Conv2d(WIDTH, 4 * WIDTH, 1), nn.ReLU(), nn.Conv2d(4 * WIDTH, WIDTH, 1)))


def hidden_on_one_pixel() -> nn.Module:
    """A real-valued 3×3 convolution on a map of one pixel."""
    return _between(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.Upsample(scale_factor=14))
    )


def gate() -> nn.Module:
    """A real-valued 1×1 convolution of pooled features."""
    return _between(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, WIDTH, 1), nn.Upsample(scale_factor=14)))


def downsampling(shortcut: nn.Module) -> nn.Module:
    """A binary layer of stride 2 beside a real-valued 1×1 convolution."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.shortcut = _plain(), shortcut

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(_sign(x))[:, :, ::2, ::2].repeat(1, 2, 1, 1) + self.shortcut(x)
            return out[:, :WIDTH]

    return _between(Halves())


def blurred(blur: nn.Module) -> nn.Module:
    """A depthwise convolution between two binary layers."""
    return _between(blur)


def _between(hidden: nn.Module) -> nn.Module:
    """With another binary layer behind."""
    return Network(nn.Sequential(Block(_sign, _plain(), hidden=nn.Identity()), hidden, Block(_sign, _plain())))


def of_black_and_white() -> nn.Module:
    """It is given images that a scale and a shift have not made real-valued."""

    class Posterized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = honest()

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network((images - 0.5) / 0.25)
            return logits

    return Posterized()


class Twice(nn.Module):
    """A network that looks at each image and at its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.network = honest()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images) + self.network(images.flip(3))
        return logits


class TwoWeights(nn.Module):
    """A binary and a real-valued convolution of equal shape in one module, on the same signs."""

    def __init__(self) -> None:
        super().__init__()
        self.real = nn.Parameter(0.1 * torch.randn(WIDTH, WIDTH, 3, 3))
        self.binary = nn.Parameter(0.1 * torch.randn(WIDTH, WIDTH, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _sign(self.binary), padding=1) + F.conv2d(x, self.real, padding=1)


def two_weights() -> nn.Module:
    return Network(Block(_sign, TwoWeights()))


def scale_of_batch() -> nn.Module:
    """2-bit activations, the largest of which is that of the batch."""

    def quantize(x: Tensor) -> Tensor:
        step = x.max() / 3
        return torch.round(x.relu() / step) * step

    return Network(Block(quantize, _plain()))


class TwoBranches(nn.Module):
    """Two binary convolutions that compare the same map with 0, each for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _plain(), _plain()
        self.zeros = 0  # of the latest eight images' maps

    def forward(self, x: Tensor) -> Tensor:
        x = F.softshrink(x, 0.1)
        if len(x) == 8:
            self.zeros = int((x == 0).sum())
        out: Tensor = self.first(_sign(x)) + self.second(_sign(x))
        return out


def masks_before_sign() -> nn.Module:
    """The sign of a clipped map, behind the masks of its estimator's derivative."""

    def binarize(x: Tensor) -> Tensor:
        x = (100 * x).clip(-1, 1)
        outside = (x <= -1) | (x >= 1)
        return torch.where(outside, torch.sign(x), torch.sign(x))

    return Network(Block(binarize, _plain()))


class BinaryLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(_sign(x), _sign(self.weight))


def flat() -> nn.Module:
    """Linear layers alone, the last binary one of which is given nothing but ones."""
    return nn.Sequential(
        nn.Flatten(), BinaryLinear(3 * 28 * 28, WIDTH), nn.ReLU(), BinaryLinear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)
    )


def average() -> nn.Module:
    """An average pooling that is written as a convolution."""
    pooling = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)
    nn.init.constant_(pooling.weight, 1 / 9)
    return Network(Block(_sign, _plain(), hidden=pooling))


def always_on_the_threshold() -> nn.Module:
    return Network(Block(lambda x: _sign(0 * x), _plain()))


def hidden_product() -> nn.Module:
    class Mixes(nn.Module):
        """A real-valued 1×1 convolution that is no module."""

        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(WIDTH, WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("nchw,cd->ndhw", x, self.matrix)

    return Network(Block(_sign, _plain(), hidden=Mixes()))


def zeros_of_relu() -> nn.Module:
    """``torch.sign`` behind a ReLU: 0 and +1."""
    return Network(Block(lambda x: torch.sign(x.relu()), _plain()))


def zeros_of_shrinking() -> nn.Module:
    """``torch.sign`` of what is 0 where it was small: three values."""
    return Network(Block(lambda x: torch.sign(F.softshrink(x, 0.01)), _plain()))


def bias() -> nn.Module:
    return Network(Block(_sign, _plain(bias=True)))


def bias_after_sign() -> nn.Module:
    return Network(Block(lambda x: _sign(x) + 0.25, _plain()))


def scale_of_channels() -> nn.Module:
    return Network(Block(lambda x: _sign(x) * torch.linspace(1, 2, WIDTH)[:, None, None], _plain()))


def one_real_channel() -> nn.Module:
    return Network(Block(_sign, OneChannelReal(WIDTH, WIDTH, 3, padding=1, bias=False)))


def some_real_inputs() -> nn.Module:
    """The sign is left out in the first of 32 channels."""
    return Network(Block(lambda x: torch.cat([x[:, :1], _sign(x[:, 1:])], dim=1), _plain()))


def no_binarization() -> nn.Module:
    return Network(Block(_sign, nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)))


def uneven_padding() -> nn.Module:
    """Zeros at the bottom and right, by itself."""
    return Network(Block(lambda x: F.pad(_sign(x), (0, 2, 0, 2)), Conv(WIDTH, WIDTH, 3, bias=False)))


def stored() -> nn.Module:
    """Ordinary convolutions that hold ±1."""
    network = Network(Block(_sign, nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)))
    with torch.no_grad():
        for parameter in network.second.parameters():
            if parameter.ndim == 4:
                parameter.copy_(_sign(parameter))
    return network
