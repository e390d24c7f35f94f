import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bcdzoo.cli import main
from bcdzoo.data.cache import find_prepared, prepared_folder
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.prepare import prepare
from bcdzoo.data.preprocess import PRESETS, Geometry, Preprocess
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import evaluate
from bcdzoo.seal import read_json, write_json
from tests.noise import noise
from tests.own_networks import Steady

SMALL = Preprocess(resize=18, crop=16)
GEOMETRIES = [Geometry(18, 16, kind) for kind in ("bilinear", "bicubic", "tf-bicubic")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return open_dataset(noise(tmp_path / "images", 40), 10)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("workers", [0, 2])
def test_prepared_pixels_are_those_of_the_files_bit_for_bit(images: ImageSet, geometry: Geometry, workers: int) -> None:
    prepared = prepare(images, geometry, workers)
    for index in range(len(images)):
        fresh = geometry.pixels(images.image(index))
        assert torch.equal(prepared.pixels(index), fresh)
        assert prepared.pixels(index).dtype == fresh.dtype


@pytest.mark.parametrize("preset", PRESETS)
def test_pixels_and_normalization_apart_are_the_whole_preprocessing_bit_for_bit(preset: str, images: ImageSet) -> None:
    image, whole = images.image(0).resize((300, 260)), PRESETS[preset]
    batch = torch.stack([whole.geometry.pixels(image)] * 3)
    assert all(torch.equal(one, whole(image)) for one in whole.normalize(batch))


def test_a_run_from_prepared_images_opens_no_file_but_for_a_sample_and_has_the_same_predictions(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Steady()
    from_files = evaluate(network, images, preprocess=SMALL)
    prepare(images, SMALL.geometry, 0)

    def fail(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(ImageSet, "image", fail)
    assert evaluate(network, images, preprocess=SMALL).predictions_sha256 == from_files.predictions_sha256


def test_an_unreadable_image_is_the_same_error_from_prepared_images_as_from_files(tmp_path: Path) -> None:
    noise(tmp_path / "images", 40)
    name, path = "00007.png", tmp_path / "images" / "00007.png"
    path.write_bytes(path.read_bytes()[:30])
    broken = open_dataset(path.parent / "list.csv", 10)
    messages = []
    for _ in range(2):
        with pytest.raises(BcdzooError) as raised:
            evaluate(Steady(), broken, preprocess=SMALL)
        messages.append(str(raised.value))
        prepare(broken, SMALL.geometry, 0)
    assert messages[0] == messages[1]
    assert name in messages[0]
    left = evaluate(Steady(), broken, preprocess=SMALL, skip_bad=True)
    assert (left.n, [entry["id"] for entry in left.skipped]) == (39, [name])


def test_a_damaged_cache_is_named_with_what_to_do(images: ImageSet) -> None:
    folder = prepare(images, SMALL.geometry, 0).folder
    pixels = bytearray((folder / "pixels").read_bytes())
    pixels[1000] ^= 1  # in the second image
    (folder / "pixels").write_bytes(pixels)
    with pytest.raises(BcdzooError, match=r"are damaged .image 1 has a different checksum.: remove that folder"):
        evaluate(Steady(), images, preprocess=SMALL)
    (folder / "pixels").write_bytes(pixels[:-1])
    with pytest.raises(BcdzooError, match=r"are damaged .its pixels have the wrong size.: remove that folder"):
        evaluate(Steady(), images, preprocess=SMALL)
    (folder / "facts.json").write_text("{")
    with pytest.raises(BcdzooError, match="are damaged"):
        evaluate(Steady(), images, preprocess=SMALL)


def test_images_that_have_changed_are_not_taken_from_the_cache(images: ImageSet, tmp_path: Path) -> None:
    prepare(images, SMALL.geometry, 0)
    first = tmp_path / "images" / "00000.png"
    same_size = bytearray(first.read_bytes())
    same_size[-20] ^= 1
    first.write_bytes(same_size)
    with pytest.raises(BcdzooError, match=r"00000.png has changed since `bcdzoo prepare`: remove"):
        find_prepared(images, SMALL.geometry)
    Image.new("RGB", (30, 30)).save(first)
    again = open_dataset(tmp_path / "images" / "list.csv", 10)
    assert find_prepared(again, SMALL.geometry) is None  # another size, so another set


@pytest.mark.parametrize("number", [1, 77, 298])
def test_a_change_is_noticed_in_every_file_and_where_its_time_is_set_back(tmp_path: Path, number: int) -> None:
    many = open_dataset(noise(tmp_path / "many", 300), 10)
    prepare(many, SMALL.geometry, 0)
    one = tmp_path / "many" / f"{number:05}.png"
    before, whole = one.stat(), one.read_bytes()
    one.write_bytes(whole[:-20] + bytes(20))
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BcdzooError, match=f"{one.name} has changed since `bcdzoo prepare`: remove"):
        find_prepared(many, SMALL.geometry)
    one.write_bytes(whole)
    assert find_prepared(many, SMALL.geometry) is not None  # touched, and the same


def test_a_cache_that_knows_no_times_compares_every_file(tmp_path: Path) -> None:
    many = open_dataset(noise(tmp_path / "many", 300), 10)
    folder = prepare(many, SMALL.geometry, 0).folder
    facts, _ = read_json(folder / "facts.json")
    write_json(folder / "facts.json", {key: value for key, value in facts.items() if key != "times"})
    one = tmp_path / "many" / "00077.png"
    one.write_bytes(one.read_bytes()[:-20] + bytes(20))
    with pytest.raises(BcdzooError, match=r"00077.png has changed since"):
        find_prepared(many, SMALL.geometry)


def test_pixels_made_by_other_versions_of_the_libraries_are_made_anew(
    images: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(images, SMALL.geometry, 0).folder
    facts, _ = read_json(folder / "facts.json")
    write_json(folder / "facts.json", facts | {"versions": {"pillow": "1.0"}})
    assert find_prepared(images, SMALL.geometry) is None
    assert "is from other versions ({'pillow': '1.0'}) and is not used" in capsys.readouterr().err
    prepare(images, SMALL.geometry, 0)
    assert find_prepared(images, SMALL.geometry) is not None


def test_what_a_killed_preparation_left_behind_is_removed_and_the_next_one_is_whole(images: ImageSet) -> None:
    folder = prepared_folder(images, SMALL.geometry)
    leftover = folder.parent / f".{folder.name}.abc"
    leftover.mkdir(parents=True)
    (leftover / "pixels").write_bytes(b"half")
    prepare(images, SMALL.geometry, 0)
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_two_processes_prepare_once(images: ImageSet) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        folders = pool.starmap(_prepared, [(images,)] * 2)
    assert folders[0] == folders[1] == prepared_folder(images, SMALL.geometry)
    assert len(np.load(folders[0] / "checksums.npy")) == 40


def _prepared(images: ImageSet) -> Path:
    return prepare(images, SMALL.geometry, 0).folder


def test_too_little_room_is_said_before_anything_is_written(images: ImageSet, home: Path) -> None:
    side = 1 << 22
    with pytest.raises(BcdzooError, match=r"2111062.3 GB are needed in .* GB are free: make room, or set BCDZOO_HOME"):
        prepare(images, Geometry(side, side, "bilinear"), 0)  # of more than a petabyte
    assert [path.suffix for path in (home / "prepared").iterdir()] == [".lock"]


def test_the_command_prepares_for_presets_and_for_networks(
    images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(tmp_path / "images" / "list.csv"), "--classes", "10", "--workers", "0"]
    with pytest.raises(SystemExit) as left:
        main(["prepare", *arguments, "--preprocess", "resize=18,crop=16", "--model", "bcdnet-a"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "40 images of list (bilinear-18-16)",
        "40 images of list (bilinear-256-224)",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("facts.json", b""),
        ("facts.json", b"[" * 100_000),
        ("facts.json", b'{"unreadable": [], "versions": {}}'),
        ("facts.json", b'{"unreadable": {"x": 1}, "versions": {}}'),
        ("facts.json", b'{"unreadable": {}, "versions": 3}'),
        ("checksums.npy", b""),
        ("checksums.npy", b"\x93NUMPY\x01\0v\0{'descr': '<u4', 'fortran_order': False, 'shape': (1000000000000, 2)}\n"),
        ("times.npy", b""),
        ("times.npy", b"x"),
        ("pixels", b""),
    ],
)
def test_each_file_of_the_cache_may_be_damaged_or_a_pipe(images: ImageSet, name: str, content: bytes) -> None:
    folder = prepare(images, SMALL.geometry, 0).folder
    (folder / name).write_bytes(content)
    with pytest.raises(BcdzooError, match=r"the prepared images in .* are damaged \(.*\): remove that folder"):
        find_prepared(images, SMALL.geometry)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BcdzooError, match="is a named pipe"):
        find_prepared(images, SMALL.geometry)


def test_no_flip_in_the_cache_is_used(images: ImageSet) -> None:
    folder = prepare(images, SMALL.geometry, 0).folder
    fresh = [images.image(index) for index in range(len(images))]
    rng, refused = np.random.default_rng(0), 0
    for name in ("facts.json", "checksums.npy", "times.npy", "pixels"):
        whole = (folder / name).read_bytes()
        for place in rng.integers(0, len(whole), 30):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(flipped)
            try:
                found = find_prepared(images, SMALL.geometry)
                same = found is None or all(
                    torch.equal(found.pixels(index), SMALL.geometry.pixels(fresh[index])) for index in range(len(fresh))
                )
            except BcdzooError:
                refused += 1
            else:
                assert same, (name, place)
        (folder / name).write_bytes(whole)
    assert refused > 60


def test_a_cache_of_an_older_version_is_used_and_called_unchecked(
    images: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(images, SMALL.geometry, 0).folder
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(
        json.dumps({key: facts[key] for key in ("dtype", "shape", "unreadable", "versions")})
    )
    assert find_prepared(images, SMALL.geometry) is not None
    assert "is from an older version: the list of unreadable images is unchecked" in capsys.readouterr().err
