"""Binary units of a plan in sequence, with a stem before and a transition behind them, on the kernels in one go."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native
from bcdzoo.plan.operations import SAMPLINGS, SHORTCUTS, WORD, Operation, Shape, window
from bcdzoo.plan.plan import Plan

PANEL = 32
"""Channels that the kernels compute at once."""

_PER_IMAGE = ("shortcut", "threshold", "gate", "offset")
"""What a chain's first unit may be given for each image."""


def is_native(unit: Operation, c_in: int) -> bool:
    """Whether the kernels know a binary unit's window; sampled quarters of its channels must be whole words."""
    fields: Any = unit.fields
    kernel, stride, padding = fields["kernel"], fields["stride"], fields["padding"]
    square = kernel[0] == kernel[1] and stride[0] == stride[1] and len(set(padding)) == 1
    plain = fields["dilation"] == (1, 1) and fields["groups"] == 1
    quarters = set(fields["samplings"]) == {"none"} or c_in % (4 * WORD) == 0
    border = fields["pad_value"] == 0 or not (any(padding) or fields["same"])
    return square and plain and border and quarters


def joins(before: Operation, unit: Operation, shapes: Sequence[Shape]) -> bool:
    """Whether a unit can follow in the same chain: on what the one before gives, with nothing from elsewhere.

    Units that add to their map do not mix with others.
    """
    if unit.kind != "binary_unit" or list(unit.inputs) != ["x"] or not is_native(unit, shapes[unit.inputs["x"]][0]):
        return False
    pair = before, unit
    if not any(adds_to_map(each, shapes) for each in pair):
        return True
    return all(adds_to_map(each, shapes) and _first_written(each, shapes) % PANEL == 0 for each in pair)


def adds_to_map(unit: Operation, shapes: Sequence[Shape]) -> bool:
    """Whether a unit gives a map of more channels than it computes."""
    c_in, c_out = shapes[unit.inputs["x"]][0], channels_of(unit)
    return bool(unit.fields["append"]) or (unit.fields["shortcut"] == "same" and c_out < c_in)


def channels_of(unit: Operation) -> int:
    """Output channels that a unit computes."""
    branches: Any = unit.fields["samplings"]
    return len(unit.constants["planes"]) // len(branches)


def _first_written(unit: Operation, shapes: Sequence[Shape]) -> int:
    c_in = shapes[unit.inputs["x"]][0]
    return c_in if unit.fields["append"] else c_in - channels_of(unit)


def stem_of(plan: Plan, first: int, users: Sequence[Sequence[int]]) -> list[Operation] | None:
    """The real-valued layers from the images to a chain's first unit, if the kernels know them.

    Args:
        plan: Plan.
        first: Number of the unit.
        users: Operations that read each value.
    """
    unit = plan.operations[first]
    if list(unit.inputs) != ["x"]:
        return None
    found: list[Operation] = []
    value = unit.inputs["x"]
    while value:
        operation = plan.operations[value - 1]
        if len(users[value]) != 1 or not (_is_layer(operation) or (not found and _is_pool(operation))):
            return None
        found.insert(0, operation)
        value = operation.inputs["x"]
    return found if any(operation.kind == "conv" for operation in found) else None


def _is_layer(operation: Operation) -> bool:
    if operation.kind != "conv" or "alpha" not in operation.constants or "bias" in operation.constants:
        return False
    fields: Any = operation.fields
    kernel = operation.constants["weight"].shape[2:]
    square = kernel[0] == kernel[1] and fields["stride"][0] == fields["stride"][1] and len(set(fields["padding"])) == 1
    return bool(square and fields["dilation"] == (1, 1) and not fields["same"] and fields["pad_value"] == 0)


def _is_pool(operation: Operation) -> bool:
    if operation.kind != "pool" or operation.fields["name"] != "max" or operation.fields["ceil"]:
        return False
    return all(len(set(operation.fields[key])) == 1 for key in ("kernel", "stride", "padding"))  # type: ignore[arg-type]


def without_border(unit: Operation, shape: Shape) -> "Chain | None":
    """A unit with a border of ones as one on a larger map; None if the kernels cannot run that.

    Args:
        unit: Unit.
        shape: Shape of its input.
    """
    fields: Any = dict(unit.fields)
    if fields["pad_value"] != 1 or fields["shortcut"] not in ("none", "same", "given") or fields["append"]:
        return None
    if fields["shortcut"] == "same" and channels_of(unit) != shape[0]:
        return None
    height, width = (
        side + sum(window(side, kernel, unit, axis)[1:])
        for axis, (side, kernel) in enumerate(zip(shape[1:], fields["kernel"], strict=True))
    )
    inputs = dict(unit.inputs)
    if fields["shortcut"] == "same":
        inputs["shortcut"], fields["shortcut"] = inputs["x"], "given"
    fields |= {"padding": (0, 0, 0, 0), "same": 0, "pad_value": 0.0}
    plain = replace(unit, inputs=inputs, fields=fields)
    return Chain([plain], (shape[0], height, width)) if is_native(plain, shape[0]) else None


class Chain:
    """Units in sequence, run image by image, so that an image's maps stay in the cache.

    Args:
        units: Units, each on what the one before gives.
        shape: Shape of the first one's input.
        stem: Operations from the images to that input.
        ending: Normalization at the end, before 2×2 max pooling and ReLU.
        output: Number of the value that it gives.
        zero_one: Whether bits stand for 0 and 1 instead of -1 and +1; sums are then twice as large.

    Attributes:
        nanoseconds: Array to which the time of each unit is added, or None.
    """

    def __init__(
        self,
        units: Sequence[Operation],
        shape: Shape,
        stem: list[Operation] | None = None,
        ending: Operation | None = None,
        output: int = 0,
        zero_one: bool = False,
    ) -> None:
        self.units, self.shape, self.stem, self.ending, self.output = list(units), shape, stem, ending, output
        first = units[0].inputs
        self.roles, self.zero_one = tuple(first), zero_one
        self.inputs = (0,) if stem else tuple(first.values())
        self.is_wide = bool(units[-1].fields["append"]) or (
            units[-1].fields["shortcut"] == "same" and channels_of(units[-1]) < self.channels()[-1]
        )
        self.nanoseconds: npt.NDArray[np.int64] | None = None
        self._native: Any = None

    def __call__(self, *values: Tensor) -> Tensor:
        """What the last unit gives, (N, C, H, W), channels last in memory unless there is an ending."""
        try:
            return self._run(*values)
        except (ValueError, TypeError) as error:  # refused by the kernels
            x = values[0]
            reason = str(error).partition("\n")[0]
            raise BcdzooError(f"{self.units[0].name}: {reason} ({x.dtype} of shape {tuple(x.shape)})") from error

    def _run(self, *values: Tensor) -> Tensor:
        given = dict(zip(self.roles, values, strict=True))
        x = given.pop("x")
        if self._native is None:
            self._native = self._build()
        maps = _channels_last(x) if self.stem is None else x.detach().permute(0, 2, 3, 1).numpy()
        height, width, channels = self._native.output(*maps.shape[1:3])
        out = np.empty((len(maps), height, width, channels), np.float32)
        of_image: dict[str, Any] = dict.fromkeys(_PER_IMAGE)
        for name, value in given.items():
            sizes = self.shape[0] if name == "threshold" else channels_of(self.units[0])
            of_image[name] = _channels_last(value) if name == "shortcut" else _flat(value, len(x), sizes)
        self._native.run(
            maps,
            out,
            **of_image,
            threads=torch.get_num_threads(),
            instructions=native.chosen(),
            nanoseconds=self.nanoseconds,
        )
        if self.ending is not None:
            return torch.from_numpy(out.reshape(len(maps), channels, height, width))
        result = torch.from_numpy(out).permute(0, 3, 1, 2)
        return result.contiguous() if self.is_wide else result  # torch's rounding depends on the order in memory

    def channels(self) -> list[int]:
        """Channels of each unit's input."""
        channels = [self.shape[0]]
        for unit in self.units[:-1]:
            computed = channels_of(unit)
            if unit.fields["append"]:
                channels.append(channels[-1] + computed)
            else:
                same = unit.fields["shortcut"] == "same"
                channels.append(max(channels[-1], computed) if same else computed)
        return channels

    def _build(self) -> Any:
        module = native.kernels()
        assert module is not None  # without kernels nothing runs here
        units = [describe(unit, c_in, self.zero_one) for unit, c_in in zip(self.units, self.channels(), strict=True)]
        stem = None if self.stem is None else describe_stem(self.stem)
        ending = None if self.ending is None else dict(self.ending.constants)
        return module.Chain(units, stem, ending)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_native": None}


def describe(unit: Operation, c_in: int, zero_one: bool = False) -> dict[str, Any]:
    """A unit for the kernels."""
    fields: Any = unit.fields
    constants, c_out = unit.constants, channels_of(unit)
    neutral = {"alpha": 1.0, "beta": 0.0, "shift_in": 0.0, "slope": 1.0, "shift_out": 0.0}
    floats = {name: constants.get(name, np.full(c_out, value, np.float32)) for name, value in neutral.items()}
    if "inner_slope" in constants:
        floats["inner_slope"] = constants["inner_slope"]
    return {
        "c_in": c_in,
        "c_out": c_out,
        "kernel": fields["kernel"][0],
        "stride": fields["stride"][0],
        "padding": fields["padding"][0],
        "same_padding": bool(fields["same"]),
        "shortcut": SHORTCUTS.index(fields["shortcut"]),
        "activation_first": bool(fields["activation_first"]),
        "append": bool(fields["append"]),
        "limit": float(fields["limit"]),
        "zero_one": zero_one,
        **{f"dynamic_{name}": name in unit.inputs for name in ("threshold", "gate", "offset")},
        "branches": [
            {
                "planes": np.ascontiguousarray(constants["planes"][i * c_out : (i + 1) * c_out]),
                "scale": np.ascontiguousarray(constants["scale"][i * c_out : (i + 1) * c_out]),
                "sampling": SAMPLINGS.index(sampling),
            }
            for i, sampling in enumerate(fields["samplings"])
        ],
        "threshold": constants.get("threshold", np.zeros(c_in, np.float32)),
        **floats,
    }


def describe_stem(stem: Sequence[Operation]) -> dict[str, Any]:
    """The layers of a stem for the kernels."""
    layers: list[dict[str, Any]] = []
    pool = (1, 1, 0)
    for operation in stem:
        fields: Any = operation.fields
        if operation.kind == "pool":
            pool = (fields["kernel"][0], fields["stride"][0], fields["padding"][0])
            continue
        sizes = {"stride": fields["stride"][0], "padding": fields["padding"][0], "groups": fields["groups"]}
        constants = operation.constants
        arrays = {"weights": constants["weight"], "alpha": constants["alpha"], "beta": constants["beta"]}
        layers.append(sizes | {"relu": bool(fields["relu"])} | arrays)
    return {"layers": layers} | dict(zip(("pool_kernel", "pool_stride", "pool_padding"), pool, strict=True))


def sizes_of(chain: Chain) -> list[tuple[int, int]]:
    """Height and width of what each unit gives."""
    size, found = chain.shape[1:], []
    for unit in chain.units:
        kernel: Any = unit.fields["kernel"]
        size = tuple(window(side, k, unit, axis)[0] for axis, (side, k) in enumerate(zip(size, kernel, strict=True)))
        found.append((size[0], size[1]))
    return found


def _channels_last(x: Tensor) -> npt.NDArray[np.float32]:
    maps: npt.NDArray[np.float32] = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return maps


def _flat(x: Tensor, images: int, size: int) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = x.detach().flatten(1).expand(images, size).contiguous().numpy()
    return values
