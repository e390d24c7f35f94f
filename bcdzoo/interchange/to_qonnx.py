"""A plan as a QONNX model: ``BipolarQuant`` says what has one bit, for tools that make hardware of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from bcdzoo.interchange.onnx_graph import OPSET, Graph
from bcdzoo.interchange.to_onnx import write_onnx
from bcdzoo.plan.operations import Array
from bcdzoo.plan.plan import Plan


class QonnxGraph(Graph):
    """Nodes of QONNX: signs and 1-bit weights are quantized where they are used, and weights are stored as float32."""

    domain = "qonnx.custom_op.general"
    batch = 1  # QONNX's executor and its tools take nothing else

    def signs(self, x: str, threshold: str | Array, falls: Array) -> str:
        """+1 where x - threshold ≥ 0, which is where x ≥ threshold, else -1; times -1 where it falls."""
        if isinstance(threshold, str) or threshold.any():
            x = self("Sub", x, threshold)
        signs = self._bipolar(x)
        return self("Mul", signs, np.where(falls, np.float32(-1), np.float32(1))) if falls.any() else signs

    def weight(self, bits: Array) -> str:
        """The signs of bits, in their shape."""
        return self._bipolar(bits * np.float32(2) - 1)

    def unfolded(self, sums: str) -> str:
        """Sums of integers as they are: these tools look for what scales them."""
        return sums

    def model(self, shape: tuple[int, ...], outputs: int, logits: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The whole of it, with what ``BipolarQuant`` computes, so that plain ONNX runtimes run it too."""
        model = super().model(shape, outputs, logits, metadata)
        nodes = [
            helper.make_node("Constant", [], ["zero"], value_float=0.0),
            helper.make_node("GreaterOrEqual", ["x", "zero"], ["positive"]),
            helper.make_node("Neg", ["scale"], ["negative"]),
            helper.make_node("Where", ["positive", "scale", "negative"], ["y"]),
        ]
        opset = [helper.make_opsetid("", OPSET)]
        model.functions.append(helper.make_function(self.domain, "BipolarQuant", ["x", "scale"], ["y"], nodes, opset))
        return model

    def _bipolar(self, x: str | Array) -> str:
        return self("BipolarQuant", x, np.float32(1), domain=self.domain)


def write_qonnx(path: Path, plan: Plan) -> int:
    """Write a plan as a QONNX file, as :func:`bcdzoo.interchange.to_onnx.write_onnx` does."""
    return write_onnx(path, plan, QonnxGraph())
