"""What a QONNX file's nodes become: modules that say what they count, and how they are lowered.

A vector is a map of one pixel here, (N, C, 1, 1), and a linear layer a 1×1 convolution.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.lowering import LevelsValue, Lowering, Value, constant, weight_planes
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Levels

_MOST_PLANES = 16  # pairs of bits of weights and activations; with more, a real-valued convolution is faster
_EXACT = 1 << 24  # largest sum that float32 holds


class Window(NamedTuple):
    """How a convolution slides over a map.

    Attributes:
        stride: Step in pixels, along rows and columns.
        pads: Pixels at the top, left, bottom and right.
        dilation: Distance of the kernel's taps.
        groups: Groups of channels.
    """

    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """A map with ``pads`` pixels at the top, left, bottom and right."""
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value)


class Pad(nn.Module):
    """Pixels of one value around a map."""

    def __init__(self, pads: Sequence[int], value: float) -> None:
        super().__init__()
        self.pads, self.value = tuple(pads), value

    def forward(self, x: Tensor) -> Tensor:
        return padded(x, self.pads, self.value)

    def extra_repr(self) -> str:
        return f"{self.pads}, {self.value}"


class Affine(nn.Module):
    """A map and numbers of its channels: their product, quotient or sum. It folds into what is around it.

    Args:
        kind: ``Mul``, ``Div`` or ``Add``.
        numbers: One for each channel, or one for all.
    """

    numbers: Tensor

    def __init__(self, kind: str, numbers: Tensor) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("numbers", numbers.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "Mul":
                return x * self.numbers
            case "Div":
                return x / self.numbers
        return x + self.numbers

    def lower(self, plan: Lowering, x: Value) -> Value:
        numbers = self.numbers.flatten()
        if self.kind == "Add":
            return plan.add("scale_shift", x=x, alpha=torch.ones_like(numbers), beta=numbers)
        alpha = (
            1 / numbers if self.kind == "Div" else numbers
        )  # which rounds otherwise than a quotient, in the last place
        return plan.add("scale_shift", x=x, alpha=alpha, beta=torch.zeros_like(numbers))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"norm": output.numel()}

    def extra_repr(self) -> str:
        return self.kind


class ScaleShift(nn.Module):
    """``x·alpha + beta``: a normalization, whose statistics are in its numbers.

    Args:
        alpha: One for each channel, or one for all.
        beta: Likewise.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.register_buffer("alpha", alpha.reshape(-1, 1, 1))
        self.register_buffer("beta", beta.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha + self.beta

    def lower(self, plan: Lowering, x: Value) -> Value:
        alpha, beta = torch.broadcast_tensors(self.alpha.flatten(), self.beta.flatten())
        return plan.add("scale_shift", x=x, alpha=alpha.contiguous(), beta=beta.contiguous())

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"norm": output.numel()}


class Uniform(nn.Module):
    """A quantizer of several bits: ``q = round(clip(x/scale + zero, low, high))`` stands for ``scale·(q - minus)``.

    Args:
        bits: Bits of q.
        scale: Scale.
        low: Least q.
        high: Largest q.
        zero: What is added before rounding.
        minus: What is subtracted after it.
        rounding: Name of the way of rounding, in :data:`ROUNDINGS`.

    Shape:
        (N, C, H, W) to :class:`Levels` of one basis.
    """

    def __init__(
        self, bits: int, scale: float, low: int, high: int, zero: float = 0, minus: float = 0, rounding: str = "ROUND"
    ) -> None:
        super().__init__()
        self.bits, self.scale, self.low, self.high = bits, scale, low, high
        self.zero, self.minus, self.rounding = zero, minus, rounding

    @property
    def offset(self) -> float:
        """The level that stands for 0, counted from the lowest."""
        return self.minus - self.low

    def forward(self, x: Tensor) -> Levels:
        y = x / self.scale
        y = y + self.zero if self.zero else y
        q = ROUNDINGS[self.rounding](y.clamp(self.low, self.high))
        return Levels((q - self.minus)[None], x.new_full((1,), self.scale))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {"activation": output.values.numel()}

    def extra_repr(self) -> str:
        numbers = f"scale={self.scale:.6g}, {self.low} to {self.high}, zero={self.zero}, minus={self.minus}"
        return f"{self.bits} bits, {numbers}, {self.rounding}"


class UniformToEven(Uniform):
    """Halves are rounded to the even number, as a plan does it. What it lowers to are levels from 0 on."""

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        low, high, step, divide = self.low * self.scale, self.high * self.scale, self.scale, 1
        if self.zero:
            x = plan.add("scale_shift", x=x, alpha=constant(1 / self.scale), beta=constant(self.zero))
            low, high, step, divide = self.low, self.high, 1, 0
        fields = {"low": float(low), "high": float(high), "step": float(step), "divide": divide}
        levels = plan.add("quantize", x=x, offset=-self.low, bits=(self.high - self.low).bit_length(), **fields)
        return LevelsValue(levels, constant(self.scale))


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "ROUND": torch.round,
    "HALF_EVEN": torch.round,
    "CEIL": torch.ceil,
    "FLOOR": torch.floor,
    "UP": lambda x: x.sign() * x.abs().ceil(),
    "DOWN": torch.trunc,
    "HALF_UP": lambda x: x.sign() * (x.abs() + 0.5).floor(),
    "HALF_DOWN": lambda x: x.sign() * (x.abs() - 0.5).ceil(),
}
"""How QONNX rounds, by name."""


class Dequantized(nn.Module):
    """The numbers that a quantizer's levels stand for."""

    def __init__(self, quantizer: "Uniform | Thresholds") -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        found: Levels = self.quantizer(x)
        return found.values[0] * found.scale


class DequantizedToEven(Dequantized):
    """The same of a quantizer that can be lowered."""

    quantizer: "UniformToEven | Thresholds"

    def lower(self, plan: Lowering, x: Value) -> Value:
        levels, scale = self.quantizer.lower(plan, x)
        maps = _numbers(plan, levels, self.quantizer.offset, self.quantizer.bits)
        return plan.add("scale_shift", x=maps, alpha=scale, beta=torch.zeros_like(scale))


class Sum(nn.Module):
    """The sum of two maps."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Product(nn.Module):
    """The product of two maps."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Concat(nn.Module):
    """Maps, one behind the other along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, self.axis)

    def extra_repr(self) -> str:
        return str(self.axis)


class Cut(nn.Module):
    """A part of a map: start, stop and step along channels, rows and columns."""

    def __init__(self, *slices: slice) -> None:
        super().__init__()
        self.slices = slices

    def forward(self, x: Tensor) -> Tensor:
        return x[(slice(None), *self.slices)]

    def extra_repr(self) -> str:
        return ", ".join(f"{each.start}:{each.stop}:{each.step}" for each in self.slices)


class Reshape(nn.Module):
    """Each image's numbers as a map of another shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.shape)

    def extra_repr(self) -> str:
        return str(self.shape)


class Permute(nn.Module):
    """A map with its channels, rows and columns in another order."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, *(axis + 1 for axis in self.axes))

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("permute", x=x, axes=self.axes)

    def extra_repr(self) -> str:
        return str(self.axes)


class Function(nn.Module):
    """A function of torch, and its name."""

    def __init__(self, name: str, function: Callable[..., Tensor], **arguments: Any) -> None:
        super().__init__()
        self.name, self.function, self.arguments = name, function, arguments

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.arguments)

    def extra_repr(self) -> str:
        return ", ".join([self.name, *(f"{key}={value}" for key, value in self.arguments.items())])


class PRelu(nn.Module):
    """``x`` above 0 and ``slope·x`` below, with offsets before and behind where there are any: ReActNet's RPReLU.

    Args:
        slope: Slopes, one for each channel or one for all.
        shift_in: What is added before.
        shift_out: What is added behind.
    """

    slope: Tensor
    shift_in: Tensor | None
    shift_out: Tensor | None

    def __init__(self, slope: Tensor, shift_in: Tensor | None = None, shift_out: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("slope", slope)
        self.register_buffer("shift_in", shift_in)
        self.register_buffer("shift_out", shift_out)

    def between(self, before: Tensor, behind: Tensor) -> "PRelu":
        """The same with offsets."""
        numbers = [each.flatten() for each in (self.slope, before, behind)]
        channels = max(map(len, numbers))
        return PRelu(*(each.expand(channels).clone() for each in numbers))

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.shift_in is None else x + self.shift_in[:, None, None]
        y = F.prelu(y, self.slope)
        return y if self.shift_out is None else y + self.shift_out[:, None, None]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("prelu", x=x, slope=self.slope, shift_in=self.shift_in, shift_out=self.shift_out)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"activation" if self.shift_in is None else "rprelu": output.numel()}


class Thresholds(nn.Module):
    """FINN's ``MultiThreshold``: the number of a channel's thresholds that a value reaches, minus an offset.

    Args:
        thresholds: Thresholds, (channels, steps).
        scale: What a step stands for.
        minus: The offset.

    Shape:
        (N, C, H, W) to :class:`Levels` of one basis.
    """

    thresholds: Tensor
    low = 0

    def __init__(self, thresholds: Tensor, scale: float, minus: float) -> None:
        super().__init__()
        self.register_buffer("thresholds", thresholds)
        self.scale, self.minus = scale, minus
        self.high = thresholds.shape[1]
        self.bits = self.high.bit_length()

    @property
    def offset(self) -> float:
        """The level that stands for 0."""
        return self.minus

    def forward(self, x: Tensor) -> Levels:
        total = torch.zeros_like(x)
        for column in self.thresholds.unbind(1):
            total = total + (x >= column[:, None, None])
        return Levels((total - self.minus)[None], x.new_full((1,), self.scale))

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        half, total = constant(0.5), None
        for column in self.thresholds.unbind(1):
            signs = plan.add("binarize", x=x, threshold=column.contiguous())
            reached = plan.add("scale_shift", x=signs, alpha=half, beta=half)
            total = reached if total is None else plan.add("add", a=total, b=reached)
        fields = {"low": 0.0, "high": float(self.high), "step": 1.0, "divide": 0, "offset": 0}
        return LevelsValue(plan.add("quantize", x=total, bits=self.bits, **fields), constant(self.scale))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {"activation": output.values.numel()}


class LevelsConv2d(nn.Module):
    """A convolution of weights that are small integers: integer sums first, then one scale for each output channel.

    Args:
        weight: The integers, (c_out, c_in / groups, k, k).
        w_bits: Their bits: 1 are signs, others from -2^(w_bits - 1) to 2^(w_bits - 1) - 1.
        scale: Scale of each output channel, that of the activations included.
        window: How it slides.
        pad_value: What is padded with, in levels.
        quantizer: What gives its activations, if they are levels.
        a_bits: Bits of the activations: 1 for signs, 32 for real numbers.
    """

    scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        w_bits: int,
        scale: Tensor,
        window: Window,
        pad_value: float = 0.0,
        quantizer: "Uniform | Thresholds | None" = None,
        a_bits: int = 32,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("scale", scale.reshape(-1, 1, 1))
        self.window, self.pad_value = window, pad_value
        self.w_bits, self.a_bits = w_bits, quantizer.bits if quantizer else a_bits
        self.offset = quantizer.offset if quantizer else 0.0

    def forward(self, x: Tensor | Levels) -> Tensor:
        maps = x.values[0] if isinstance(x, Levels) else x
        top, left, bottom, right = self.window.pads
        padding = (top, left)
        if self.pad_value or padding != (bottom, right):
            maps, padding = padded(maps, self.window.pads, self.pad_value), (0, 0)
        stride, _, dilation, groups = self.window
        return F.conv2d(maps, self.weight, None, stride, padding, dilation, groups) * self.scale

    def lower(self, plan: Lowering, x: Any) -> Value:
        is_levels = not isinstance(x, Value)
        fields: dict[str, Any] = {
            "stride": self.window.stride,
            "padding": self.window.pads,
            "dilation": self.window.dilation,
            "groups": self.window.groups,
        }
        scale = self.scale.flatten()
        if not self._is_packed(is_levels):
            maps = _numbers(plan, x.values, self.offset, self.a_bits) if is_levels else x
            out = plan.add("conv", x=maps, weight=self.weight, relu=0, pad_value=self.pad_value, **fields)
            return plan.add("scale_shift", x=out, alpha=scale, beta=torch.zeros_like(scale))
        fields |= {"kernel": tuple(self.weight.shape[2:]), "w_bases": 1, "a_bits": self.a_bits}
        fields |= {"pad_value": self.pad_value + self.offset, "a_scale": constant(1.0)}
        levels = x.values if is_levels else x
        if self.w_bits == 1 and not self.offset:
            return plan.add("low_bit_conv", x=levels, planes=weight_planes(self.weight, 1), scale=scale, **fields)
        return plan.add("scale_shift", x=self._sums(plan, levels, fields), alpha=scale, beta=torch.zeros_like(scale))

    def scaled(self, scale: Tensor) -> "LevelsConv2d":
        """The same with another scale."""
        conv = copy(self)
        conv._buffers = self._buffers | {"scale": scale.expand(len(self.weight), 1, 1).clone()}
        return conv

    def _is_packed(self, is_levels: bool) -> bool:
        """Whether the sums are made of planes of bits."""
        if self.a_bits == 32 or self.w_bits * self.a_bits > _MOST_PLANES:
            return False
        if math.prod(self.weight.shape[1:]) << (self.w_bits + self.a_bits) > _EXACT:
            return False
        if is_levels and not (self.offset.is_integer() and 0 <= self.offset + self.pad_value < 2**self.a_bits):
            return False
        return self.w_bits == 1 or self.window.groups == 1

    def _sums(self, plan: Lowering, levels: Value, fields: dict[str, Any]) -> Value:
        """The integer sums, exactly, of levels that are counted from 0, and of weights of several bits.

        Planes are of odd numbers: a weight w is (odd - 1)/2, and one more output channel sums up the activations.
        """
        rows, weight, beta = len(self.weight), self.weight.detach(), -self.offset * self.weight.detach().sum((1, 2, 3))
        if self.w_bits == 1:
            sums = plan.add("low_bit_conv", x=levels, planes=weight_planes(weight, 1), scale=torch.ones(rows), **fields)
            return plan.add("scale_shift", x=sums, alpha=torch.ones(rows), beta=beta)
        odd = torch.cat([2 * weight + 1, -torch.ones_like(weight[:1])])
        ones = torch.ones(rows + 1)
        all_sums = plan.add("low_bit_conv", x=levels, planes=weight_planes(odd, self.w_bits), scale=ones, **fields)
        of_weights = plan.add("slice", x=all_sums, axis=0, start=0, stop=rows, step=1)
        of_activations = plan.add("slice", x=all_sums, axis=0, start=rows, stop=rows + 1, step=1)
        twice = plan.add("add", a=of_weights, b=of_activations)
        return plan.add("scale_shift", x=twice, alpha=torch.full((rows,), 0.5), beta=beta)

    def op_counts(self, inputs: tuple[Any, ...], output: Tensor) -> OpCounts:
        macs = output.numel() * math.prod(self.weight.shape[1:])
        return {"mac": macs} if self.a_bits == 32 else {"binary_mac": macs * self.w_bits * self.a_bits}

    def extra_repr(self) -> str:
        c_out, c_in, *kernel = self.weight.shape
        window = ", ".join(f"{key}={value}" for key, value in self.window._asdict().items())
        return (
            f"{c_in * self.window.groups}, {c_out}, kernel={tuple(kernel)}, {window}, "
            f"w_bits={self.w_bits}, a_bits={self.a_bits}, pad_value={self.pad_value}"
        )


def _numbers(plan: Lowering, levels: Value, offset: float, bits: int) -> Value:
    """Levels as a real-valued map of the same integers, minus an offset: a convolution of each channel by +1."""
    channels = levels.shape[1]
    ones = torch.ones(channels)
    planes = weight_planes(ones[:, None, None, None], 1)
    one_by_one = {"kernel": (1, 1), "groups": channels, "w_bases": 1, "a_bits": bits, "a_scale": constant(1.0)}
    maps = plan.add("low_bit_conv", x=levels, planes=planes, scale=ones, **one_by_one)
    return plan.add("scale_shift", x=maps, alpha=ones, beta=-offset * ones) if offset else maps


class Step(NamedTuple):
    """A module and what it is given.

    Attributes:
        name: Name of the module.
        module: The module.
        inputs: Numbers of the values that it takes: 0 is the image, i + 1 what step i gives.
    """

    name: str
    module: nn.Module
    inputs: tuple[int, ...]


class QonnxNetwork(nn.Module):
    """The network of a QONNX file.

    Args:
        steps: What it computes; the last one gives the logits.
        side: Height and width of its images.

    Shape:
        (N, 3, side, side) to (N, classes), float32.
    """

    def __init__(self, steps: Sequence[Step], side: int) -> None:
        super().__init__()
        self.input_size = side
        self._flow = [(step.name, step.inputs) for step in steps]
        self._last_use = {value: number for number, step in enumerate(steps) for value in step.inputs}
        for step in steps:
            self.add_module(step.name, step.module)

    @property
    def assumed(self) -> str:
        """The preprocessing that is assumed where none is stated: numbers from 0 to 1."""
        return f"resize={self.input_size},crop={self.input_size},mean=0,std=1"

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (3, self.input_size, self.input_size):
            shape = "×".join(map(str, x.shape[1:]))
            raise BcdzooError(f"it takes images of 3×{self.input_size}×{self.input_size}, not of {shape}")
        values: dict[int, Any] = {0: x}
        for number, (name, inputs) in enumerate(self._flow):
            values[number + 1] = getattr(self, name)(*(values[value] for value in inputs))
            for value in set(inputs):
                if self._last_use[value] == number:
                    del values[value]
        logits: Tensor = values[len(self._flow)]
        return logits

    def extra_repr(self) -> str:
        """What tells two networks of the same modules apart."""
        return hashlib.sha256(repr(self._flow).encode()).hexdigest()
