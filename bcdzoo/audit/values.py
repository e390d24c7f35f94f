"""How many values a tensor's numbers take: what a layer is given, what that is multiplied with, what was before a sign.

The counts of several calls of one layer are added up with ``+``.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

ROUNDING = 1e-5
"""Values that differ by no more, relative to the largest, are one: ``sign(x) - y + y`` is ±1 up to rounding."""

NEAR = 1e-6
"""Distance to a threshold, in standard deviations of the map, that another order of float32 sums can bridge."""

_FEW = 256  # values of 8 bits; more are real-valued
_DISTINCT = 16 * _FEW  # as floats, where rounding has split them
_SAMPLE = 4096
_LINE = 64  # numbers in the edge of a map that are not equal by chance
_GROUP = 8  # numbers of an image or a channel that have two values not by chance


class Form(IntEnum):
    """What an input's values are, from what a bit can hold to what it cannot."""

    SIGNS = 0  # ±α
    SIGNS_OF_IMAGE = 1  # ±α, α of each image
    BITS = 2  # 0 and α
    SIGNS_OF_CHANNEL = 3  # ±α, α of each channel
    SHIFTED = 4  # two values that are not ±α
    SHIFTED_OF_CHANNEL = 5
    LEVELS = 6  # three to 256
    REAL = 7


@dataclass(frozen=True)
class Inputs:
    """What a layer was given.

    Attributes:
        count: Values, without a padding that had been put around the map.
        zeros: Of these, exact zeros.
        off: Those that are not ±α, α being the median magnitude; 0 where all are.
        form: Of the worst call.
        levels: Distinct values in order; none where they are real-valued, or differ by image or channel.
        inexact: Largest distance to the level that a value is taken for, relative to the largest magnitude.
        border: The value of a padding that had been put around the map, None without one.
        sides: Its width: top, bottom, left, right.
    """

    count: int
    zeros: int
    off: int
    form: Form
    levels: tuple[float, ...] = ()
    inexact: float = 0.0
    border: float | None = None
    sides: tuple[int, ...] = ()

    def __add__(self, other: "Inputs") -> "Inputs":
        form = max(self.form, other.form)
        levels: tuple[float, ...] = ()
        if self.levels and other.levels:
            levels = tuple(_representatives(torch.tensor(sorted({*self.levels, *other.levels})))[0].tolist())
            form = max(form, Form.LEVELS) if len(levels) > 2 and form in (Form.BITS, Form.SHIFTED) else form
        return Inputs(
            self.count + other.count,
            self.zeros + other.zeros,
            self.off + other.off,
            form,
            levels,
            max(self.inexact, other.inexact),
            self.border if other.border is None else other.border,
            self.sides or other.sides,
        )


def look_at_inputs(x: Tensor, kernel: int) -> tuple[Inputs, Tensor]:
    """What the values of a layer's input are.

    Args:
        x: (N, C, …), floating point.
        kernel: Largest side of the kernel: a padding around the map is narrower.

    Returns:
        The finding, and ``x`` without a padding around it.
    """
    inner, border, sides = _without_border(x, kernel - 1)
    count, zeros = inner.numel(), int((inner == 0).sum())
    form, levels, inexact = _form(inner)
    off = _off(inner) if form >= Form.LEVELS else 0
    if form == Form.REAL:  # the black margin of a photograph is no padding
        inner, border, sides = x, None, ()
    return Inputs(count, zeros, off, form, levels, inexact, border, sides), inner


def _form(x: Tensor) -> tuple[Form, tuple[float, ...], float]:
    """The form, the levels where they are the whole tensor's, and what rounding has added to them."""
    for keep, signs, shifted in (
        ((), Form.SIGNS, Form.SHIFTED),
        ((0,), Form.SIGNS_OF_IMAGE, None),
        ((1,), Form.SIGNS_OF_CHANNEL, Form.SHIFTED_OF_CHANNEL),
    ):
        if (found := _two_values(x, keep)) is None:
            continue
        low, high, inexact = found
        is_symmetric = bool(((low + high).abs() <= ROUNDING * high.abs()).all())
        levels = (float(low), float(high)) if not keep else ()
        if is_symmetric:
            return signs, levels, inexact
        if not keep and float(low.abs().minimum(high.abs())) == 0:
            return Form.BITS, levels, inexact
        if shifted is not None:
            return shifted, levels, inexact
    return _levels(x)


def _two_values(x: Tensor, keep: tuple[int, ...]) -> tuple[Tensor, Tensor, float] | None:
    """The two values that all numbers of a group take, and the distance to them; None where there are more.

    Groups are those of the dimensions ``keep``. One that takes a single value is taken for ± it.
    """
    others = [dim for dim in range(x.ndim) if dim not in keep]
    if keep and math.prod(x.shape[dim] for dim in others) < _GROUP:
        return None
    low, high = x.amin(others, keepdim=True), x.amax(others, keepdim=True)
    size = torch.maximum(low.abs(), high.abs())
    if not (size > 0).all():
        return None
    distance = torch.minimum(x - low, high - x) / size
    if distance.max() > ROUNDING:
        return None
    single = high - low <= ROUNDING * size
    return torch.where(single, -size, low), torch.where(single, size, high), float(distance.max())


def _levels(x: Tensor) -> tuple[Form, tuple[float, ...], float]:
    flat = x.flatten()
    if flat[:: max(len(flat) // _SAMPLE, 1)].unique().numel() > _FEW:
        return Form.REAL, (), 0.0
    values = flat.unique()
    if len(values) > _DISTINCT:
        return Form.REAL, (), 0.0
    levels, inexact = _representatives(values)
    return (Form.REAL, (), 0.0) if len(levels) > _FEW else (Form.LEVELS, tuple(levels.tolist()), inexact)


def _representatives(values: Tensor) -> tuple[Tensor, float]:
    """The first of each run of values that rounding may have split, and the longest such run's relative width."""
    size = values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    first = torch.ones(len(values), dtype=torch.bool, device=values.device)
    first[1:] = values.diff() > ROUNDING * size
    levels = values[first]
    return levels, float((values - levels[first.cumsum(0) - 1]).max() / size)


def _off(x: Tensor) -> int:
    """How many values are not ±α; all of them where less than half are, or hardly any is negative, or positive."""
    alpha = x.abs().flatten().median()
    on = (x.abs() - alpha).abs() <= ROUNDING * alpha
    share = min(int((on & (x > 0)).sum()), int((on & (x < 0)).sum())) / x.numel()
    return x.numel() - int(on.sum()) if alpha > 0 and share > 0.05 else x.numel()


def _without_border(x: Tensor, widest: int) -> tuple[Tensor, float | None, tuple[int, ...]]:
    """A map without rows and columns at its edges that all have one value, this value, and their numbers."""
    if x.ndim != 4 or widest < 1:
        return x, None, ()
    value = x[0, 0, -1, -1]  # an uneven padding is at the bottom and right

    def padded(dim: int, backwards: bool) -> int:
        size = x.shape[dim]
        for width in range(min(widest, size - 1)):
            line = x.select(dim, size - 1 - width if backwards else width)
            if line.numel() < _LINE or not (line == value).all():
                return width
        return min(widest, size - 1)

    top, bottom, left, right = sides = tuple(padded(dim, end) for dim in (2, 3) for end in (False, True))
    if not any(sides) or top + bottom >= x.shape[2] or left + right >= x.shape[3]:
        return x, None, ()  # or all of it has one value
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right], float(value), sides


@dataclass(frozen=True)
class Weights:
    """What a layer multiplies its inputs with: the numbers that it computes with, not those that are stored.

    Attributes:
        channels: Output channels.
        numbers: All of them.
        zeros: Exact zeros.
        binary: Output channels with two values, ±α.
        levels: Distinct values in the output channel that has most.
        is_real: They are too many to be levels.
        has_scale: Not all of them are ±1, or whole numbers where there are more than two.
    """

    channels: int
    numbers: int
    zeros: int
    binary: int
    levels: int
    is_real: bool
    has_scale: bool

    @property
    def bits(self) -> int:
        """Of a weight: 32 where they are real-valued."""
        return 32 if self.is_real else max(math.ceil(math.log2(self.levels)), 1)

    def __add__(self, other: "Weights") -> "Weights":
        return max(self, other, key=lambda weights: (weights.is_real, weights.levels, -weights.binary))


def look_at_weights(rows: Tensor) -> Weights:
    """What the weights of a layer are.

    Args:
        rows: One for each output channel, (c_out, n).
    """
    size = rows.abs().amax(1, keepdim=True)
    values = rows.sort(dim=1).values
    levels = (values.diff(dim=1) > ROUNDING * size).sum(1) + 1
    signs = ((rows.abs() - size).abs() <= ROUNDING * size).all(1) & (size[:, 0] > 0) & (rows.shape[1] > 1)
    all_signs = bool(signs.all())
    # a small kernel has few numbers anyway: they are levels where they repeat
    is_real = not all_signs and (int(levels.max()) > _FEW or int(levels.sum()) > rows.numel() / 2)
    return Weights(
        channels=len(rows),
        numbers=rows.numel(),
        zeros=int((rows == 0).sum()),
        binary=int(signs.sum()),
        levels=max(int(levels.max()), 2) if all_signs else int(levels.max()),
        is_real=is_real,
        has_scale=not bool((rows.abs() == 1).all() if all_signs else (rows == rows.round()).all()),
    )


@dataclass(frozen=True)
class Threshold:
    """The values before a sign, or before rounding to levels, and how near its thresholds they lie.

    Attributes:
        count: Values.
        zeros: Exactly on a threshold.
        near: Within :data:`NEAR` standard deviations of one, and not on it.
        closest: Distance of the nearest that is not on one, in standard deviations.
    """

    count: int
    zeros: int
    near: int
    closest: float

    def __add__(self, other: "Threshold") -> "Threshold":
        return Threshold(
            self.count + other.count,
            self.zeros + other.zeros,
            self.near + other.near,
            min(self.closest, other.closest),
        )


def look_at_threshold(distance: Tensor, deviation: Tensor) -> Threshold:
    """How near its thresholds a map lies.

    Args:
        distance: Of each value to the nearest threshold, not negative.
        deviation: Standard deviation of the map.
    """
    relative = distance / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
    apart = relative[distance > 0]
    closest = float(apart.min()) if len(apart) else math.inf
    return Threshold(distance.numel(), distance.numel() - len(apart), int((apart <= NEAR).sum()), closest)


def is_coarse(x: Tensor) -> bool:
    """Whether a tensor has three values at most: what has been through a sign already."""
    flat = x.flatten()
    return flat[:_SAMPLE].unique().numel() <= 3 and flat.unique().numel() <= 3
