"""The files of CIFAR-10 in both forms, and what is taken for them."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bcdzoo.data.decode import decode
from bcdzoo.data.imagenet import open_dataset
from bcdzoo.errors import BcdzooError
from bcdzoo.train.images import has_test_images, name_classes, open_training_set
from tests.data import cifar
from tests.data.layouts import picture_folder
from tests.data.test_layouts import complaint


def everywhere(folder: Path) -> dict[str, Path]:
    """The same images in each form, as a folder, below another folder, and as an archive."""
    binary = cifar.binary_folder(folder / "one" / "cifar-10-batches-bin")
    pickled = cifar.pickled_folder(folder / "two" / "cifar-10-batches-py")
    return {
        "binary": binary,
        "pickled": pickled,
        "binary below": binary.parent,
        "pickled below": pickled.parent,
        "binary archive": cifar.archive(folder / "cifar-10-binary.tar", binary),
        "pickled archive": cifar.archive(folder / "cifar-10-python.tar", pickled),
    }


def test_every_form_gives_the_test_images_and_the_same_fingerprint(tmp_path: Path) -> None:
    sets = {form: open_dataset(path, 10) for form, path in everywhere(tmp_path).items()}
    assert {images.layout for images in sets.values()} == {"cifar10"}
    assert len({images.fingerprint for images in sets.values()}) == 1
    for images in sets.values():
        assert [sample.label for sample in images.samples] == [place % 10 for place in range(20)]
        assert images.samples[13].id == "test_batch/00013"
        assert images.class_names == cifar.NAMES
        decoded = np.asarray(decode(images.samples[13].read()))
        assert np.array_equal(decoded.transpose(2, 0, 1), cifar.pixels()[13])
        assert images.notes[0] == "20 images, of the 10000 test images of CIFAR-10"
        assert images.notes[1].startswith("5 files of CIFAR-10 not used, only its test images are (data_batch_1")


def test_a_batch_as_python_2_pickled_it_is_read(tmp_path: Path) -> None:
    images = cifar.pixels(30)
    assert pickle.loads(cifar.python_2(images), encoding="latin-1")["labels"][12] == 2
    (tmp_path / "test_batch").write_bytes(cifar.python_2(images))
    found = open_dataset(tmp_path, 10)
    assert [sample.label for sample in found.samples] == [place % 10 for place in range(30)]
    assert np.array_equal(np.asarray(decode(found.samples[29].read())).transpose(2, 0, 1), images[29])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_batch_of_any_protocol_with_the_array_inside_is_read(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "test_batch").write_bytes(cifar.pickled(cifar.pixels(), protocol))
    assert len(open_dataset(tmp_path, 10)) == 20


def test_one_file_is_read_as_it_is_named(tmp_path: Path) -> None:
    folder = cifar.binary_folder(tmp_path / "x")
    found = open_dataset(folder / "data_batch_3.bin", 10)
    assert found.samples[7].id == "data_batch_3/00007"
    assert np.array_equal(np.asarray(decode(found.samples[7].read())).transpose(2, 0, 1), cifar.pixels(seed=3)[7])


def test_training_takes_the_five_batches_and_their_class_names(tmp_path: Path) -> None:
    for path in everywhere(tmp_path).values():
        images, classes = open_training_set(path, None)
        assert (len(images), classes, images.layout) == (100, 10, "cifar10")
        assert {sample.id.split("/")[0] for sample in images.samples} == set(cifar.BATCHES[1:])
        assert name_classes(images, 10, None) == list(cifar.NAMES)
        assert has_test_images(path)


def test_training_does_not_begin_without_one_of_the_five_batches(tmp_path: Path) -> None:
    folder = cifar.binary_folder(tmp_path / "x")
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(BcdzooError, match=r"train images \(data_batch_4\.bin\), only data_batch_1\.bin"):
        open_training_set(folder, None)


def test_training_says_what_is_not_as_cifar_10_has_it(tmp_path: Path) -> None:
    folder = cifar.binary_folder(tmp_path / "x")
    (folder / "data_batch_6.bin").write_bytes(cifar.binary(cifar.pixels()))
    images, _ = open_training_set(folder, None)
    assert images.notes == (
        "100 images, of the 50000 train images of CIFAR-10",
        "1 files of CIFAR-10 not used, only its train images are (data_batch_6.bin)",
    )


def test_training_refuses_cifar_100_by_its_name(tmp_path: Path) -> None:
    for name in ("train.bin", "test.bin", "fine_label_names.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BcdzooError, match="is CIFAR-100, and this layout is CIFAR-10's"):
        open_training_set(tmp_path, None)


RECORD = bytes([3]) + bytes(3072)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has 0 bytes, no whole number of CIFAR-10's records of 3073: it is cut off"),
        (RECORD * 4 + RECORD[:-1], "has 15364 bytes, no whole number"),
        (bytes([1, 3]) + bytes(3072), "they are CIFAR-100's, with two labels each"),
        (RECORD + bytes([10]) + bytes(3072), "image 1 has label 10, and CIFAR-10's end at 9"),
    ],
)
def test_a_damaged_binary_file_is_named_with_its_fault(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "test_batch.bin").write_bytes(content)
    for path in (tmp_path, tmp_path / "test_batch.bin"):
        message = complaint(path, 10)
        assert expected in message
        assert "test_batch.bin" in message


def _with(**changed: object) -> Callable[[], bytes]:
    table = {"labels": [1, 2], "data": np.zeros((2, 3072), np.uint8)} | changed
    return lambda: pickle.dumps({key: value for key, value in table.items() if value is not None}, 2)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo run > proof",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_with(labels=[1]), "has no labels with as many images"),
        (_with(labels=[1, 10]), "image 1 has label 10"),
        (_with(labels=[1, -1]), "image 1 has label -1"),
        (_with(labels=[1, 2.0]), "has no labels with as many images"),
        (_with(labels=[1, 1 << 20_000]), "has no labels with as many images"),
        (_with(labels=None, fine_labels=[1, 2]), "it is CIFAR-100's"),
        (_with(data=None), "has no labels with as many images"),
        (_with(data=[[0] * 3072] * 2), "has no labels with as many images"),
        (_with(data=np.zeros((2, 3072), np.int64)), "has no labels with as many images"),
        (_with(data=np.zeros((3072, 2), np.uint8).T), "has no labels with as many images"),
        (_with(data=np.zeros((2, 3071), np.uint8)), "has no labels with as many images"),
        (_with(labels=[], data=np.zeros((0, 3072), np.uint8)), "has no labels with as many images"),
        (_with(more=_Runs()), r"reading posix.system would run code from it"),
        (lambda: pickle.dumps([1, 2]), "it is no table"),
        (lambda: _with()()[:-5000], "is no batch file of CIFAR-10"),
        (lambda: b"GIF89a", "is no batch file of CIFAR-10"),
        (lambda: pickle.dumps(OrderedDict(labels=[1])), "has no labels with as many images"),
    ],
)
def test_a_pickled_batch_is_read_without_running_code_and_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[], bytes], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(content())
    assert expected in complaint(tmp_path, 10)
    assert not (tmp_path / "proof").exists()


def test_what_is_missing_is_named_and_what_there_is(tmp_path: Path) -> None:
    folder = cifar.binary_folder(tmp_path / "x")
    (folder / "test_batch.bin").unlink()
    message = complaint(folder, 10)
    assert "does not have the files of CIFAR-10's test images (test_batch.bin), only data_batch_1.bin" in message
    assert "(test_batch.bin)" in complaint(tmp_path, 10, "cifar10")
    assert "No such file" in complaint(tmp_path / "none", 10, "cifar10")
    os.mkfifo(folder / "test_batch.bin")
    assert "(test_batch.bin), only" in complaint(folder, 10)
    assert "is a named pipe" in complaint(folder / "test_batch.bin", 10)


def test_cifar_100_is_refused_by_its_name(tmp_path: Path) -> None:
    for form, names in {"binary": ("test.bin", "fine_label_names.txt"), "python": ("test", "file.txt~")}.items():
        folder = tmp_path / f"cifar-100-{form}"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"x")
        assert "is CIFAR-100, and this layout is CIFAR-10's" in complaint(folder, 100)
        assert "is CIFAR-100" in complaint(cifar.archive(tmp_path / f"cifar-100-{form}.tar", folder), 100)


def test_a_compressed_archive_says_how_to_go_on(tmp_path: Path) -> None:
    folder = cifar.binary_folder(tmp_path / "cifar-10-batches-bin")
    assert "`gunzip` it first" in complaint(cifar.archive(tmp_path / "cifar-10-binary.tar.gz", folder), 10)


def test_an_archive_that_is_cut_off_or_has_two_such_files_is_refused(tmp_path: Path) -> None:
    path = cifar.archive(tmp_path / "cifar-10-binary.tar", cifar.binary_folder(tmp_path / "cifar-10-batches-bin"))
    path.write_bytes(path.read_bytes()[:100_000])
    assert "cut off or damaged" in complaint(path, 10)
    cifar.binary_folder(tmp_path / "x" / "other")
    cifar.binary_folder(tmp_path / "x" / "again")
    assert "two files called" in complaint(cifar.archive(path, tmp_path / "x"), 10)


def test_class_folders_beside_a_file_of_names_are_class_folders(tmp_path: Path) -> None:
    picture_folder(tmp_path / "x", cifar.NAMES)
    (tmp_path / "x" / "batches.meta.txt").write_text("\n".join(cifar.NAMES))
    images = open_dataset(tmp_path / "x", 10)
    assert images.layout == "imagefolder"
    assert {sample.id.split("/")[0]: sample.label for sample in images.samples} == {
        name: label for label, name in enumerate(cifar.NAMES)
    }


def test_class_names_that_are_not_ten_are_refused(tmp_path: Path) -> None:
    folder = cifar.binary_folder(tmp_path / "x")
    (folder / "batches.meta.txt").write_text("cat\ndog\n")
    assert "batches.meta.txt does not have the names of 10 classes" in complaint(folder, 10)
    (folder / "batches.meta.txt").write_text("x\n" * 40_000)
    assert "at most 65536 are read" in complaint(folder, 10)
    (folder / "batches.meta.txt").unlink()
    assert open_dataset(folder, 10).class_names == ()


def test_a_file_of_another_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(3073 << 30)
    assert "at most 335544320 are read" in complaint(tmp_path, 10)
