import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader

from bcdzoo.data.classes import wnids
from bcdzoo.data.imagenet import decode, open_dataset
from bcdzoo.data.preprocess import PRESETS
from bcdzoo.errors import BcdzooError
from tests.photos import LABELS, PHOTOS, csv_file, flat_folder, image_folder, official_names


def complaint(path: Path, classes: int = 1000) -> str:
    with pytest.raises(BcdzooError) as raised:
        open_dataset(path, classes)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_all_layouts_give_the_same_images_labels_and_fingerprint(tmp_path: Path) -> None:
    folders, flat = image_folder(tmp_path / "folders"), flat_folder(tmp_path / "flat")
    shutil.copytree(flat, tmp_path / "parent" / "val")
    table = csv_file(flat, tmp_path / "list.csv")
    paths = [folders, folders / "val", flat, tmp_path / "parent", table]
    sets = [open_dataset(path) for path in paths]
    assert [images.layout for images in sets] == ["imagefolder", "imagefolder", "flat", "flat", "csv"]
    assert [images.name for images in sets] == ["imagenet"] * 5
    assert [(len(images), images.classes) for images in sets] == [(20, 19)] * 5
    assert len({images.fingerprint for images in sets}) == 1
    truth = dict(zip(official_names(), LABELS, strict=True))
    for images in sets:
        assert {sample.id: sample.label for sample in images.samples} == truth
        assert [sample.id for sample in images.samples] == sorted(truth)
    for index in (0, 7, 19):
        first, *others = [images[index] for images in sets]
        assert all(torch.equal(first[0], other[0]) and first[1:] == other[1:] for other in others)


def test_the_fingerprint_changes_with_a_label_a_name_or_a_size(tmp_path: Path) -> None:
    original = open_dataset(image_folder(tmp_path / "a")).fingerprint
    one = next((tmp_path / "a" / "val").rglob("*.JPEG"))
    seen = {original}
    with one.open("ab") as file:
        file.write(b"\0")
    seen.add(open_dataset(tmp_path / "a").fingerprint)
    one = one.rename(one.with_name("renamed.JPEG"))
    seen.add(open_dataset(tmp_path / "a").fingerprint)
    one.parent.rename(one.parent.with_name(next(wnid for index, wnid in enumerate(wnids()) if index not in LABELS)))
    seen.add(open_dataset(tmp_path / "a").fingerprint)
    assert len(seen) == 4


def test_a_dataset_survives_the_way_to_a_spawned_worker(tmp_path: Path) -> None:
    images = open_dataset(flat_folder(tmp_path / "flat"))
    assert torch.equal(pickle.loads(pickle.dumps(images))[3][0], images[3][0])


def save_folders(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name / "deeper").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "deeper" / "1.png")
        (root / name / "notes.txt").write_text("no image")
        (root / name / "._1.png").write_bytes(b"what macOS leaves behind")
    return root


def test_folders_of_other_classes_are_numbered_in_sorted_order_as_torchvision_does(tmp_path: Path) -> None:
    names = [f"class {number}" for number in (10, 9, 2)]
    images = open_dataset(save_folders(tmp_path / "birds", names), classes=3)
    theirs = ImageFolder(str(tmp_path / "birds"), is_valid_file=lambda path: path.endswith("/1.png"))
    expected = [(str(Path(path).relative_to(tmp_path / "birds")), label) for path, label in theirs.samples]
    assert [(sample.id, sample.label) for sample in images.samples] == expected
    assert (images.name, images.labels_from) == ("birds", "folder names in sorted order")


def test_a_thousand_folders_without_any_wnid_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    images = open_dataset(save_folders(tmp_path, [f"class-{number:04d}" for number in range(1000)]))
    assert [sample.label for sample in images.samples] == list(range(1000))
    assert images.labels_from == "folder names in sorted order"


def test_ten_wnids_are_ten_labels_for_a_network_of_ten_outputs(tmp_path: Path) -> None:
    save_folders(tmp_path, wnids()[100:110])
    assert [sample.label for sample in open_dataset(tmp_path, classes=10).samples] == list(range(10))
    assert [sample.label for sample in open_dataset(tmp_path, classes=1000).samples] == list(range(100, 110))


def test_folders_that_are_no_wnids_are_named(tmp_path: Path) -> None:
    save_folders(tmp_path, [*wnids()[:3], "cat", "dog", "emu", "fox"])
    assert "not wnids of ImageNet: cat, dog, emu and 1 more; give the labels as a CSV" in complaint(tmp_path)


def test_a_number_of_folders_other_than_the_networks_outputs_is_an_error(tmp_path: Path) -> None:
    assert "has 2 class folders, but the network has 5 outputs" in complaint(save_folders(tmp_path, ["cat", "dog"]), 5)


def test_images_beside_class_folders_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    save_folders(tmp_path, wnids()[:2])
    shutil.copy(PHOTOS[0], tmp_path / "lost.JPEG")
    assert "images beside them (lost.JPEG)" in complaint(tmp_path)


def test_a_flat_folder_with_unofficial_names_is_an_error_that_names_them(tmp_path: Path) -> None:
    for name in ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00050001.JPEG", "cat.JPEG"):
        shutil.copy(PHOTOS[0], tmp_path / name)
    assert "no label known for ILSVRC2012_val_00050001.JPEG, cat.JPEG: " in complaint(tmp_path)


def test_a_flat_folder_is_for_networks_of_a_thousand_outputs(tmp_path: Path) -> None:
    assert "the network has 10 outputs, not ImageNet's 1000" in complaint(flat_folder(tmp_path / "flat"), 10)


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    assert "no images in" in complaint(tmp_path)
    (tmp_path / wnids()[0]).mkdir()
    assert "no images in" in complaint(tmp_path)
    assert "absent does not exist; use a folder of images" in complaint(tmp_path / "absent")
    assert "cannot read" in complaint(tmp_path / "absent.csv")
    assert "is neither a folder nor a .tar, .parquet, .csv or .tsv file" in complaint(PHOTOS[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("photo.jpg,dog", "line 1: label 'dog' is neither a class index nor a wnid"),
        ("path,label\nphoto.jpg,-1", "line 2: label '-1' is neither"),
        ("photo.jpg,1.5", "line 1: label '1.5' is neither"),
        ("photo.jpg", "line 1: 1 columns where path,label are expected"),
        ("photo.jpg,1\nphoto.jpg,1,2", "line 2: 3 columns"),
        ("photo.jpg,1\n\nabsent.jpg,2", "line 3: cannot read absent.jpg: No such file"),
        ("photo.jpg,1\nphoto.jpg,2", "photo.jpg occurs twice"),
        ('"photo.jpg,1', "is not a CSV file in UTF-8"),
        ("photo.jpg,1\n\xff", "is not a CSV file in UTF-8"),
        ("path,label\n", "no images in"),
        ("", "no images in"),
    ],
)
def test_a_bad_csv_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, expected: str) -> None:
    shutil.copy(PHOTOS[0], tmp_path / "photo.jpg")
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    assert expected in complaint(tmp_path / "list.csv")


def test_a_csv_file_may_have_a_byte_order_mark_spaces_quotes_and_no_header(tmp_path: Path) -> None:
    shutil.copy(PHOTOS[0], tmp_path / "a, photo.jpg")
    shutil.copy(PHOTOS[1], tmp_path / "b.jpg")
    (tmp_path / "list.csv").write_text('"a, photo.jpg", 243\r\nb.jpg,n04154565\r\n', encoding="utf-8-sig")
    images = open_dataset(tmp_path / "list.csv")
    assert [(sample.id, sample.label) for sample in images.samples] == [("a, photo.jpg", 243), ("b.jpg", 784)]


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.open(PHOTOS[0]).resize((40, 20)).save(path, "JPEG", exif=exif)


def saved(mode: str, form: str, **options: int) -> Callable[[Path], None]:
    return lambda path: Image.open(PHOTOS[0]).resize((40, 20)).convert(mode).save(path, form, **options)


STRANGE = {
    "CMYK": saved("CMYK", "JPEG"),
    "grey": saved("L", "JPEG"),
    "PNG in .JPEG": saved("RGB", "PNG"),
    "palette": saved("P", "PNG"),
    "palette with a transparent colour": saved("P", "PNG", transparency=3),
    "alpha": saved("RGBA", "PNG"),
    "grey with alpha": saved("LA", "PNG"),
    "black and white": saved("1", "PNG"),
    "GIF": saved("P", "GIF"),
    "EXIF rotation": rotated,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_file_is_read_as_torchvision_reads_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.JPEG"
    STRANGE[kind](path)
    ours, theirs = decode(path.read_bytes()), default_loader(path)
    assert ours.mode == "RGB"
    assert ours.size == theirs.size == (40, 20)  # EXIF would make it (20, 40)
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def png16(values: list[int], colour: bool) -> bytes:
    """A PNG of one row, 16 bits per channel, written by hand for want of a writer in Pillow."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = [value for value in values for _ in range(3 if colour else 1)]
    header = struct.pack(">IIBBBBB", len(values), 1, 16, 2 if colour else 0, 0, 0, 0)
    row = b"\0" + struct.pack(f">{len(pixels)}H", *pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


def test_sixteen_bit_grey_is_scaled_like_sixteen_bit_colour_and_not_clipped() -> None:
    values = [0, 255, 256, 32_768, 65_279, 65_535]
    grey, colour = (np.asarray(decode(png16(values, colour)))[0] for colour in (False, True))
    assert grey.tolist() == colour.tolist() == [[value // 256] * 3 for value in values]


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_sixteen_bit_tiff_of_either_byte_order_is_scaled(dtype: str) -> None:
    pixels = np.array([[0, 300, 65_535]], np.uint16)
    tags = [(256, 3), (257, 1), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1), (279, 6)]
    order = dtype[0]
    entries = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    encoded = head + entries + struct.pack(f"{order}I", 0) + pixels.astype(dtype).tobytes()
    assert np.asarray(decode(encoded))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bit_grey_is_refused(dtype: type) -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((4, 4), dtype)).save(file, "TIFF")
    with pytest.raises(ValueError, match="32-bit grey has no defined white"):
        decode(file.getvalue())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PHOTOS[0].read_bytes()[:20_000], "truncated"),
        (b"", "not an image"),
        (b"<html>quota exceeded</html>", "not an image"),
        (png16([0] * 100, colour=False)[:-30], ""),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    folder = tmp_path / wnids()[7]
    folder.mkdir()
    (folder / "broken.JPEG").write_bytes(content)
    with pytest.raises(BcdzooError) as raised:
        open_dataset(tmp_path)[0]
    message = str(raised.value)
    assert message.startswith(f"cannot read image {wnids()[7]}/broken.JPEG: ")
    assert reason in message
    assert "\n" not in message


def test_the_preprocessing_is_the_given_one(tmp_path: Path) -> None:
    images = open_dataset(flat_folder(tmp_path / "flat"))
    with Image.open(PHOTOS[0]) as photo:
        expected = PRESETS["imagenet"](photo.convert("RGB"))
    index = [sample.id for sample in images.samples].index(official_names()[0])
    assert torch.equal(images[index][0], expected)
