"""A plan in OpenVINO: as a graph of floats, quantized by NNCF, and with its 1-bit convolution."""

from collections.abc import Callable
from typing import Any

import nncf
import numpy as np
import openvino
import torch
from torch import Tensor

from bcdzoo.bench.backends import CALIBRATION, LacksError, quiet
from bcdzoo.bench.machine import machine
from bcdzoo.interchange.to_onnx import onnx_model
from bcdzoo.interchange.to_openvino import openvino_model
from bcdzoo.plan.plan import Plan

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32", "bits": "f32"}
"""In what OpenVINO computes what is in floats; by itself it would take bfloat16 wherever the processor has it."""


def runs(plan: Plan, precision: str, shape: tuple[int, ...]) -> dict[int, Callable[[Tensor], Any]]:
    """Make a plan ready, in one of the precisions.

    Args:
        plan: Plan.
        precision: "float32", "bfloat16", "int8" (quantized by NNCF after training) or "bits" (1-bit convolutions).
        shape: Shape of a batch.

    Returns:
        For a number of streams what runs a batch: all of it on all threads (1), or a part of it on each thread. Which
        is faster depends on network and processor.

    Raises:
        LacksError: OpenVINO or this processor has no such thing.
    """
    if precision == "bfloat16" and not {"avx512_bf16", "amx_bf16", "bf16"} & {*machine()["instructions"]}:
        raise LacksError("this processor has no instructions for bfloat16")
    network = _network(plan, precision)
    threads, images = torch.get_num_threads(), shape[0]
    found = {}
    for streams in sorted({1, threads} if images % threads == 0 else {1}):
        each = network.clone()
        each.reshape([images // streams, *shape[1:]])
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
        settings["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
        compiled = openvino.Core().compile_model(each, "CPU", settings)
        found[streams] = _in_streams([compiled.create_infer_request() for _ in range(streams)])
    return found


def _network(plan: Plan, precision: str) -> Any:
    if precision == "bits":
        network = openvino_model(plan)
        if not any(operation.get_type_name() == "BinaryConvolution" for operation in network.get_ops()):
            raise LacksError("none of its convolutions is one of OpenVINO's 1-bit kind")
        return network
    network = openvino.Core().read_model(onnx_model(plan).SerializeToString(), b"")
    if precision != "int8":
        return network
    network.reshape([1, *plan.input_shape])
    draw = torch.Generator().manual_seed(0)
    images = [torch.randn(1, *plan.input_shape, generator=draw).numpy() for _ in range(CALIBRATION)]
    with quiet():
        return nncf.quantize(network, nncf.Dataset(images), subset_size=CALIBRATION)


def _in_streams(requests: list[Any]) -> Callable[[Tensor], Any]:
    def run(images: Tensor) -> Any:
        for request, part in zip(requests, np.split(images.numpy(), len(requests)), strict=True):
            request.start_async([part])
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor(0).data for request in requests])

    return run
