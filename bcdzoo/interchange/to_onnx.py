"""A plan as an ONNX model: the network with its 1-bit weights as bits, in operators that every runtime has."""

import json
from pathlib import Path

import onnx

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write
from bcdzoo.interchange.onnx_graph import Graph
from bcdzoo.interchange.onnx_nodes import NODES, Step
from bcdzoo.plan.operations import PlanError
from bcdzoo.plan.plan import Plan, shapes_of
from bcdzoo.text import printable

LARGEST_MODEL = (1 << 31) - (1 << 20)
"""Largest size of a model in bytes: protobuf's limit, with room for its names."""


def onnx_model(plan: Plan, graph: Graph | None = None) -> onnx.ModelProto:
    """Translate a plan.

    Args:
        plan: Plan.
        graph: Graph to write it into; a plain one if omitted.

    Returns:
        A model of the input ``images``, float32 of (N, C, H, W) for any N, and the output ``logits``. Its metadata are
        the name of the network, the preprocessing of its images, the class names as a list in JSON, and the provenance.

    Raises:
        BcdzooError: An operation has no translation.
        PlanError: The plan is wrong.
    """
    graph = graph or Graph()
    shapes = shapes_of(plan)
    if len(shapes[-1]) != 1:
        raise PlanError("the last operation does not give logits")
    values: list[str | list[str]] = ["images"]
    for operation, out in zip(plan.operations, shapes[1:], strict=True):
        graph.layer = printable(operation.name or operation.kind, 200)
        if operation.kind not in NODES:
            raise BcdzooError(f"{printable(operation.kind, 100)} of {graph.layer} has no translation")
        step = Step(operation, {key: shapes[value] for key, value in operation.inputs.items()}, out)
        values.append(NODES[operation.kind](graph, step, **{key: values[i] for key, i in operation.inputs.items()}))
    metadata = {"model": plan.model, "preprocess": plan.preprocess, "classes": json.dumps(plan.class_names)}
    metadata |= {f"provenance.{key}": value for key, value in sorted(plan.provenance.items())}
    logits = values[-1]
    assert isinstance(logits, str)  # of one base, as a vector is
    return graph.model(plan.input_shape, shapes[-1][0], logits, metadata)


def write_onnx(path: Path, plan: Plan, graph: Graph | None = None) -> int:
    """Write a plan as an ONNX file, atomically, and return its size in bytes.

    Raises:
        BcdzooError: As for :func:`onnx_model`, or it is larger than an ONNX file may be.
        OSError: The file cannot be written.
    """
    model = onnx_model(plan, graph)
    size = model.ByteSize()
    if size > LARGEST_MODEL:
        raise BcdzooError(f"{path} would have {size / 1e9:.1f} GB, and an ONNX file has 2.1 GB at most")
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return size
