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
        ([("a.cls", b"0"), ("b.png", b"x"), ("a.png", b"x")], "a.cls has 0 images beside it where one is expected"),
        ([("a.cls", b"0"), ("a.png", b"x"), ("a.jpg", b"x")], "a.cls has 2 images beside it where one is expected"),
        ([("a.cls", b"cat"), ("a.png", b"x")], "a.png: label 'cat' is neither a class index nor a wnid"),
        ([("a.cls", b""), ("a.png", b"x")], "a.png: label '' is neither a class index nor a wnid"),
        ([("a.cls", b"-1"), ("a.png", b"x")], "a.png: label '-1'"),
        ([("a.cls", b"\xff\n\0"), ("a.png", b"x")], "a.png: label '"),
        ([("a.cls", b"9" * 9999), ("a.png", b"x")], "a.cls has 9999 bytes, and is no label"),
        ([("a.cls", b"0"), ("a.png", b"x"), ("a.png", b"x")], "a.png is there twice"),
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
    assert "read when it is given by itself" in complaint(tmp_path)
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
