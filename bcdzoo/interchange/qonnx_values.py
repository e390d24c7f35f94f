"""What a node of a QONNX file is given, and what becomes of it while a network is built."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bcdzoo.interchange.onnx_file import Node
from bcdzoo.layers.qonnx import ROUNDINGS, Thresholds, Uniform
from bcdzoo.plan.operations import Array
from bcdzoo.text import printable


class Refused(Exception):  # noqa: N818
    """What is not read of a node, and why."""


@dataclass(frozen=True)
class Stored:
    """A constant.

    Attributes:
        array: Its numbers.
        levels: The integers that they are multiples of, if a quantizer made them.
        scale: Of what, in a shape that fits.
        bits: Bits of an integer.
    """

    array: Array
    levels: Array | None = None
    scale: Array | None = None
    bits: int = 32


@dataclass(frozen=True)
class Value:
    """Something that depends on the image.

    Attributes:
        number: Number of the step that gives it, from 1 on; 0 for the image.
        shape: Shape that the file has for it.
        meta: Tensor without data, as large as what the step gives of one image.
        is_signs: Whether that is -1 and +1 only.
        scale: What it is to be multiplied by.
        quantizer: What is to be applied to it before that.
        pads: Pixels of ``pad_value`` that are to be put around it, in levels.
        is_sum: Whether it is the sum of a convolution of few bits, scaled or not.
        bounds: Numbers between which it is known to be.
    """

    number: int
    shape: tuple[int, ...]
    meta: Tensor
    is_signs: bool = False
    scale: float = 1.0
    quantizer: Uniform | Thresholds | None = None
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: float = 0.0
    is_sum: bool = False
    bounds: tuple[float, float] | None = None


class Given:
    """A node's inputs and attributes; what nobody asked for is refused."""

    _IDLE = frozenset({"momentum", "consumed_inputs", "spatial", "training_mode", "is_test", "seed"})

    def __init__(self, node: Node, inputs: Sequence["Value | Stored | None"]) -> None:
        self.node, self.inputs = node, inputs
        self._left = dict(node.attributes)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        found = self._left.pop(name, default)
        return found.decode(errors="replace") if isinstance(found, bytes) else found

    def value(self, place: int = 0) -> Value:
        """An input that depends on the image."""
        found = self.inputs[place]
        if not isinstance(found, Value):
            raise Refused(f"its input {place} does not depend on the image")
        return found

    def array(self, place: int) -> Array | None:
        """A constant input; None if it is absent."""
        found = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(found, Value):
            raise Refused(f"its input {place} depends on the image")
        return None if found is None else found.array

    def stored(self, place: int) -> Stored:
        """A constant input."""
        found = self.inputs[place] if place < len(self.inputs) else None
        if not isinstance(found, Stored):
            raise Refused(f"its input {place} is no constant")
        return found

    def numbers(self, name: str, place: int) -> list[int] | None:
        """Whole numbers that are an attribute in older files, an input in newer ones; None if they are neither."""
        found = self.attribute(name)
        if found is None and (array := self.array(place)) is not None:
            found = array.reshape(-1).tolist()
        return None if found is None else [int(number) for number in found]

    def number(self, name: str, place: int) -> float | None:
        """One number, likewise."""
        found = self.attribute(name)
        if found is None and (array := self.array(place)) is not None:
            found = single(array)
        return None if found is None else float(found)

    def finish(self) -> None:
        """Refuse attributes that nobody asked for."""
        if self._left.get("training_mode"):
            raise Refused("it is in training mode")
        if unread := [name for name in self._left if name not in self._IDLE]:
            raise Refused(f"its attribute {printable(unread[0], 60)} is not known")


def single(array: Array) -> float:
    """The number in an array of one."""
    if array.size != 1:
        raise Refused("one number is wanted, and there are several")
    return float(array.reshape(()))


def of_channels(array: Array, value: Value) -> Tensor:
    """Constants that are one for each channel of a value, or one for all."""
    rank, channels = len(value.shape), value.meta.shape[1]
    if not np.isfinite(array).all():
        raise Refused("a constant is infinite")
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) > rank or any(size != 1 for size in shape[:1]) or shape[1] not in (1, channels):
        raise Refused(f"a constant of {array.shape} does not fit a value of {value.shape}")
    spread = array.reshape(shape)
    if any(size != 1 for size in shape[2:]):
        first = spread[:, :, :1, :1]
        if not (spread == first).all():
            raise Refused("a constant differs along rows or columns")
        spread = first
    return torch.from_numpy(np.ascontiguousarray(spread.reshape(-1), np.float32))


def transposed(stored: Stored, axes: tuple[int, ...]) -> Stored:
    """A constant with its axes in another order."""
    return moved(stored, lambda array: array.transpose(axes))


def reshaped(stored: Stored, shape: tuple[int, ...]) -> Stored:
    """A constant in another shape."""
    return moved(stored, lambda array: array.reshape(shape))


def moved(stored: Stored, move: Callable[[Array], Array]) -> Stored:
    """A constant in another arrangement, with the integers that it is made of."""
    if stored.levels is None or stored.scale is None:
        return replace(stored, array=move(stored.array))
    scale = (
        move(np.broadcast_to(stored.scale, stored.array.shape)) if stored.scale.size > 1 else stored.scale.reshape(-1)
    )
    return replace(stored, array=move(stored.array), levels=move(stored.levels), scale=scale)


class Quantization:
    """What a ``Quant`` node says."""

    def __init__(self, given: Given) -> None:
        self.signed, self.narrow = bool(given.attribute("signed", 1)), bool(given.attribute("narrow", 0))
        self.rounding = str(given.attribute("rounding_mode", "ROUND")).upper()
        if self.rounding not in ROUNDINGS:
            raise Refused(f"it rounds in a way that is not known: {printable(self.rounding, 60)}")
        scale, zero, bits = (given.stored(place).array for place in (1, 2, 3))
        self.scale, self.zero = scale.astype(np.float32), single(zero)
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all() and math.isfinite(self.zero)):
            raise Refused("its scale is not above 0, or it is not finite")
        width = single(bits)
        if not width.is_integer() or not 1 <= width <= 32:
            raise Refused(f"{width:g} bits")
        self.bits = int(width)
        self.low = -(2 ** (self.bits - 1)) + self.narrow if self.signed else 0
        self.high = 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1 - self.narrow

    @property
    def is_bipolar(self) -> bool:
        """QONNX takes one signed bit as -1 and +1."""
        return self.bits == 1 and self.signed
