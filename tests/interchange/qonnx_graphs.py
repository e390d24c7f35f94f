"""QONNX models written node by node, and what ONNX Runtime makes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bcdzoo.plan.operations import Array

DOMAIN = "qonnx.custom_op.general"


class Written:
    """A model in the making: a call adds a node, and returns the name of its output.

    QONNX's nodes are written into ``model`` as they are, and into ``plain`` as ONNX's own.
    """

    def __init__(self, shape: Sequence[int | str] = ("N", 3, 8, 8), seed: int = 0) -> None:
        self.shape, self.draw = shape, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.plain_nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        node = helper.make_node(kind, names, [f"v{len(self.nodes)}"], f"node {len(self.nodes)}", **attributes)
        self.nodes.append(node)
        self.plain_nodes.append(node)
        return str(node.output[0])

    def constant(self, array: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def real(self, *shape: int) -> Array:
        return self.draw.normal(size=shape).astype(np.float32)

    def bipolar(self, x: str | Array, scale: float | Array = 1.0) -> str:
        """±scale, +scale where x is 0."""
        scale = np.asarray(scale, np.float32)
        return self._quantizer("BipolarQuant", x, [scale], {}, lambda x: self._sign(x, scale))

    def quant(
        self, x: str | Array, bits: int, scale: float | Array = 0.25, zero: float = 0, mode: str = "ROUND", **said: int
    ) -> str:
        """``scale·(round(clip(x/scale + zero)) - zero)``."""
        scale, at = np.asarray(scale, np.float32), np.float32(zero)
        signed, narrow = said.get("signed", 1), said.get("narrow", 0)
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow

        def plain(x: str) -> str:
            y = self._plain("Add", self._plain("Div", x, scale), at)
            y = self._plain("Clip", y, np.float32(low), np.float32(high))
            y = self._plain({"ROUND": "Round", "FLOOR": "Floor", "CEIL": "Ceil"}[mode], y)
            return self._plain("Mul", self._plain("Sub", y, at), scale)

        attributes = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        return self._quantizer("Quant", x, [scale, at, np.float32(bits)], attributes, plain)

    def thresholds(self, x: str, thresholds: Array, out_scale: float = 1.0, out_bias: float = 0.0) -> str:
        """The number of thresholds that are reached, scaled and shifted; of a map."""

        def plain(x: str) -> str:
            total = self._plain("Mul", x, np.float32(0))
            for column in thresholds.T:
                reached = self._plain("GreaterOrEqual", x, column[:, None, None])
                total = self._plain("Add", total, self._plain("Cast", reached, to=TensorProto.FLOAT))
            return self._plain("Add", self._plain("Mul", total, np.float32(out_scale)), np.float32(out_bias))

        attributes = {"out_scale": out_scale, "out_bias": out_bias, "out_dtype": "INT4"}
        return self._quantizer("MultiThreshold", x, [thresholds], attributes, plain)

    def conv(self, x: str, c_in: int, c_out: int, kernel: int = 3, **attributes: Any) -> str:
        """A convolution of signs."""
        groups = attributes.get("group", 1)
        return self("Conv", x, self.bipolar(self.real(c_out, c_in // groups, kernel, kernel)), **attributes)

    def pooled(self, x: str) -> str:
        """The logits."""
        return self("Flatten", self("GlobalAveragePool", x))

    def model(self, logits: str, **said: Any) -> onnx.ModelProto:
        """The whole of it, in QONNX's operators."""
        return self._made(self.nodes, logits, **said)

    def by_onnx_runtime(self, logits: str, images: Array) -> Array:
        """What the plain one gives."""
        runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
        model = self._made(self.plain_nodes, logits)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"x": image[None]})[0] for image in images])

    def images(self, count: int = 3) -> Array:
        sizes = [size for size in self.shape[1:] if isinstance(size, int)]
        return np.random.default_rng(7).normal(size=(count, *sizes)).astype(np.float32)

    def _made(self, nodes: list[onnx.NodeProto], logits: str, **said: Any) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        outputs = [helper.make_tensor_value_info(logits, TensorProto.FLOAT, None)]
        graph = helper.make_graph(nodes, "graph", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, **said)

    def _plain(self, kind: str, *inputs: str | Array | np.float32, **attributes: Any) -> str:
        names = [each if isinstance(each, str) else self.constant(np.asarray(each)) for each in inputs]
        name = f"p{len(self.plain_nodes)}"
        self.plain_nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return name

    def _sign(self, x: str, scale: Array) -> str:
        return self._plain("Where", self._plain("GreaterOrEqual", x, np.float32(0)), scale, -scale)

    def _quantizer(self, kind: str, x: str | Array, more: list[Any], attributes: Any, plain: Any) -> str:
        name = x if isinstance(x, str) else self.constant(x)
        inputs = [name, *(self.constant(np.asarray(each)) for each in more)]
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], f"node {len(self.nodes)}", domain=DOMAIN, **attributes))
        self.plain_nodes.append(helper.make_node("Identity", [plain(name)], [out]))
        return out
