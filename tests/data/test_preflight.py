from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bcdzoo.data.classes import names, validation_labels, wnids
from bcdzoo.data.imagenet import ImageSet, Sample, open_dataset
from bcdzoo.data.preflight import preflight
from bcdzoo.data.samples import FileRange
from bcdzoo.errors import BcdzooError
from tests.data.layouts import parquet_folder, picture_folder, tar_file
from tests.photos import csv_file, flat_folder, image_folder

TRUTH = validation_labels()
ALL = np.arange(1, 50_001)
SOME = np.sort(np.random.default_rng(0).choice(ALL, 300, replace=False))  # 41 classes are there twice or more
# What torchvision's ImageFolder makes of folders that are numbers: the place of each in order of text.
TEXT_ORDER = np.array([sorted(map(str, range(1000))).index(str(label)) for label in range(1000)])
TEXT_ORDER_FROM_1 = np.array([sorted(map(str, range(1, 1001))).index(str(label + 1)) for label in range(1000)])
DEVKIT = np.random.default_rng(1).permutation(1000)  # any other order


def images(
    numbers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], class_names: tuple[str, ...] = ()
) -> ImageSet:
    """Validation images of these numbers; their files are never opened."""
    samples = [
        Sample(f"ILSVRC2012_val_{number:08d}.JPEG", int(label), 1, FileRange("absent", 0, 1))
        for number, label in zip(numbers, labels, strict=True)
    ]
    return ImageSet(samples, "imagenet", "csv", "the CSV file", class_names=class_names)


def stops(found: ImageSet, outputs: int = 1000) -> list[str]:
    findings = preflight(found, outputs)
    assert all("\n" not in finding.message for finding in findings)
    return [finding.message for finding in findings if finding.severity == "stop"]


def notes(found: ImageSet, outputs: int = 1000) -> list[str]:
    return [finding.message for finding in preflight(found, outputs) if finding.severity == "note"]


def test_the_whole_validation_set_with_its_labels_has_no_finding() -> None:
    assert preflight(images(ALL, TRUTH), 1000) == []


def test_real_layouts_of_a_part_of_the_images_have_notes_only(tmp_path: Path) -> None:
    flat = flat_folder(tmp_path / "flat")
    for found in (
        open_dataset(image_folder(tmp_path)),
        open_dataset(flat),
        open_dataset(csv_file(flat, flat / "a.csv")),
    ):
        assert stops(found) == []
        missing, absent, uneven = notes(found)
        assert missing.startswith(
            "of ImageNet's 50000 validation images 49980 are missing: ILSVRC2012_val_00000001.JPEG, "
        )
        assert absent == "981 of 1000 classes have no images: class 0, 1, 2, …"
        assert uneven == "the classes have 1 to 2 images each; ImageNet's validation set has 50 of each"


@pytest.mark.parametrize("numbers", [ALL, SOME], ids=["all", "300"])
@pytest.mark.parametrize(
    ("relabel", "explanation"),
    [
        (lambda truth: truth + 1, "they are 1 to 1000 instead of 0 to 999, shifted by one; subtract 1"),
        (lambda truth: TEXT_ORDER[truth], "they number the folders 0 to 999 sorted as text (0, 1, 10, 100, …)"),
        (lambda truth: TEXT_ORDER_FROM_1[truth], "they number the folders 1 to 1000 sorted as text (1, 10, 100, "),
        (lambda truth: DEVKIT[truth], "the classes are renumbered consistently, as in the devkit's order"),
        (lambda truth: DEVKIT[truth] + 1, "the classes are renumbered consistently, as in the devkit's order"),
        (lambda truth: np.random.default_rng(2).integers(0, 1000, len(truth)), "nothing to do with the images"),
        (lambda truth: np.zeros_like(truth), "nothing to do with the images"),
    ],
    ids=["shifted", "text order", "text order from 1", "devkit", "devkit from 1", "random", "constant"],
)
def test_wrong_labels_are_a_stop_that_names_the_mistake(numbers, relabel, explanation) -> None:  # type: ignore[no-untyped-def]
    (message,) = stops(images(numbers, relabel(TRUTH[numbers - 1])))
    assert explanation in message
    assert f" of {len(numbers)} labels contradict ImageNet's ground truth: " in message


def test_a_mistake_is_recognised_although_some_labels_are_wrong_beside_it() -> None:
    rng = np.random.default_rng(3)
    for relabelled, explanation in ((TRUTH + 1, "shifted by one"), (DEVKIT[TRUTH], "consistently")):
        relabelled = relabelled.copy()
        strays = rng.choice(50_000, 2000, replace=False)
        relabelled[strays] = rng.integers(0, 1000, 2000)
        assert explanation in stops(images(ALL, relabelled))[0]


def test_single_images_in_the_folder_of_another_class_are_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path) / "val"
    files = sorted(root.rglob("*.JPEG"))
    for file in files[:2]:
        other = next(folder for folder in sorted(root.iterdir()) if folder != file.parent)
        file.rename(other / file.name)
    (message,) = stops(open_dataset(tmp_path))
    assert message.startswith("2 of 20 labels contradict ImageNet's ground truth: ")
    assert ", ".join(sorted(file.name for file in files[:2])) in message
    assert "have the wrong class; move or relabel them" in message


def test_too_few_images_to_tell_are_still_a_stop() -> None:
    few = np.arange(1, 6)
    assert "too few images to tell" in stops(images(few, DEVKIT[TRUTH[:5]]))[0]


def test_missing_and_unexpected_images_and_uneven_classes_are_notes() -> None:
    kept = ALL[3:]
    found = images(kept, TRUTH[3:])
    found.samples.append(Sample("holiday.jpg", 7, 1, FileRange("absent", 0, 1)))
    assert stops(found) == []
    assert notes(found) == [
        "of ImageNet's 50000 validation images 3 are missing: ILSVRC2012_val_00000001.JPEG, "
        "ILSVRC2012_val_00000002.JPEG, ILSVRC2012_val_00000003.JPEG",
        "besides ImageNet's validation images there are 1 others: holiday.jpg",
        "the classes have 49 to 51 images each; ImageNet's validation set has 50 of each",
    ]


def test_labels_beyond_the_outputs_are_a_stop(tmp_path: Path) -> None:
    found = open_dataset(picture_folder(tmp_path, [str(number) for number in range(12)]), classes=12)
    assert preflight(found, 12) == []
    assert "6 labels are beyond the network's 10 outputs (10/00000.png has 10): use a network" in stops(found, 10)[0]
    counted = ImageSet(
        [sample._replace(label=sample.label + 1) for sample in found.samples], "x", "csv", "the CSV file"
    )
    assert "they seem to be 1 to 12 instead of 0 to 11; use --label-offset -1" in stops(counted, 12)[0]


def test_class_names_in_the_networks_order_are_no_finding() -> None:
    for class_names in (names(), wnids(), [name.upper() for name in names()], [n.split(",")[0] for n in names()]):
        assert stops(images(ALL, TRUTH, tuple(class_names))) == []
    other_words = {wnids().index("n02012849"): "crane bird", wnids().index("n03126707"): "crane2", 744: "missile"}
    assert stops(images(ALL, TRUTH, tuple(other_words.get(label, name) for label, name in enumerate(names())))) == []


@pytest.mark.parametrize("kind", ["words", "wnids", "first words"])
def test_class_names_in_another_order_are_a_stop(kind: str) -> None:
    ours = {"words": names(), "wnids": wnids(), "first words": [name.split(",")[0] for name in names()]}[kind]
    (message,) = stops(images(ALL, TRUTH, tuple(ours[place] for place in DEVKIT)))
    assert f"another order: label 0 is {ours[DEVKIT[0]]!r}, which is the network's class {DEVKIT[0]} " in message


def test_two_swapped_class_names_are_a_stop() -> None:
    swapped = [names()[1], names()[0], *names()[2:]]
    assert "label 0 is 'goldfish, Carassius auratus'" in stops(images(ALL, TRUTH, tuple(swapped)))[0]


def test_numbers_in_order_of_text_in_a_parquet_file_are_a_stop(tmp_path: Path) -> None:
    # What `datasets` writes from folders 0 to 11.
    in_order = sorted(str(number) for number in range(12))
    found = open_dataset(picture_folder(tmp_path / "pictures", in_order), classes=12)
    parquet = open_dataset(parquet_folder(found, tmp_path / "parquet", in_order), classes=12)
    assert "another order: label 2 is '10', which is the network's class 10 (10 such labels)" in stops(parquet, 12)[0]


def with_labels(labels: list[int], **fields: object) -> ImageSet:
    samples = [Sample(f"{place:04d}.png", label, 1, FileRange("absent", 0, 1)) for place, label in enumerate(labels)]
    return ImageSet(samples, "x", "csv", "the CSV file", **fields)  # type: ignore[arg-type]


def test_imagenets_labels_of_a_network_of_1001_outputs_are_a_stop_unless_they_are_shifted_already() -> None:
    for outputs in (1001, 1008):
        (message,) = stops(images(SOME, TRUTH[SOME - 1]), outputs)
        assert f"ImageNet's 0 to 999, but the network has {outputs} outputs: if it is one of TensorFlow's" in message
        assert "--label-offset 1 " in message
        assert stops(images(SOME, TRUTH[SOME - 1] + 1), outputs) == []


@pytest.mark.parametrize("offset", [0, 1])
def test_what_somebody_said_of_1001_outputs_is_believed(tmp_path: Path, offset: int) -> None:
    flat = flat_folder(tmp_path / "flat")
    found = open_dataset(csv_file(flat, flat / "a.csv") if offset else flat, 1001 - (not offset), label_offset=offset)
    assert stops(found, 1001 - (not offset)) == []
    truth = [int(TRUTH[int(sample.id[15:23]) - 1]) for sample in found.samples]
    assert [sample.label - offset for sample in found.samples] == truth
    assert found.name == "imagenet"
    wrong = [sample._replace(label=sample.label + 1) for sample in found.samples]
    assert "shifted by one" in stops(ImageSet(wrong, "x", "csv", "x", label_offset=offset), 1000 + offset)[0]


@pytest.mark.parametrize("layout", ["imagefolder", "flat", "tar", "csv"])
def test_imagenet_in_every_layout_is_offered_the_offset_for_1001_outputs(tmp_path: Path, layout: str) -> None:
    root, flat = image_folder(tmp_path / "a"), flat_folder(tmp_path / "b")
    path = {
        "imagefolder": root,
        "flat": flat,
        "tar": tar_file(root / "val", tmp_path / "a.tar"),
        "csv": csv_file(flat, tmp_path / "a.csv"),
    }[layout]
    with pytest.raises(BcdzooError, match=r"--label-offset 1 .* shifts the labels accordingly"):
        open_dataset(path, 1001)
    shifted, plain = open_dataset(path, 1001, label_offset=1), open_dataset(path, 1000)
    assert [sample.label for sample in shifted.samples] == [sample.label + 1 for sample in plain.samples]
    assert shifted.labels_from.endswith(", +1")
    assert stops(shifted, 1001) == []


@pytest.mark.parametrize(
    ("labels", "outputs", "stopped"),
    [
        (range(1000), 1001, True),
        (range(1, 1001), 1001, False),
        (range(1001), 1001, False),
        ([3, 5, 900], 1001, True),
        (range(1000), 1008, False),
        (range(1, 10), 10, True),
        (range(1, 11), 10, True),
        ([1, 3, 4, 10], 10, True),
        (range(10), 10, False),
        ([1, 3, 9], 10, False),
        (range(1, 9), 10, True),
        ([1, 2], 10, True),
        ([1, 2, 4], 10, False),
        ([1, 1], 2, False),
        ([3], 3, True),
    ],
)
def test_labels_that_may_begin_elsewhere_stop_and_others_do_not(labels: list[int], outputs: int, stopped: bool) -> None:
    found = stops(with_labels(list(labels)), outputs)
    assert bool(found) == stopped
    assert all("--label-offset" in message for message in found if len(set(labels)) > 1)
    assert [message for message in found if "--label-offset -1" in message and outputs > 1000] == []


def test_labels_from_1_on_are_taken_as_they_are_where_somebody_says_so() -> None:
    assert (
        "are 1 to 8 and none is 0: if they start at 1, use --label-offset -1"
        in stops(with_labels(list(range(1, 9))), 10)[0]
    )
    assert stops(with_labels(list(range(1, 9)), label_offset=0), 10) == []


def test_what_was_passed_over_is_a_note() -> None:
    assert "3 files" in notes(with_labels([0, 1], notes=("3 files",)), 2)
