"""The decoder of a run: recorded, and never mixed with another one unsaid."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcdzoo.data.cache import find_prepared, prepared_folder
from bcdzoo.data.imagenet import open_dataset
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import compare
from bcdzoo.evaluation.loop import evaluate_all
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.evaluation.result import EvalResult
from bcdzoo.evaluation.store import decoder_of, read_results
from bcdzoo.report.tables import is_strict
from tests.command import bcdzoo
from tests.evaluation.test_resume import SMALL, chunks, same_class, seeded
from tests.own_networks import Interrupted, Steady


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """600 small JPEG files, and the list of them."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).resize((24, 20)).save(folder / f"{number:03}.jpg")
    (folder / "list.csv").write_text("\n".join(f"{number:03}.jpg,{number % 10}" for number in range(600)))
    return folder / "list.csv"


def run(network: Steady, photographs: Path, decoder: str = "pillow") -> EvalResult:
    options = EvalOptions(preprocess=SMALL, batch_size=16, check=False, store=True, workers=0, decoder=decoder)
    (result,) = evaluate_all([network], photographs, options)
    assert isinstance(result, EvalResult)
    return result


def test_a_result_says_its_decoder_and_a_comparison_that_they_differ(photographs: Path, home: Path) -> None:
    for decoder in ("pillow", "torchvision"):
        run(seeded(Steady), photographs, decoder)
    one, two = read_results()
    assert (one["decoder"], two["decoder"]) == ("pillow", "torchvision")
    assert is_strict(one) and not is_strict(two)
    found = compare(one["run"], two["run"])
    assert found.to_json()["decoders"] == ["pillow", "torchvision"] and found.to_json()["changed"] == 0
    assert "the images were decoded by pillow and torchvision: pixels may differ" in found.summary()
    assert "decoded" not in compare(one["run"], str(home / "results" / two["predictions_file"])).summary()
    listed = bcdzoo("results", "--format", "json")
    assert [decoder_of(each) for each in json.loads(listed.stdout)] == ["pillow", "torchvision"]
    assert "float32+torchvision" in bcdzoo("results", "--format", "markdown").stdout


def test_a_run_is_not_resumed_with_another_decoder(photographs: Path, home: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(seeded(Interrupted, 25), photographs)
    again = same_class(seeded(Steady))
    assert run(again, photographs, "torchvision").resumed == 0
    assert chunks(home) == ["000000.parquet"]  # those of the other run, which waits
    with pytest.raises(KeyboardInterrupt):
        run(seeded(Interrupted, 25), photographs, "torchvision")
    assert run(again, photographs).resumed == 256
    assert run(again, photographs, "torchvision").resumed == 256


def test_prepared_images_are_those_of_one_decoder(photographs: Path) -> None:
    for decoder in ("pillow", "torchvision"):
        assert not bcdzoo(
            "prepare", "--preprocess", SMALL, "--data", str(photographs), "--classes", "10", "--decoder", decoder
        ).returncode
    geometry = parse(SMALL).geometry
    plain = open_dataset(photographs, 10)
    other = open_dataset(photographs, 10, decoder="torchvision")
    assert prepared_folder(plain, geometry) != prepared_folder(other, geometry)
    assert find_prepared(plain, geometry) and find_prepared(other, geometry)


def test_an_unknown_decoder_is_refused(photographs: Path) -> None:
    with pytest.raises(BcdzooError, match="decoder: 'opencv' is none of pillow, torchvision"):
        run(seeded(Steady), photographs, "opencv")
    with pytest.raises(BcdzooError, match="is none of pillow"):
        open_dataset(photographs, 10, decoder="")
    done = bcdzoo("eval", "bcdnet-tiny", "--data", str(photographs), "--decoder", "cv2")
    assert done.returncode == 2 and "is not one of 'pillow', 'torchvision'" in done.stderr
