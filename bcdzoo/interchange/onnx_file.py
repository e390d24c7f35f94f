"""Read an ONNX file: its nodes and constants, checked; nothing in it is run, and no other file is opened."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular
from bcdzoo.plan.operations import Array
from bcdzoo.text import printable
from bcdzoo.weights.metadata import check_class_names

_LARGEST_FILE = (1 << 31) - 1  # protobuf's
_MOST_NODES = 10_000
_MOST_PARTS = 1_000_000  # fields of all messages: what an empty one takes when it is parsed is 75 times its size
_MOST_DIMENSIONS = 8
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # kinds of fields; sizes of those that have one
_KINDS = {
    *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16),
    *(TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL),
}


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        kind: Operator.
        domain: Its domain; "" for ONNX's own.
        label: What to call it in a message: operator and name.
        inputs: Names of its inputs; "" for one that is absent.
        outputs: Names of its outputs.
        attributes: Its attributes: numbers, bytes, lists of numbers, or arrays.
    """

    kind: str
    domain: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OnnxFile:
    """The content of a file.

    Attributes:
        nodes: Nodes, in the order of the file.
        constants: Stored arrays.
        image: Name of the one input.
        shape: Its shape; 0 where the file does not state a size.
        outputs: Names of the outputs.
        size: Size of the file in bytes.
        preprocess: Preprocessing that `bcdzoo export` wrote into it; None from anybody else.
        class_names: Class names, likewise.
    """

    nodes: list[Node]
    constants: dict[str, Array]
    image: str
    shape: tuple[int, ...]
    outputs: list[str]
    size: int
    preprocess: str | None
    class_names: tuple[str, ...] | None


def read_onnx(path: Path) -> OnnxFile:
    """Read a file.

    Raises:
        BcdzooError: It is damaged, or has something that no network of few bits needs.
    """
    model, size = _parsed(path)
    try:
        return _content(model, size)
    except BcdzooError as error:
        raise BcdzooError(f"{path}: {error}") from None
    except (ValueError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise BcdzooError(f"{path} is damaged: {printable(error, 200)}") from None


def _parsed(path: Path) -> tuple[onnx.ModelProto, int]:
    try:
        with open_regular(path) as file:
            content = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise BcdzooError(f"no file {path}") from None
    except OSError as error:
        raise BcdzooError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _LARGEST_FILE:
        raise BcdzooError(f"{path} has more than {_LARGEST_FILE} bytes, and no ONNX file has")
    model = onnx.ModelProto()
    try:
        if _parts(memoryview(content), onnx.ModelProto.DESCRIPTOR, _MOST_PARTS) < 0:
            raise BcdzooError(f"{path} is of more than {_MOST_PARTS} parts: no network is")
        model.ParseFromString(content)
    except (DecodeError, ValueError, IndexError, RecursionError):
        raise BcdzooError(f"{path} is no ONNX file, or damaged") from None
    return model, len(content)


def _parts(content: memoryview, kind: Any, room: int) -> int:
    """What is left of room for fields after those of a message and of all in it; negative as soon as nothing is.

    Raises:
        IndexError: The message ends too early.
    """
    at = 0
    while at < len(content) and room >= 0:
        room -= 1
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(content, at)
        elif wire == _BYTES:
            size, at = _varint(content, at)
            field = kind.fields_by_number.get(number)
            if field is not None and field.message_type is not None:
                room = _parts(content[at : at + size], field.message_type, room)
            at += size
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise IndexError("a field of a kind that no ONNX file has")
    return room


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = shift = 0
    while content[at] & 0x80 and shift < 63:
        number |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | content[at] << shift, at + 1


def _content(model: onnx.ModelProto, size: int) -> OnnxFile:
    graph = model.graph
    if not graph.node:
        raise BcdzooError("it is no ONNX file: it has no nodes")
    if len(graph.node) > _MOST_NODES:
        raise BcdzooError(f"it has {len(graph.node)} nodes, more than {_MOST_NODES}")
    if graph.sparse_initializer:
        raise BcdzooError("it has sparse constants, which are not read")
    if any(function.domain in ("", "ai.onnx") for function in model.functions):
        raise BcdzooError("it has functions of its own in the place of ONNX's operators")
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise BcdzooError(f"the constant {printable(tensor.name, 100)} is there twice")
        constants[tensor.name] = _array(tensor)
    inputs = [value for value in graph.input if value.name not in constants]  # older files list constants, too
    if len(inputs) != 1:
        raise BcdzooError(f"it has {len(inputs)} inputs: only networks of one, the image, are read")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        raise BcdzooError("its input is not float32")
    shape = tuple(max(dimension.dim_value, 0) for dimension in kind.shape.dim)
    outputs = [value.name for value in graph.output]
    nodes = [_node(node, number) for number, node in enumerate(graph.node)]
    said = {entry.key: entry.value for entry in model.metadata_props} if model.producer_name == "bcdzoo" else {}
    preprocess, names = said.get("preprocess") or None, said.get("classes") or "[]"
    if preprocess:
        parse(preprocess)
    return OnnxFile(nodes, constants, inputs[0].name, shape, outputs, size, preprocess, _classes(names))


def _classes(text: str) -> tuple[str, ...] | None:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):
        raise BcdzooError("its class names are no list in JSON")
    check_class_names(names)
    return tuple(names) or None


def _node(node: onnx.NodeProto, number: int) -> Node:
    name = node.name or (node.output[0] if node.output else "") or str(number)
    label = f"{printable(node.op_type, 60)} {printable(name, 100)}"
    try:
        attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
    except BcdzooError as error:
        raise BcdzooError(f"{label}: {error}") from None
    domain = "" if node.domain == "ai.onnx" else node.domain
    return Node(node.op_type, domain, label, tuple(node.input), tuple(node.output), attributes)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    kinds = onnx.AttributeProto
    match attribute.type:
        case kinds.FLOAT | kinds.INT | kinds.STRING | kinds.FLOATS | kinds.INTS:
            value = onnx.helper.get_attribute_value(attribute)
            return list(value) if attribute.type in (kinds.FLOATS, kinds.INTS) else value
        case kinds.TENSOR:
            return _array(attribute.t)
    raise BcdzooError(f"the attribute {printable(attribute.name, 100)} is of a kind that is not read")


def _array(tensor: onnx.TensorProto) -> Array:
    """A stored array, as large as its bytes in the file."""
    name = printable(tensor.name or "without a name", 100)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise BcdzooError(f"the constant {name} is in another file: save the model with all its data in one")
    if tensor.data_type not in _KINDS:
        raise BcdzooError(f"the constant {name} is of a type that is not read ({tensor.data_type})")
    if len(tensor.dims) > _MOST_DIMENSIONS or any(size < 0 for size in tensor.dims):
        raise BcdzooError(f"the constant {name} has a shape that cannot be")
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        reason = printable(error, 200)
        raise BcdzooError(f"the constant {name} does not have as many numbers as its shape says: {reason}") from None
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if np.isnan(array).any():
            raise BcdzooError(f"the constant {name} has values that are not numbers")
    return array
