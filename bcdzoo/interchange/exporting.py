"""Write a loaded network in another format: network → plan → file."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from bcdzoo.errors import BcdzooError
from bcdzoo.packed.checkpoint import exported_plan
from bcdzoo.packed.pack import PlanNetwork
from bcdzoo.plan.bounds import check_bounds
from bcdzoo.plan.operations import PlanError
from bcdzoo.plan.plan import Plan, shapes_of
from bcdzoo.text import printable
from bcdzoo.weights.load import LoadedModel

Writer = Callable[[Path, Plan], int]
"""Writes a plan to a path, and returns the size of all its files in bytes."""


class Sizes(NamedTuple):
    """Sizes in bytes.

    Attributes:
        file: Size of what was written.
        float32: Size of the same numbers, with a float32 for each weight.
    """

    file: int
    float32: int


def writer(name: str) -> Writer:
    """What writes a format.

    Args:
        name: Key in :data:`bcdzoo.interchange.SUFFIXES`.

    Raises:
        BcdzooError: A package that it needs is missing.
    """
    try:
        module: Any = import_module(f"bcdzoo.interchange.to_{name}")
    except ImportError as error:
        extra = "openvino" if name == "openvino" else "onnx"
        what = f"`--as {name}` needs packages that cannot be imported ({printable(error, 200)})"
        raise BcdzooError(f"{what}: pip install 'bcdzoo[{extra}]'") from None
    write: Writer = getattr(module, f"write_{name}")
    return write


def write_as(write: Writer, found: LoadedModel, path: Path) -> Sizes:
    """Write a loaded network.

    Args:
        write: What writes the format.
        found: Network, which is taken to the CPU in float32; or a plan.
        path: File to write.

    Raises:
        BcdzooError: The network computes something that the plan or the format does not have.
        OSError: The file cannot be written.
    """
    if not isinstance(found.model, PlanNetwork):
        found = replace(found, model=found.model.cpu().float().eval())
    try:
        plan = exported_plan(found)
        check_bounds(plan)
        return Sizes(write(path, plan), float32_size(plan))
    except PlanError as error:
        raise BcdzooError(f"cannot write {path}: {printable(error, 500)}") from None


def float32_size(plan: Plan) -> int:
    """Size in bytes of a plan's constants, with a float32 for each weight of few bits."""
    shapes, numbers = shapes_of(plan), 0
    for operation in plan.operations:
        fields: Any = operation.fields
        for name, constant in operation.constants.items():
            if name == "planes":
                rows, taps = constant.shape[-3:-1]
                c_in = shapes[operation.inputs["x"]][-3] // fields["groups"]
                numbers += rows // fields.get("w_bases", 1) * taps * c_in
            else:
                numbers += constant.size
    return 4 * numbers
