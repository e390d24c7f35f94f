"""Training images: which comes when, and how it is varied."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bcdzoo.data.imagenet import ImageSet, decode, open_dataset
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.train.images import TrainingImages, batches, has_test_images, open_training_set
from bcdzoo.train.processes import Processes
from bcdzoo.train.recipe import Stage, load_recipe
from tests.train.idx import stripes, write

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)


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
    halves = [drawn(images, stage(), Processes(rank, 2, CPU), 0, 0) for rank in range(2)]
    assert torch.equal(torch.cat(halves, dim=1), whole)
    parts = drawn(images, stage(accumulate=4), ALONE, 0, 0)
    assert torch.equal(parts.unflatten(0, (12, 4)).flatten(1, 2), whole)
    with pytest.raises(BcdzooError, match="batch_size 16 cannot be divided among 3 processes"):
        batches(TrainingImages(images, stage()), stage(), Processes(0, 3, CPU), 0, 0)


def test_an_unvaried_image_is_the_evaluations(images: ImageSet) -> None:
    plain = replace(stage(), flip=False)
    training = TrainingImages(images, plain)
    preprocess = parse(plain.preprocess)
    seen = {tuple(preprocess.normalize(training[place][0]).flatten().tolist()) for place in range(20)}
    expected = {tuple(preprocess(decode(sample.read())).flatten().tolist()) for sample in images.samples}
    assert seen <= expected
