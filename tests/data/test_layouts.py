from pathlib import Path

import pytest

from bcdzoo.data.classes import wnids
from bcdzoo.data.imagenet import open_dataset
from tests.data.layouts import assert_the_same, everywhere, parquet_folder, picture_folder
from tests.photos import flat_folder, image_folder, official_names


def test_numbered_class_folders_give_one_fingerprint_in_every_layout(tmp_path: Path) -> None:
    names = [str(number) for number in range(12)]
    sets = everywhere(picture_folder(tmp_path / "pictures", names), tmp_path / "others", 12, names)
    assert_the_same(sets)
    assert [sample.id for sample in sets["tar"].samples][:4] == [
        "0/00000.png",
        "0/00001.png",
        "0/00002.png",
        "1/00000.png",
    ]
    assert {sample.id.split("/")[0]: sample.label for sample in sets["parquet"].samples} == {n: int(n) for n in names}


def test_some_wnids_are_imagenets_classes_in_every_layout(tmp_path: Path) -> None:
    names = wnids()[100:105]
    sets = everywhere(picture_folder(tmp_path / "pictures", names), tmp_path / "others", 1000)
    # The writer of parquet files has no names of 1000 classes for these folders; datasets writes those it finds.
    five = open_dataset(tmp_path / "pictures", classes=5)
    sets["parquet"] = open_dataset(parquet_folder(five, tmp_path / "five", names))
    del sets["parquet, only its folder of files"]
    assert_the_same(sets)
    assert sorted({sample.label for sample in sets["parquet"].samples}) == list(range(100, 105))


@pytest.mark.parametrize("form", ["folders", "flat"])
def test_official_images_give_one_fingerprint_and_name_in_every_layout(tmp_path: Path, form: str) -> None:
    root = image_folder(tmp_path / "a") / "val" if form == "folders" else flat_folder(tmp_path / "a")
    sets = everywhere(root, tmp_path / "others", 1000)
    assert_the_same(sets)
    assert {images.name for images in sets.values()} == {"imagenet"}
    assert [s.id for s in sets["tar"].samples] == sorted(official_names())
