"""Write a loaded network in another format: network → plan → file."""

from collections.abc import Callable, Mapping
from dataclasses import replace
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


def _onnx(path: Path, plan: Plan) -> int:
    from bcdzoo.interchange.to_onnx import write_onnx

    return write_onnx(path, plan)


def _openvino(path: Path, plan: Plan) -> int:
    from bcdzoo.interchange.to_openvino import write_openvino

    return write_openvino(path, plan)


def _qonnx(path: Path, plan: Plan) -> int:
    from bcdzoo.interchange.to_qonnx import write_qonnx

    return write_qonnx(path, plan)


class Format(NamedTuple):
    """How a format is written.

    Attributes:
        write: Writes a plan to a path, and returns the size of all its files in bytes.
        packages: Packages that it needs.
        extra: Extra of this package that installs them.
    """

    write: Callable[[Path, Plan], int]
    packages: tuple[str, ...]
    extra: str


FORMATS: Mapping[str, Format] = {
    "onnx": Format(_onnx, ("onnx",), "onnx"),
    "openvino": Format(_openvino, ("openvino", "onnx"), "openvino"),
    "qonnx": Format(_qonnx, ("onnx",), "onnx"),
}
"""What writes each format."""


class Sizes(NamedTuple):
    """Sizes in bytes.

    Attributes:
        file: Size of what was written.
        float32: Size of the same numbers, with a float32 for each weight.
    """

    file: int
    float32: int


def write_as(name: str, found: LoadedModel, path: Path) -> Sizes:
    """Write a loaded network.

    Args:
        name: Key in :data:`FORMATS`.
        found: Network, which is taken to the CPU in float32; or a plan.
        path: File to write.

    Raises:
        BcdzooError: A package is missing, or the network computes something that the plan or the format does not have.
        OSError: The file cannot be written.
    """
    kind = FORMATS[name]
    if not isinstance(found.model, PlanNetwork):
        found = replace(found, model=found.model.cpu().float().eval())
    try:
        plan = exported_plan(found)
        check_bounds(plan)
        return Sizes(kind.write(path, plan), float32_size(plan))
    except PlanError as error:
        raise BcdzooError(f"cannot write {path}: {printable(error, 500)}") from None
    except ModuleNotFoundError as error:
        if error.name not in kind.packages:
            raise
        what = f"`--as {name}` needs {error.name}, which is not installed"
        raise BcdzooError(f"{what}: pip install 'bcdzoo[{kind.extra}]'") from None


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
