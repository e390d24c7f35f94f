"""OpenVINO beside the 1-bit engine: its ResNet-18, and its binary convolution.

It is optional: ``pip install 'bcdzoo[openvino]'``.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PRECISIONS = ("float32", "default", "int8")
"""Of ResNet-18: float32 as it is written; OpenVINO's default, which is bfloat16 where the processor has it; int8."""


def missing() -> str:
    """Why OpenVINO cannot be run beside; "" if it can."""
    try:
        import nncf  # noqa: F401
        import openvino  # noqa: F401
    except ImportError as error:
        return f"{error} (pip install 'bcdzoo[openvino]')"
    return ""


def resnet18(images: Tensor, threads: int) -> dict[str, Callable[[Tensor], Any]]:
    """ResNet-18 of torchvision with random weights, in each precision; int8 is calibrated on random images.

    Args:
        images: Images of the size and number that will be given.
        threads: Number of threads.

    Returns:
        For each precision, a function of images with all threads on a batch (1 stream) and one with a part of the
        batch on each: the faster one depends on network and processor.
    """
    import nncf
    import openvino
    from torchvision.models import resnet18

    shape = list(images.shape)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        plain = openvino.convert_model(resnet18().eval(), example_input=images, input=shape)
        draws = [torch.randn_like(images).numpy() for _ in range(2)]
        quantized = nncf.quantize(plain.clone(), nncf.Dataset(draws), subset_size=len(draws))
    hints = {"float32": {"INFERENCE_PRECISION_HINT": "f32"}, "default": {}, "int8": {}}
    found = {}
    for precision in PRECISIONS:
        for streams in sorted({1, threads} if len(images) % threads == 0 else {1}):
            network = (quantized if precision == "int8" else plain).clone()
            network.reshape([len(images) // streams, *shape[1:]])
            settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams, **hints[precision]}
            compiled = openvino.Core().compile_model(network, "CPU", settings)
            name = f"{precision}, {streams} stream{'s' * (streams > 1)}"
            found[name] = _in_streams([compiled.create_infer_request() for _ in range(streams)])
    return found


def _in_streams(requests: list[Any]) -> Callable[[Tensor], Any]:
    def run(images: Tensor) -> None:
        for request, part in zip(requests, np.split(images.numpy(), len(requests)), strict=True):
            request.start_async([part])
        for request in requests:
            request.wait()

    return run


class BinaryLayers:
    """Binary convolutions of stride 1 in sequence, padded with zeros to the map's own size, on one thread.

    Exact if what binarizes gives 0 and 1 (with -1 and +1 it is silently wrong), and the first weight is the lowest bit.

    Args:
        weights: Weights of each, ±1, (channels, channels, k, k).
        size: Height and width of the map.
        normalize: Whether a scale and a shift follow each convolution; OpenVINO fuses them into its kernel.
    """

    def __init__(self, weights: Sequence[npt.NDArray[np.float32]], size: int, normalize: bool) -> None:
        import openvino
        from openvino import opset1

        channels, pad = weights[0].shape[1], weights[0].shape[-1] // 2
        border: Any = [pad, pad]
        zero, one = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
        of_channels = np.zeros((1, channels, 1, 1), np.float32)
        images = x = opset1.parameter([1, channels, size, size], np.float32)
        for weight in weights:
            bits = opset1.fake_quantize(x, of_channels, of_channels, zero, one, 2)
            packed = np.packbits(weight.reshape(-1) > 0, bitorder="little")
            tensor = openvino.Tensor(packed, openvino.Shape(weight.shape), openvino.Type.u1)
            planes = openvino.op.Constant(tensor, shared_memory=False)
            x = opset1.binary_convolution(bits, planes, [1, 1], border, border, [1, 1], "xnor-popcount", 0.0)
            if normalize:
                x = opset1.add(opset1.multiply(x, of_channels + 0.5), of_channels + 0.25)
        network = openvino.Model([opset1.result(x)], [images], "layers")
        settings = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        self.request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()

    def __call__(self, images: Tensor) -> Tensor:
        """What the last one gives."""
        return torch.from_numpy(np.array(self.request.infer([images.numpy()])[0]))

    def microseconds(self) -> list[float]:
        """Of each convolution in the last call, by OpenVINO's own counters; the first one with what makes its bits."""
        counters = [
            (info.node_type, info.real_time.total_seconds() * 1e6) for info in self.request.get_profiling_info()
        ]
        bits = sum(time for kind, time in counters if kind == "FakeQuantize")  # 0 for those that are fused
        first, *others = (time for kind, time in counters if kind == "BinaryConvolution")
        return [bits + first, *others]
