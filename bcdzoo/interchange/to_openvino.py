"""A plan as an OpenVINO network: by way of ONNX, with OpenVINO's 1-bit convolution wherever that is exact."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import openvino
from openvino import opset1

from bcdzoo.files import atomic_write
from bcdzoo.interchange.onnx_graph import Graph
from bcdzoo.interchange.to_onnx import onnx_model
from bcdzoo.plan.operations import Array
from bcdzoo.plan.plan import Plan
from bcdzoo.text import printable, say

_CHANNELS = 8  # input channels must be a multiple, or OpenVINO's 1-bit convolution is wrong


def openvino_model(plan: Plan) -> Any:
    """Translate a plan.

    Args:
        plan: Plan.

    Returns:
        An ``openvino.Model`` of one image, ``images``, because OpenVINO's 1-bit convolution needs a fixed number; its
        ``reshape`` makes it one of more. The metadata of :func:`bcdzoo.interchange.to_onnx.onnx_model` are in its
        runtime info, under ``bcdzoo``.

    Raises:
        BcdzooError: An operation has no translation.
        PlanError: The plan is wrong.
    """
    graph = Graph()
    onnx = onnx_model(plan, graph)
    model = openvino.Core().read_model(onnx.SerializeToString(), b"")
    model.reshape([1, *plan.input_shape])
    for operation in model.get_ordered_ops():
        bits = graph.binary.get(operation.get_friendly_name())
        if bits is not None and bits.shape[1] % _CHANNELS == 0:
            operation.output(0).replace(_binary(operation, bits))
    model.validate_nodes_and_infer_types()
    for entry in onnx.metadata_props:
        model.set_rt_info(printable(entry.value, len(entry.value)), ["bcdzoo", printable(entry.key, 100) or "_"])
    return model


def _binary(convolution: Any, bits: Array) -> Any:
    """What a convolution of ±1 by ±1 gives, of bits: what binarizes must give 0 and 1, or the sums are wrong."""
    name, geometry = convolution.get_friendly_name(), convolution.get_attributes()
    zero, one = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    signs = opset1.fake_quantize(convolution.input_value(0), zero, zero, zero, one, 2)
    signs.set_friendly_name(f"{name}:bits")
    octets = np.packbits(bits.reshape(-1), bitorder="little")
    tensor = openvino.Tensor(octets, openvino.Shape(bits.shape), openvino.Type.u1)
    weight = openvino.op.Constant(tensor, shared_memory=False)
    pads = geometry["pads_begin"], geometry["pads_end"]
    sums = opset1.binary_convolution(
        signs, weight, geometry["strides"], *pads, geometry["dilations"], "xnor-popcount", 0.0
    )
    sums.set_friendly_name(name)
    return sums.output(0)


def write_openvino(path: Path, plan: Plan) -> int:
    """Write a plan as OpenVINO's two files, ``.xml`` and beside it ``.bin``; return their size in bytes.

    Raises:
        BcdzooError: As for :func:`openvino_model`.
        OSError: A file cannot be written.
    """
    with TemporaryDirectory(prefix="bcdzoo-") as folder:
        made = Path(folder, "net.xml")
        openvino.save_model(openvino_model(plan), made, compress_to_fp16=False)
        content = made.with_suffix(".bin")
        size = made.stat().st_size + content.stat().st_size
        with atomic_write(path) as description, atomic_write(path.with_suffix(".bin")) as numbers:
            shutil.copyfile(made, description)
            shutil.copyfile(content, numbers)
    say("OpenVINO rounds to bfloat16 where the processor has it: compile with INFERENCE_PRECISION_HINT set to f32")
    return size
