"""FINN's networks: the files in, and out what the hardware computes of them; the published accuracy where it is."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bcdzoo import load_model, pack
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.bundle import read_files
from bcdzoo.weights.fetch import fetch, verify
from bcdzoo.weights.manifest import load_manifest
from tests import mnist
from tests.weights import finn

MODELS = {"lfc": "finn-lfc-w1a1", "cnv": "finn-cnv-w1a1"}
SIZES = {"lfc": (28, 1), "cnv": (32, 3)}
REAL = "finn-bnn-pynq-lfcW1A1-cnvW1A1.tar.gz"


def logits(model: nn.Module, images: np.ndarray) -> Tensor:
    """Of images in bytes, (N, H, W) or (N, H, W, 3), preprocessed as the model's files say."""
    colours = images[..., None].repeat(3, -1) if images.ndim == 3 else images
    pixels = torch.from_numpy(colours.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        result: Tensor = model((pixels - 0.5) / 0.5)
    return result


def some_images(program: str, n: int) -> np.ndarray:
    size, channels = SIZES[program]
    images = np.random.default_rng(1).integers(0, 256, (n, size, size, channels), np.uint8)
    return images[..., 0] if channels == 1 else images


@pytest.mark.parametrize("program", MODELS)
@pytest.mark.parametrize("form", ["folder", "x.tar", "x.tar.gz", "x.zip"])
def test_a_network_computes_what_its_hardware_does(program: str, form: str, tmp_path: Path) -> None:
    content = finn.files(program, finn.invented(program))
    write = finn.write_folder if form == "folder" else finn.write_archive
    model = load_model(MODELS[program], write(content, tmp_path / form))
    images = some_images(program, 3)
    shaped = images if program == "cnv" else images[..., None]
    found = logits(model, images)
    assert found.tolist() == finn.run(program, content, shaped).tolist()
    assert torch.equal(logits(pack(model), images), found)


@pytest.mark.parametrize(("program", "folder"), [("lfc", "mnist/lfcW1A1"), ("cnv", "cifar10/cnvW1A1")])
def test_a_trained_network_computes_what_its_hardware_does(program: str, folder: str, real_data: Path) -> None:

    there = read_files(real_data / REAL)
    where = next(name.rpartition("/")[0] for name in there if f"{folder}/" in name)
    content = {name.rpartition("/")[2]: content for name, content in there.items() if name.startswith(where)}
    model = load_model(MODELS[program], real_data / REAL)
    images = mnist.pixels(real_data, 50) if program == "lfc" else some_images("cnv", 2)
    shaped = images if program == "cnv" else images[..., None]
    found = logits(model, images)
    assert found.tolist() == finn.run(program, content, shaped).tolist()
    assert torch.equal(logits(pack(model), images), found)


def below(folder: str, content: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": written for name, written in content.items()}


@pytest.fixture(scope="module")
def lfc() -> dict[str, bytes]:
    return finn.files("lfc", finn.invented("lfc"))


def refusal(content: dict[str, bytes], tmp_path: Path, part: str = "", model: str = "finn-lfc-w1a1") -> str:
    path = finn.write_archive(content, tmp_path / "x.tar")
    with pytest.raises(BcdzooError) as error:
        load_model(model, f"{path}{part}")
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 700
    return message


def test_of_two_networks_in_an_archive_the_one_that_fits_is_taken(lfc: dict[str, bytes], tmp_path: Path) -> None:
    cnv = finn.files("cnv", finn.invented("cnv"))
    path = finn.write_archive(below("bnn/mnist/x", lfc) | below("bnn/cifar10/y", cnv), tmp_path / "x.tar")
    alone = load_model("finn-lfc-w1a1", finn.write_archive(lfc, tmp_path / "lfc.tar")).state_dict()
    for weights in path, f"{path}#bnn/mnist/x":
        found = load_model("finn-lfc-w1a1", weights).state_dict()
        assert all(torch.equal(found[key], alone[key]) for key in alone)
    assert load_model("finn-cnv-w1a1", path)
    with pytest.raises(BcdzooError, match="left over"):
        load_model("finn-lfc-w1a1", f"{path}#bnn/cifar10/y")


def test_two_networks_that_fit_have_to_be_told_apart_by_their_folders(lfc: dict[str, bytes], tmp_path: Path) -> None:
    other = finn.files("lfc", finn.invented("lfc", 1))
    both = below("v1.0/a", lfc) | below("b", other)
    assert "x.tar#NAME selects the tensors of b, v1_0/a" in refusal(both, tmp_path)
    assert "no weights called 'c', but b, v1_0/a" in refusal(both, tmp_path, "#c")
    path = tmp_path / "x.tar"
    states = [load_model("finn-lfc-w1a1", f"{path}#{name}").state_dict() for name in ("v1_0/a", "b")]
    assert not torch.equal(states[0]["layer1.conv.weight"], states[1]["layer1.conv.weight"])
    assert "cannot be told apart" in refusal(below("a.b", lfc) | below("a_b", other), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1-3-weights.bin": None}, "files of .* processing elements"),
        ({"1-3-thres.bin": None}, "1-3-thres.bin has 0 bytes, and 128 are wanted"),
        ({"1-3-weights.bin": b"12345678"}, "1-3-weights.bin has 8 bytes, and 4096 are wanted"),
        ({"4-0-weights.bin": b"12345678"}, "processing elements"),
        ({"0-0-weights.bin": bytes(13 * 32 * 8)}, "layer 0 fills up its rows with bits that can agree"),
    ],
)
def test_a_folder_of_other_files_is_refused(
    change: dict[str, bytes | None], message: str, lfc: dict[str, bytes], tmp_path: Path
) -> None:
    content = {name: written for name, written in (lfc | change).items() if written is not None}
    assert re.search(message, refusal(content, tmp_path))


def test_an_archive_a_folder_and_what_was_fetched_give_the_same_logits(real_data: Path, tmp_path: Path) -> None:

    with tarfile.open(real_data / REAL) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    folder = next((tmp_path / "unpacked").rglob("lfcW1A1"))
    checkpoint = load_manifest().find("finn-lfc-w1a1")
    fetch(checkpoint, from_file=tmp_path / "unpacked")
    assert verify(checkpoint) == "ok"
    images = mnist.pixels(real_data, 20)
    expected = logits(load_model("finn-lfc-w1a1", real_data / REAL), images)
    for weights in folder, tmp_path / "unpacked", None:
        assert torch.equal(logits(load_model("finn-lfc-w1a1", weights), images), expected)


@settings(max_examples=4)
@given(seed=st.integers(0, 1 << 30), program=st.sampled_from(sorted(MODELS)))
def test_matrices_and_thresholds_that_are_written_are_read(
    seed: int, program: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    matrices = finn.invented(program, seed)
    path = finn.write_archive(finn.files(program, matrices), tmp_path_factory.mktemp("x") / "x.tar")
    state = load_model(MODELS[program], path).state_dict()
    for number, (layer, (bits, thresholds)) in enumerate(zip(finn.LAYERS[program], matrices, strict=True)):
        weight = state[f"layer{number}.conv.weight"].permute(0, 2, 3, 1).flatten(1)
        assert torch.equal(weight, torch.from_numpy(bits * 2.0 - 1).float())
        if thresholds is not None and (program, number) != ("cnv", 0):
            terms = layer.inputs * layer.kernel**2
            assert state[f"layer{number}.sign.bias"].tolist() == (terms - 2 * thresholds - 1).tolist()
