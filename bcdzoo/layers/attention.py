"""Attention whose two products are of bits (BinaryViT), and the parts that stand around it on maps."""

import math

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.binaryvit import one_bit
from bcdzoo.layers.quantizers.sign import RSign


class BinaryAttention(nn.Module):
    """``level·one_bit(softmax(sign(Q)ᵀ·sign(K) / √d))·sign(V)`` of the pixels of maps, in each head by itself.

    The signs have a learned shift for each channel. A weight of attention is 1 bit, 0 or the learned level, so both
    products are of bits: of ±1 and ±1, and of 0 or 1 and ±1.

    Args:
        channels: C.
        heads: Heads, each of ``d = C / heads`` channels.

    Shape:
        Queries (N, C, H, W), keys and values (N, C, h, w), real-valued, to (N, C, H, W).
    """

    w_bits, a_bits = 1, 1

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = RSign(channels), RSign(channels), RSign(channels)
        self.level = nn.Parameter(torch.tensor(0.005))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            sign(x).flatten(2).unflatten(1, (self.heads, -1))  # (N, heads, d, pixels)
            for sign, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        weights = ((q.mT @ k) / math.sqrt(q.shape[2])).softmax(-1)
        out: Tensor = (v @ one_bit(weights, self.level).mT) * self.level
        return out.reshape(query.shape)

    def lower(self, plan: Lowering, query: Value, key: Value, value: Value) -> Value:
        return plan.add(
            "binary_attention",
            query=query,
            key=key,
            value=value,
            query_threshold=-self.query.bias,
            key_threshold=-self.key.bias,
            value_threshold=-self.value.bias,
            level=self.level.flatten(),
            heads=self.heads,
            divisor=math.sqrt(query.shape[0] // self.heads),
        )

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        signs = sum(x.numel() for x in inputs)
        pairs = output[:, 0].numel() * inputs[1][0, 0].numel()  # of a query and a key
        weights = self.heads * pairs
        return {"binary_mac": 2 * output.shape[1] * pairs, "sign": signs + weights, "activation": weights}

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class PositionEmbedding(nn.Module):
    """A learned number for each channel and pixel, added to a map; (N, C, side, side).

    Args:
        channels: C.
        side: Height and width of the map.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, side * side, channels), std=0.02))

    def _map(self) -> Tensor:
        by_pixel: Tensor = self.weight[0].mT.unflatten(1, (self.side, self.side))
        return by_pixel

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.side, self.side):
            raise BcdzooError(
                f"its positions are those of a map of {self.side}×{self.side}, not of {x.shape[2]}×{x.shape[3]}: "
                "use images of the network's own input size"
            )
        return x + self._map()

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("add_map", x=x, map=self._map())

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"add": output.numel()}


class Upsample(nn.Module):
    """Each pixel ``factor``×``factor`` times; (N, C, H, W) to (N, C, factor·H, factor·W)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("upsample", x=x, factor=(self.factor, self.factor))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


class Affine(nn.Module):
    """``x·scale + shift`` with both learned for each channel; (N, C, H, W).

    Args:
        channels: C.
        scale: Initial scale.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("scale_shift", x=x, alpha=self.scale, beta=self.shift)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"norm": output.numel()}


class Repeat(nn.Module):
    """Shortcut of a layer with more channels: the map ``times`` times; (N, C, H, W) to (N, times·C, H, W)."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.times, dim=1)


class ChannelPool(nn.Module):
    """Shortcut of a layer with fewer channels: means of ``size`` neighbours; (N, C, H, W) to (N, C/size, H, W)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        means: Tensor = x.unflatten(1, (-1, self.size)).mean(2)
        return means

    def lower(self, plan: Lowering, x: Value) -> Value:
        groups = x.shape[0] // self.size
        return plan.add("conv", x=x, weight=torch.full((groups, self.size, 1, 1), 1 / self.size), relu=0, groups=groups)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"pool": output.numel()}
