"""QONNX files become networks that compute what ONNX Runtime and QONNX's own executor compute of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bcdzoo
from bcdzoo.audit.audit import audit
from bcdzoo.errors import BcdzooError
from bcdzoo.graph.fuse import low_bit_layers
from bcdzoo.interchange.to_onnx import onnx_model
from bcdzoo.interchange.to_qonnx import QonnxGraph
from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.operations import Array
from tests import mnist
from tests.command import bcdzoo as bcdzoo_command
from tests.interchange.networks import untrained
from tests.interchange.qonnx_graphs import Written

Example = Callable[[Written], str]
EXAMPLES: dict[str, Example] = {}


def example(function: Example) -> Example:
    EXAMPLES[function.__name__] = function
    return function


@example
def signs(w: Written) -> str:
    x = w.conv(w.bipolar("x"), 3, 8, pads=[1] * 4)
    return w.pooled(w.conv(w.bipolar(w("Sub", x, w.real(8, 1, 1))), 8, 5, strides=[2, 2], pads=[0, 1, 1, 0]))


@example
def scaled_signs(w: Written) -> str:
    weight = w.bipolar(w.real(6, 3, 3, 3), np.abs(w.real(6, 1, 1, 1)) + 0.1)
    x = w("Conv", w.bipolar("x", 0.3), weight, w.real(6), dilations=[2, 2], pads=[2] * 4)
    x = w("MaxPool", w("Mul", w.bipolar(x, 0.5), np.float32(2)), kernel_shape=[2, 2], strides=[2, 2])
    return w.pooled(w.conv(x, 6, 4, group=2))


@example
def signs_that_are_turned(w: Written) -> str:
    turned = w("Mul", w.bipolar("x"), np.array([1, -1, 1], np.float32)[:, None, None])
    return w.pooled(w.conv(turned, 3, 4))


@example
def padded_with_ones(w: Written) -> str:
    x = w("Pad", w.bipolar("x", 0.5), np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(0.5))
    x = w("Pad", w.bipolar(w.conv(x, 3, 4)), np.array([0, 0, 1, 0, 0, 0, 0, 2]), np.float32(-1))
    return w.pooled(w("Relu", w.conv(x, 4, 4, 2)))


@example
def two_bits(w: Written) -> str:
    x = w("Conv", w.quant("x", 2), w.quant(w.real(6, 3, 3, 3), 2, 0.5, narrow=1), pads=[1] * 4)
    x = w("Conv", w.quant(w("Relu", x), 2, 0.7, signed=0), w.quant(w.real(4, 6, 3, 3), 2, np.abs(w.real(4, 1, 1, 1))))
    return w.pooled(x)


@example
def four_bits_and_eight(w: Written) -> str:
    x = w("Conv", w.quant("x", 8, 1 / 64), w.quant(w.real(6, 3, 3, 3), 8, 1 / 32), w.real(6))
    x = w("BatchNormalization", x, np.abs(w.real(6)), w.real(6), w.real(6), np.abs(w.real(6)), epsilon=1e-3)
    x = w("MaxPool", w.quant(x, 4, 0.2, signed=0, narrow=1), kernel_shape=[2, 2], strides=[2, 2])
    return w.pooled(w("Conv", x, w.quant(w.real(4, 6, 3, 3), 4, 0.3)))


@example
def a_zero_point_and_other_roundings(w: Written) -> str:
    x = w("Conv", w.quant("x", 3, 0.5, zero=2, signed=0), w.quant(w.real(6, 3, 3, 3), 3, 0.5, zero=1), pads=[1] * 4)
    x = w("Conv", w.quant(x, 3, 0.5, mode="FLOOR"), w.bipolar(w.real(6, 6, 1, 1)))
    return w.pooled(w("Conv", w.quant(x, 3, 0.5, mode="CEIL"), w.bipolar(w.real(6, 6, 1, 1))))


@example
def quantized_shortcuts(w: Written) -> str:
    x = w.quant("x", 4, 0.25)
    y = w.quant(w("Conv", x, w.quant(w.real(3, 3, 3, 3), 4, 0.25), pads=[1] * 4), 4, 0.5)
    return w.pooled(w("Conv", w.quant(w("Add", x, y), 4, 0.5), w.quant(w.real(5, 3, 3, 3), 4, 0.25)))


@example
def scales_of_channels(w: Written) -> str:
    x = w.quant("x", 4, np.array([0.2, 0.3, 0.4], np.float32)[:, None, None])
    return w.pooled(w("Conv", x, w.quant(w.real(5, 3, 3, 3), 4, 0.25)))


@example
def thresholds(w: Written) -> str:
    x = w.thresholds("x", np.sort(w.real(3, 3)), 1.0, -2.0)
    x = w("Conv", x, w.quant(w.real(6, 3, 3, 3), 2, 1.0), pads=[1] * 4)
    x = w.thresholds(x, w.real(6, 1), 2.0, -1.0)
    return w.pooled(w.conv(x, 6, 4))


@example
def linear_layers(w: Written) -> str:
    x = w("Reshape", w.bipolar("x"), np.array([0, -1]))
    x = w("MatMul", x, w("Transpose", w.bipolar(w.real(16, 192)), perm=[1, 0]))
    x = w("Gemm", w.quant(x, 3, 2.0), w.quant(w.real(10, 16), 3, 0.5), w.real(10), transB=1)
    return w("Gemm", w("Relu", w("Add", x, w.real(10))), w.real(10, 7), w.real(7))


@example
def a_map_of_signs_that_is_flattened(w: Written) -> str:
    x = w.conv(w.bipolar("x"), 3, 8, pads=[1] * 4)
    x = w.bipolar(w("BatchNormalization", x, w.real(8), w.real(8), w.real(8), np.abs(w.real(8))))
    return w("MatMul", w("Flatten", x), w.bipolar(w.real(512, 6)))


@example
def activations(w: Written) -> str:
    x = w.conv(w.bipolar("x"), 3, 8)
    x = w("PRelu", w("Clip", x, np.float32(-5), np.float32(6)), w.real(8, 1, 1))
    x = w("LeakyRelu", w("Sub", w.real(8, 1, 1), x), alpha=0.1)
    x = w("Mul", w("Sigmoid", x), w("Tanh", w("Div", w("Neg", w("Abs", x)), np.float32(3))))
    x = w("Sub", w("Add", w("PRelu", w("Add", x, w.real(8, 1, 1)), w.real(8, 1, 1)), w.real(8, 1, 1)), x)
    return w.pooled(w("Dropout", w("Identity", w("Cast", x, to=1))))


@example
def poolings(w: Written) -> str:
    x = w.conv(w.bipolar("x"), 3, 8, pads=[1] * 4)
    x = w("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])
    x = w("AveragePool", x, kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    x = w("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    x = w("AveragePool", w("MaxPool", x, kernel_shape=[2, 2], pads=[0, 0, 1, 1]), kernel_shape=[2, 2], strides=[2, 2])
    return w("Squeeze", w("ReduceMean", x, axes=[2, 3]), np.array([2, 3]))


@example
def other_places(w: Written) -> str:
    x = w.conv(w.bipolar("x"), 3, 8, pads=[1] * 4)
    front = w("Slice", x, np.array([0]), np.array([4]), np.array([1]))
    back = w("Slice", x, np.array([-4, 0]), np.array([1 << 62, 8]), np.array([1, 3]), np.array([1, 1]))
    x = w("Concat", back, front, x, axis=1)
    x = w("Transpose", x, perm=[0, 2, 3, 1])
    return w.pooled(w.conv(w.bipolar(w("Reshape", x, np.array([0, 16, 8, 8]))), 16, 4))


@example
def a_real_valued_stem(w: Written) -> str:
    x = w("Conv", "x", w.real(8, 3, 3, 3), w.real(8), pads=[0, 0, 1, 1], strides=[2, 2])
    return w.pooled(w("Conv", w.bipolar(x), np.sign(w.real(8, 1, 3, 3)) * np.float32(0.5), group=8))


def loaded(w: Written, logits: str, folder: Path, **said: Any) -> Any:
    path = folder / "net.onnx"
    path.write_bytes(w.model(logits, **said).SerializeToString())
    return bcdzoo.load_qonnx(path)


def logits_of(network: nn.Module, images: Array) -> Array:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(images)))


def assert_close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_network_computes_what_onnx_runtime_computes_of_its_file(name: str, tmp_path: Path) -> None:
    w = Written()
    logits = EXAMPLES[name](w)
    expected = w.by_onnx_runtime(logits, w.images())
    network = loaded(w, logits, tmp_path)
    assert_close(logits_of(network, w.images()), expected)
    assert_close(logits_of(network, w.images()[:1]), expected[:1])
    if name != "a_zero_point_and_other_roundings":
        assert_close(logits_of(bcdzoo.pack(network), w.images()), expected)


def test_rounding_that_no_plan_has_is_named_when_a_network_is_packed(tmp_path: Path) -> None:
    w = Written()
    network = loaded(w, a_zero_point_and_other_roundings(w), tmp_path)
    with pytest.raises(BcdzooError, match=r"003_Conv: floor is no operation of a plan"):
        bcdzoo.pack(network)(torch.from_numpy(w.images()))


def cnv(w: Written) -> str:
    """The graph that Brevitas writes of CNV-W1A1."""
    x = w.quant(w("Sub", w("Mul", "x", np.float32(2)), np.ones(1, np.float32)), 8, 1 / 128)
    c_in = 3
    for number, c_out in enumerate((64, 64, 128, 128, 256, 256, 512, 512, 10)):
        if number == 6:
            x = w("Reshape", x, np.array([1, -1]))
        if number < 6:
            x = w.conv(x, c_in, c_out)
        else:
            x = w("MatMul", x, w("Transpose", w.bipolar(w.real(c_out, c_in)), perm=[1, 0]))
        if number == 8:
            return x
        x = w("BatchNormalization", x, w.real(c_out), w.real(c_out), 9 * w.real(c_out), np.abs(w.real(c_out)))
        x, c_in = w.bipolar(x), c_out
        if number in (1, 3):
            x = w("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    raise AssertionError


def test_a_cnv_is_counted_packed_and_judged_as_the_one_of_the_zoo(tmp_path: Path) -> None:
    w = Written((1, 3, 32, 32))
    logits = cnv(w)
    images = np.abs(w.images(2)) % 1
    network = loaded(w, logits, tmp_path)
    expected = w.by_onnx_runtime(logits, images)
    np.testing.assert_array_equal(logits_of(network, images), expected)
    np.testing.assert_array_equal(logits_of(bcdzoo.pack(network), images), expected)
    for rules in ("full", "dagger"):
        found, zoo = bcdzoo.count_ops(str(tmp_path / "net.onnx"), rules), bcdzoo.count_ops("finn-cnv-w1a1", rules)
        extra = 3 * 32 * 32 if rules == "full" else 0  # the quantizer of the image, which the zoo has for free
        assert (found.bops, found.flops - extra, found.unsupported) == (zoo.bops, zoo.flops, [])
        assert found.bops == 70_347_776
    layers = list(low_bit_layers(plan_of(network, (3, 32, 32))))
    assert [reason for _, reason in layers] == ["activations of several bits or bases", *[""] * 8]
    assert audit(str(tmp_path / "net.onnx")).verdict.startswith("binary weights: 9 layers, 100.0 %")


def digits(real_data: Path) -> Tensor:
    return torch.from_numpy(mnist.pixels(real_data, 100)[:, None] / np.float32(255)).expand(-1, 3, -1, -1)


def test_tfc_guesses_what_the_zoo_s_and_qonnx_s_executor_guess_of_100_digits(real_data: Path) -> None:
    path, images = real_data / "TFC_1W1A.onnx", digits(real_data)
    network = bcdzoo.load_qonnx(path)
    found = logits_of(network, np.asarray(images))
    zoo = logits_of(bcdzoo.load_model("qonnx-tfc-w1a1", path), np.asarray(2 * images - 1))
    assert_close(found, zoo)
    assert (found.argmax(1) == zoo.argmax(1)).all()
    assert_close(logits_of(bcdzoo.pack(network), np.asarray(images)), found)
    for rules in ("full", "dagger"):
        counted, wanted = bcdzoo.count_ops(network, rules), bcdzoo.count_ops("qonnx-tfc-w1a1", rules)
        assert (counted.bops, counted.flops) == (wanted.bops, wanted.flops)
    qonnx: Any = pytest.importorskip("qonnx.core.onnx_exec", reason="needs QONNX: pip install qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    model: Any = ModelWrapper(str(path)).transform(InferShapes())
    executed = [qonnx.execute_onnx(model, {"0": image[None, :1].numpy()})["74"] for image in images[:10]]
    np.testing.assert_array_equal(found[:10], np.concatenate(executed))


def test_tfc_is_binary_on_digits(real_data: Path, tmp_path: Path) -> None:
    data = mnist.beginning(real_data, 32, tmp_path / "digits")
    found = audit(str(real_data / "TFC_1W1A.onnx"), str(data))
    assert (found.verdict, found.failure) == ("binary: 4 layers, 100.0 % of the multiply-accumulates", None)


@pytest.mark.parametrize(
    "name", ["bcdnet-tiny", "finn-cnv-w1a1", "birealnet-18", pytest.param("meliusnet-22", marks=pytest.mark.slow)]
)
def test_what_was_exported_comes_back_with_the_same_logits_counts_and_units(name: str, tmp_path: Path) -> None:
    side = {"bcdnet-tiny": 28, "finn-cnv-w1a1": 32}.get(name, 64)
    network = untrained(name)
    plan = plan_of(network, (3, side, side), name)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_model(plan, QonnxGraph()).SerializeToString())
    back: Any = bcdzoo.load_qonnx(path)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3)).numpy()
    expected = logits_of(network, images)
    np.testing.assert_allclose(logits_of(back, images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    counts = [bcdzoo.count_ops(each, "dagger", side) for each in (back, network)]
    assert counts[0].bops == counts[1].bops
    assert counts[0].flops == counts[1].flops
    kinds = [[each.kind for each in one.operations] for one in (plan_of(back, (3, side, side)), plan)]
    for kind in ("binary_unit", "low_bit_conv", "pool", "prelu"):
        assert kinds[0].count(kind) == kinds[1].count(kind)


def test_a_file_of_this_zoo_brings_its_preprocessing_and_class_names(tmp_path: Path) -> None:
    path, back = tmp_path / "tiny.onnx", tmp_path / "again.bcz"
    assert bcdzoo_command("export", "bcdnet-tiny", "--as", "qonnx", "--out", str(path)).returncode == 0
    network: Any = bcdzoo.load_qonnx(path)
    trained: Any = bcdzoo.load_model("bcdnet-tiny")
    assert (str(network.preprocess), network.class_names) == (str(trained.preprocess), trained.class_names)
    done = bcdzoo_command("export", str(path), "--out", str(back))
    assert (done.returncode, done.stderr) == (0, "")
    counted = bcdzoo_command("count-ops", str(path), "--total")
    assert "18,264,064" in counted.stdout
    said = bcdzoo_command("bench", str(path), "--batch-size", "1", "--backend", "packed", "--set", "step=1")
    assert said.returncode == 1
    assert "takes no step" in said.stderr
