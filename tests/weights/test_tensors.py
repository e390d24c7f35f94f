"""This zoo's own safetensors files: what is written, and that no flip in one is read in silence."""

import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bcdzoo.errors import BcdzooError
from bcdzoo.seal import SEAL, DamagedError
from bcdzoo.weights.tensors import read_header, read_tensors, write_tensors

METADATA = {"format": "bcdzoo 1", "model": "bcdnet-tiny", "build": '{"num_classes": 10}', "source": "é\n"}
TENSORS = {
    "conv.weight": torch.arange(54.0).reshape(3, 2, 3, 3).transpose(0, 1),
    "bits": torch.arange(4).to(torch.uint64).reshape(2, 2),
    "half": torch.tensor([0.5, torch.inf, torch.nan]).half(),
    "brain": torch.tensor([1.5]).bfloat16(),
    "count": torch.tensor(7),
    "mask": torch.tensor([True, False]),
    "none": torch.zeros(0, 5),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "a.safetensors", TENSORS, METADATA)
    return tmp_path / "a.safetensors"


def test_the_safetensors_library_reads_what_is_written(path: Path) -> None:
    read = load_file(path)
    assert read.keys() == TENSORS.keys()
    for key, tensor in TENSORS.items():
        assert read[key].dtype == tensor.dtype and read[key].shape == tensor.shape
        assert torch.equal(read[key].nan_to_num(), tensor.nan_to_num())
    with safe_open(path, "pt") as file:
        assert file.metadata().keys() == {*METADATA, SEAL}


def test_what_is_written_is_read_and_checked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = read_tensors(path)
    assert (contents.metadata, contents.checked) == (METADATA, True)
    assert read_header(path) == (METADATA, True)
    assert contents.tensors.keys() == TENSORS.keys() and torch.equal(contents.tensors["bits"], TENSORS["bits"])
    assert capsys.readouterr().err == ""


def test_the_same_content_gives_the_same_bytes_in_any_order(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.safetensors"
    write_tensors(other, dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
    assert other.read_bytes() == path.read_bytes()
    write_tensors(other, *read_tensors(path)[:2])
    assert other.read_bytes() == path.read_bytes()


def test_no_single_flip_is_read_in_silence(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = path.read_bytes()
    chosen = random.Random(0).sample(range(8 * len(content)), 1500)
    silent = []
    for number, bit in enumerate(chosen):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file = path.with_name(f"{number}.safetensors")  # a name of its own: what is unchecked is told once of each
        file.write_bytes(damaged)
        try:
            metadata = read_tensors(file).metadata
        except BcdzooError as error:
            assert str(error).startswith(str(file))
        else:
            if "unchecked" not in capsys.readouterr().err:
                silent.append((bit, metadata))
        file.unlink()
    assert silent == []


def test_another_tensor_under_the_same_seal_is_damage(path: Path, tmp_path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    other = tmp_path / "other.safetensors"
    for changed in (
        tensors | {"count": torch.tensor(8)},
        tensors | {"count": torch.tensor(7.0)},
        tensors | {"bits": tensors["bits"].reshape(4)},
        tensors | {"more": torch.zeros(1)},
        {key: tensor for key, tensor in tensors.items() if key != "mask"},
    ):
        save_file(changed, other, metadata)
        with pytest.raises(DamagedError, match="does not match its hash"):
            read_tensors(other)
    save_file(tensors, other, metadata)  # the library's own order of the same content
    assert read_tensors(other).checked


def test_an_older_version_is_read_and_unchecked_once_and_a_foreign_file_has_nothing_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "older.safetensors", METADATA)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    for _ in range(2):
        assert read_tensors(tmp_path / "older.safetensors").checked is False
        assert read_tensors(tmp_path / "foreign.safetensors").checked is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "older.safetensors is unchecked" in line


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", TENSORS, METADATA | {"source": "caf\udce9.pth"})
    assert read_tensors(tmp_path / "a.safetensors").metadata["source"] == "caf\\udce9.pth"
