"""QONNX files say what has one bit; QONNX's own executor, where it is installed, and ONNX Runtime run them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bcdzoo.interchange.to_onnx import onnx_model
from bcdzoo.interchange.to_qonnx import QonnxGraph
from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.operations import Array
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import run
from tests.command import bcdzoo
from tests.interchange.networks import FILES, assert_same_guesses, pictures, trained
from tests.plan.examples import IMAGE, examples

EXAMPLES = examples()


def by_qonnx(model: onnx.ModelProto, images: Array) -> Array:
    pytest.importorskip("qonnx", reason="needs QONNX: pip install qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    shaped: Any = ModelWrapper(model).transform(InferShapes())
    return np.concatenate([execute_onnx(shaped, {"images": image[None]})["logits"] for image in images])


def by_onnx_runtime(model: onnx.ModelProto, images: Array) -> Array:
    runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])


def images(count: int = 2) -> Array:
    return np.random.default_rng(1).normal(size=(count, *IMAGE)).astype(np.float32)


def assert_same(found: Array, plan: Plan) -> None:
    expected = run(plan, images())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("by", [by_qonnx, by_onnx_runtime])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_of_operation_gives_what_the_reference_gives(name: str, by: Any) -> None:
    model = onnx_model(EXAMPLES[name], QonnxGraph())
    onnx.checker.check_model(model, full_check=True)
    assert_same(by(model, images()), EXAMPLES[name])


@pytest.mark.parametrize("by", [pytest.param(by_qonnx, marks=pytest.mark.slow), by_onnx_runtime])
@pytest.mark.parametrize("name", ["bcdnet-tiny", *FILES])
def test_trained_networks_guess_what_torch_guesses_on_100_pictures(
    name: str, by: Any, request: pytest.FixtureRequest
) -> None:
    real_data = request.getfixturevalue("real_data") if name in FILES else None
    network, x = trained(name, real_data), pictures(name, real_data)
    if by is by_qonnx and name == "adabin-resnet20":
        x = x[:10]  # seven seconds each
    with torch.no_grad():
        plan = plan_of(network, tuple(x.shape[1:]))
    assert_same_guesses(by(onnx_model(plan, QonnxGraph()), x.numpy()), network, x)


def test_a_file_has_a_quantizer_before_each_1_bit_convolution_and_at_its_weights(tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    done = bcdzoo("export", "bcdnet-tiny", "--as", "qonnx", "--out", str(out))
    assert (done.returncode, done.stdout) == (0, f"{out}: {out.stat().st_size / 1e6:.2f} MB; as float32 1.53 MB\n")
    graph = onnx.load(out).graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    quantized = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in makers]
    assert len(quantized) == 14
    for node in quantized:
        weight = makers[node.input[1]]
        assert (weight.op_type, weight.domain) == ("BipolarQuant", "qonnx.custom_op.general")
        assert set(np.unique(stored[weight.input[0]])) == {-1, 1}
        assert stored[weight.input[1]] == 1
