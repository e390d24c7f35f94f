"""TFC of the QONNX model zoo: an ONNX graph that is written is read, and others are not taken for it."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bcdzoo import load_model, pack
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import load_state
from tests import mnist

WIDTHS = (784, 64, 64, 64, 10)


def tfc(seed: int = 0) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A graph of TFC's operations with random numbers, and these."""
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {"one": np.ones((), np.float32), "half": np.full((), 0.5, np.float32)}
    nodes = [helper.make_node(kind, ["x"], ["x"]) for kind in ("Shape", "Gather", "Unsqueeze", "Concat", "Reshape")]
    nodes += [helper.make_node("Mul", ["x", "two"], ["x"]), helper.make_node("Sub", ["x", "one"], ["x"])]
    nodes += [helper.make_node("BipolarQuant", ["x", "one"], ["x"])]
    for i, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        values[f"weight{i}"] = random.standard_normal((outputs, inputs)).astype(np.float32)
        nodes += [helper.make_node("BipolarQuant", [f"weight{i}", "one"], ["w"])]
        nodes += [helper.make_node("Transpose", ["w"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["x"])]
        if outputs != WIDTHS[-1]:
            names = [f"{part}{i}" for part in ("scale", "shift", "mean", "var")]
            values |= {name: random.uniform(0.5, 1.5, outputs).astype(np.float32) for name in names}
            nodes += [helper.make_node("BatchNormalization", ["x", *names], ["x"], epsilon=1e-5)]
            nodes += [helper.make_node("BipolarQuant", ["x", "one"], ["x"])]
    ends = {"end_mean": -1.5, "end_var": 3.0, "end_scale": 0.7, "end_shift": -0.2}
    values |= {name: np.full(1, value, np.float32) for name, value in ends.items()}
    nodes += [helper.make_node("Sub", ["x", "end_mean"], ["x"]), helper.make_node("Pow", ["end_var", "half"], ["root"])]
    nodes += [helper.make_node("Div", ["x", "root"], ["x"]), helper.make_node("Mul", ["x", "end_scale"], ["x"])]
    nodes += [helper.make_node("Add", ["x", "end_shift"], ["logits"])]
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "tfc", [], [], initializers)
    return helper.make_model(graph), values


def expected(values: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Logits of images of bytes, as the graph's operations say, in float64."""
    x = np.where(pixels.reshape(len(pixels), -1) >= 128, 1.0, -1.0)
    for i in range(4):
        x = x @ np.where(values[f"weight{i}"] >= 0, 1.0, -1.0).T
        if i < 3:
            scale, shift, mean, var = (
                values[f"{part}{i}"].astype(np.float64) for part in ("scale", "shift", "mean", "var")
            )
            x = np.where((x - mean) / np.sqrt(var + 1e-5) * scale + shift >= 0, 1.0, -1.0)
    root = values["end_var"].astype(np.float64) ** 0.5
    logits: np.ndarray = (x - values["end_mean"]) / root * values["end_scale"] + values["end_shift"]
    return logits


def test_a_graph_computes_the_same_in_torch_and_packed(tmp_path: Path) -> None:
    model, values = tfc()
    onnx.save(model, tmp_path / "x.onnx")
    pixels = np.random.default_rng(1).integers(0, 256, (20, 28, 28), np.uint8)
    x = (torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1).float() / 255 - 0.5) / 0.5
    network = load_model("qonnx-tfc-w1a1", tmp_path / "x.onnx")
    with torch.inference_mode():
        found = network(x)
        torch.testing.assert_close(pack(network)(x), found, rtol=1e-6, atol=1e-6)  # the last rounding is another
    np.testing.assert_allclose(found.numpy(), expected(values, pixels), rtol=1e-5, atol=1e-5)


def test_a_trained_graph_computes_what_its_numbers_say(real_data: Path) -> None:
    graph = onnx.load(real_data / "TFC_1W1A.onnx").graph
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [node.input[0] for node in graph.node if node.op_type == "BipolarQuant" and node.input[0] in numbers]
    norms = [list(node.input[1:]) for node in graph.node if node.op_type == "BatchNormalization"]
    *_, mean, root, _, scale, shift = graph.node
    ends = {"end_mean": mean, "end_scale": scale, "end_shift": shift}
    values = {f"weight{i}": numbers[name] for i, name in enumerate(weights)}
    values |= {
        f"{part}{i}": numbers[name]
        for i, named in enumerate(norms)
        for part, name in zip(("scale", "shift", "mean", "var"), named, strict=True)
    }
    values |= {name: numbers[node.input[1]] for name, node in ends.items()} | {"end_var": numbers[root.input[0]]}
    pixels = mnist.pixels(real_data, 100)
    x = (torch.from_numpy(pixels.copy())[:, None].expand(-1, 3, -1, -1).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        found = load_model("qonnx-tfc-w1a1", real_data / "TFC_1W1A.onnx")(x)
    np.testing.assert_allclose(found.numpy(), expected(values, pixels), rtol=1e-5, atol=1e-5)


def elsewhere(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")


def another_operation(model: onnx.ModelProto) -> None:
    model.graph.node[10].op_type = "Gemm"


def a_huge_shape(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "weight1").dims[:] = [1 << 40, 1 << 40]


def a_negative_shape(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "weight1").dims[:] = [-1, 64]


def no_such_type(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "weight1").data_type = 99


def text(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "mean0").CopyFrom(
        helper.make_tensor("mean0", TensorProto.STRING, [1], ["x"])  # type: ignore[list-item]
    )


def no_such_tensor(model: onnx.ModelProto) -> None:
    model.graph.node[8].input[0] = "\x1b[2Knowhere" * 1000


def no_inputs(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.input[:]


def scaled(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "one").CopyFrom(
        numpy_helper.from_array(np.full((), 2, np.float32), "one")
    )


def another_epsilon(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "BatchNormalization").attribute[0].f = 1e-3


def an_epsilon_of_text(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    node.attribute[0].CopyFrom(helper.make_attribute("epsilon", "x"))


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 784), np.float32), "weight0"))


def flat(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "weight0").CopyFrom(
        numpy_helper.from_array(np.zeros(64 * 784, np.float32), "weight0")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (elsewhere, "keeps its weights in other files"),
        (another_operation, "other operations than TFC"),
        (a_huge_shape, "damaged ONNX"),
        (a_negative_shape, "damaged ONNX"),
        (no_such_type, "damaged ONNX"),
        (text, "damaged ONNX|no weights"),
        (no_such_tensor, "damaged ONNX"),
        (no_inputs, "damaged ONNX"),
        (scaled, "scales what it quantizes"),
        (another_epsilon, "an epsilon of 0.001"),
        (an_epsilon_of_text, "damaged ONNX|epsilon"),
        (twice, "twice|damaged ONNX"),
        (flat, "damaged ONNX|has shape"),
    ],
)
def test_a_graph_that_is_not_tfc_is_refused_in_one_line(
    change: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path
) -> None:
    model, _ = tfc()
    change(model)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BcdzooError, match=message) as error:
        load_model("qonnx-tfc-w1a1", tmp_path / "x.onnx")
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file_is_refused_or_read_as_what_it_then_says(seed: int, tmp_path: Path) -> None:
    content = bytearray(tfc()[0].SerializeToString())
    random = np.random.default_rng(seed)
    for place in random.integers(0, 3000 if seed % 2 else len(content), 5):
        content[place] ^= 1 << int(random.integers(8))
    (tmp_path / "x.onnx").write_bytes(content[: len(content) if seed % 3 else int(random.integers(len(content)))])
    try:
        load_state(tmp_path / "x.onnx")
    except BcdzooError as error:
        assert "\n" not in str(error) and len(str(error)) < 700
