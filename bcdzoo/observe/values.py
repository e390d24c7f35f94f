"""Summaries of a tensor's values: a layer's inputs, its weights, and the values before a sign.

Summaries of several calls of a layer are added with ``+``.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

ROUNDING = 1e-5
"""Relative difference up to which values count as equal: ``sign(x) - y + y`` is ±1 only up to rounding."""

NEAR = 1e-6
"""Distance to a threshold, in standard deviations of the map, that a different order of float32 sums can change."""

_FEW = 256  # values of 8 bits; more are real-valued
_DISTINCT = 16 * _FEW  # distinct floats, because rounding may split values
_SAMPLE = 4096
_GROUP = 8  # smallest image or channel whose two values are not considered chance


class Form(IntEnum):
    """Form of an input's values, from what a bit can represent to what it cannot."""

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
    """Summary of a layer's inputs.

    Attributes:
        count: Number of values, without padding that was added before the layer.
        zeros: Number of exact zeros among them.
        off: Number of values that are not ±α, where α is the median magnitude.
        form: Form of the worst call.
        levels: Distinct values in order, of the call with the most; empty if they are real-valued, or two values that
            differ by image, channel or call.
        inexact: Largest distance of a value to its level, relative to the largest magnitude.
        border: Value of padding that was added before the layer; None without one.
        sides: Width of this padding: top, bottom, left, right.
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
        """Combine the form and levels of two calls, each of which may have its own scale."""
        form = max(self.form, other.form)
        if form >= Form.LEVELS:
            return form, max(self.levels, other.levels, key=len) if form == Form.LEVELS else ()
        if self.form == other.form != Form.CONSTANT or not (self.levels and other.levels):
            return form, self.levels if self.levels == other.levels else ()
        values = _representatives(torch.tensor(sorted({*self.levels, *other.levels}), dtype=torch.float64))[0]
        return _form(values)[:2] if len(values) <= 2 else (Form.LEVELS, tuple(values.tolist()))


def summarize_inputs(x: Tensor, sides: tuple[int, ...] = (), padding: int = 0) -> tuple[Inputs, Tensor]:
    """Summarize the values of a layer's input.

    Args:
        x: Input, (N, C, …), floating point.
        sides: Width of padding that may have been added: top, bottom, left, right.
        padding: Number of its zeros that are padding, wherever they are.

    Returns:
        The summary, and ``x`` without this padding.
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
    inner = x if zeros else torch.where(x == 0, size, x)  # replaced by a value that does not affect the result
    form, levels, inexact = _form(inner)
    off = _count_non_binary(inner) - padding * (zeros > 0) if form >= Form.LEVELS else 0
    return Inputs(x.numel() - padding, zeros, max(off, 0), form, levels, inexact, 0.0), inner


def _form(x: Tensor) -> tuple[Form, tuple[float, ...], float]:
    """Return the form, the levels if they are the same for the whole tensor, and the rounding error."""
    if (low := x.min()) == x.max():
        return Form.CONSTANT, (float(low),), 0.0
    if x.ndim > 1 and len(_representatives(x[:1, :1].unique())[0]) > 2:
        return _levels(x)  # shortcut, because most maps are real-valued: one image's channel is enough
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
    """Return the two values of each group and the distance to them; None if there are more values.

    Groups are indexed by the dimensions ``keep``. A single value v counts as ±v.
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
    is_real = len(levels) > _FEW or len(levels) > max(3, x.numel() / 4)  # in a small tensor, levels must repeat
    return (Form.REAL, (), 0.0) if is_real else (Form.LEVELS, tuple(levels.tolist()), inexact)


def _representatives(values: Tensor) -> tuple[Tensor, float]:
    """Merge sorted values that rounding may have split; also returns the largest relative width of a merged run."""
    size = values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    first = torch.ones(len(values), dtype=torch.bool, device=values.device)
    first[1:] = values.diff() > ROUNDING * size
    levels = values[first]
    return levels, float((values - levels[first.cumsum(0) - 1]).max() / size)


def _count_non_binary(x: Tensor) -> int:
    """Count the values that are not ±α; all of them if less than half are, or if hardly any has one of the signs."""
    alpha = x.abs().flatten()[:: max(x.numel() // _SAMPLE, 1)].median()
    on = (x.abs() - alpha).abs() <= ROUNDING * alpha
    share = min(int((on & (x > 0)).sum()), int((on & (x < 0)).sum())) / x.numel()
    return x.numel() - int(on.sum()) if alpha > 0 and share > 0.05 else x.numel()


def _without_border(x: Tensor, sides: tuple[int, ...]) -> tuple[Tensor, float | None]:
    """Remove a map's edges if they have a single value; returns the map and this value, or None."""
    top, bottom, left, right = sides
    inner = x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
    value = x[0, 0, 0, 0] if top or left else x[0, 0, -1, -1]
    edges = x.numel() - inner.numel()
    return (inner, float(value)) if int((x == value).sum() - (inner == value).sum()) == edges else (x, None)


@dataclass(frozen=True)
class Weights:
    """Summary of the weights that a layer computes with, not of the stored ones.

    Attributes:
        channels: Number of output channels.
        numbers: Number of weights.
        zeros: Number of exact zeros.
        binary: Number of output channels with two values, ±α.
        levels: Number of distinct values in the output channel with the most; 1 if every output channel has a single
            value, such as an average pooling, whose weights have no information.
        is_real: Whether there are too many values to be levels.
        has_scale: Whether they are not all ±1, or not all integers if there are more than two levels.
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
        """Bits of a weight: 32 if they are real-valued or all equal."""
        return 32 if self.is_real or self.levels == 1 else math.ceil(math.log2(self.levels))

    def __add__(self, other: "Weights") -> "Weights":
        return max(self, other, key=lambda weights: (weights.is_real, weights.levels, -weights.binary))


def summarize_weights(rows: Tensor) -> Weights:
    """Summarize the weights of a layer.

    Args:
        rows: Weights of each output channel, (c_out, n).
    """
    size = rows.abs().amax(1, keepdim=True)
    signs = ((rows.abs() - size).abs() <= ROUNDING * size).all(1) & (size[:, 0] > 0) & (rows.shape[1] > 1)
    has_both = (rows.amin(1) < 0) & (rows.amax(1) > 0)
    signs &= has_both.any()  # one channel may have a single sign by chance, but not all
    all_signs = bool(signs.all())
    levels = torch.full_like(signs, 2, dtype=torch.int64)
    if not all_signs:
        levels = (rows.sort(dim=1).values.diff(dim=1) > ROUNDING * size).sum(1) + 1
    # in a small kernel, levels must repeat
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
    """Summary of the values before a sign or rounding, and of their distance to thresholds.

    Attributes:
        count: Number of values.
        zeros: Number of values exactly on a threshold.
        near: Number of values within :data:`NEAR` standard deviations of a threshold, but not on it.
        closest: Smallest nonzero distance to a threshold, in standard deviations.
        by: Kind of operation: ``sign`` (``torch.sign``, which is 0 at 0), ``round`` or ``comparison``.
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
    """Summarize the distances of a map to its thresholds.

    Args:
        distance: Distance of each value to the nearest threshold, not negative.
        deviation: Standard deviation of the map.
        by: Kind of operation.
    """
    relative = distance / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
    apart = relative[distance > 0]
    closest = float(apart.min()) if len(apart) else math.inf
    return Threshold(distance.numel(), distance.numel() - len(apart), int((apart <= NEAR).sum()), closest, by)


def is_coarse(x: Tensor) -> bool:
    """Whether a tensor has at most three values, as after a sign."""
    flat = x.flatten()
    return all(part.unique().numel() <= 3 for part in (flat[:_SAMPLE], flat))
