"""Training images: their order and augmentation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bcdzoo.data.imagenet import ImageSet, decode, open_dataset
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.processes import Processes
from bcdzoo.train.images import (
    TrainingImages,
    batches,
    check_batches,
    check_labels,
    has_test_images,
    name_classes,
    open_training_set,
)
from bcdzoo.train.recipe import Stage, load_recipe
from tests.train.idx import stripes, write

CPU = torch.device("cpu")
ALONE = Processes()


def stage(**options: object) -> Stage:
    return load_recipe("tiny", {"warmup": 0, "iterations": 12, "batch_size": 16, **options})[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("data") / "idx")


@pytest.fixture(scope="module")
def images(data: Path) -> ImageSet:
    return open_training_set(data, None)[0]


def test_idx_files_give_their_bytes_and_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 9), np.uint8)
    write(tmp_path / "t10k-images-idx3-ubyte", pixels)
    write(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([3, 1, 4, 1, 5], np.uint8))
    found = open_dataset(tmp_path, 10)
    assert found.layout == "idx"
    assert [sample.label for sample in found.samples] == [3, 1, 4, 1, 5]
    for sample, grey in zip(found.samples, pixels, strict=True):
        assert np.array_equal(np.asarray(decode(sample.read())), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("damage", ["cut", "type", "labels", "gzip", "no labels"])
def test_damaged_idx_files_are_one_clear_line(tmp_path: Path, damage: str) -> None:
    folder = stripes(tmp_path / "data")
    images, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte"
    match damage:
        case "cut":
            labels.write_bytes(labels.read_bytes()[:-1])
        case "type":
            labels.write_bytes(b"\0\0\x0d" + labels.read_bytes()[3:])
        case "labels":
            write(labels, np.zeros(7, np.uint8))
        case "gzip":
            images.write_bytes(images.read_bytes()[:-20])
        case "no labels":
            labels.unlink()
    with pytest.raises(BcdzooError, match=r"cut short|labels|is damaged|has no t10k"):
        open_dataset(folder, 10)


def test_the_demo_images_are_fashion_mnists_first() -> None:
    demo = open_dataset("demo", 10)
    assert (len(demo), demo.layout, demo.name) == (2000, "idx", "demo")
    assert [sample.label for sample in demo.samples[:10]] == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]


def test_the_data_tells_the_number_of_classes(data: Path, tmp_path: Path) -> None:
    assert open_training_set(data, None)[1] == 10
    assert has_test_images(data)
    for name in ("train/cat", "train/dog", "val/cat"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    found, classes = open_training_set(tmp_path, None)
    assert (len(found), classes) == (2, 2)
    assert has_test_images(tmp_path)


def test_without_folders_the_number_of_classes_has_to_be_given(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "list.csv").write_text("1.png,0\n")
    with pytest.raises(BcdzooError, match="--classes"):
        open_training_set(tmp_path / "list.csv", None)
    assert open_training_set(tmp_path / "list.csv", 2)[1] == 2


@pytest.mark.parametrize("classes", [None, 10])
def test_what_is_not_there_or_has_test_images_alone_is_said(tmp_path: Path, classes: int | None) -> None:
    with pytest.raises(BcdzooError, match="absent does not exist"):
        open_training_set(tmp_path / "absent", classes)
    with pytest.raises(BcdzooError, match=r"demo has only test images .* and no training images"):
        open_training_set(Path("demo"), classes)


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(images: ImageSet) -> None:
    training = TrainingImages(images, stage())
    epochs = [[training[place][1] for place in range(start, start + 96)] for start in (0, 96)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(sample.label for sample in images.samples)
    assert epochs[0] != epochs[1]


def test_an_image_depends_on_its_place_and_the_seed_alone(images: ImageSet) -> None:
    options = {"crop_scale": [0.2, 1.0], "jitter": [0.2, 0.2, 0.2, 0.1]}
    first, again = (TrainingImages(images, stage(**options)) for _ in range(2))
    other = TrainingImages(images, stage(**options, seed=1))
    torch.manual_seed(5)
    varied, _ = first[40]
    again[3]
    assert torch.equal(again[40][0], varied)
    assert not torch.equal(other[40][0], varied)
    assert varied.dtype == torch.uint8 and varied.shape == (3, 28, 28)


def drawn(images: ImageSet, options: Stage, processes: Processes, done: int, workers: int) -> torch.Tensor:
    return torch.stack(
        [batch for batch, _ in batches(TrainingImages(images, options), options, processes, done, workers)]
    )


def test_batches_do_not_depend_on_workers_nor_on_where_the_run_goes_on(images: ImageSet) -> None:
    whole = drawn(images, stage(), ALONE, 0, 0)
    assert whole.shape == (12, 16, 3, 28, 28)
    assert torch.equal(drawn(images, stage(), ALONE, 0, 2), whole)
    assert torch.equal(drawn(images, stage(), ALONE, 7, 1), whole[7:])


def test_processes_and_parts_divide_a_batch_without_remainder(images: ImageSet) -> None:
    whole = drawn(images, stage(), ALONE, 0, 0)
    halves = [drawn(images, stage(), Processes(rank, 2), 0, 0) for rank in range(2)]
    assert torch.equal(torch.cat(halves, dim=1), whole)
    parts = drawn(images, stage(accumulate=4), ALONE, 0, 0)
    assert torch.equal(parts.unflatten(0, (12, 4)).flatten(1, 2), whole)
    with pytest.raises(BcdzooError, match="batch_size 16 cannot be divided among 3 processes"):
        check_batches(stage(), images, Processes(0, 3))
    with pytest.raises(BcdzooError, match="batch_size 97 is more than the 96 images"):
        check_batches(stage(batch_size=97), images, ALONE)


def test_classes_are_called_by_the_file_the_data_or_their_numbers(images: ImageSet, tmp_path: Path) -> None:
    assert name_classes(images, 10, None) == [str(number) for number in range(10)]
    for name in ("a/cat/1.png", "a/dog/1.png", "b/0/1.png", "b/1/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert name_classes(open_training_set(tmp_path / "a", None)[0], 2, None) == ["cat", "dog"]
    assert name_classes(open_training_set(tmp_path / "b", None)[0], 2, None) == ["0", "1"]
    imagenet = replace(images, name="imagenet")
    assert name_classes(imagenet, 1000, None)[0] == "tench, Tinca tinca"
    given = tmp_path / "names.txt"
    given.write_text("tench\ngoldfish, gold\n")
    assert name_classes(images, 2, given) == ["tench", "goldfish, gold"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n", r"has 1 names \(one per line\) for 2 classes"),
        (b"cat\n\ndog\n", "line 2: '' is not a class name"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"cat\n" + b"x" * 2000, "line 2: .* is not a class name"),
        (None, "no file"),
    ],
)
def test_a_file_of_names_that_does_not_fit_is_one_line(
    images: ImageSet, tmp_path: Path, content: bytes | None, message: str
) -> None:
    given = tmp_path / "names.txt"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(BcdzooError, match=message):
        name_classes(images, 2, given)


def test_labels_beyond_the_classes_and_a_single_class_are_refused(images: ImageSet) -> None:
    with pytest.raises(BcdzooError, match="label 5, but the 5 classes end at 4"):
        check_labels(replace(images, samples=[s for s in images.samples if s.label < 6]), 5)
    with pytest.raises(BcdzooError, match="only one class"):
        check_labels(replace(images, samples=[s for s in images.samples if s.label == 0]), 1)


def test_an_unvaried_image_is_the_evaluations(images: ImageSet) -> None:
    plain = replace(stage(), flip=False)
    training = TrainingImages(images, plain)
    preprocess = parse(plain.preprocess)
    seen = {tuple(preprocess.normalize(training[place][0]).flatten().tolist()) for place in range(20)}
    expected = {tuple(preprocess(decode(sample.read())).flatten().tolist()) for sample in images.samples}
    assert len(seen) > 1 and seen <= expected


def test_class_folders_from_1_are_taken_with_an_offset(tmp_path: Path) -> None:
    for number in range(1, 11):
        (tmp_path / str(number)).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / str(number) / "a.png")
    with pytest.raises(BcdzooError, match="--label-offset -1"):
        open_training_set(tmp_path, None)
    images, classes = open_training_set(tmp_path, None, -1)
    assert {sample.id: sample.label for sample in images.samples} == {f"{n}/a.png": n - 1 for n in range(1, 11)}
    assert classes == 10


def test_idx_files_take_no_offset(data: Path) -> None:
    with pytest.raises(BcdzooError, match="omit --label-offset"):
        open_training_set(data, None, -1)


def test_a_class_without_a_name_is_called_by_its_number_and_one_that_no_file_may_have_is_refused(
    images: ImageSet,
) -> None:
    classes = 1 + max(sample.label for sample in images.samples)
    names = ("", " ", *(f"c{number}" for number in range(2, classes)))
    assert name_classes(replace(images, class_names=names), classes, None) == ["0", "1", *names[2:]]
    with pytest.raises(BcdzooError, match="class_names, line 1: "):
        name_classes(replace(images, class_names=("x" * 2000, *names[1:])), classes, None)
