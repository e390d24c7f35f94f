"""OpenVINO files, run by OpenVINO: 1-bit convolutions are OpenVINO's own, and as exact as any."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.operations import Array, Operation
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import run
from tests.command import bcdzoo
from tests.interchange.networks import FILES, assert_same_guesses, pictures, plain, trained, untrained
from tests.plan.examples import IMAGE, UNIT, bits, examples, real

openvino: Any = pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'bcdzoo[openvino]'")

from bcdzoo.interchange.to_openvino import openvino_model  # noqa: E402

EXAMPLES = examples()
SIZES = [
    *((3, 1, 6), (3, 3, 6), (3, 8, 2), (3, 40, 34), (3, 64, 64), (3, 65, 6), (1, 7, 6), (1, 100, 6), (1, 256, 18)),
    *((1, 24, 2), (5, 33, 6), (5, 72, 70), (2, 16, 10), (1, 104, 4), (3, 136, 50), (1, 1000, 6)),
]
"""Kernel, and channels in and out."""


def logits(model: Any, images: Array, precision: str = "f32") -> Array:
    model = model.clone()
    model.reshape(list(images.shape))
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return np.array(compiled([images])[0])


def kinds(model: Any) -> list[str]:
    return [operation.get_type_name() for operation in model.get_ops()]


def images(shape: tuple[int, ...] = IMAGE, count: int = 3) -> Array:
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_of_operation_gives_what_the_reference_gives(name: str) -> None:
    expected = run(EXAMPLES[name], images())
    found = logits(openvino_model(EXAMPLES[name]), images())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("pad_value", [0.0, 1.0, -1.0, 0.5])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "channels", "c_out"), SIZES)
def test_sums_of_bits_are_exact_and_openvinos_own_where_it_can_do_them(
    pad_value: float, groups: int, kernel: int, channels: int, c_out: int
) -> None:
    shape = (channels * groups, 9, 7)
    pads = {"kernel": (kernel, kernel), "padding": (kernel // 2,) * 4, "pad_value": pad_value, "groups": groups}
    for more in ({}, {"stride": (2, 2)}, {"dilation": (2, 1)}):
        planes = bits(c_out, kernel**2, -(-channels // 64))
        constants = {"planes": planes, "scale": np.ones(c_out, np.float32), "threshold": real(shape[0])}
        unit = Operation("binary_unit", {"x": 0}, UNIT | pads | {"shortcut": "none"} | more, constants)
        plan = Plan(shape, (unit, Operation("reshape", {"x": 1}, {"shape": (0,)})))
        model = openvino_model(plan)
        assert ("BinaryConvolution" in kinds(model)) == (groups == 1 and pad_value != 0.5 and channels % 8 == 0)
        np.testing.assert_array_equal(logits(model, images(shape)), run(plan, images(shape)))


@pytest.mark.parametrize("name", ["bcdnet-tiny", *FILES])
def test_trained_networks_guess_what_torch_guesses_on_100_pictures(name: str, request: pytest.FixtureRequest) -> None:
    real_data = request.getfixturevalue("real_data") if name in FILES else None
    network, x = trained(name, real_data), pictures(name, real_data)
    with torch.no_grad():
        plan = plan_of(network, tuple(x.shape[1:]))
    assert_same_guesses(logits(openvino_model(plan), x.numpy()), network, x)


@pytest.mark.parametrize(
    ("name", "layers"), [("bcdnet-a", 50), ("meliusnet-22", 34), ("birealnet-18", 16), ("adabin-resnet20", 18)]
)
def test_larger_networks_give_the_logits_of_torch_with_all_their_bits(name: str, layers: int) -> None:
    network, x = untrained(name), torch.from_numpy(images((3, 64, 64), 2))
    with torch.no_grad():
        model = openvino_model(plan_of(network, (3, 64, 64)))
    assert kinds(model).count("BinaryConvolution") == layers
    expected = plain(network, x)
    np.testing.assert_allclose(logits(model, x.numpy()), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_command_writes_two_files_that_say_what_they_are_of(tmp_path: Path) -> None:
    out = tmp_path / "net.xml"
    done = bcdzoo("export", "bcdnet-tiny", "--as", "openvino", "--out", str(out))
    size = (out.stat().st_size + out.with_suffix(".bin").stat().st_size) / 1e6
    assert (done.returncode, done.stdout) == (0, f"{out}: {size:.2f} MB; as float32 1.53 MB\n")
    assert "bfloat16" in done.stderr
    model = openvino.Core().read_model(out)
    said = {key: model.get_rt_info(["bcdzoo", key]).astype(str) for key in ("model", "preprocess", "classes")}
    assert (said["model"], len(json.loads(said["classes"]))) == ("bcdnet-tiny", 10)
    assert said["preprocess"] == str(trained("bcdnet-tiny").preprocess)
    x = pictures("bcdnet-tiny")[:5]
    np.testing.assert_allclose(logits(model, x.numpy()), plain(trained("bcdnet-tiny"), x), rtol=0, atol=1e-5)


def test_names_from_a_plan_file_do_no_harm(tmp_path: Path) -> None:
    strange = Operation("fill", {"x": 0}, {"value": 1.0}, name='\x1b[31m:Ünits\n<"&' * 100)
    plan = Plan(
        IMAGE, (strange, Operation("reshape", {"x": 1}, {"shape": (0,)})), "<&>\x07\ud7ff", provenance={"": "\x01"}
    )
    openvino.save_model(openvino_model(plan), tmp_path / "net.xml", compress_to_fp16=False)
    model = openvino.Core().read_model(tmp_path / "net.xml")
    np.testing.assert_array_equal(logits(model, images()), run(plan, images()))
