"""Folders as people have them."""

import os
from pathlib import Path

import pytest
from PIL import Image

from bcdzoo.data.classes import wnids
from bcdzoo.data.imagenet import ImageSet, open_dataset
from tests.data.layouts import picture_folder, tar_file
from tests.data.test_layouts import complaint


def put(path: Path, form: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, form)
    return path


def ids(images: ImageSet) -> list[str]:
    return [sample.id for sample in images.samples]


LITTER = [
    ".ipynb_checkpoints/a-checkpoint.png",
    "deep/.cache/a.png",
    "__MACOSX/a.png",
    "deep/@eaDir/a.png",
    "lost+found/a.png",
    "$RECYCLE.BIN/a.png",
    "@Recycle/a.png",
    "deep/#snapshot/a.png",
    "deep/__pycache__/a.png",
    "System Volume Information/a.png",
    ".Trash-1000/files/a.png",
    "FOUND.000/a.png",
    "._a.png",
    ".hidden.png",
]


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "tar"])
def test_litter_is_passed_over_at_every_depth_without_a_word(tmp_path: Path, archive: bool) -> None:
    root = tmp_path / "data"
    for name in ("cat", "dog"):
        put(root / name / "deep" / "a.png")
        for litter in LITTER:
            put(root / name / litter)
        (root / name / "Thumbs.db").write_bytes(b"x")
        (root / name / ".DS_Store").write_bytes(b"x")
    for litter in (".cache", "__MACOSX", "lost+found", "@Recycle", "found.001", "SYSTEM VOLUME INFORMATION"):
        put(root / litter / "a.png")
    images = open_dataset(tar_file(root, tmp_path / "a.tar") if archive else root, 2)
    assert ids(images) == ["cat/deep/a.png", "dog/deep/a.png"]
    assert images.notes == ()


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid"),
        ("Train", "VAL"),
        ("training_set", "test_set"),
        ("train2012", "val2012"),
        ("dev", "test"),
        ("tr", "va"),
    ],
)
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "tar"])
def test_splits_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, str], archive: bool) -> None:
    for split in names:
        for name in ("cat", "dog"):
            put(tmp_path / "data" / split / name / f"{split}.png")
    path = tar_file(tmp_path / "data", tmp_path / "a.tar") if archive else tmp_path / "data"
    assert f"has splits, not classes ({', '.join(sorted(names))}): use one of them" in complaint(path, 2)
    assert len(open_dataset(tmp_path / "data" / names[0], 2)) == 2


def test_a_single_split_is_no_class_and_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path / "a" / "Validation" / "cat" / "a.png")
    assert "has splits, not classes (Validation)" in complaint(tmp_path / "a", 1)
    for name in ("bus", "train"):
        put(tmp_path / "b" / name / "a.png")
    assert [sample.label for sample in open_dataset(tmp_path / "b", 2).samples] == [0, 1]
    for name in ("de", "te", "tr", "ts"):
        put(tmp_path / "languages" / name / "a.png")
    assert [sample.label for sample in open_dataset(tmp_path / "languages", 4).samples] == [0, 1, 2, 3]


def test_the_folder_val_is_taken_and_those_that_may_be_meant_as_well_are_said(tmp_path: Path) -> None:
    for split in ("train", "val", "valid", "test"):
        picture_folder(tmp_path / split, ["cat", "dog"], each=1)
    images = open_dataset(tmp_path, 2)
    assert ids(images) == ["cat/00000.png", "dog/00000.png"]
    assert images.notes == ("2 folders skipped because the folder val beside them is used (test, valid)",)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip", ".TGZ"])
def test_a_folder_of_packed_classes_says_to_unpack_them(tmp_path: Path, ending: str) -> None:
    for name in ("cat", "dog"):
        (tmp_path / f"{name}{ending}").write_bytes(b"x")
    message = complaint(tmp_path, 2)
    assert "2 archives skipped: unpack each into a folder of" in message
    assert message.endswith(f"its class to read its images (cat{ending}, dog{ending})")
    assert ".jpg" not in message


def test_names_of_images_that_are_of_several_splits_are_refused_unless_one_is_a_class(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "a" / name / "train_1.png")
        put(tmp_path / "a" / name / "val_1.png")
        put(tmp_path / "b" / name / "train_1.png")
        put(tmp_path / "b" / name / "1.png")
    assert "images of several splits, as their names say (train, validation): use those of one" in complaint(
        tmp_path / "a", 2
    )
    assert len(open_dataset(tmp_path / "b", 2)) == 4


def test_splits_within_the_class_folders_and_parts_above_them_are_not_mixed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for part in ("train", "test", "photos", "drawings"):
            put(tmp_path / ("a" if part in ("train", "test") else "b") / name / part / f"{part}.png")
    assert "images of several splits, as their names say (test, train)" in complaint(tmp_path / "a", 2)
    assert "all have folders of the same names (drawings, photos), so either may be the classes" in complaint(
        tmp_path / "b", 2
    )


def test_classes_of_two_levels_take_the_upper_one(tmp_path: Path) -> None:
    for path in ("cat/lion/a.png", "cat/tiger/a.png", "dog/poodle/a.png"):
        put(tmp_path / path)
    assert [sample.label for sample in open_dataset(tmp_path, 2).samples] == [0, 0, 1]


def test_links_to_images_and_class_folders_are_followed(tmp_path: Path) -> None:
    real = picture_folder(tmp_path / "real", ["cat", "dog"])
    root = tmp_path / "linked"
    (root / "cat").mkdir(parents=True)
    for image in (real / "cat").iterdir():
        (root / "cat" / image.name).symlink_to(image)
    (root / "dog").symlink_to(real / "dog")
    linked, direct = open_dataset(root, 2), open_dataset(real, 2)
    assert [sample[:3] for sample in linked.samples] == [sample[:3] for sample in direct.samples]
    assert linked.notes == ()


@pytest.mark.parametrize("target", [".", "..", "../..", "../cat"])
def test_links_in_a_circle_are_passed_over_and_said(tmp_path: Path, target: str) -> None:
    root = picture_folder(tmp_path / "data", ["cat", "dog"])
    (root / "cat" / "again").symlink_to(target)
    images = open_dataset(root, 2)
    assert len(images) == 6
    assert images.notes == ("1 links skipped, to folders that are already listed (cat/again)",)


def test_a_link_to_the_folder_itself_is_no_class(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "data", ["cat", "dog"])
    (root / "all").symlink_to(".")
    assert len(open_dataset(root, 2)) == 6


@pytest.mark.parametrize("link", ["lion", "dog/other"])
def test_one_folder_under_two_classes_is_refused(tmp_path: Path, link: str) -> None:
    root = picture_folder(tmp_path / "data", ["cat", "dog"])
    (root / link).symlink_to(root / "cat")
    assert f"cat and {link} are the same folder, so its images would have two classes" in complaint(
        root, 3 if link == "lion" else 2
    )


def test_one_file_under_two_names_is_said(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "data", ["cat", "dog"], each=1)
    (root / "dog" / "1.png").symlink_to(root / "cat" / "00000.png")
    (note,) = open_dataset(root, 2).notes
    assert note == "1 images listed again under another name, and counted twice (dog/1.png)"


def test_what_is_no_regular_file_is_counted_and_never_waited_for(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "data", ["cat", "dog"], each=1)
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "gone.png").symlink_to("absent.png")
    (root / "dog" / "self.png").symlink_to("self.png")
    (root / "dog" / "device.png").symlink_to("/dev/zero")
    images = open_dataset(root, 2)
    assert ids(images) == ["cat/00000.png", "dog/00000.png"]
    (note,) = images.notes
    assert note.startswith("4 skipped that are not regular files")


def test_an_image_that_became_a_pipe_is_an_error(tmp_path: Path) -> None:
    images = open_dataset(picture_folder(tmp_path / "data", ["cat", "dog"]), 2)
    path = Path(images.samples[0].read.path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Exception, match="is a named pipe, not a regular file"):
        images[0]


def test_all_endings_of_images_are_read_and_others_are_counted(tmp_path: Path) -> None:
    for name, form in ("a.JPEG", "JPEG"), ("b.jfif", "JPEG"), ("c.gif", "GIF"), ("d", "JPEG"), ("e.heic", "PNG"):
        put(tmp_path / wnids()[0] / name, form)
    put(tmp_path / wnids()[0] / "f.jpe", "JPEG")
    (tmp_path / wnids()[0] / "notes.txt").write_text("no image")
    images = open_dataset(tmp_path)
    assert ids(images) == [f"{wnids()[0]}/{name}" for name in ("a.JPEG", "b.jfif", "c.gif", "f.jpe")]
    assert [images.image(index).size for index in range(4)] == [(8, 8)] * 4
    (note,) = images.notes
    assert note == f"2 files skipped that do not have an image extension ({wnids()[0]}/d, {wnids()[0]}/e.heic)"


def test_a_folder_of_nothing_but_other_files_names_them(tmp_path: Path) -> None:
    for name in ("a.heic", "b.cr2"):
        (tmp_path / name).write_bytes(b"x")
    assert "2 files skipped that do not have an image extension (a.heic, b.cr2); looked for" in complaint(tmp_path)


def test_a_zip_archive_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "is a zip archive, which is not supported: unpack it" in complaint(tmp_path / "a.zip")


def test_names_that_are_not_utf_8_or_write_on_terminals_are_written_out(tmp_path: Path) -> None:
    for name in (b"a\xe9.png", b"b\x1b[2K.png"):
        put(tmp_path / "cat" / os.fsdecode(name))
    put(tmp_path / "dog" / "a.png")
    images = open_dataset(tmp_path, 2)
    assert images.samples[0].id == "cat/a\\xe9.png"
    Path(images.samples[1].read.path).write_bytes(b"no image")
    with pytest.raises(Exception, match=r"cannot read image cat/b\\x1b\[2K\.png: ") as raised:
        images[1]
    assert "\x1b" not in str(raised.value)


def test_class_folders_from_1_need_to_be_told(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "data", [str(number) for number in range(1, 13)], each=1)
    assert "--label-offset -1" in complaint(root, 12)
    images = open_dataset(root, 12, label_offset=-1)
    assert all(sample.label == int(sample.id.partition("/")[0]) - 1 for sample in images.samples)
    assert images.labels_from == "folder names as class indices, -1"
