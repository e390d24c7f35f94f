"""Packed files: written, read, damaged."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import bcdzoo
from bcdzoo.cli import main
from bcdzoo.errors import BcdzooError
from bcdzoo.packed.checkpoint import FORMAT, export, load_packed
from bcdzoo.weights.convert import safetensors_metadata
from tests.noise import noise
from tests.packed.test_kernels import unsettle

NAME = "birealnet-18"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "birealnet.safetensors"
    save_file(unsettle(bcdzoo.create_model(NAME), 0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def packed(weights: Path) -> Path:
    path = weights.with_name("packed.safetensors")
    export(NAME, path, weights)
    return path


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_a_packed_file_gives_the_logits_of_its_source(weights: Path, packed: Path) -> None:
    plain = bcdzoo.load_model(NAME, weights=str(weights)).eval()
    with torch.inference_mode():
        expected = plain(images())
    assert torch.equal(load_packed(packed, NAME).model(images()), bcdzoo.pack(plain)(images()))
    assert (load_packed(packed).model(images()) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_packed_file_has_a_bit_for_each_binary_weight(weights: Path, tmp_path: Path) -> None:
    sizes = export(NAME, tmp_path / "new.safetensors", weights)
    binary = bcdzoo.count_ops(NAME)
    bits = sum(layer.params for layer in binary.layers if layer.w_bits == 1)
    assert sizes.planes * 8 == bits  # all channels are multiples of 64
    assert sizes.planes + sizes.real < sizes.file < sizes.planes + sizes.real + 100_000
    assert sizes.file == (tmp_path / "new.safetensors").stat().st_size
    assert sizes.float32 > 8 * sizes.file


def unsealed(packed: Path, folder: Path) -> bytearray:
    """As an older version wrote it: nothing but the reader's own checks stands between a flip and the network."""
    return bytearray(altered(packed, folder / "older.safetensors", {}).read_bytes())


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("sealed", [True, False])
def test_a_cut_or_altered_file_is_one_clear_line_and_never_a_crash(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, sealed: bool, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    whole = bytearray(packed.read_bytes()) if sealed else unsealed(packed, folder)
    content = bytearray(whole)
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="at")]
    else:
        for at in data.draw(st.lists(st.integers(0, header + 200), min_size=1, max_size=4), label="bytes"):
            content[at] = data.draw(st.integers(0, 255))
    path = folder / "packed.safetensors"
    path.write_bytes(content)
    try:
        logits = load_packed(path).model(images(1))
    except BcdzooError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error) or "no network named" in str(error) or "takes no argument" in str(error)
    else:
        assert logits.shape == (1, 1000)
        assert not sealed or content == whole or safetensors_metadata(path) == safetensors_metadata(packed)


def altered(packed: Path, path: Path, metadata: dict[str, str], **tensors: Tensor | None) -> Path:
    state = load_file(packed)
    for key, tensor in tensors.items():
        state.pop(key)
        if tensor is not None:
            state[key] = tensor
    save_file(state, path, safetensors_metadata(packed) | metadata)
    return path


def first_planes(packed: Path) -> str:
    return next(key for key, tensor in load_file(packed).items() if tensor.dtype == torch.uint64)


def test_missing_and_misshapen_tensors_are_named(packed: Path, tmp_path: Path) -> None:
    key = first_planes(packed)
    path = tmp_path / "packed.safetensors"
    with pytest.raises(BcdzooError, match=f"{key} is missing"):
        load_packed(altered(packed, path, {}, **{key: None}))
    with pytest.raises(BcdzooError, match=f"{key} is torch.uint64 .*, not torch.uint64"):
        load_packed(altered(packed, path, {}, **{key: load_file(packed)[key][:1]}))
    with pytest.raises(BcdzooError, match=f"{key} is torch.float32 .*, not torch.uint64"):
        load_packed(altered(packed, path, {}, **{key: torch.zeros(load_file(packed)[key].shape)}))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "bcdzoo packed 2"}, f"is not a packed network of this version .{FORMAT}"),
        ({"model": "no-such-network"}, "no network named 'no-such-network'"),
        ({"build": "[1]"}, "does not say what it holds"),
        ({"build": "{"}, "does not say what it holds"),
        ({"build": json.dumps({"num_classes": -3})}, "does not say what it holds"),
        ({"build": "[" * 100_000}, "does not say what it holds"),
        ({"build": '{"num_classes": ' + "9" * 5000 + "}"}, "does not say what it holds"),
        ({"build": '{"num_classes": 1e999}'}, "does not say what it holds"),
        ({"build": '{"step": [1]}'}, "does not say what it holds"),
        ({"build": '{"num_classes": null, "step": {}}'}, "does not say what it holds"),
        ({"model": "os:system"}, "no network named"),
        ({"model": "bcdnet-a", "build": '{"mlp_groups": 1000000000}'}, "does not make a network of 1.. tensors"),
        ({"build": json.dumps({"num_classes": 10**9})}, "a network of 5.* parameters does not fit in a file of"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(
    packed: Path, tmp_path: Path, metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(BcdzooError, match=message):
        load_packed(altered(packed, tmp_path / "packed.safetensors", metadata))


def test_a_packed_file_of_another_network_is_refused(packed: Path) -> None:
    with pytest.raises(BcdzooError, match="holds a packed birealnet-18, not bcdnet-a"):
        load_packed(packed, "bcdnet-a")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def test_export_evaluate_and_bench_on_the_command_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.safetensors"
    code, printed, _ = run(["export", NAME, "--packed", "--weights", str(weights), "--out", str(out)], capsys)
    assert code == 0
    assert "MB of bits" in printed
    data = ["--data", str(noise(tmp_path / "noise", 12)), "--preprocess", "resize=32,crop=32", "--format", "json"]
    data += ["--no-check"]
    results = []
    for more in (
        ["--weights", str(weights)],
        ["--weights", str(weights), "--backend", "packed"],
        ["--weights", str(out)],
    ):
        code, printed, errors = run(["eval", NAME, *data, *more], capsys)
        assert code == 0, errors
        results.append(json.loads(printed))
    assert len({result["predictions_sha256"] for result in results[1:]}) == 1
    assert len({(result["top1"], result["top5"]) for result in results}) == 1


def test_bench_prints_the_speed_of_each_backend_and_of_each_block(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = run(["bench", NAME, "--batch-size", "1", "--backend", "packed", "--format", "json"], capsys)
    assert code == 0
    (result,) = json.loads(printed)["results"]
    assert result["images_per_second"] == pytest.approx(1000 / result["ms_per_image"])
    code, printed, _ = run(["bench", NAME, "--layers", "--format", "json"], capsys)
    assert code == 0
    blocks = json.loads(printed)["layers"]
    assert sum(block["bops"] for block in blocks) == bcdzoo.count_ops(NAME).bops
    assert all(block["fraction"] > 0 for block in blocks)
