import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from bcdzoo.data import parquet as layout
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.errors import BcdzooError
from tests.data.layouts import assert_the_same, parquet_folder, picture_folder
from tests.data.test_layouts import complaint

NAMES = [str(number) for number in range(12)]


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return open_dataset(picture_folder(tmp_path / "pictures", NAMES), 12)


def test_the_validation_files_are_preferred_and_the_split_is_said(images: ImageSet, tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        parquet_folder(images, tmp_path / "hf" / "data", NAMES, split)
        assert open_dataset(tmp_path / "hf", 12).labels_from == f"column label of split {split}"
    assert_the_same({"folder": images, "parquet": open_dataset(tmp_path / "hf", 12)})


def test_one_file_and_files_of_no_split_are_read(images: ImageSet, tmp_path: Path) -> None:
    parquet_folder(images, tmp_path / "hf", NAMES, "part")
    assert open_dataset(tmp_path / "hf", 12).labels_from == "column label"
    assert len(open_dataset(tmp_path / "hf", 12)) == 36
    assert len(open_dataset(tmp_path / "hf" / "part-00001-of-00002.parquet", 12)) == 18


def test_splits_may_be_folders_but_not_configurations(images: ImageSet, tmp_path: Path) -> None:
    parquet_folder(images, tmp_path / "a" / "train", NAMES, "0")
    parquet_folder(images, tmp_path / "a" / "test", NAMES, "0")
    assert open_dataset(tmp_path / "a", 12).labels_from == "column label of split test"
    parquet_folder(images, tmp_path / "b" / "one", NAMES)
    parquet_folder(images, tmp_path / "b" / "two", NAMES)
    assert "parquet files in several folders (one, two): use one of them" in complaint(tmp_path / "b", 12)


def test_the_column_may_be_called_img(images: ImageSet, tmp_path: Path) -> None:
    assert_the_same({"a": images, "b": open_dataset(parquet_folder(images, tmp_path / "hf", NAMES, column="img"), 12)})


def test_any_order_of_reading_gives_the_same_bytes(images: ImageSet, tmp_path: Path) -> None:
    found = open_dataset(parquet_folder(images, tmp_path / "hf", NAMES), 12)
    order = random.Random(0).choices(range(36), k=200)
    assert [found.samples[i].read() for i in order] == [images.samples[i].read() for i in order]


def test_no_more_than_two_row_groups_are_in_memory(tmp_path: Path) -> None:
    noise = random.Random(0)
    content = [image(noise.randbytes(1 << 20), f"{number}.png") for number in range(8)]
    parquet.write_table(pa.table({"image": content, "label": range(8)}), tmp_path / "a.parquet", row_group_size=1)
    samples = open_dataset(tmp_path / "a.parquet", 8).samples
    before = pa.total_allocated_bytes()
    held = []
    for sample, cell in zip(samples, content, strict=True):
        assert sample.read() == cell["bytes"]
        held.append(pa.total_allocated_bytes() - before)
    assert 1 << 20 <= max(held) < 3 << 20


def test_a_file_that_was_written_anew_is_not_taken_for_the_one_in_memory(images: ImageSet, tmp_path: Path) -> None:
    before = open_dataset(parquet_folder(images, tmp_path / "hf", NAMES), 12).samples[0]
    assert before.read() == images.samples[0].read()
    for file in (tmp_path / "pictures").rglob("*.png"):
        file.write_bytes(b"another image")
    anew = open_dataset(tmp_path / "pictures", 12)
    after = open_dataset(parquet_folder(anew, tmp_path / "hf", NAMES), 12).samples[0]
    assert after.read() == b"another image"


def test_fewer_class_names_than_outputs_that_are_no_wnids_are_refused(images: ImageSet, tmp_path: Path) -> None:
    names = [f"animal {name}" for name in NAMES]
    message = complaint(parquet_folder(images, tmp_path / "hf", names))
    assert "not wnids of ImageNet: animal 0, animal 1, animal 10 and 9 more; give the labels as a CSV" in message


def write(path: Path, rows: dict[str, Any], names: list[str] | None = None) -> Path:
    table = pa.table(rows)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)
    return path


def image(content: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"bytes": content, "path": path}


GOOD = image(b"abc", "a.png")
OTHER = image(b"de", "b.png")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"image": [GOOD, image(None, "b.png")], "label": [0, 1]}, "row 1: no image bytes; write the dataset with its"),
        ({"image": [GOOD, None], "label": [0, 1]}, "row 1: no image bytes"),
        ({"image": [GOOD, GOOD], "label": [0, None]}, "row 1: no label; use a split that has labels"),
        ({"image": [GOOD], "label": [-1]}, "row 0: label -1, which means that this split has no labels"),
        ({"image": [GOOD], "label": [2]}, "row 0: label 2, but the file names 2 classes"),
        ({"image": [GOOD, GOOD], "label": [0, 0]}, "0/a.png occurs twice"),
        ({"image": [{"path": "a"}], "label": [0]}, "there are: image (struct<path: string>), label (int64)"),
        ({"image": [image(None)], "label": [0]}, "there are: image (struct<bytes: null, path: null>), label (int64)"),
        ({"image": [GOOD], "label": ["cat"]}, "row 0: label 'cat' is neither a class index nor a wnid"),
        ({"image": [GOOD], "label": [0.5]}, "row 0: label '0.5' is neither a class index nor a wnid"),
        ({"image": [GOOD, OTHER], "label": [0.0, math.nan]}, "row 1: no label; use a split that has labels"),
        ({"image": [GOOD, OTHER], "label": [0.0, -1.0]}, "row 1: label -1, which means that"),
        ({"image": [GOOD, OTHER], "label": [0.0, math.inf]}, "row 1: label 'inf' is neither"),
        ({"id": ["a"], "top1": [3]}, "there are: id (string), top1 (int64)"),
        ({"image": pa.array([], pa.struct({"bytes": pa.binary()})), "label": pa.array([], pa.int64())}, "no images in"),
    ],
)
def test_odd_rows_are_one_line_that_names_them(tmp_path: Path, rows: dict[str, Any], expected: str) -> None:
    message = complaint(write(tmp_path / "test.parquet", rows, ["0", "1"]), 2)
    assert expected in message
    assert "test.parquet" in message


def test_images_without_a_name_get_one_of_their_place(tmp_path: Path) -> None:
    rows = {"image": [image(b"a"), image(b"b", "x/y.png"), image(b"c", "/home/me/z.png"), image(b"d", "z.png")]}
    found = open_dataset(write(tmp_path / "test.parquet", {**rows, "label": [1, 0, 0, 1]}), 2)
    assert [(s.id, s.label) for s in found.samples] == [
        ("0/z.png", 0),
        ("1/z.png", 1),
        ("test/000000", 1),
        ("x/y.png", 0),
    ]


def test_the_hubs_names_of_validation_images_are_the_official_ones(tmp_path: Path) -> None:
    rows = {"image": [image(b"abc", "ILSVRC2012_val_00000001_n01751748.JPEG")], "label": [65]}
    found = open_dataset(write(tmp_path / "validation-00000-of-00001.parquet", rows))
    assert found.samples[0][:3] == ("ILSVRC2012_val_00000001.JPEG", 65, 3)
    assert found.name == "imagenet"


@pytest.mark.parametrize(
    "huggingface", ["", "{", "[]", "null", '{"info": null}', '{"info": {"features": {"label": []}}}']
)
def test_metadata_that_is_none_of_datasets_names_no_classes(tmp_path: Path, huggingface: str) -> None:
    table = pa.table({"image": [GOOD], "label": [0]}).replace_schema_metadata({"huggingface": huggingface})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert open_dataset(tmp_path / "a.parquet", 2).class_names == ()


def test_files_that_name_different_classes_are_not_one_dataset(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [GOOD], "label": [0]}, ["cat", "dog"])
    write(tmp_path / "b.parquet", {"image": [image(b"x", "x.png")], "label": [0]}, ["dog", "cat"])
    assert "its files name different classes" in complaint(tmp_path, 2)


def test_a_damaged_file_is_one_line_that_names_it(images: ImageSet, tmp_path: Path) -> None:
    folder = parquet_folder(images, tmp_path / "hf", NAMES)
    file = folder / "validation-00001-of-00002.parquet"
    whole = file.read_bytes()
    for damaged in (whole[:-1000], whole[:1000], b"", b"<html>", whole[:4] + b"\0" * (len(whole) - 8) + whole[-4:]):
        file.write_bytes(damaged)
        assert f"{file} is damaged or not a parquet file: " in complaint(folder, 12)
    rng, refused = random.Random(0), 0
    for _ in range(200):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        file.write_bytes(changed)
        try:
            open_dataset(folder, 12)
        except BcdzooError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


def test_a_row_group_too_large_for_memory_is_refused(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet_folder(images, tmp_path / "hf", NAMES)
    monkeypatch.setattr(layout, "_LARGEST_ROW_GROUP", 100)
    assert "row group 0 is 0 MiB, and every process holds two in memory; rewrite the file" in complaint(folder, 12)


@pytest.mark.parametrize(
    ("rows", "labels_from"),
    [
        ({"jpg": [GOOD, OTHER], "cls": [0, 1]}, "column cls"),
        ({"img": [GOOD, OTHER], "labels": [0, 1], "id": [7, 8]}, "column labels"),
        ({"image": [GOOD, OTHER], "label": ["0", "1"]}, "column label"),
        ({"image": [b"abc", b"de"], "label": [0, 1]}, "column label"),
        ({"picture": [b"abc", b"de"], "class": [0, 1]}, "column class"),
        ({"image": [GOOD, OTHER], "label": [0.0, 1.0]}, "column label"),
        ({"image": [GOOD, OTHER], "class": [0, 1], "target": [0.5, 1.0]}, "column class"),
        ({"image": [GOOD, OTHER], "label": [0, 1], "split": ["val", "validation"], "set": ["a", "b"]}, "column label"),
        ({"image": [GOOD, OTHER], "mask": [GOOD, OTHER], "label": [0, 1], "label_name": ["a", "b"]}, "column label"),
        (
            {"image": pa.array([b"abc", b"de"]).dictionary_encode(), "label": pa.array(["0", "1"]).dictionary_encode()},
            "column label",
        ),
    ],
)
def test_usual_names_and_types_of_columns_are_understood(
    tmp_path: Path, rows: dict[str, Any], labels_from: str
) -> None:
    found = open_dataset(write(tmp_path / "a.parquet", rows), 2)
    assert [sample.label for sample in found.samples] == [0, 1]
    assert [(sample.read(), sample.size) for sample in found.samples] == [(b"abc", 3), (b"de", 2)]
    assert found.labels_from == labels_from


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("is_train", [False, True]),
        ("split", ["train", "val"]),
        ("Set", ["tr", "va"]),
        ("data_fold", ["TEST", "valid"]),
        ("partition", ["dev", "test"]),
    ],
)
def test_rows_of_several_splits_in_one_file_or_in_two_are_refused(
    tmp_path: Path, column: str, values: list[Any]
) -> None:
    both = write(tmp_path / "a.parquet", {"image": [GOOD, OTHER], "label": [0, 1], column: values})
    expected = f"its rows are of several splits, as column {column} says ({', '.join(sorted(map(str, values)))})"
    assert expected in complaint(both, 2)
    (tmp_path / "two").mkdir()
    for number, (picture, value) in enumerate(zip((GOOD, OTHER), values, strict=True)):
        path = write(tmp_path / "two" / f"{number}.parquet", {"image": [picture], "label": [number], column: [value]})
        assert column not in ("split", "partition") or len(open_dataset(path, 2)) == 1
    assert expected in complaint(tmp_path / "two", 2)


def fine_and_coarse(path: Path, names: bool) -> Path:
    table = pa.table({"img": [GOOD, OTHER], "fine_label": [3, 2], "coarse_label": [1, 0]})
    if names:
        kinds = {"fine_label": list("abcd"), "coarse_label": ["x", "y"]}
        features = {name: {"names": classes, "_type": "ClassLabel"} for name, classes in kinds.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)
    return path


def test_of_two_columns_of_labels_the_one_that_names_so_many_classes_is_taken_or_has_to_be_named(
    tmp_path: Path,
) -> None:
    path = fine_and_coarse(tmp_path / "a.parquet", names=True)
    assert [open_dataset(path, classes).labels_from for classes in (4, 2)] == [
        "column fine_label",
        "column coarse_label",
    ]
    assert "it is not clear which columns of img (" in complaint(path, 3)
    path = fine_and_coarse(tmp_path / "b.parquet", names=False)
    assert "with --columns IMAGE,LABEL" in complaint(path, 4)
    found = open_dataset(path, 4, columns=("img", "coarse_label"))
    assert ([sample.label for sample in found.samples], found.labels_from) == ([0, 1], "column coarse_label")
    with pytest.raises(BcdzooError, match="or as --columns says; there are: img"):
        open_dataset(path, 4, columns=("img", "label"))


def test_two_columns_of_one_name_and_odd_types_are_one_line(tmp_path: Path) -> None:
    double = pa.table([pa.array([GOOD]), pa.array([0]), pa.array([1])], ["image", "label", "label"])
    odd = {
        "has two columns with the same name": double,
        "there are: image (list<": pa.table({"image": [[[1, 2]]], "label": [0]}),
        "label (list<": pa.table({"image": [b"x"], "label": [[0]]}),
        "label (timestamp": pa.table({"image": [b"x"], "label": pa.array([0], pa.timestamp("s"))}),
        "is not a class index": pa.table({"image": [b"x"], "label": pa.array([2**64 - 1], pa.uint64())}),
        "its path is not a path": pa.table({"image": [image(b"x", "y" * 10**6)], "label": [0]}),
    }
    for expected, table in odd.items():
        parquet.write_table(table, tmp_path / "a.parquet")
        message = complaint(tmp_path / "a.parquet", 2)
        assert expected in message
        assert len(message) < 900


def test_metadata_nested_too_deep_names_no_classes(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"info": ' + "9" * 5000 + "}", '{"info": {"features": {"label": {"names": "abc"}}}}'):
        table = pa.table({"image": [GOOD], "label": [0]}).replace_schema_metadata({"huggingface": text})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert open_dataset(tmp_path / "a.parquet", 2).class_names == ()


def test_a_value_in_many_rows_is_in_memory_once(tmp_path: Path) -> None:
    blob, rows = bytes(900_000), 3000  # 2.7 GB in a file of a few kilobytes
    images = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([blob]))
    parquet.write_table(pa.table({"image": images, "label": [0] * rows}), tmp_path / "a.parquet", store_schema=False)
    before = pa.default_memory_pool().max_memory()
    found = open_dataset(tmp_path / "a.parquet", 2)
    assert found.samples[7].read() == blob
    assert pa.default_memory_pool().max_memory() < before + 100_000_000


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(3 << 20, "has more than 2097152 images"), (2 << 20, "2097152 rows, more than its bytes")],
)
def test_more_rows_than_images_can_be_are_refused(tmp_path: Path, rows: int, expected: str) -> None:
    images = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), pa.array([b"x"]))
    parquet.write_table(
        pa.table({"image": images, "label": pa.nulls(rows, pa.int8()).fill_null(0)}), tmp_path / "a.parquet"
    )
    assert expected in complaint(tmp_path / "a.parquet", 2)


def test_equal_rows_in_many_small_files_are_counted_together(tmp_path: Path) -> None:
    rows = 9000
    table = pa.table({"image": pa.array([b"x"] * rows, pa.binary()), "label": [0] * rows})
    for number in range(4):
        parquet.write_table(table, tmp_path / f"{number}.parquet")
    assert "more than its bytes" in complaint(tmp_path, 2)
