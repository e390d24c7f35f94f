"""Run a plan: its binary units on the 1-bit kernels, everything else by torch's functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.quantizers.lqnet import encode
from bcdzoo.layers.shift import long_range, short_range
from bcdzoo.packed.chain import Chain, is_native, joins, stem_of, without_border
from bcdzoo.packed.low_bit import low_bit_conv, padded, unit_in_parts
from bcdzoo.plan.operations import END, Operation
from bcdzoo.plan.plan import Plan, last_uses, shapes_of

Run = Callable[..., Tensor]
"""An operation on the values that it reads, by the names of its inputs."""


@dataclass
class Step:
    """A part of a plan that runs at once.

    Attributes:
        run: Function of the values in ``inputs``.
        inputs: Numbers of the values that it reads.
        output: Number of the value that it gives.
        drops: Numbers of the values that nobody reads any more.
    """

    run: Callable[..., Tensor]
    inputs: tuple[int, ...]
    output: int
    drops: tuple[int, ...] = ()


class PlanRunner:
    """A plan that is ready to run.

    Args:
        plan: Plan.

    Attributes:
        chains: What runs on the kernels in one go.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.shapes = plan, shapes_of(plan)
        self.chains: list[Chain] = []
        self.steps = self._steps()
        self._drop()

    @property
    def has_stem(self) -> bool:
        """Whether the first layers run on the kernels, which read the images as they are."""
        return any(chain.stem is not None for chain in self.chains)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, (N, classes), of images, float32 of shape (N, C, H, W) on the CPU."""
        if tuple(images.shape[1:]) != self.plan.input_shape:
            raise BcdzooError(
                f"this plan is for images of {_size(self.plan.input_shape)}, not {_size(tuple(images.shape[1:]))}"
            )
        values: dict[int, Tensor] = {0: images}
        for step in self.steps:
            values[step.output] = step.run(*(values[number] for number in step.inputs))
            for number in step.drops:
                del values[number]
        last = values[len(self.plan.operations)]
        return last.expand(len(images), *last.shape[1:])

    def _steps(self) -> list[Step]:
        users: list[list[int]] = [[] for _ in self.shapes]
        for number, operation in enumerate(self.plan.operations):
            for value in operation.inputs.values():
                users[value].append(number)
        steps, taken = [], set[int]()
        for number, operation in enumerate(self.plan.operations):
            if number in taken:
                continue
            if operation.kind != "binary_unit":
                steps.append(Step(_runner(operation), tuple(operation.inputs.values()), number + 1))
            elif is_native(operation, self.shapes[operation.inputs["x"]][0]):
                chain, members = self._chain(number, users)
                taken |= set(members)
                self.chains.append(chain)
                steps.append(Step(chain, chain.inputs, chain.output))
            else:
                steps.append(Step(self._unit(operation), tuple(operation.inputs.values()), number + 1))
        return self._needed(steps)

    def _unit(self, unit: Operation) -> Callable[..., Tensor]:
        """A unit that is no part of a chain."""
        chain = without_border(unit, self.shapes[unit.inputs["x"]])
        if chain is None:
            return _runner(unit)
        self.chains.append(chain)
        fields: Any = {**unit.fields, "pad_value": math.inf}  # which is at or above any threshold
        names, adds = tuple(unit.inputs), unit.fields["shortcut"] == "same"

        def run(*values: Tensor) -> Tensor:
            given = dict(zip(names, values, strict=True))
            x = given.pop("x")
            return chain(padded(x, fields, fields["kernel"]), *given.values(), *([x] if adds else []))

        return run

    def _needed(self, steps: list[Step]) -> list[Step]:
        """The steps whose values are read: not those that a chain has taken into its stem."""
        read, kept = {len(self.plan.operations)}, []
        for step in reversed(steps):
            if step.output in read:
                read |= set(step.inputs)
                kept.append(step)
        return kept[::-1]

    def _chain(self, first: int, users: list[list[int]]) -> tuple[Chain, list[int]]:
        """The units that follow one another from one on, and the operations that the chain does."""
        operations = self.plan.operations
        members, number = [first], first
        while len(users[number + 1]) == 1:
            (following,) = users[number + 1]
            unit = operations[following] if following < len(operations) else None
            if unit is None or not joins(operations[number], unit, self.shapes):
                break
            members.append(following)
            number = following
        stem = stem_of(self.plan, first, users)
        units = [operations[member] for member in members]
        ending = self._halving(number, users)
        chain = Chain(units, self.shapes[units[0].inputs["x"]], stem, ending, output=number + 1 + 3 * bool(ending))
        return chain, members + ([number + i for i in (1, 2, 3)] if ending else [])

    def _halving(self, number: int, users: list[list[int]]) -> Operation | None:
        """The normalization that 2×2 max pooling and ReLU follow at a chain's end: MeliusNet's transition."""
        wanted = ("scale_shift", "pool", "clip")
        following = self.plan.operations[number + 1 : number + 4]
        if tuple(operation.kind for operation in following) != wanted:
            return None
        for offset, operation in enumerate(following, 1):
            if users[number + offset] != [number + offset] or operation.inputs["x"] != number + offset:
                return None
        normalization, pool, clip = following
        pooling = {"name": "max", "kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        is_even = not any(side % 2 for side in self.shapes[number + 1][1:])  # of an odd map the last row would be left
        is_halving = all(pool.fields[key] == value for key, value in pooling.items()) and (
            pool.fields["ceil"] == 1 or is_even
        )
        is_relu = (clip.fields["low"], clip.fields["high"]) == (0, math.inf)
        channels = self.shapes[number + 1][0]
        return normalization if is_halving and is_relu and len(normalization.constants["alpha"]) == channels else None

    def _drop(self) -> None:
        last = last_uses(self.plan)
        read: dict[int, Step] = {}
        for step in self.steps:
            for number in step.inputs:
                read[number] = step
        for number, step in read.items():
            if number and last[number] < len(self.plan.operations):
                step.drops = (*step.drops, number)


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _runner(operation: Operation) -> Callable[..., Tensor]:
    """An operation as a function of its inputs in their order."""
    run = RUN[operation.kind](operation)
    names = tuple(operation.inputs)
    return lambda *values: run(**dict(zip(names, values, strict=True)))


def _tensors(operation: Operation) -> dict[str, Tensor]:
    """Its constants; bits of weights excepted."""
    return {
        name: torch.from_numpy(np.array(array))  # a copy: those of a file cannot be written to, which torch dislikes
        for name, array in operation.constants.items()
        if array.dtype == np.float32
    }


def _padded(operation: Operation, kernel: Sequence[int]) -> tuple[Callable[[Tensor], Tensor], tuple[int, int]]:
    """What is done before a convolution whose padding torch's does not have, and torch's own padding."""
    fields: Any = operation.fields
    top, left, bottom, right = fields["padding"]
    if fields["same"] or fields["pad_value"] or (top, left) != (bottom, right):
        return lambda x: padded(x, fields, kernel), (0, 0)
    return lambda x: x, (top, left)


def _conv(operation: Operation) -> Run:
    fields: Any = operation.fields
    constants = _tensors(operation)
    weight, bias = constants["weight"], constants.get("bias")
    before, padding = _padded(operation, weight.shape[2:])
    colours, pointwise = weight.shape[1] == 3, weight.shape[2:] == (1, 1)
    after = _after(constants, bool(fields["relu"]))

    def run(x: Tensor) -> Tensor:
        if colours:  # the same result, several times as fast with three channels
            x = x.contiguous(memory_format=torch.channels_last)
        elif not pointwise:  # torch's rounding depends on the order in memory: as the plain network has it
            x = x.contiguous()
        out = F.conv2d(before(x), weight, bias, fields["stride"], padding, fields["dilation"], fields["groups"])
        return after(out)

    return run


def _after(constants: Mapping[str, Tensor], relu: bool) -> Callable[[Tensor], Tensor]:
    """Scale and shift if there are any, and ReLU."""
    normalize = _affine(constants) if "alpha" in constants else lambda x: x
    return (lambda x: normalize(x).relu_()) if relu else normalize


def _affine(constants: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """``x·alpha + beta`` with one rounding."""
    alpha, beta = constants["alpha"], constants["beta"]
    if (beta == 0).all():
        return lambda x: x * _of_channels(alpha, x)
    if (alpha == 1).all():
        return lambda x: x + _of_channels(beta, x)

    def run(x: Tensor) -> Tensor:  # torch's batch normalization of mean 0 and variance 1
        channels = x.shape[1]
        mean, var = x.new_zeros(channels), x.new_ones(channels)
        return F.batch_norm(x, mean, var, alpha.expand(channels), beta.expand(channels), eps=0.0)

    return run


def _linear(operation: Operation) -> Run:
    constants = _tensors(operation)
    return lambda x: F.linear(x, constants["weight"], constants.get("bias"))


def _scale_shift(operation: Operation) -> Run:
    return _affine(_tensors(operation))


def _of_channels(constant: Tensor, x: Tensor) -> Tensor:
    return constant.reshape(-1, *[1] * (x.ndim - 2))


def _prelu(operation: Operation) -> Run:
    constants = _tensors(operation)
    slope, positive = constants["slope"], constants.get("positive")
    shift_in, shift_out = constants.get("shift_in"), constants.get("shift_out")

    def run(x: Tensor) -> Tensor:
        if shift_in is not None:
            x = x + _of_channels(shift_in, x)
        if positive is None:
            x = F.prelu(x, slope)
        else:
            x = torch.where(x > 0, _of_channels(positive, x), _of_channels(slope, x)) * x
        return x if shift_out is None else x.add_(_of_channels(shift_out, x))  # of a new map

    return run


def _clip(operation: Operation) -> Run:
    fields: Any = operation.fields
    low, high = fields["low"], fields["high"]
    return lambda x: x.clamp(None if low == -math.inf else low, None if high == math.inf else high)


def _function(operation: Operation) -> Run:
    function: Run = getattr(torch, str(operation.fields["name"]))
    return lambda x: function(x)


def _pool(operation: Operation) -> Run:
    fields: Any = operation.fields
    shape = (fields["kernel"], fields["stride"], fields["padding"])
    if fields["name"] == "max":
        return lambda x: F.max_pool2d(x, *shape, ceil_mode=bool(fields["ceil"]))
    more = {"ceil_mode": bool(fields["ceil"]), "count_include_pad": bool(fields["count_padding"])}
    return lambda x: F.avg_pool2d(x, *shape, **more)


def _mean(operation: Operation) -> Run:
    axes: Any = operation.fields["axes"]
    dims, double = tuple(axis + 1 for axis in axes), bool(operation.fields["double"])
    if dims == (2, 3) and not double:
        return lambda x: F.adaptive_avg_pool2d(x, 1)
    dtype = torch.float64 if double else torch.float32
    return lambda x: x.mean(dim=dims, keepdim=True, dtype=dtype).float()


def _context(operation: Operation) -> Run:
    fields, constants = operation.fields, _tensors(operation)
    first, second = constants["first"].double(), constants["second"].double()

    def run(x: Tensor) -> Tensor:
        hidden = F.linear(_double_mean(x), first)
        out = F.linear(hidden.relu() if fields["hidden"] == "relu" else hidden, second)
        out = out.sigmoid() if fields["output"] == "sigmoid" else out
        return out.float()[:, :, None, None]

    return run


def _double_mean(x: Tensor) -> Tensor:
    """Mean of each channel in float64; image by image, so that the doubles stay in the cache."""
    pixels = x.shape[2] * x.shape[3]
    ones = torch.ones(1, pixels, dtype=torch.float64)
    sums = x.new_empty(x.shape[:2], dtype=torch.float64)
    for of_image, image in zip(sums, x, strict=True):
        of_image.copy_((ones @ image.permute(1, 2, 0).flatten(0, 1).double())[0])
    return sums / pixels


def _concat(operation: Operation) -> Run:
    return lambda **inputs: torch.cat(list(inputs.values()), dim=1)


def _slice(operation: Operation) -> Run:
    fields: Any = operation.fields
    stop = None if fields["stop"] == END else fields["stop"]
    index = (slice(None),) * (fields["axis"] + 1) + (slice(fields["start"], stop, fields["step"]),)
    return lambda x: x[index]


def _pad_map(operation: Operation) -> Run:
    fields: Any = operation.fields
    sides = [side for pair in zip(fields["before"], fields["behind"], strict=True) for side in pair]
    front, back, top, bottom, left, right = sides
    return lambda x: F.pad(x, (left, right, top, bottom, front, back), value=fields["value"])


def _reshape(operation: Operation) -> Run:
    shape = [size or -1 for size in operation.fields["shape"]]  # type: ignore[union-attr]
    return lambda x: x.reshape(len(x), *shape)


def _permute(operation: Operation) -> Run:
    axes: Any = operation.fields["axes"]
    return lambda x: x.permute(0, *(axis + 1 for axis in axes)).contiguous()


def _shift_quarters(operation: Operation) -> Run:
    return short_range if operation.fields["sampling"] == "short-range" else long_range


def _fill(operation: Operation) -> Run:
    fields: Any = operation.fields
    return lambda x: torch.full_like(x[:1], fields["value"])


def _binarize(operation: Operation) -> Run:
    constants = _tensors(operation)
    fixed, falls = constants.get("threshold"), constants.get("falls")

    def run(x: Tensor, threshold: Tensor | None = None) -> Tensor:
        if threshold is None:
            assert fixed is not None
            threshold = _of_channels(fixed, x)
        reached = x >= threshold
        if falls is not None:
            reached = reached ^ (_of_channels(falls, x) != 0)
        return reached.float().mul_(2).sub_(1)

    return run


def _quantize(operation: Operation) -> Run:
    fields: Any = operation.fields

    def run(x: Tensor) -> Tensor:
        x = x.clamp(fields["low"], fields["high"])
        step = torch.tensor(fields["step"], dtype=torch.float32)
        levels: Tensor = (x / step if fields["divide"] else x * step).round() + fields["offset"]
        return levels[None]

    return run


def _encode(operation: Operation) -> Run:
    basis = _tensors(operation)["basis"]
    return lambda x: encode(x, basis)


def _stack(operation: Operation) -> Run:
    return lambda **inputs: torch.stack(list(inputs.values()))


def _low_bit_conv(operation: Operation) -> Run:
    return low_bit_conv(operation)


def _binary_unit(operation: Operation) -> Run:
    constants = _tensors(operation)
    return unit_in_parts(operation, _affine(constants) if "alpha" in constants else lambda x: x)


RUN: dict[str, Callable[[Operation], Run]] = {
    "conv": _conv,
    "linear": _linear,
    "scale_shift": _scale_shift,
    "prelu": _prelu,
    "clip": _clip,
    "function": _function,
    "add": lambda operation: lambda a, b: a + b,
    "subtract": lambda operation: lambda a, b: a - b,
    "multiply": lambda operation: lambda a, b: a * b,
    "pool": _pool,
    "mean": _mean,
    "context": _context,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad_map,
    "reshape": _reshape,
    "permute": _permute,
    "shift_quarters": _shift_quarters,
    "fill": _fill,
    "binarize": _binarize,
    "quantize": _quantize,
    "encode": _encode,
    "stack": _stack,
    "low_bit_conv": _low_bit_conv,
    "binary_unit": _binary_unit,
}
"""Every kind of operation by torch's functions."""
