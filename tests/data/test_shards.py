import io
import tarfile
from pathlib import Path

import pytest
import webdataset

from bcdzoo.data.classes import wnids
from bcdzoo.data.imagenet import open_dataset
from tests.data.layouts import assert_the_same, picture_folder, shard_folder
from tests.data.test_layouts import complaint


def shard_of(path: Path, files: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_what_webdataset_itself_reads_is_read_with_the_same_keys_bytes_and_labels(tmp_path: Path) -> None:
    images = open_dataset(picture_folder(tmp_path / "a", [str(number) for number in range(12)]), 12)
    folder = shard_folder(images, tmp_path / "a", tmp_path / "shards")
    urls = [str(path) for path in sorted(folder.iterdir())]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False))
    ours = open_dataset(folder, 12)
    assert sorted((s["__key__"] + ".png", int(s["cls"]), s["png"]) for s in theirs) == [
        (sample.id, sample.label, sample.read()) for sample in ours.samples
    ]
    assert_the_same({"folder": images, "shards": ours})


def test_a_single_shard_is_told_from_an_archive_of_folders(tmp_path: Path) -> None:
    path = shard_of(
        tmp_path / "a.tar", [("1.cls", b"1\n"), ("1.JPG", b"x"), ("__meta__", b""), ("2.jpeg", b"yy"), ("2.cls", b"0")]
    )
    images = open_dataset(path, 2)
    assert images.layout == "webdataset"
    assert [sample[:3] for sample in images.samples] == [("1.JPG", 1, 1), ("2.jpeg", 0, 2)]


def test_a_class_may_be_a_wnid(tmp_path: Path) -> None:
    images = open_dataset(shard_of(tmp_path / "a.tar", [("x.jpg", b"x"), ("x.cls", wnids()[42].encode())]))
    assert (images.samples[0].label, images.name, images.labels_from) == (42, "imagenet", "wnids")


def test_a_shard_writers_lower_case_ending_gives_the_official_id(tmp_path: Path) -> None:
    images = open_dataset(
        shard_of(tmp_path / "a.tar", [("ILSVRC2012_val_00000001.jpg", b"x"), ("ILSVRC2012_val_00000001.cls", b"65")])
    )
    assert [sample[:3] for sample in images.samples] == [("ILSVRC2012_val_00000001.JPEG", 65, 1)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            [("a.cls", b"0"), ("a.png", b"x"), ("b.png", b"x")],
            "b.png has no b.cls beside it; an archive of class folders",
        ),
        ([("a.cls", b"0"), ("b.png", b"x"), ("a.png", b"x")], "a.cls has 0 images beside it instead of one"),
        ([("a.cls", b"0"), ("a.png", b"x"), ("a.jpg", b"x")], "a.cls has 2 images beside it instead of one"),
        ([("a.cls", b"cat"), ("a.png", b"x")], "a.png: label 'cat' is neither a class index nor a wnid"),
        ([("a.cls", b""), ("a.png", b"x")], "a.png: label '' is neither a class index nor a wnid"),
        ([("a.cls", b"-1"), ("a.png", b"x")], "a.png: label '-1'"),
        ([("a.cls", b"\xff\n\0"), ("a.png", b"x")], "a.png: label '"),
        ([("a.cls", b"9" * 9999), ("a.png", b"x")], "a.cls has 9999 bytes, which is not a label"),
        ([("a.cls", b"0"), ("a.png", b"x"), ("a.png", b"x")], "a.png occurs twice"),
        (
            [("a.cls", b"0"), ("a.png", b"x"), ("b.cls", b"0"), ("b.png", b"x"), ("a.png", b"y"), ("a.cls", b"0")],
            "twice",
        ),
        ([("a.json", b"0"), ("b.cls", b"0")], "b.cls has 0 images"),
    ],
)
def test_an_odd_shard_is_one_line_that_names_the_place(
    tmp_path: Path, files: list[tuple[str, bytes]], expected: str
) -> None:
    message = complaint(shard_of(tmp_path / "a.tar", files))
    assert expected in message
    assert "a.tar" in message
    assert len(message) < 300


def test_a_folder_of_archives_of_class_folders_says_to_give_them_singly(tmp_path: Path) -> None:
    shard_of(tmp_path / "ILSVRC2012_img_val.tar", [("ILSVRC2012_val_00000001.JPEG", b"x")])
    assert "must be passed by itself" in complaint(tmp_path)
    assert open_dataset(tmp_path / "ILSVRC2012_img_val.tar").layout == "tar"


def test_a_pattern_names_the_shard_that_is_missing_or_damaged(tmp_path: Path) -> None:
    for number in range(2):
        shard_of(tmp_path / f"val-{number}.tar", [(f"{number}.png", b"x"), (f"{number}.cls", b"0")])
    pattern = tmp_path / "val-{0..1}.tar"
    assert len(open_dataset(pattern)) == 2
    assert f"cannot read {tmp_path}/val-2.tar: No such file" in complaint(tmp_path / "val-{0..2}.tar")
    (tmp_path / "val-1.tar").write_bytes((tmp_path / "val-1.tar").read_bytes()[:1300])
    assert "val-1.tar is cut off or damaged after 1.png" in complaint(pattern)
    (tmp_path / "val-1.tar").write_bytes(b"nothing of the kind" * 100)
    assert "val-1.tar is not a tar archive" in complaint(pattern)
    assert "is not a pattern of shards" in complaint(tmp_path / "val-{0..1.tar")
    for many in ("val-{0..99999999}.tar", "val-{0..9999999999999999}.tar", "{0..99}{0..99}{0..99}.tar"):
        assert "stands for more than 100000 shards" in complaint(many)


def sample(key: str, label: int | str = 0, ending: str = "jpg") -> list[tuple[str, bytes]]:
    return [(f"{key}.{ending}", key.encode()), (f"{key}.cls", str(label).encode())]


def test_the_validation_shards_of_a_folder_are_taken_and_the_others_said(tmp_path: Path) -> None:
    shard_of(tmp_path / "imagenet1k-train-0000.tar", sample("a", 1))
    shard_of(tmp_path / "imagenet1k-validation-00.tar", sample("b", 0))
    shard_of(tmp_path / "imagenet1k-validation-01.TAR", sample("c", 0))
    images = open_dataset(tmp_path, 2)
    assert [image.id for image in images.samples] == ["b.jpg", "c.jpg"]
    assert images.labels_from == "the shards' .cls files of split validation"
    assert images.notes == ("1 shards skipped that are not of the split validation (imagenet1k-train-0000.tar)",)


def test_shards_in_folders_of_splits_are_found_or_named(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "a" / split).mkdir(parents=True)
        shard_of(tmp_path / "a" / split / "0.tar", sample(split))
    assert [image.id for image in open_dataset(tmp_path / "a", 2).samples] == ["val.jpg"]
    (tmp_path / "a" / "val").rename(tmp_path / "a" / "valid")
    assert "has splits, not classes (train, valid)" in complaint(tmp_path / "a", 2)


def test_a_name_may_have_dots(tmp_path: Path) -> None:
    files = [*sample("a.v1", 1), *sample("b", 0), *sample("x.y/c.d.e", 1, "PNG"), *sample("n01440764.1", 0)]
    images = open_dataset(shard_of(tmp_path / "a.tar", files), 2)
    assert [(image.id, image.label) for image in images.samples] == [
        ("a.v1.jpg", 1),
        ("b.jpg", 0),
        ("n01440764.1.jpg", 0),
        ("x.y/c.d.e.PNG", 1),
    ]


def test_a_second_image_of_a_sample_is_passed_over_and_said(tmp_path: Path) -> None:
    images = open_dataset(shard_of(tmp_path / "a.tar", [*sample("a", 1), ("a.depth.png", b"x"), ("a.json", b"{}")]), 2)
    assert [image.id for image in images.samples] == ["a.jpg"]
    assert images.notes == ("1 further images of a sample skipped (a.depth.png)",)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([*sample("a"), ("b.v1.jpg", b"x")], "b.v1.jpg has no b.v1.cls beside it"),
        ([*sample("a"), ("b.v1.jpg", b"x"), ("b.cls.txt", b"0")], "b.v1.jpg has no b.v1.cls beside it"),
        ([*sample("a"), ("b.v1.cls", b"0")], "b.v1.cls has 0 images beside it"),
        ([*sample("a.v1"), ("a.v2.jpg", b"x")], "a.v2.jpg has no a.v2.cls beside it"),
        ([*sample("a"), ("a.CLS", b"1")], "a.CLS occurs twice"),
        ([("a.jpg", b"x"), ("a.cls", b"1" + bytes(1 << 20))], "a.cls has 1048577 bytes, which is not a label"),
    ],
)
def test_an_image_without_a_label_or_a_label_without_an_image_is_an_error(
    tmp_path: Path, files: list[tuple[str, bytes]], expected: str
) -> None:
    assert expected in complaint(shard_of(tmp_path / "a.tar", files), 2)


def test_litter_in_a_shard_is_passed_over(tmp_path: Path) -> None:
    files = [
        ("._a.jpg", b"x"),
        ("@Recycle/a.jpg", b"x"),
        ("__pycache__/b.jpg", b"x"),
        ("__MACOSX/a.jpg", b"x"),
        *sample("a", 1),
        (".x/b.jpg", b"x"),
        ("Thumbs.db", b"x"),
    ]
    images = open_dataset(shard_of(tmp_path / "a.tar", files), 2)
    assert ([image.id for image in images.samples], images.notes) == (["a.jpg"], ())


@pytest.mark.parametrize(
    ("train", "validation"),
    [("tr-0000", "va-0000"), ("ds-trn-0000", "ds-vl-0000"), ("a_training_0", "a_holdout_0"), ("TST.1", "dev.1")],
)
def test_splits_in_short_words_are_told_where_every_shard_has_one(tmp_path: Path, train: str, validation: str) -> None:
    shard_of(tmp_path / f"{train}.tar", sample("a", 1))
    shard_of(tmp_path / f"{validation}.tar", sample("b", 0))
    images = open_dataset(tmp_path, 2)
    assert (len(images), images.labels_from) == (1, "the shards' .cls files of split validation")
    assert "1 shards skipped" in images.notes[0]


def test_short_words_may_be_anything_else_and_shards_of_unlike_names_are_said(tmp_path: Path) -> None:
    for country in ("de", "tr", "va"):
        for number in range(2):
            shard_of(tmp_path / "a" / f"{country}-{number}.tar", sample(f"{country}{number}", 1))
    images = open_dataset(tmp_path / "a", 2)
    assert len(images) == 6
    assert images.notes == (
        "3 kinds of files, by names that differ in more than numbers, are read as one dataset "
        "(2 such as de-0.tar, 2 such as tr-0.tar, 2 such as va-0.tar)",
    )
    for name in ("in_val", "in_val_aug"):
        shard_of(tmp_path / "b" / f"{name}.tar", sample(name, 1))
    assert open_dataset(tmp_path / "b", 2).notes[0].endswith("are read as one dataset (in_val.tar, in_val_aug.tar)")


def test_members_of_several_splits_are_refused_in_one_shard_or_in_two(tmp_path: Path) -> None:
    one = shard_of(tmp_path / "one.tar", [*sample("data/train/n0/a", 1), *sample("data/val/n0/b", 0)])
    assert "has images of several splits, as their names say (train, val)" in complaint(one, 2)
    for number, split in enumerate(("train", "valid")):
        shard_of(tmp_path / "two" / f"{number}.tar", sample(f"{split}/a", 1))
    assert "has images of several splits, as their names say (train, valid)" in complaint(tmp_path / "two", 2)
    names = shard_of(tmp_path / "names.tar", [*sample("train_1", 1), *sample("test_1", 0)])
    assert "has images of several splits, as their names say (test, train)" in complaint(names, 2)
    classes = shard_of(tmp_path / "classes.tar", [*sample("bus/a", 1), *sample("train/a", 0), *sample("car/a", 0)])
    assert len(open_dataset(classes, 2)) == 3
