"""QONNX model zoo, models/MNIST/Brevitas_FINN_TFC: the ONNX graph of TFC, whose weights are values in it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable
from bcdzoo.weights.keys.family import Container, Family, Layout, State

if TYPE_CHECKING:
    import onnx

_HIDDEN = 3
_INPUT = ["Shape", "Gather", "Unsqueeze", "Concat", "Reshape", "Mul", "Sub", "BipolarQuant"]
_LAYER = ["BipolarQuant", "Transpose", "MatMul", "BatchNormalization", "BipolarQuant"]
_OUTPUT = ["BipolarQuant", "Transpose", "MatMul", "Sub", "Pow", "Div", "Mul", "Add"]
_OPERATIONS = _INPUT + _LAYER * _HIDDEN + _OUTPUT
_NORM = ("weight", "bias", "running_mean", "running_var")
_EPS = 1e-5
_LARGEST = 4 << 20  # TFC has 0.24 MB; what is parsed may take 75 times its size


def _holds(path: Path, head: bytes) -> bool:
    return re.match(rb"\x08[\x03-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]", head) is not None


def _read(path: Path) -> State:
    try:
        import onnx
    except ModuleNotFoundError:
        raise BcdzooError(f"{path} is an ONNX file: `pip install 'bcdzoo[onnx]'` reads it") from None
    from google.protobuf.message import DecodeError

    if (size := path.stat().st_size) > _LARGEST:
        raise BcdzooError(f"{path} has {size >> 20} MiB, more than TFC: other ONNX files are not read")
    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
        return _state(graph, path)
    except (DecodeError, ValueError, TypeError, IndexError, KeyError) as error:
        raise BcdzooError(f"{path} is a damaged ONNX file ({printable(error, 200)}); fetch it again") from None


def _state(graph: "onnx.GraphProto", path: Path) -> State:
    import torch
    from onnx import helper, numpy_helper

    nodes = list(graph.node)
    if [node.op_type for node in nodes] != _OPERATIONS:
        raise BcdzooError(f"{path} has other operations than TFC_1W1A of the QONNX model zoo: it is not read")
    values = {tensor.name: tensor for tensor in graph.initializer}
    if len(values) < len(graph.initializer):
        raise ValueError("a tensor is in it twice")

    def value(name: str) -> Any:
        if values[name].data_location:
            raise BcdzooError(f"{path} keeps its weights in other files: it is not read")
        if any(length < 0 for length in values[name].dims):
            raise ValueError("a tensor has a negative length")
        return torch.from_numpy(numpy_helper.to_array(values[name]).copy())

    for node in nodes:
        if node.op_type == "BipolarQuant" and value(node.input[1]).flatten().tolist() != [1.0]:
            raise BcdzooError(f"{path} scales what it quantizes, which TFC_1W1A does not: it is not read")
        epsilon = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "epsilon"), _EPS)
        if abs(epsilon - _EPS) > _EPS / 1000:
            raise BcdzooError(f"{path} has an epsilon of {epsilon}, and TFC {_EPS}: it is not read")
    state: State = {}
    for i in range(_HIDDEN + 1):
        weight, _, _, norm, *_ = nodes[len(_INPUT) + len(_LAYER) * i :]
        state[f"{i}.weight"] = value(weight.input[0])[:, :, None, None]
        if i < _HIDDEN:
            state |= {f"{i}.bn.{key}": value(name) for key, name in zip(_NORM, norm.input[1:], strict=True)}
    *_, mean, root, _, scale, shift = nodes
    ends = {"weight": scale, "bias": shift, "running_mean": mean}
    state |= {f"logits.{key}": value(node.input[1]) for key, node in ends.items()}
    state["logits.running_var"] = value(root.input[0]) - _EPS  # the graph has added it
    return state


_TFC = Layout(
    [
        (r"(\d)\.weight", r"layer\1.conv.weight"),
        (r"(\d)\.bn\.", r"layer\1.bn."),
        (r"logits\.", "layer3.logits.bn."),
    ],
    preprocess="resize=28,crop=28,mean=0.5,std=0.5",
)

FAMILY = Family((_TFC,), Container(_holds, _read))
