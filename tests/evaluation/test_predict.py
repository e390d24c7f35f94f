"""What is in pictures: by ``bcdzoo.predict`` and ``bcdzoo predict``."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

import bcdzoo
from bcdzoo.data.classes import classes_of
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.preprocess import PRESETS
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.predict import Predictor
from tests.command import bcdzoo as command
from tests.photos import LABELS, PHOTOS

TINY = "bcdnet-tiny"
BRIGHTNESS = "tests.own_networks:brightness"


@pytest.fixture(scope="module")
def demo() -> ImageSet:
    return open_dataset("demo", 10)


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return bcdzoo.load_model(TINY)


@pytest.fixture
def folder(tmp_path: Path, demo: ImageSet) -> Path:
    """Ten pictures in two folders."""
    for number in range(10):
        path = tmp_path / "pictures" / ("b/c" if number % 2 else "a") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        demo.image(number).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "net.bcz"
    assert command("export", TINY, "--out", str(path)).returncode == 0
    return path


def stored(data: Any, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """What an evaluation keeps of its predictions, by the images' ids."""
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    bcdzoo.evaluate(model, data, workers=0, store=True, check=False, **options)
    (file,) = (tmp_path / "home" / "results").glob("*.parquet")
    columns = pq.read_table(file).to_pydict()
    rows = zip(*(columns[f"{kind}{place}"] for kind in ("top", "logit") for place in range(1, 4)), strict=True)
    return dict(zip(columns["id"], rows, strict=True))


@pytest.mark.parametrize("backend", ["torch", "packed"])
def test_what_is_predicted_is_what_an_evaluation_stores_of_the_demo_images(
    demo: ImageSet, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ImageSet(demo.samples[:64], "few", demo.layout, demo.labels_from)
    kept = stored(few, TINY, tmp_path, monkeypatch, backend=backend)
    found = bcdzoo.predict(TINY, [demo.image(i) for i in range(64)], top=3, backend=backend)
    assert [(*each.classes, *each.logits) for each in found] == list(kept.values())


def test_what_is_predicted_of_photographs_is_what_an_evaluation_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows((photo, label % 3) for photo, label in zip(PHOTOS, LABELS, strict=True))
    for preprocess in ("larq", "resize=99,crop=64,interpolation=bicubic,channels=bgr"):
        home = tmp_path / preprocess[:4]
        kept = stored(tmp_path / "photos.csv", BRIGHTNESS, home, monkeypatch, preprocess=preprocess)
        found = bcdzoo.predict(BRIGHTNESS, sorted(PHOTOS), top=9, preprocess=preprocess)
        assert [(*each.classes, *each.logits) for each in found] == list(kept.values())


def test_an_image_is_the_same_in_each_form(demo: ImageSet, tiny: nn.Module, tmp_path: Path) -> None:
    image = demo.image(3)
    image.save(tmp_path / "3.png")
    forms: list[Any] = [
        image,
        image.convert("L"),
        np.asarray(image),
        np.asarray(image)[None],
        np.asarray(image.convert("L")),
        (tmp_path / "3.png").read_bytes(),
        memoryview((tmp_path / "3.png").read_bytes()),
        tmp_path / "3.png",
        str(tmp_path / "3.png"),
        PRESETS["imagenet"].__class__(resize=28, crop=28, mean=(0.286,) * 3, std=(0.353,) * 3)(image)[None],
    ]
    (expected,) = bcdzoo.predict(tiny, [image])
    assert expected.names[0] == classes_of("fashion-mnist")[expected.classes[0]]
    for form in forms:
        for given in (form, [form]) if getattr(form, "ndim", 0) != 4 else (form,):
            (found,) = bcdzoo.predict(tiny, given)
            assert (found.names, found.logits) == (expected.names, expected.logits)
    assert [each.image for each in bcdzoo.predict(tiny, iter([image, tmp_path / "3.png"]))] == [
        "#1",
        str(tmp_path / "3.png"),
    ]
    assert bcdzoo.predict(tiny, []) == bcdzoo.predict(tiny, torch.zeros(0, 3, 28, 28)) == []


def test_probabilities_are_the_softmax_over_all_classes(demo: ImageSet, tiny: nn.Module) -> None:
    images = [demo.image(i) for i in range(5)]
    for each in bcdzoo.predict(tiny, images, top=100, batch_size=2):
        assert sorted(each.classes) == list(range(10))
        assert sum(each.probabilities) == pytest.approx(1, abs=1e-12)
        shares = np.exp(np.array(each.logits, np.float64))
        assert each.probabilities == pytest.approx(shares / shares.sum())
    (first, second) = bcdzoo.predict(tiny, images[:1], top=2)[0].probabilities
    assert 0 < first + second < 1


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 array"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), r"shape \(3, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "cannot read image #1"),
        (torch.zeros(1, 3, 28, 28, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(1, 3, 28, 28).double(), "torch.float64"),
        (torch.zeros(3, 28, 28), r"\(3, 28, 28\)"),
        (torch.full((1, 3, 28, 28), torch.nan), "not finite"),
        ([torch.zeros(3, 28, 28)], "#1"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), "#1: it must be a path"),
        (np.zeros(4, np.uint8), "#1: it must be a path"),
        (io.BytesIO(b"GIF89a"), "#1: it must be a path"),
        ({"a": 1}, "#1: it must be a path"),
        (Image.new("L", (0, 0)), "#1: it has no pixels"),
        ("", "No such file"),
        ("nothing.png", "nothing.png: No such file or directory"),
        ("/", "/ is a folder"),
        ([b"", b""], "#1: not an image"),
        (Image.new("F", (9, 9)), "32-bit grey"),
        (Image.new("1", (9000, 9000)), "81000000|9000×9000"),
        (None, "not None"),
        ([None], "#1: it must be a path"),
        (7, "not 7"),
    ],
)
def test_what_is_no_image_is_one_line(tiny: nn.Module, images: Any, said: str) -> None:
    with pytest.raises(BcdzooError, match=said) as error:
        bcdzoo.predict(tiny, images)
    assert "\n" not in str(error.value)


class Refuses(nn.Module):
    """Takes an image by itself, and no others."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            raise KeyError("two\nimages")
        return images.flatten(1)[:, :3]


def test_a_network_without_probabilities_is_one_line() -> None:
    x = torch.ones(4, 3, 9, 9)
    with pytest.raises(BcdzooError, match=r"the network Refuses fails on #1 to #4: 'two\\nimages'"):
        bcdzoo.predict(Refuses(), x)
    with pytest.raises(BcdzooError, match="has 1 outputs, of which there are no probabilities"):
        bcdzoo.predict(nn.Sequential(nn.Flatten(), nn.Linear(243, 1)), x)


@pytest.mark.parametrize("top", [0, -1, 1.5, "3", True, None])
def test_an_odd_number_of_classes_is_refused(tiny: nn.Module, top: Any) -> None:
    with pytest.raises(BcdzooError, match="top: must be"):
        bcdzoo.predict(tiny, [], top=top)


def test_a_tensor_of_another_size_than_is_assumed_is_what_the_network_takes() -> None:
    (found,) = bcdzoo.predict("tests.own_networks:Wide", torch.ones(1, 3, 32, 32))
    assert len(found.classes) == 3


def test_what_was_assumed_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor(BRIGHTNESS)
    assert [predictor(Image.new("RGB", (300, 300), "red"))[0].names for _ in range(3)] == [("0", "2", "1")] * 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "preprocess=imagenet: assumed" in said[0] and "no names of its classes" in said[1]


@pytest.mark.parametrize("model", ["name", "module", "packed", "plan"])
def test_every_form_of_a_network_predicts_the_same(
    model: str, tiny: nn.Module, plan: Path, demo: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    forms: dict[str, Any] = {"name": TINY, "module": tiny, "packed": bcdzoo.pack(tiny), "plan": str(plan)}
    found = bcdzoo.predict(forms[model], [demo.image(i) for i in range(8)])
    expected = bcdzoo.predict(tiny, [demo.image(i) for i in range(8)])
    assert [each.classes for each in found] == [each.classes for each in expected]
    assert [each.names for each in found] == [each.names for each in expected]
    assert not capsys.readouterr().err


# --- the command


def test_a_folder_is_classified_in_sorted_order(folder: Path, demo: ImageSet) -> None:
    done = command("predict", str(folder), "--model", TINY, "--top", "1")
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert lines[::2] == sorted(map(str, folder.rglob("*.png")))
    names = classes_of("fashion-mnist")
    right = [demo.samples[int(Path(path).stem)].label for path in lines[::2]]
    hits = [names[label] in line for label, line in zip(right, lines[1::2], strict=True)]
    assert sum(hits) >= 8


def test_json_is_an_object_a_line_and_csv_a_row_a_class(folder: Path, tiny: nn.Module) -> None:
    paths = sorted(map(str, folder.rglob("*.png")))
    expected = bcdzoo.predict(tiny, paths, top=3)
    words = ("predict", str(folder), "--model", TINY, "--top", "3", "--format")
    records = [json.loads(line) for line in command(*words, "json").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(command(*words, "csv").stdout)))
    assert [record["image"] for record in records] == paths
    for each, record in zip(expected, records, strict=True):
        for place, found in enumerate(record["predictions"]):
            row = rows.pop(0)
            assert (row["image"], row["rank"]) == (each.image, str(place + 1))
            values = (each.classes[place], each.names[place], each.probabilities[place], each.logits[place])
            assert tuple(found.values()) == values
            assert tuple(row[key] for key in found) == tuple(map(str, values))
    assert not rows


def test_a_bad_image_is_named_and_the_rest_goes_on(folder: Path) -> None:
    (folder / "a" / "3.png").write_bytes(b"no picture")
    Image.new("1", (9000, 9000)).save(folder / "a" / "huge.png")
    os.mkfifo(folder / "pipe.png")
    missing, empty = folder / "missing", folder / "empty"
    empty.mkdir()
    done = command("predict", str(missing), str(folder), str(empty), "--model", TINY, "--format", "json")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 10
    said = "\n".join(sorted(done.stderr.splitlines()))
    for words in ("3.png: not an image", "huge.png: 9000×9000", "pipe.png", "missing: No such", "no images in"):
        assert said.count(words) == 1, words
    assert done.stderr.splitlines()[-1] == "bcdzoo: 3 of 13 images could not be read; 1 of the folders gave none"


def test_where_nothing_is_found_it_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.zip").touch()
    for place in (tmp_path, tmp_path / "nothing.png", ""):
        done = command("predict", str(place), "--model", TINY)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
    assert len(command("predict", str(tmp_path), "--model", TINY).stderr.splitlines()) == 1


def test_wrong_usage_is_2(folder: Path) -> None:
    for words in ((str(folder),), ("--model", TINY), (str(folder), "--model", TINY, "--format", "xml")):
        assert command("predict", *words).returncode == 2
    for option in ("--top", "--batch-size"):
        assert command("predict", str(folder), "--model", TINY, option, "0").returncode == 2


def test_names_cannot_reach_the_terminal_unescaped(folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a "b",\x1b[2J\ud83d\n.png'.replace("\ud83d", os.fsdecode(b"\xff"))
    shutil.copy(next(folder.rglob("*.png")), odd)
    for style in ("text", "json", "csv"):
        done = command("predict", str(odd), "--model", TINY, "--format", style)
        assert done.returncode == 0
        done.stdout.encode()
        assert "\x1b" not in done.stdout and r"\xff" in done.stdout.replace("\\\\", "\\").replace(r"\udcff", r"\xff")
        if style == "csv":
            assert len(list(csv.reader(io.StringIO(done.stdout)))) == 6
        if style == "json":
            assert json.loads(done.stdout)["image"].endswith('a "b",\x1b[2J\\xff\n.png')


def test_links_in_circles_and_folders_that_occur_twice_are_listed_once(folder: Path) -> None:
    (folder / "again").symlink_to(folder / "a")
    (folder / "a" / "up").symlink_to(folder)
    done = command("predict", str(folder), "--model", TINY, "--top", "1", "--format", "json")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 10
    assert "links skipped" in done.stderr


@pytest.mark.parametrize("model", ["tests.own_networks:number", "tests.own_networks:Pair", "no-such", "no.bcz", ":"])
def test_a_network_that_cannot_be_used_is_one_line(folder: Path, model: str) -> None:
    done = command("predict", str(folder), "--model", model)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) <= 2 and "unexpected" not in done.stderr


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bcdzoo", "predict", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def many(folder: Path, copies: int) -> Path:
    for path in list(folder.rglob("*.png")):
        for number in range(copies):
            os.link(path, folder / f"{path.stem}-{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_results_are_printed_as_they_come_and_can_be_interrupted(folder: Path, workers: str) -> None:
    process = start(str(many(folder, 3000)), "--model", TINY, "--workers", workers, "--batch-size", "1")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "bcdzoo: interrupted"
    assert out.count(".png") < 30_000


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_failure_to_speak_of(folder: Path) -> None:
    process = start(str(many(folder, 300)), "--model", TINY, "--workers", "0", "--format", "csv")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert "Broken" not in (said := process.stderr.read()) and "Error" not in said
    assert process.wait(60) == 1
