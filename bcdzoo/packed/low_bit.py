"""Convolutions of few bits that are no unit of their own, as sums over pairs of bit planes on the kernels.

Weights of several bits are odd integers, ``Σ 2^j·s_j`` with signs s_j; activations are ±1, or integers from 0 on,
``Σ 2^i·b_i`` with bits b_i. The sums of all pairs of planes are integers, which float32 holds exactly; they are scaled
at the end, as in the plain convolution. What the kernels do not know (groups, dilation) torch multiplies as floats.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bcdzoo.layers.shift import long_range, short_range
from bcdzoo.packed.chain import Chain, is_native
from bcdzoo.plan.operations import Array, Operation, unpacked_bits, window

Sums = Callable[[Tensor], Tensor]
"""Integer sums, as float32, of activations."""

WINDOW = ("stride", "padding", "same", "pad_value", "dilation", "groups", "kernel")


def low_bit_conv(conv: Operation) -> Callable[..., Tensor]:
    """A ``low_bit_conv`` as a function of its input."""
    fields: Any = conv.fields
    scale, a_scale = (torch.from_numpy(np.array(conv.constants[name])) for name in ("scale", "a_scale"))
    sums = integer_sums(conv.fields, conv.constants["planes"], fields["a_bits"] == 1)
    w_bases = fields["w_bases"]
    multiple = len(conv.constants["planes"]) > 1 or w_bases > 1 or fields["a_bits"] > 1 or len(a_scale) > 1

    def scaled(x: Tensor) -> Tensor:
        out = sums(x)
        if multiple and not x.is_contiguous(memory_format=torch.channels_last):
            out = out.contiguous()  # as the plain convolution gives it: torch's later sums depend on the order
        out = out.mul_(scale[:, None, None])
        return out if w_bases == 1 else out.unflatten(1, (w_bases, -1)).sum(1)

    def run(x: Tensor) -> Tensor:
        if x.ndim == 4:
            return scaled(x) if a_scale == 1 else scaled(x).mul_(a_scale)
        terms = [scaled(a) * s for a, s in zip(x, a_scale, strict=True)]
        return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]

    return run


def integer_sums(fields: Any, planes: Array, signs: bool) -> Sums:
    """The sums of products of activations and weights.

    Args:
        fields: Those of a window.
        planes: Bits of the weights, (bits, rows, taps, words).
        signs: Whether the activations are ±1; else they are integers from 0 on.
    """
    if _is_dilated(fields):
        return _dilated(integer_sums(_undilated(fields), planes, signs), fields["dilation"][0])
    if not _in_kernels(fields):
        return _in_torch(fields, planes, signs)
    border = bool(fields["pad_value"]) and (any(fields["padding"]) or fields["same"])
    chains = [_chain(fields, plane, signs, border) for plane in planes]

    def run(x: Tensor) -> Tensor:
        x = padded(x, fields, fields["kernel"]) if border else x
        if signs:
            return _weighted([chain(x) for chain in chains])
        integers = x.to(torch.int32)
        largest = int(integers.max()) if integers.numel() else 0
        bits = range(max(largest.bit_length(), 1))
        return _weighted([_weighted([chain(((integers >> i) & 1).float()) for i in bits]) for chain in chains])

    return run


def _is_dilated(fields: Any) -> bool:
    """Whether a window is dilated and, of a kernel of odd size, padded with zeros to the map's own size."""
    dilation, kernel = fields["dilation"], fields["kernel"]
    keeps = all(2 * fields["padding"][axis] == dilation[axis] * (kernel[axis] - 1) for axis in (0, 1))
    same = fields["padding"][:2] == fields["padding"][2:] and not fields["same"] and fields["pad_value"] == 0
    odd = kernel[0] % 2 == kernel[1] % 2 == 1
    return bool(dilation[0] == dilation[1] > 1 and fields["stride"] == (1, 1) and keeps and same and odd)


def _undilated(fields: Any) -> Any:
    padding = tuple(side // fields["dilation"][0] for side in fields["padding"])
    return {**fields, "dilation": (1, 1), "padding": padding}


def _dilated(sums: Sums, dilation: int) -> Sums:
    """Of every d-th row and column an ordinary convolution: those between them do not meet in a dilated one."""

    def run(x: Tensor) -> Tensor:
        out: Tensor | None = None
        for i in range(dilation):
            for j in range(dilation):
                every = (..., slice(i, None, dilation), slice(j, None, dilation))
                if not (phase := x[every]).numel():
                    continue
                part = sums(phase)
                out = part.new_empty(len(x), part.shape[1], *x.shape[2:]) if out is None else out
                out[every] = part
        assert out is not None
        return out

    return run


def _in_kernels(fields: Any) -> bool:
    """Whether the kernels know a window; a border of other numbers than 0 can be put there before."""
    without = {key: fields[key] for key in WINDOW} | {"pad_value": 0.0, "samplings": ("none",)}
    border = fields["pad_value"] != 0
    uneven = {"padding": (0, 0, 0, 0), "same": 0} if border else {}
    return is_native(Operation("binary_unit", {}, without | uneven), 0)


def _chain(fields: Any, plane: Array, signs: bool, border: bool) -> Sums:
    """The kernels' sums of one plane of bits; their channels are known when a map comes."""
    rows = len(plane)
    bare = {key: fields[key] for key in WINDOW} | {"samplings": ("none",), "shortcut": "none"}
    bare |= {"activation_first": 0, "append": 0, "limit": math.inf, "pad_value": 0.0}
    if border:
        bare |= {"padding": (0, 0, 0, 0), "same": 0}
    scale = np.full(rows, 1.0 if signs else 0.5, np.float32)  # with 0 and 1 for bits sums are twice as large
    chains: dict[tuple[int, ...], Chain] = {}

    def run(x: Tensor) -> Tensor:
        shape = tuple(x.shape[1:])
        if shape not in chains:
            threshold = np.full(shape[0], 0.0 if signs else 0.5, np.float32)
            constants = {"planes": plane, "scale": scale, "threshold": threshold}
            chains[shape] = Chain([Operation("binary_unit", {"x": 0}, bare, constants)], shape, zero_one=not signs)
        return chains[shape](x)

    return run


def _in_torch(fields: Any, planes: Array, signs: bool) -> Sums:
    """The sums as a convolution of floats, which are exact."""
    groups = fields["groups"]
    weights: dict[int, Tensor] = {}

    def run(x: Tensor) -> Tensor:
        c_in = x.shape[1]
        if c_in not in weights:
            signed = [unpacked_bits(plane, c_in // groups, fields["kernel"]) * 2.0 - 1 for plane in planes]
            weights[c_in] = torch.from_numpy(sum(2**j * plane for j, plane in enumerate(signed)).astype(np.float32))
        x = padded(x, fields, fields["kernel"])
        return F.conv2d(x, weights[c_in], None, fields["stride"], 0, fields["dilation"], groups)

    return run


def padded(x: Tensor, fields: Any, kernel: Sequence[int]) -> Tensor:
    """A map with a window's border around it."""
    operation = Operation("", {}, fields)
    sides = [
        window(size, k, operation, axis)[1:] for axis, (size, k) in enumerate(zip(x.shape[2:], kernel, strict=True))
    ]
    (top, bottom), (left, right) = sides
    return F.pad(x, (left, right, top, bottom), value=float(fields["pad_value"]))


def _weighted(sums: list[Tensor]) -> Tensor:
    """``Σ 2^i·sums_i``, exact."""
    total = sums[0]
    for i, one in enumerate(sums[1:], start=1):
        total.add_(one, alpha=2**i)
    return total


_SAMPLED: dict[str, Sums] = {"none": lambda x: x, "short-range": short_range, "long-range": long_range}


def unit_in_parts(unit: Operation, normalize: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A binary unit that the kernels do not know as a whole: its sums by themselves, the rest by torch.

    Args:
        unit: Unit.
        normalize: Its scale and shift.
    """
    fields: Any = unit.fields
    constants = {key: torch.from_numpy(np.array(value)) for key, value in unit.constants.items() if key != "planes"}
    count = len(fields["samplings"])
    branches = [
        (_SAMPLED[sampling], integer_sums(fields, plane[None], True), scale[:, None, None])
        for sampling, plane, scale in zip(
            fields["samplings"], np.split(unit.constants["planes"], count), constants["scale"].chunk(count), strict=True
        )
    ]

    def sums(x: Tensor, threshold: Tensor | None) -> Tensor:
        fixed = constants["threshold"][:, None, None] if threshold is None else threshold
        signs = (x >= fixed).float().mul_(2).sub_(1)
        total, *others = (convolve(sample(signs)).mul_(scale) for sample, convolve, scale in branches)
        for other in others:
            total = total + other
        return total

    def activate(v: Tensor) -> Tensor:
        v = v + constants["shift_in"][:, None, None] if "shift_in" in constants else v
        v = F.prelu(v, constants["slope"]) if "slope" in constants else v
        return v + constants["shift_out"][:, None, None] if "shift_out" in constants else v

    def run(x: Tensor, **given: Tensor) -> Tensor:
        v = sums(x, given.get("threshold"))
        v = v * given["gate"] if "gate" in given else v
        v = v + given["offset"] if "offset" in given else v
        v = F.prelu(v, constants["inner_slope"]) if "inner_slope" in constants else v
        v = normalize(v)
        v = activate(v) if fields["activation_first"] else v
        v = _with_shortcut(fields["shortcut"], x, v, given.get("shortcut"))
        v = v if fields["activation_first"] else activate(v)
        v = v if fields["limit"] == math.inf else v.clamp(-fields["limit"], fields["limit"])
        return torch.cat([x, v], dim=1) if fields["append"] else v

    return run


def _with_shortcut(kind: str, x: Tensor, v: Tensor, given: Tensor | None) -> Tensor:
    match kind:
        case "same" if x.shape[1] > v.shape[1]:
            kept = x.shape[1] - v.shape[1]
            return torch.cat([x[:, :kept], x[:, kept:] + v], dim=1)
        case "same":
            return v + x
        case "average-pool":
            return v + F.avg_pool2d(x, 2, ceil_mode=True)
        case "duplicate":
            return v + torch.cat([x, x], dim=1)
        case "given":
            assert given is not None
            return v + given
    return v
