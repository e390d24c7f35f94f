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
_GROUP = 8  # numbers of an image or a channel that have two values not by chance


class Form(IntEnum):
    """What an input's values are, from what a bit can hold to what it cannot."""

    CONSTANT = -1  # a single value
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
        levels: Distinct values in order, of the call that has most; none where they are real-valued, or are two that
            differ by image, channel or call.
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
        form, levels = self._together(other)
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

    def _together(self, other: "Inputs") -> tuple[Form, tuple[float, ...]]:
        """Form and levels of two calls, each of which may have a scale of its own."""
        form = max(self.form, other.form)
        if form >= Form.LEVELS:
            return form, max(self.levels, other.levels, key=len) if form == Form.LEVELS else ()
        if self.form == other.form != Form.CONSTANT or not (self.levels and other.levels):
            return form, self.levels if self.levels == other.levels else ()
        values = _representatives(torch.tensor(sorted({*self.levels, *other.levels}), dtype=torch.float64))[0]
        return _form(values)[:2] if len(values) <= 2 else (Form.LEVELS, tuple(values.tolist()))


def summarize_inputs(x: Tensor, sides: tuple[int, ...] = (), padding: int = 0) -> tuple[Inputs, Tensor]:
    """What the values of a layer's input are.

    Args:
        x: (N, C, …), floating point.
        sides: Width of a padding that may have been put around the map: top, bottom, left, right.
        padding: How many of its zeros are a padding's, wherever they are.

    Returns:
        The finding, and ``x`` without this padding.
    """
    inner, border = _without_border(x, sides) if sides and x.ndim == 4 else (x, None)
    if border is None and padding:
        return _among_zeros(x, padding)
    form, levels, inexact = _form(inner)
    off = _count_non_binary(inner) if form >= Form.LEVELS else 0
    zeros = int((inner == 0).sum())
    return Inputs(inner.numel(), zeros, off, form, levels, inexact, border, sides if border is not None else ()), inner


def _among_zeros(x: Tensor, padding: int) -> tuple[Inputs, Tensor]:
    zeros = int((x == 0).sum()) - padding
    size = x.abs().flatten(1).amax(1).reshape(-1, *[1] * (x.ndim - 1))
    inner = x if zeros else torch.where(x == 0, size, x)  # any value of theirs says the same of the others
    form, levels, inexact = _form(inner)
    off = _count_non_binary(inner) - padding * (zeros > 0) if form >= Form.LEVELS else 0
    return Inputs(x.numel() - padding, zeros, max(off, 0), form, levels, inexact, 0.0), inner


def _form(x: Tensor) -> tuple[Form, tuple[float, ...], float]:
    """The form, the levels where they are the whole tensor's, and what rounding has added to them."""
    if (low := x.min()) == x.max():
        return Form.CONSTANT, (float(low),), 0.0
    if x.ndim > 1 and len(_representatives(x[:1, :1].unique())[0]) > 2:
        return _levels(x)  # one image's channel is enough: a short cut, for most maps are real
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
    is_real = len(levels) > _FEW or len(levels) > max(3, x.numel() / 4)  # few numbers anyway: levels repeat
    return (Form.REAL, (), 0.0) if is_real else (Form.LEVELS, tuple(levels.tolist()), inexact)


def _representatives(values: Tensor) -> tuple[Tensor, float]:
    """The first of each run of values that rounding may have split, and the longest such run's relative width."""
    size = values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    first = torch.ones(len(values), dtype=torch.bool, device=values.device)
    first[1:] = values.diff() > ROUNDING * size
    levels = values[first]
    return levels, float((values - levels[first.cumsum(0) - 1]).max() / size)


def _count_non_binary(x: Tensor) -> int:
    """How many values are not ±α; all of them where less than half are, or hardly any is negative, or positive."""
    alpha = x.abs().flatten()[:: max(x.numel() // _SAMPLE, 1)].median()
    on = (x.abs() - alpha).abs() <= ROUNDING * alpha
    share = min(int((on & (x > 0)).sum()), int((on & (x < 0)).sum())) / x.numel()
    return x.numel() - int(on.sum()) if alpha > 0 and share > 0.05 else x.numel()


def _without_border(x: Tensor, sides: tuple[int, ...]) -> tuple[Tensor, float | None]:
    """A map without its edges, and their value; the whole map where they have more than one."""
    top, bottom, left, right = sides
    inner = x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
    value = x[0, 0, 0, 0] if top or left else x[0, 0, -1, -1]
    edges = x.numel() - inner.numel()
    return (inner, float(value)) if int((x == value).sum() - (inner == value).sum()) == edges else (x, None)


@dataclass(frozen=True)
class Weights:
    """What a layer multiplies its inputs with: the numbers that it computes with, not those that are stored.

    Attributes:
        channels: Output channels.
        numbers: All of them.
        zeros: Exact zeros.
        binary: Output channels with two values, ±α.
        levels: Distinct values in the output channel that has most.
            1 where every output channel has but one: such a sum, as an average pooling may be written, carries no bits.
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
        """Of a weight: 32 where they are real-valued, or no bits."""
        return 32 if self.is_real or self.levels == 1 else math.ceil(math.log2(self.levels))

    def __add__(self, other: "Weights") -> "Weights":
        return max(self, other, key=lambda weights: (weights.is_real, weights.levels, -weights.binary))


def summarize_weights(rows: Tensor) -> Weights:
    """What the weights of a layer are.

    Args:
        rows: One for each output channel, (c_out, n).
    """
    size = rows.abs().amax(1, keepdim=True)
    signs = ((rows.abs() - size).abs() <= ROUNDING * size).all(1) & (size[:, 0] > 0) & (rows.shape[1] > 1)
    has_both = (rows.amin(1) < 0) & (rows.amax(1) > 0)
    signs &= has_both.any()  # a channel may have one sign by chance, all not
    all_signs = bool(signs.all())
    levels = torch.full_like(signs, 2, dtype=torch.int64)
    if not all_signs:
        levels = (rows.sort(dim=1).values.diff(dim=1) > ROUNDING * size).sum(1) + 1
    # a small kernel has few numbers anyway: they are levels where they repeat
    is_real = not all_signs and (int(levels.max()) > _FEW or int(levels.sum()) > rows.numel() / 2)
    return Weights(
        channels=len(rows),
        numbers=rows.numel(),
        zeros=int((rows == 0).sum()),
        binary=int(signs.sum()),
        levels=int(levels.max()),
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
        by: ``sign`` (``torch.sign``, which gives 0 at 0), ``round`` or ``comparison``.
    """

    count: int
    zeros: int
    near: int
    closest: float
    by: str

    def __add__(self, other: "Threshold") -> "Threshold":
        return Threshold(
            self.count + other.count,
            self.zeros + other.zeros,
            self.near + other.near,
            min(self.closest, other.closest),
            other.by,
        )


def summarize_threshold(distance: Tensor, deviation: Tensor, by: str) -> Threshold:
    """How near its thresholds a map lies.

    Args:
        distance: Of each value to the nearest threshold, not negative.
        deviation: Standard deviation of the map.
        by: What it is compared by.
    """
    relative = distance / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
    apart = relative[distance > 0]
    closest = float(apart.min()) if len(apart) else math.inf
    return Threshold(distance.numel(), distance.numel() - len(apart), int((apart <= NEAR).sum()), closest, by)


def is_coarse(x: Tensor) -> bool:
    """Whether a tensor has three values at most: what has been through a sign already."""
    flat = x.flatten()
    return all(part.unique().numel() <= 3 for part in (flat[:_SAMPLE], flat))
