import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from bcdzoo.data.classes import official_number, wnids
from bcdzoo.data.decode import FORMATS
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.layouts import LAYOUTS
from bcdzoo.data.names import IMAGE_EXTENSIONS, image_id
from bcdzoo.errors import BcdzooError
from tests.data.layouts import assert_the_same, everywhere, parquet_folder, picture_folder, shard_folder, tar_file
from tests.photos import flat_folder, image_folder, official_names


def complaint(path: Path | str, classes: int = 1000, layout: str | None = None) -> str:
    with pytest.raises(BcdzooError) as raised:
        open_dataset(path, classes, layout)
    assert "\n" not in str(raised.value)
    return str(raised.value)


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
    for images in sets.values():
        assert {sample.id.split("/")[0]: sample.label for sample in images.samples} == {
            name: int(name) for name in names
        }


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
    assert [sample.id for sample in sets["tar"].samples] == sorted(official_names())


def test_every_layout_pickles_small_and_reads_the_same_elsewhere(tmp_path: Path) -> None:
    names = [str(number) for number in range(50)]
    for images in everywhere(picture_folder(tmp_path / "a", names, each=10), tmp_path / "b", 50, names).values():
        pickled = pickle.dumps(images)
        assert len(pickled) < 150 * len(images)
        others = pickle.loads(pickled).samples
        assert [sample.read() for sample in others] == [sample.read() for sample in images.samples]


def test_an_official_name_is_the_id_whatever_was_added_to_it() -> None:
    plain = "ILSVRC2012_val_00000293.JPEG"
    for name in (
        plain,
        f"n01440764/{plain}",
        "ILSVRC2012_val_00000293_n01440764.JPEG",
        "a/b/ilsvrc2012_VAL_00000293.png",
    ):
        assert image_id(name) == plain
        assert official_number(name) == 293
    for name in (
        "ILSVRC2012_val_00000000.JPEG",
        "ILSVRC2012_val_00050001.JPEG",
        "xILSVRC2012_val_00000001.JPEG",
        "cat.png",
    ):
        assert image_id(name) == name
        assert official_number(name) is None


def v2(root: Path) -> Path:
    for label in range(1000):
        (root / str(label)).mkdir(parents=True)
        Image.new("RGB", (1, 1), (label % 256, label // 256, 0)).save(root / str(label) / f"{label * 7919:08x}.jpeg")
    return root


def test_imagenet_v2s_folders_are_numbers_and_no_text(tmp_path: Path) -> None:
    root = v2(tmp_path / "imagenetv2-matched-frequency-format-val")
    folders, tar = open_dataset(root), open_dataset(tar_file(root, tmp_path / "v2.tar", root.name))
    assert_the_same({"folders": folders, "tar": tar})
    for images in (folders, tar):
        assert (images.name, images.labels_from) == ("imagenet-v2", "folder names as class indices")
        assert all(sample.id.startswith(f"{sample.label}/") for sample in images.samples)


def test_a_part_of_the_numbered_folders_keeps_its_numbers(tmp_path: Path) -> None:
    images = open_dataset(picture_folder(tmp_path / "part", ["7", "10", "999"]))
    assert sorted({sample.label for sample in images.samples}) == [7, 10, 999]
    assert images.name == "part"


def test_numbered_folders_that_do_not_start_at_zero_are_refused_where_their_order_is_open(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "a", [str(number) for number in range(1, 13)], each=1)
    assert "class folders 1 to 12 are not the class indices 0 to 11, and sort differently as numbers" in complaint(
        root, 12
    )
    nine = picture_folder(tmp_path / "b", [str(number) for number in range(1, 10)], each=1)
    assert [sample.label for sample in open_dataset(nine, 9).samples] == list(range(9))  # either order is the same


def test_a_given_layout_goes_before_the_detected_one(tmp_path: Path) -> None:
    root = flat_folder(tmp_path / "flat")
    tar_file(root, root / "stray.tar")
    (root / "stray").mkdir()
    assert "has class folders and images beside them" in complaint(root)
    assert open_dataset(root, layout="flat").layout == "flat"
    assert len(open_dataset(root / "stray.tar", layout="tar")) == 20


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("imagefolder", "flat has no class folders"),
        ("parquet", "no .parquet files in"),
        ("tar", "flat is not an archive, and has none that are named after their class"),
        ("webdataset", "no shards in"),
        ("csv", "flat is a folder, not a regular file"),
        ("hf", "cannot get the dataset"),
        ("zip", "no layout named 'zip': use one of imagefolder, flat, tar, parquet, hf, webdataset, csv"),
    ],
)
def test_a_given_layout_that_does_not_fit_says_why(tmp_path: Path, layout: str, expected: str) -> None:
    (tmp_path / "flat").mkdir()
    assert expected in complaint(tmp_path / "flat", layout=layout)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "hf"])
def test_a_photograph_or_nothing_is_no_dataset_in_any_layout(tmp_path: Path, layout: str) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "photo.bmp")
    assert str(tmp_path) in complaint(tmp_path / "photo.bmp", layout=layout)
    assert str(tmp_path) in complaint(tmp_path / "absent", layout=layout)


def test_an_image_that_is_there_twice_is_named_with_its_files(tmp_path: Path) -> None:
    images = open_dataset(picture_folder(tmp_path / "a", ["0", "1"]), classes=2)
    shard_folder(images, tmp_path / "a", tmp_path / "shards", size=3)
    (tmp_path / "shards" / "val-0002.tar").write_bytes((tmp_path / "shards" / "val-0001.tar").read_bytes())
    message = complaint(tmp_path / "shards", 2)
    assert "1/00000.png occurs twice (in " in message
    assert all(f"val-000{number}.tar" in message for number in (1, 2))


def test_an_unreadable_image_is_named_in_every_layout(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "a", ["0", "1"])
    (root / "1" / "00001.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    for images in everywhere(root, tmp_path / "b", 2, ["0", "1"]).values():
        assert len(images) == 6
        with pytest.raises(BcdzooError, match=r"^cannot read image 1/00001\.png: ."):
            images[4]
        assert images[3][1] == 1


def test_an_image_that_changed_since_it_was_listed_is_one_line(tmp_path: Path) -> None:
    images = open_dataset(picture_folder(tmp_path / "a", ["0", "1"]), classes=2)
    tar = open_dataset(tar_file(tmp_path / "a", tmp_path / "a.tar"), classes=2)
    Path(images.samples[0].read.path).write_bytes(b"short")
    (tmp_path / "a.tar").write_bytes(b"")
    for found in (images, tar):
        with pytest.raises(BcdzooError, match=r"0/00000\.png: .* has become shorter since it was listed"):
            found[0]


def test_a_folder_may_hold_val_and_an_archive_a_folder_val(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "imagenet")
    picture_folder(root / "train", wnids()[:2])
    first = open_dataset(root)
    assert_the_same({"folder": first, "tar": open_dataset(tar_file(root, tmp_path / "all.tar", "imagenet"))})


def test_images_are_recognised_by_the_endings_that_torchvision_knows_and_more() -> None:
    assert set(IMG_EXTENSIONS) < set(IMAGE_EXTENSIONS)


def test_every_ending_of_an_image_is_that_of_a_decoder_that_is_used() -> None:
    Image.init()
    registered = Image.registered_extensions() | {".jif": "JPEG", ".mpo": "JPEG"}  # the last begins with a JPEG
    assert {registered[ending] for ending in IMAGE_EXTENSIONS} == set(FORMATS)


def test_layouts_are_known_without_torch() -> None:
    code = (
        "import sys, bcdzoo.data.layouts as layouts; print(*layouts.LAYOUTS);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pyarrow', 'datasets', 'webdataset')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_image_set_names_no_classes_where_the_data_does_not(tmp_path: Path) -> None:
    images: ImageSet = open_dataset(picture_folder(tmp_path / "a", ["0", "1"]), classes=2)
    assert images.class_names == ()
    assert open_dataset(parquet_folder(images, tmp_path / "b", ["cat", "dog"]), 2).class_names == ("cat", "dog")
