"""A plan in ONNX Runtime: as a graph of floats, and quantized by its own quantizer, whose form its kernels know."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor

from bcdzoo.bench.backends import CALIBRATION, LacksError, quiet
from bcdzoo.interchange.to_onnx import onnx_model
from bcdzoo.plan.plan import Plan

_WHY_NOT = {"bfloat16": "it computes nothing in bfloat16 on a CPU", "bits": "it has no 1-bit convolution"}


def runs(plan: Plan, precision: str, shape: tuple[int, ...]) -> dict[int, Callable[[Tensor], Any]]:
    """Make a plan ready, in one of the precisions, like :func:`bcdzoo.bench.in_openvino.runs`; it has no streams.

    Raises:
        LacksError: ONNX Runtime has no such thing.
    """
    if precision in _WHY_NOT:
        raise LacksError(_WHY_NOT[precision])
    content = graph(plan, precision).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return {0: lambda images: session.run(None, {"images": images.numpy()})[0]}


def graph(plan: Plan, precision: str) -> onnx.ModelProto:
    """The ONNX model of a plan, in float32 or quantized to int8."""
    model = onnx_model(plan)
    return _quantized(model, plan.input_shape) if precision == "int8" else model


class _Images(CalibrationDataReader):  # type: ignore[misc] # untyped
    def __init__(self, shape: tuple[int, ...]) -> None:
        draw = np.random.default_rng(0)
        images = (draw.standard_normal((1, *shape), np.float32) for _ in range(CALIBRATION))
        self._left = iter([{"images": image} for image in images])

    def get_next(self) -> Any:
        return next(self._left, None)


def _quantized(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    with TemporaryDirectory(prefix="bcdzoo-") as folder, quiet():
        plain, quantized = Path(folder, "plain.onnx"), Path(folder, "quantized.onnx")
        onnx.save(model, plain)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(plain, quantized, _Images(shape), QuantFormat.QDQ, per_channel=True, **types)
        return onnx.load(quantized)
