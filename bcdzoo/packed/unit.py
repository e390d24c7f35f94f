"""Parts of a packed network: bit planes and constants of a binary convolution and its neighbours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

WORD = 64
"""Bits of a word."""

SHORTCUTS = ("none", "same", "average-pool", "duplicate", "given")
"""What is added to a unit's output: nothing, its input, that pooled 2×2, that twice, or a map that is given."""

SAMPLINGS = ("none", "short-range", "long-range")
"""How a branch samples its input (:mod:`bcdzoo.layers.shift`)."""


@dataclass(frozen=True)
class Shape:
    """The sizes and structure of a unit.

    Attributes:
        c_in: Input channels.
        c_out: Output channels.
        kernel: Height and width of the kernel.
        stride: Stride in pixels.
        padding: Number of zeros on every side.
        same_padding: Whether to use TensorFlow's padding "same" instead.
        shortcut: Name in :data:`SHORTCUTS`.
        activation_first: Whether the activation comes before the shortcut's addition.
        append: Whether to append the output to the input's channels.
        limit: Magnitude to which the result is clipped.
        zero_one: Whether the input's bits stand for 0 and 1 instead of -1 and +1.
        dynamic: Those of ``threshold``, ``gate`` and ``offset`` that differ by image.
        samplings: Name in :data:`SAMPLINGS` for each branch.
    """

    c_in: int
    c_out: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    same_padding: bool = False
    shortcut: str = "none"
    activation_first: bool = False
    append: bool = False
    limit: float = math.inf
    zero_one: bool = False
    dynamic: tuple[str, ...] = ()
    samplings: tuple[str, ...] = ("none",)

    @property
    def macs(self) -> int:
        """Binary multiply-accumulates of one output pixel."""
        return self.c_in * self.c_out * self.kernel**2 * len(self.samplings)

    def output_size(self, size: int) -> int:
        """Return the height or width of the output for that of the input."""
        if self.same_padding:
            return -(-size // self.stride)
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


class PackedUnit(nn.Module):
    """``Σ sums·scale``, gate and offset, inner PReLU, ``v·alpha + beta``, shortcut, PReLU between two shifts, limit.

    All buffers: of each branch ``planes{i}``, uint64 of shape (c_out, kernel², ⌈c_in/64⌉), bit c of a row being 1 where
    the weight of input channel c is +1, and ``scale{i}``; ``threshold``, of the input channels: a bit is
    ``x ≥ threshold``; ``alpha``, ``beta``, ``shift_in``, ``slope``,
    ``shift_out``, and perhaps ``inner_slope``, of the output channels; float32.

    Args:
        shape: Sizes and structure.
        levels: Weights of ±1 of each branch, (c_out, c_in, kernel, kernel).
        scales: Scales of each branch, (c_out,).
        constants: Buffers that are not neutral.
    """

    def __init__(self, shape: Shape, levels: list[Tensor], scales: list[Tensor], **constants: Tensor) -> None:
        super().__init__()
        self.shape = shape
        for i, (level, scale) in enumerate(zip(levels, scales, strict=True)):
            self.register_buffer(f"planes{i}", planes(level))
            self.register_buffer(f"scale{i}", scale.detach().float().clone())
        neutral = {"alpha": 1.0, "beta": 0.0, "shift_in": 0.0, "slope": 1.0, "shift_out": 0.0}
        for name, value in neutral.items():
            given = constants.get(name)
            self.register_buffer(name, torch.full((shape.c_out,), value) if given is None else _copy(given))
        if "inner_slope" in constants:
            self.register_buffer("inner_slope", _copy(constants["inner_slope"]))
        self.register_buffer("threshold", _copy(constants.get("threshold", torch.zeros(shape.c_in))))

    def describe(self) -> dict[str, Any]:
        """Return the description for the kernels."""
        shape = self.shape
        arrays = {name: buffer.numpy() for name, buffer in self.named_buffers()}
        return {
            "c_in": shape.c_in,
            "c_out": shape.c_out,
            "kernel": shape.kernel,
            "stride": shape.stride,
            "padding": shape.padding,
            "same_padding": shape.same_padding,
            "shortcut": SHORTCUTS.index(shape.shortcut),
            "activation_first": shape.activation_first,
            "append": shape.append,
            "limit": float(shape.limit),
            "zero_one": shape.zero_one,
            **{f"dynamic_{name}": name in shape.dynamic for name in ("threshold", "gate", "offset")},
            "branches": [
                {"planes": arrays[f"planes{i}"], "scale": arrays[f"scale{i}"], "sampling": SAMPLINGS.index(sampling)}
                for i, sampling in enumerate(shape.samplings)
            ],
            **{name: array for name, array in arrays.items() if not name.startswith(("planes", "scale"))},
        }


@dataclass(frozen=True)
class FloatLayer:
    """A real-valued convolution without bias, batch normalization as ``x·alpha + beta``, and perhaps ReLU."""

    conv: nn.Conv2d
    alpha: Tensor
    beta: Tensor
    relu: bool


class PackedStem(nn.Module):
    """A network's first layers, real-valued: torch's results, without its copies.

    Buffers, of each layer: ``weights{i}``, (c_out, c_in/groups, k, k), and ``alpha{i}`` and ``beta{i}``, (c_out,).

    Args:
        layers: Layers in sequence.
        pool: Kernel, stride and padding of the max pooling after them; (1, 1, 0) for none.
    """

    def __init__(self, layers: Sequence[FloatLayer], pool: tuple[int, int, int] = (1, 1, 0)) -> None:
        super().__init__()
        self.pool = pool
        self.sizes: list[dict[str, int]] = []
        for i, layer in enumerate(layers):
            conv = layer.conv
            self.sizes.append(
                {"stride": conv.stride[0], "padding": int(conv.padding[0]), "groups": conv.groups, "relu": layer.relu}
            )
            for name, values in ("weights", conv.weight), ("alpha", layer.alpha), ("beta", layer.beta):
                self.register_buffer(f"{name}{i}", _copy(values))

    def describe(self) -> dict[str, Any]:
        """Return the description for the kernels."""
        names = ("weights", "alpha", "beta")
        layers = [
            sizes | {name: self.get_buffer(f"{name}{i}").numpy() for name in names}
            for i, sizes in enumerate(self.sizes)
        ]
        return {"layers": layers} | dict(zip(("pool_kernel", "pool_stride", "pool_padding"), self.pool, strict=True))

    def output_size(self, size: int) -> int:
        """Return the height or width of the output for that of the input."""
        kernels = [self.get_buffer(f"weights{i}").shape[2] for i in range(len(self.sizes))]
        steps = [(k, sizes["stride"], sizes["padding"]) for k, sizes in zip(kernels, self.sizes, strict=True)]
        for kernel, stride, padding in (*steps, self.pool):
            size = (size + 2 * padding - kernel) // stride + 1
        return size


class PackedHalving(nn.Module):
    """Batch normalization, 2×2 max pooling (including the edges) and ReLU at a chain's end.

    Buffers: ``alpha`` and ``beta`` as of :class:`PackedUnit`.
    """

    def __init__(self, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.register_buffer("alpha", _copy(alpha))
        self.register_buffer("beta", _copy(beta))

    def describe(self) -> dict[str, Any]:
        """Return the description for the kernels."""
        return {name: buffer.numpy() for name, buffer in self.named_buffers()}


def planes(levels: Tensor) -> Tensor:
    """Pack ±1 along the channels.

    Args:
        levels: Weights of ±1, (c_out, c_in, k, k).

    Returns:
        uint64 of shape (c_out, k², ⌈c_in/64⌉): +1 is 1, -1 is 0; bits beyond the channels are 0.
    """
    c_out, c_in, k, _ = levels.shape
    bits = np.zeros((c_out, k * k, -(-c_in // WORD) * WORD), np.uint8)
    bits[:, :, :c_in] = (levels.detach() > 0).flatten(2).transpose(1, 2).numpy()
    packed: npt.NDArray[np.uint64] = np.packbits(bits, axis=-1, bitorder="little").view("<u8")
    return torch.from_numpy(packed.astype(np.uint64))


def _copy(values: Tensor) -> Tensor:
    return values.detach().float().clone()
