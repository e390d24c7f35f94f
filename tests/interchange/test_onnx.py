"""ONNX files, run by ONNX Runtime: they say what the plan says, and are small."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.interchange import SUFFIXES, to_onnx
from bcdzoo.interchange.exporting import float32_size
from bcdzoo.interchange.onnx_nodes import NODES
from bcdzoo.interchange.to_onnx import onnx_model, write_onnx
from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.file import write_plan
from bcdzoo.plan.operations import KINDS, Array, Operation
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import run
from tests.command import bcdzoo
from tests.engine.random_plans import difference, random_plan
from tests.interchange.networks import FILES, assert_same_guesses, pictures, plain, trained, untrained
from tests.plan.examples import IMAGE, POOL, UNIT, bits, examples, real, to_logits, unit

onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")

EXAMPLES = examples()


def session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def logits(model: onnx.ModelProto, images: Array) -> Array:
    (result,) = session(model).run(None, {"images": images})
    return np.asarray(result)


def images(shape: tuple[int, ...] = IMAGE, count: int = 3) -> Array:
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


def assert_same(plan: Plan, x: Array, rtol: float = 1e-5) -> None:
    model = onnx_model(plan)
    onnx.checker.check_model(model, full_check=True)
    expected = run(plan, x)
    np.testing.assert_allclose(logits(model, x), expected, rtol=0, atol=rtol * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_of_operation_gives_what_the_reference_gives(name: str) -> None:
    assert_same(EXAMPLES[name], images())


def test_every_kind_of_operation_has_nodes() -> None:
    assert NODES.keys() == KINDS.keys()


def test_random_plans_give_what_the_reference_gives() -> None:
    wrong = {}
    for seed in range(60):
        one = random_plan(seed)
        shape, length = one.expected.shape[1:], len(one.plan.operations)
        if one.expected.ndim == 4:
            flat = Operation("reshape", {"x": length}, {"shape": (0,)})
            one = one._replace(plan=replace(one.plan, operations=(*one.plan.operations, flat)))
        if len(shape) in (1, 3) and (said := difference(logits(onnx_model(one.plan), one.images), one.expected, False)):
            wrong[seed] = said
    assert len(wrong) <= 1, wrong  # a value on its threshold may turn, where a sum is rounded twice


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("count_padding", [0, 1])
@pytest.mark.parametrize("name", ["max", "average"])
def test_pooling_cuts_its_windows_where_torch_does(name: str, count_padding: int, ceil: int) -> None:
    for size in range(3, 8):
        for kernel, stride, padding in ((3, 2, 1), (2, 3, 1), (3, 3, 0), (2, 2, 0), (3, 1, 1)):
            fields = POOL | {"name": name, "kernel": (kernel, 2), "stride": (stride, 3), "padding": (padding, 1)}
            pool = Operation("pool", {"x": 0}, fields | {"ceil": ceil, "count_padding": count_padding})
            flat = Operation("reshape", {"x": 1}, {"shape": (0,)})
            plan = Plan((2, size, 5), (pool, flat))
            assert_same(plan, images((2, size, 5)), 1e-6)


@pytest.mark.parametrize("shortcut", ["none", "same", "average-pool", "duplicate"])
def test_a_unit_has_its_shortcut(shortcut: str) -> None:
    c_out = 8 if shortcut == "duplicate" else 2 if shortcut == "same" else 4
    stride = (2, 2) if shortcut == "average-pool" else (1, 1)
    constants = {"planes": bits(c_out, 9, 1), "scale": real(c_out), "threshold": real(4)}
    unit = Operation("binary_unit", {"x": 0}, UNIT | {"shortcut": shortcut, "stride": stride}, constants)
    assert_same(to_logits(unit), images())


def test_sums_that_are_0_stay_0_whatever_they_are_multiplied_with() -> None:
    constants = {"planes": bits(64, 9, 1), "scale": real(64) * 0.1, "threshold": np.zeros(64, np.float32)}
    first = Operation("binary_unit", {"x": 0}, UNIT | {"shortcut": "none", "pad_value": 1.0}, constants)
    sign = Operation("binarize", {"x": 1}, {}, {"threshold": np.zeros(1, np.float32)})
    plan = Plan((64, 9, 9), (first, sign, Operation("reshape", {"x": 2}, {"shape": (0,)})))
    x = images(plan.input_shape)
    sums = run(Plan(plan.input_shape, (first,)), x) == 0
    assert sums.sum() > 100
    np.testing.assert_array_equal(logits(onnx_model(plan), x), run(plan, x))


@pytest.mark.parametrize("name", ["bcdnet-tiny", *FILES])
def test_trained_networks_guess_what_torch_guesses_on_100_pictures(name: str, request: pytest.FixtureRequest) -> None:
    real_data = request.getfixturevalue("real_data") if name in FILES else None
    network, x = trained(name, real_data), pictures(name, real_data)
    assert len(x) == 100
    expected = plain(network, x)
    with torch.no_grad():
        plan = plan_of(network, tuple(x.shape[1:]))
    found = logits(onnx_model(plan), x.numpy())
    far = np.abs(found - expected).max(1) > 1e-4 * np.abs(expected).max()
    assert far.sum() <= (6 if name == "adabin-resnet20" else 0)  # a value within a rounding of its threshold may turn
    assert_same_guesses(found, network, x)


@pytest.mark.parametrize(
    "name",
    [
        "bcdnet-a",
        "bcdnet-b",
        "meliusnet-22",
        "birealnet-18",
        "lqnet-r18-w1a2",
        pytest.param("abcnet-r18-5x5", marks=pytest.mark.slow),
        "dorefa-r18-w2a2",
    ],
)
def test_larger_networks_give_the_logits_of_torch(name: str) -> None:
    network = untrained(name)
    size = 32 if name.startswith("abcnet") else 64
    x = torch.from_numpy(images((3, size, size), 2))
    with torch.no_grad():
        plan = plan_of(network, (3, size, size))
    expected = plain(network, x)
    np.testing.assert_allclose(logits(onnx_model(plan), x.numpy()), expected, atol=1e-4 * np.abs(expected).max())


def test_a_file_says_what_it_is_of_and_is_as_small_as_its_bits(tmp_path: Path) -> None:
    out, plan = tmp_path / "net.onnx", tmp_path / "net.bcz"
    done = bcdzoo("export", "bcdnet-tiny", "--as", "onnx", "--out", str(out))
    assert (done.returncode, done.stdout) == (0, f"{out}: 0.13 MB; as float32 1.53 MB\n")
    model = onnx.load(out)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert (said["model"], said["preprocess"]) == ("bcdnet-tiny", str(trained("bcdnet-tiny").preprocess))
    assert len(json.loads(said["classes"])) == 10
    (images_,), (logits_,) = model.graph.input, model.graph.output
    shape = images_.type.tensor_type.shape.dim
    assert (images_.name, logits_.name, shape[0].dim_param) == ("images", "logits", "N")
    assert [size.dim_value for size in shape[1:]] == [3, 28, 28]

    assert bcdzoo("export", "bcdnet-tiny", "--out", str(plan)).returncode == 0
    again = tmp_path / "again.onnx"
    assert bcdzoo("export", str(plan), "--as", "onnx", "--out", str(again)).returncode == 0
    assert again.read_bytes() == out.read_bytes()


def test_the_size_as_float32_is_that_of_the_networks_parameters() -> None:
    network = trained("bcdnet-tiny")
    with torch.no_grad():
        found = float32_size(plan_of(network, (3, 28, 28)))
    assert found == pytest.approx(4 * sum(parameter.numel() for parameter in network.parameters()), rel=0.02)


def test_names_from_a_plan_file_do_no_harm(tmp_path: Path) -> None:
    strange = Operation("fill", {"x": 0}, {"value": 1.0}, name="\x1b[31m:Ünits\n" * 100)
    plan = to_logits(strange)
    write_plan(tmp_path / "net.bcz", plan)
    assert (
        bcdzoo("export", str(tmp_path / "net.bcz"), "--as", "onnx", "--out", str(tmp_path / "x.onnx")).returncode == 0
    )
    assert_same(plan, images())


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "net.onnx"
    tiny = ("export", "bcdnet-tiny", "--as", "onnx", "--out", str(out))
    for kind, package in ("onnx", "onnx"), ("qonnx", "onnx"), ("openvino", "openvino"):
        with monkeypatch.context() as patch:
            for module in [module for module in sys.modules if module.startswith("bcdzoo.interchange.")]:
                patch.delitem(sys.modules, module)
            patch.setitem(sys.modules, package, None)
            done = bcdzoo("export", "bcdnet-tiny", "--as", kind, "--out", str(out.with_suffix(SUFFIXES[kind])))
        assert done.returncode == 1
        assert done.stderr.startswith(
            f"bcdzoo: `--as {kind}` needs packages that cannot be imported (import of {package} "
        )
        assert done.stderr.endswith(f"): pip install 'bcdzoo[{package}]'\n")
    with monkeypatch.context() as patch:
        patch.delitem(NODES, "binary_unit")
        with pytest.raises(BcdzooError, match="binary_unit of ledge has no translation"):
            write_onnx(out, to_logits(replace(unit({}, threshold=real(4)), name="ledge")))
    monkeypatch.setattr(to_onnx, "LARGEST_MODEL", 10**5)
    done = bcdzoo(*tiny)
    assert (done.returncode, done.stderr) == (
        1,
        f"bcdzoo: {out} would have 0.0 GB, and an ONNX file has 2.1 GB at most\n",
    )
    assert bcdzoo(*tiny, "--packed").returncode == 2
    assert bcdzoo(*tiny[:-1], str(tmp_path / "net.bcz")).returncode == 2
    assert not out.exists()


class Fails(nn.Linear):
    def __init__(self) -> None:
        super().__init__(7, 10)


class GivesAMap(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 4, 3)


class GivesAFourier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.fft.fft(x).real.mean((2, 3))
        return y


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Fails", "fails on an image of 3×224×224"),
        ("GivesAMap", "the last operation does not give logits"),
        ("GivesAFourier", "fft.fft is no operation of a plan"),
    ],
)
def test_networks_that_cannot_be_exported_are_refused_in_one_line(name: str, said: str, tmp_path: Path) -> None:
    done = bcdzoo("export", f"{__name__}:{name}", "--as", "onnx", "--out", str(tmp_path / "net.onnx"))
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "unexpected" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_real_valued_network_of_a_user_is_exported_too(tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    assert bcdzoo("export", "torchvision.models:resnet18", "--as", "onnx", "--out", str(out)).returncode == 0
    assert 44e6 < out.stat().st_size < 47e6
