"""Packed files: written, read, damaged."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import bcdzoo
from bcdzoo.cli import main
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.packed.bench import Limit, Rates
from bcdzoo.packed.checkpoint import FORMAT, export, resolve_packed, write_packed
from bcdzoo.plan.file import encode, read_plan
from bcdzoo.plan.work import Work
from bcdzoo.weights.load import resolve
from tests.noise import noise
from tests.packed.unsettled import unsettle

NAME = "birealnet-18"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "birealnet.safetensors"
    save_file(unsettle(bcdzoo.create_model(NAME), 0).state_dict(), path)
    return path


@pytest.fixture(scope="module", params=[".bcz", ".safetensors"])
def packed(weights: Path, request: pytest.FixtureRequest) -> Path:
    path = weights.with_name(f"packed{request.param}")
    export(NAME, path, weights)
    return path


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_a_packed_file_gives_the_logits_of_its_source(weights: Path, packed: Path) -> None:
    plain = bcdzoo.load_model(NAME, weights=str(weights)).eval()
    network = bcdzoo.load_packed(packed)
    assert torch.equal(network(images()), bcdzoo.pack(plain)(images()))
    assert network.preprocess == plain.preprocess
    assert network.plan.provenance["sha256"] == sha256_of(weights)


def test_a_packed_file_has_a_bit_for_each_binary_weight(weights: Path, packed: Path) -> None:
    sizes = export(NAME, packed, weights)
    binary = bcdzoo.count_ops(NAME)
    bits = sum(layer.params for layer in binary.layers if layer.w_bits == 1)
    assert sizes.planes * 8 == bits  # all channels are multiples of 64
    assert sizes.planes + sizes.real < sizes.file < sizes.planes + sizes.real + 100_000
    assert sizes.file == packed.stat().st_size
    assert sizes.float32 > 8 * sizes.file


def test_a_plan_is_for_images_of_one_size(packed: Path) -> None:
    with pytest.raises(BcdzooError, match="this plan is for images of 3×224×224, not 3×64×64"):
        bcdzoo.load_packed(packed)(images()[..., :64, :64])


def test_a_packed_file_is_loaded_without_its_network(packed: Path) -> None:
    code = f"import sys, bcdzoo; bcdzoo.load_packed({str(packed)!r}); print(*(m for m in sys.modules if 'bcdzoo' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bcdzoo.packed.run" in done.stdout and "bcdzoo.models" not in done.stdout


@settings(max_examples=40)
@given(st.data())
def test_a_cut_or_altered_file_is_one_clear_line_and_never_a_crash(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(packed.read_bytes())
    whole = bytes(content)
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="at")]
    else:
        for at in data.draw(st.lists(st.integers(0, 4000), min_size=1, max_size=4), label="bytes"):
            content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("hostile") / packed.name
    path.write_bytes(content)
    try:
        found = bcdzoo.load_packed(path)
    except BcdzooError as error:
        assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 1000
    else:
        assert content == whole or found.plan.model == NAME


def changed(packed: Path, path: Path, **changes: Any) -> Path:
    """The file with something else in its plan."""
    plan = replace(read_plan(packed) if packed.suffix == ".bcz" else bcdzoo.load_packed(packed).plan, **changes)
    if packed.suffix == ".bcz":
        path = path.with_suffix(".bcz")
        path.write_bytes(encode(plan))
    else:
        content = torch.frombuffer(bytearray(encode(plan)), dtype=torch.uint8)
        save_file({"plan": content}, path, {"format": FORMAT, "model": NAME})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": (3, 1 << 14, 1 << 14)}, "would need more than"),
        ({"input_shape": (4, 224, 224)}, "do not fit"),
        ({"operations": ()}, "a plan has 1 to 65536 operations"),
        ({"provenance": {"build": "[1]"}}, "does not say how its network is built"),
        ({"provenance": {"build": "{"}}, "does not say how its network is built"),
        ({"provenance": {"build": "[" * 60_000}}, "does not say how its network is built"),
        ({"class_names": ("tench",)}, "not one class name for each logit"),
    ],
)
def test_what_a_file_asks_for_and_says_of_itself_is_checked(
    packed: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = changed(packed, tmp_path / "packed.safetensors", **changes)
    with pytest.raises(BcdzooError, match=message) as error:
        bcdzoo.load_packed(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_a_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    for tensors in {"x": torch.zeros(1)}, {"plan": torch.zeros(4)}, {"plan": torch.zeros(2, 2, dtype=torch.uint8)}:
        save_file(tensors, path, {"format": FORMAT, "model": NAME})
        with pytest.raises(BcdzooError, match="has no plan; make it again with `bcdzoo export`"):
            bcdzoo.load_packed(path)
    save_file({"x": torch.zeros(1)}, path, {"format": "bcdzoo packed 1", "model": NAME})
    with pytest.raises(BcdzooError, match=f"is not a packed network of this version .{FORMAT}"):
        bcdzoo.load_packed(path)


def test_a_packed_file_of_another_network_is_refused(packed: Path) -> None:
    with pytest.raises(BcdzooError, match="holds a packed birealnet-18, not bcdnet-a"):
        resolve_packed(packed, "bcdnet-a")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def test_export_evaluate_and_bench_on_the_command_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.bcz"
    code, printed, _ = run(["export", NAME, "--weights", str(weights), "--out", str(out)], capsys)
    assert code == 0
    assert "MB of bits" in printed
    data = ["--data", str(noise(tmp_path / "noise", 12)), "--format", "json"]
    data += ["--no-check"]
    results = []
    for more in (
        [NAME, "--weights", str(weights)],
        [NAME, "--weights", str(weights), "--backend", "packed"],
        [NAME, "--weights", str(out)],
        [str(out)],
    ):
        code, printed, errors = run(["eval", *more, *data], capsys)
        assert code == 0, errors
        results.append(json.loads(printed))
    assert len({result["predictions_sha256"] for result in results[1:]}) == 1
    assert len({(result["top1"], result["top5"]) for result in results}) == 1


def test_bench_prints_the_speed_of_each_backend_and_of_each_block(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = run(["bench", NAME, "--batch-size", "1", "--backend", "packed", "--format", "json"], capsys)
    assert code == 0
    record = json.loads(printed)
    (result,), limit = record["results"], record["limit"]
    assert result["images_per_second"] == pytest.approx(1000 / result["ms_per_image"])
    assert result["share_of_limit"] == pytest.approx(result["images_per_second"] / limit["images_per_second"])
    seconds = (limit[f"{kind}_macs"] / limit[f"{kind}_macs_per_second"] for kind in ("binary", "real"))
    assert limit["images_per_second"] == pytest.approx(1 / sum(seconds))
    assert 0.9 * bcdzoo.count_ops(NAME).bops < limit["binary_macs"] < bcdzoo.count_ops(NAME).bops
    code, printed, _ = run(["bench", NAME, "--layers", "--format", "json"], capsys)
    assert code == 0
    blocks = json.loads(printed)["layers"]
    assert sum(block["bops"] for block in blocks) == bcdzoo.count_ops(NAME).bops
    assert all(block["fraction"] > 0 for block in blocks)


def test_bench_prints_the_limit_where_it_runs_a_packed_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bcdzoo.bench.timing.SECONDS", 0.02)
    path = tmp_path / "net.bcz"
    export("bcdnet-tiny", path)
    for words in ([str(path)], ["bcdnet-tiny", "--backend", "packed", "--backend", "torch"]):
        code, printed, _ = run(["bench", *words, "--batch-size", "1"], capsys)
        assert code == 0 and "of the limit" in printed and "16.8e6 binary operations" in printed
    code, printed, _ = run(["bench", "bcdnet-tiny", "--backend", "torch", "--batch-size", "1"], capsys)
    assert code == 0 and "limit" not in printed


def test_a_limit_is_the_time_of_both_kinds_of_products() -> None:
    assert Limit(Work(binary=30, real=5), Rates(binary=100.0, real=50.0)).images_per_second == pytest.approx(2.5)


def test_a_plan_is_evaluated_as_packed_and_in_no_other_mode(tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    export("bcdnet-tiny", path)
    result = bcdzoo.evaluate(str(path), "demo", workers=0)
    plain = bcdzoo.evaluate("bcdnet-tiny", "demo", backend="packed", workers=0)
    assert result.backend == "packed" and result.model == "bcdnet-tiny"
    assert (result.top1, result.sha256) == (plain.top1, plain.sha256)
    modes: tuple[dict[str, Any], ...] = ({"amp": "bf16"}, {"compile": True}, {"channels_last": True})
    for mode in modes:
        with pytest.raises(BcdzooError, match="is packed, and runs in strict float32 around its bits"):
            bcdzoo.evaluate(str(path), "demo", workers=0, **mode)
    with pytest.raises(BcdzooError, match="is a plan, which has only what the engine runs: name its network"):
        bcdzoo.count_ops(str(path))


def test_a_plan_without_a_classifier_is_not_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "features.bcz"
    write_packed(resolve("bcdnet-tiny", num_classes=0), path)
    for network in (str(path), bcdzoo.load_packed(path)):
        with pytest.raises(BcdzooError, match="features are no predictions"):
            bcdzoo.evaluate(network, "demo", workers=0)
