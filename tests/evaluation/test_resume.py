import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation import loop
from bcdzoo.evaluation.loop import evaluate, evaluate_all
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.evaluation.result import EvalResult
from bcdzoo.evaluation.store import read_results
from bcdzoo.seal import SEAL, read_json, write_json
from tests.command import bcdzoo, on_a_full_disk
from tests.noise import noise
from tests.own_networks import Interrupted, Steady

SMALL = "resize=16,crop=16"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def all_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("noise") / "images", 600)  # three chunks of 256, 256 and 88


@pytest.fixture
def images(all_images: Path, tmp_path: Path) -> Path:
    shutil.copytree(all_images.parent, tmp_path / "images", copy_function=os.link)
    return tmp_path / "images" / "list.csv"


def seeded(network: type[Steady], *arguments: int) -> Steady:
    torch.manual_seed(0)
    return network(*arguments)


def run(network: Steady, images: Path, **options: object) -> EvalResult:
    settings = {"preprocess": SMALL, "batch_size": 16, "store": True, "workers": 0} | options
    (result,) = evaluate_all([network], images, EvalOptions(**settings))  # type: ignore[arg-type]
    assert isinstance(result, EvalResult)
    return result


def chunks(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("results/unfinished/*/*.parquet"))


def interrupted(images: Path) -> str:
    with pytest.raises(KeyboardInterrupt) as raised:
        run(seeded(Interrupted, 25), images)
    return str(raised.value)


def same_class(network: Steady) -> Interrupted:
    """These weights under the class of the run that was interrupted, with no interrupt left."""
    again = Interrupted(0)
    again.load_state_dict(network.state_dict())
    return again


def test_a_run_that_was_interrupted_says_what_it_keeps_and_goes_on_from_there(
    images: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert interrupted(images) == "256 of 600 images are kept, the same command resumes from there"
    assert chunks(home) == ["000000.parquet"]
    result = run(same_class(seeded(Steady)), images)
    assert "resuming, 256 of 600 images are done" in capsys.readouterr().err
    assert (result.n, result.resumed) == (600, 256)
    whole = evaluate(same_class(seeded(Steady)), images, preprocess=SMALL, batch_size=16)
    assert result.predictions.equals(whole.predictions)
    assert result.predictions_sha256 == whole.predictions_sha256
    assert list((home / "results" / "unfinished").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({}, "network was Interrupted"),
        ({"preprocess": "imagenet", "resume": True}, "preprocessing was resize=16"),
        ({"batch_size": 8, "resume": True}, "batch size was 16 but is 8"),
    ],
)
def test_a_run_does_not_go_on_with_anything_changed_and_says_what(
    images: Path, home: Path, change: dict[str, object], difference: str
) -> None:
    interrupted(images)
    network = same_class(seeded(Steady))
    if not change:
        with torch.no_grad():
            network.fc.bias[3] += 1
    with pytest.raises(BcdzooError) as raised:
        run(network, images, **change)
    assert str(raised.value).startswith("cannot resume the unfinished run in ")
    assert difference in str(raised.value)
    assert chunks(home) == ["000000.parquet"]  # nothing is lost
    assert run(network, images, fresh=True).resumed == 0


def test_a_run_does_not_go_on_when_an_image_or_the_software_has_changed(images: Path, home: Path) -> None:
    interrupted(images)
    record = next(home.glob("results/unfinished/*/run.json"))
    now, _ = read_json(record)
    then = now["identity"] | {"software": now["identity"]["software"].replace("torch ", "torch 1.")}
    write_json(record, now | {"identity": then})
    with pytest.raises(BcdzooError, match=r"software was .*torch 1"):
        run(same_class(seeded(Steady)), images)
    write_json(record, now)
    (images.parent / "00003.png").unlink()  # a link to the other tests' image
    Image.new("RGB", (24, 20)).save(images.parent / "00003.png")
    with pytest.raises(BcdzooError, match="data was list, 600 images, fingerprint"):
        run(same_class(seeded(Steady)), images)


def test_a_run_does_not_go_on_over_other_images_of_the_same_size(all_images: Path, tmp_path: Path) -> None:
    shutil.copytree(all_images.parent, tmp_path / "images")
    images = tmp_path / "images" / "list.csv"
    interrupted(images)
    one = tmp_path / "images" / "00300.png"
    size = one.stat().st_size
    one.write_bytes(one.read_bytes()[:-20] + bytes(20))
    assert one.stat().st_size == size
    with pytest.raises(BcdzooError, match=r"cannot resume .*: last change of the images was .* but is .*; --fresh"):
        run(same_class(seeded(Steady)), images)


def test_resume_without_anything_to_go_on_with_is_an_error(images: Path) -> None:
    with pytest.raises(
        BcdzooError, match=r"there is no unfinished run of Steady on .*list.csv; start it without --resume"
    ):
        run(seeded(Steady), images, resume=True)


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def swap(first: Path, second: Path) -> None:
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


@pytest.mark.parametrize(
    ("damage", "resumed", "word"),
    [
        (lambda folder: flip(folder / "000000.parquet", 0.3), 256, "000000.parquet is damaged, or not a file"),
        (lambda folder: (folder / "000001.parquet").write_bytes(b""), 256, "000001.parquet is damaged, or not a file"),
        (lambda folder: swap(folder / "000000.parquet", folder / "000001.parquet"), 0, "are evaluated again"),
        (lambda folder: flip(folder / "run.json", 0.5), 0, "run.json is damaged: its content does not match"),
        (lambda folder: (folder / "run.json").write_text("[]"), 0, "run.json is damaged: a list"),
        (lambda folder: (folder / "run.json").write_text("{}"), 0, "run.json is damaged: it is not the record"),
        (lambda folder: (folder / "run.json").unlink(), 0, ""),
        (lambda folder: (folder / "seven.parquet").write_text("stray"), 512, ""),
        (lambda folder: without_seal(folder / "run.json"), 0, "is unchecked"),
        (lambda folder: pq.write_table(pq.read_table(folder / "000000.parquet").replace_schema_metadata(None),
                                       folder / "000000.parquet"), 256, "000000.parquet is unchecked"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_and_computed_again(
    images: Path,
    home: Path,
    damage: Callable[[Path], None],
    resumed: int,
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(seeded(Interrupted, 38), images)
    assert chunks(home) == ["000000.parquet", "000001.parquet"]
    damage(next(home.glob("results/unfinished/*")))
    capsys.readouterr()
    result = run(same_class(seeded(Steady)), images)
    assert word in capsys.readouterr().err
    assert result.resumed == resumed
    assert result.predictions_sha256 == whole_run(images)


_whole: list[str] = []


def whole_run(images: Path) -> str:
    """Hash of the predictions of a run that nothing happens to; the images are always the same."""
    if not _whole:
        result = evaluate(same_class(seeded(Steady)), images, preprocess=SMALL, batch_size=16, workers=0)
        _whole.append(result.predictions_sha256)
    return _whole[0]


def without_seal(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != SEAL}))


def test_a_run_that_dies_while_its_result_is_written_ends_as_if_nothing_had_been(
    images: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(seeded(Steady), images, preprocess=SMALL, batch_size=16)

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_json", die)
        with pytest.raises(BcdzooError, match="No space left on device; all predictions are kept"):
            run(seeded(Steady), images)
    result = run(seeded(Steady), images)
    assert (result.resumed, result.predictions_sha256) == (600, whole.predictions_sha256)
    assert [path.suffix for path in sorted((home / "results").iterdir())] == [".json", ".parquet", ""]


def test_a_second_process_with_the_same_command_is_told_so(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(Steady):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 1:
                with pytest.raises(BcdzooError, match="another process is evaluating the same"):
                    run(seeded(Twice), images)
            return super().forward(x)

    assert run(seeded(Twice), images).n == 600


def command(images: Path) -> list[str]:
    arguments = ["eval", "tests.own_networks:Steady", "--data", str(images), "--preprocess", SMALL]
    return [*arguments, "--batch-size", "8", "--workers", "0", "--format", "json"]


@pytest.fixture
def environment(home: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pids").mkdir()
    return {**os.environ, "BCDZOO_HOME": str(home), "PAUSE": "0.02", "PIDS": str(tmp_path / "pids")}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_after_any_number_of_kills_the_predictions_are_those_of_one_run_byte_for_byte(
    images: Path, home: Path, environment: dict[str, str], tmp_path: Path, kills: int
) -> None:
    whole = json.loads(bcdzoo(*command(images), BCDZOO_HOME=str(tmp_path / "other")).stdout)
    dice = random.Random(0)
    for kill in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "bcdzoo", *command(images), "--workers", "1"],
            env=environment, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        begun, deadline = len(chunks(home)), time.monotonic() + 60
        while len(chunks(home)) < min(begun + kill % 2, 2) and time.monotonic() < deadline:
            time.sleep(0.005)
        while not list((tmp_path / "pids").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(dice.random() * 0.3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (tmp_path / "pids" / "0").unlink(missing_ok=True)
    assert read_results() == []
    last = json.loads(bcdzoo(*command(images)).stdout)
    assert last["resumed"] > 0
    assert last["predictions_sha256"] == whole["predictions_sha256"]
    assert last["hits"] == whole["hits"]
    kept, other = (next((folder / "results").glob("*.parquet")).read_bytes() for folder in (home, tmp_path / "other"))
    assert kept == other
    assert not list((home / "results" / "unfinished").iterdir())


def test_a_disk_that_is_full_keeps_what_was_done(images: Path, tmp_path: Path) -> None:
    done = on_a_full_disk(tmp_path / "small", ("40k", "1m"), command(images), BCDZOO_HOME=str(tmp_path / "small"))
    assert done.returncode == 0, done.stderr
    full, goes_on = done.stderr.splitlines()
    assert full.startswith("bcdzoo: cannot write predictions to ")
    assert full.endswith("No space left on device; 2 of 3 parts are kept, and the same command resumes from there")
    assert "resuming, 512 of 600 images are done" in goes_on
    assert json.loads(done.stdout)["n"] == 600
