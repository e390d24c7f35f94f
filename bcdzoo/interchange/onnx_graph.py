"""A graph of ONNX nodes that grows node by node, and what it makes of signs and bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bcdzoo.plan.operations import Array

OPSET = 17
"""Version of ONNX's operators: of 2022, so that older runtimes read it."""

_IR_VERSION = 8  # the one of that opset
_OCTETS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") * np.float32(2) - 1


class Graph:
    """Nodes in sequence, with their constants.

    Attributes:
        layer: Layer that the next nodes are of.
        are_signs: Values that are signs.
        binary: For each convolution of signs by signs, padded with 0 if not by signs, and without groups: the bits of
            its weights, by the name of its node.
    """

    domain = ""
    """Domain of its operators that are not ONNX's own."""
    batch: str | int = "N"
    """Number of images; a name for any."""

    def __init__(self) -> None:
        self.layer = ""
        self.are_signs: set[str] = set()
        self.binary: dict[str, Array] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def __call__(self, kind: str, *inputs: str | Array | np.float32, domain: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of what it gives.

        Args:
            kind: Operator.
            inputs: Names of values, or constants; "" for one that is absent.
            domain: Domain of the operator, if it is not ONNX's own.
            attributes: Attributes of the operator.
        """
        name = f"{self.layer}:{kind}:{len(self._nodes)}"
        names = [value if isinstance(value, str) else self._constant(np.asarray(value)) for value in inputs]
        self._nodes.append(helper.make_node(kind, names, [name], name, domain=domain, **attributes))
        return name

    def _constant(self, value: Array) -> str:
        """The name of a constant; equal ones are stored once."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(value, f"constant {len(self._constants)}")
        return self._constants[key].name

    def signs(self, x: str, threshold: str | Array, falls: Array) -> str:
        """+1 where x ≥ threshold, else -1; the other way round where it falls."""
        plus = np.where(falls, np.float32(-1), np.float32(1))
        signs = self("Where", self("GreaterOrEqual", x, threshold), plus, -plus)
        self.are_signs.add(signs)
        return signs

    def weight(self, bits: Array) -> str:
        """The signs of bits, in their shape; they are stored as bits, which runtimes unfold when they load the file."""
        octets = np.packbits(bits.reshape(-1), bitorder="little")
        signs = self("Gather", _OCTETS, self("Cast", octets, to=TensorProto.INT32))
        if bits.size % 8:
            signs = self("Slice", self("Reshape", signs, whole(-1)), whole(0), whole(bits.size))
        return self("Reshape", signs, whole(*bits.shape))

    def unfolded(self, sums: str) -> str:
        """Sums of integers as they are, whatever they are scaled with next.

        Runtimes would fold that scale into the weights, and round the sums: what should be 0 would get a sign. A clip
        that clips nothing keeps them from it, and costs nothing behind a convolution.
        """
        return self("Clip", sums, np.float32(-(2.0**100)), np.float32(2.0**100))

    def model(self, shape: tuple[int, ...], outputs: int, logits: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The whole of it.

        Args:
            shape: Shape of an image.
            outputs: Number of logits.
            logits: Name of their value.
            metadata: What is written beside the graph.
        """
        nodes = [*self._nodes, helper.make_node("Identity", [logits], ["logits"], "logits")]
        inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [self.batch, *shape])]
        ends = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [self.batch, outputs])]
        name = metadata["model"] or "plan"
        graph = helper.make_graph(nodes, name, inputs, ends, [*self._constants.values()])
        domains = {"": OPSET} | ({self.domain: 1} if self.domain else {})
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="bcdzoo")
        helper.set_model_props(model, dict(metadata))
        return model


def whole(*numbers: int) -> Array:
    """A constant of whole numbers."""
    return np.array(numbers, np.int64)
