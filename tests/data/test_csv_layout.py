"""CSV files as people write them."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from bcdzoo.data.imagenet import open_dataset
from bcdzoo.errors import BcdzooError
from tests.data.test_layouts import complaint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / f"{name}.png")
    return tmp_path


def listed(
    folder: Path, text: str | bytes, columns: tuple[str, str] | None = None, name: str = "list.csv"
) -> list[tuple[str, int]]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    images = open_dataset(folder / name, 10, columns=columns)
    return [(sample.id, sample.label) for sample in images.samples]


BOTH = [("val/a.png", 3), ("val/b.png", 4)]


@pytest.mark.parametrize(
    "text",
    [
        "val/a.png,3\nval/b.png,4\n",
        "path,label\nval/a.png,3\nval/b.png,4\n",
        "filename,class\r\nval/a.png,3\r\nval/b.png,4",
        "Image,Target\nval/a.png,3\nval/b.png,4",
        "label,path\n3,val/a.png\n4,val/b.png",
        ",path,label\n0,val/a.png,3\n1,val/b.png,4",
        "val/a.png;3\nval/b.png;4",
        "path\tlabel\nval/a.png\t3\nval/b.png\t4",
        '\ufeffpath,label\n"val/a.png","3"\n\'val/b.png\',4'.replace("'", ""),
        "\n\nval/a.png , 3\n\n val/b.png,4\n",
        "path,label,split\nval/a.png,3.0,val\nval/b.png,4.,valid",
    ],
)
def test_separators_headers_and_orders_are_understood(folder: Path, text: str) -> None:
    assert listed(folder, text) == BOTH


def test_a_tsv_file_is_read_with_tabs_whatever_else_is_in_its_lines(folder: Path) -> None:
    (folder / "a, b;c.png").symlink_to(folder / "val" / "a.png")
    assert listed(folder, "a, b;c.png\t3\nval/b.png\t4\n", name="list.TSV") == [("a, b;c.png", 3), BOTH[1]]
    assert listed(folder, "path,label\nval/a.png,3\nval/b.png,4\n", name="commas.tsv") == BOTH


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_files_of_excel_are_read_as_they_are(folder: Path, encoding: str, mark: str) -> None:
    text = f"path{mark}label\r\nval/a.png{mark}3\r\nval/b.png{mark}4\r\n"
    assert listed(folder, f"sep={mark}\r\n{text}".encode(encoding)) == BOTH
    assert listed(folder, f'"SEP={mark}"\n{text}'.encode(encoding)) == BOTH
    if mark != "|":
        assert listed(folder, text.encode(encoding)) == BOTH


def test_a_line_is_called_by_its_number_in_the_file_where_the_first_is_for_excel(folder: Path) -> None:
    (folder / "list.csv").write_text("sep=;\nval/a.png;3\nval/b.png\n")
    assert "list.csv, line 3: 1 columns" in complaint(folder / "list.csv", 10)


def test_big_endian_files_and_images_called_sep_are_read_too(folder: Path) -> None:
    assert listed(folder, "\ufeffval/a.png,3\nval/b.png,4".encode("utf-16-be")) == BOTH
    (folder / "sep=").symlink_to(folder / "val" / "a.png")
    assert listed(folder, "sep=,3\nval/b.png,4") == [("sep=", 3), BOTH[1]]


@pytest.mark.parametrize("column", ["split", "Subset", "fold"])
def test_rows_of_several_splits_are_refused(folder: Path, column: str) -> None:
    with pytest.raises(BcdzooError, match=rf"its rows are of several splits, as column {column} says \(train, val\)"):
        listed(folder, f"path,label,{column}\nval/a.png,3,train\nval/b.png,4,val\n")
    assert listed(folder, f"path,label,{column}\nval/a.png,3,0\nval/b.png,4,1\n") == BOTH
    with pytest.raises(BcdzooError, match=r"as column is_valid says \(False, True\)"):
        listed(folder, "path,label,is_valid\nval/a.png,3,False\nval/b.png,4,True\n")


def test_paths_of_several_splits_are_somebodys_choice_and_said(folder: Path) -> None:
    (folder / "train").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "train" / "a.png")
    (folder / "list.csv").write_text("train/a.png,3\nval/b.png,4\n")
    assert open_dataset(folder / "list.csv", 10).notes == (
        "the file lists images of several splits, as their names say (train, val)",
    )


def test_absolute_paths_and_paths_of_other_folders_are_read(folder: Path) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "a.csv").write_text(f"{folder}/val/a.png,3\n../val/b.png,4\n")
    assert [sample.label for sample in open_dataset(folder / "lists" / "a.csv", 10).samples] == [4, 3]


def test_columns_that_are_not_clear_have_to_be_named(folder: Path) -> None:
    text = "id,file,coarse,class,label\n0,val/a.png,1,7,3\n1,val/b.png,1,8,4\n"
    (folder / "list.csv").write_text(text)
    assert "line 1: it is not clear which columns of" in complaint(folder / "list.csv", 10)
    assert listed(folder, text, ("file", "label")) == BOTH
    assert listed(folder, text, ("file", "coarse")) == [("val/a.png", 1), ("val/b.png", 1)]
    with pytest.raises(Exception, match="no single column fine; there are: id, file, coarse, class, label"):
        listed(folder, text, ("file", "fine"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val/\0.png,1", "line 1: cannot read val/\\x00.png: embedded null byte"),
        ("val/a.png," + "1" * 5000, "is neither a class index"),
        ("x" * 200_000 + ",1", "is not a CSV file in UTF-8: "),
        ("path,label\nval/a.png,1".encode("utf-16-le"), "it seems to be UTF-16 without a byte order mark"),
        ("path,label\nval/a.png,1".encode("utf-16")[:-1], "is not a CSV file in UTF-8"),
        ("val/\xe9.png,1".encode("latin-1"), "is not a CSV file in UTF-8"),
        ("val\\a.png,1", "No such file or directory; write its path with / instead of \\"),
        ("pipe.png,1", "line 1: pipe.png is a named pipe, not a regular file"),
        ("socket.png,1", "line 1: socket.png is a socket, not a regular file"),
        ("val,1", "line 1: val is a folder, not a regular file"),
        ("circle.png,1", "line 1: cannot read circle.png: Too many levels of symbolic links"),
        ("/dev/zero,1", "line 1: /dev/zero is a device"),
        ("val/a.png,\x1b[2Kcat", "line 1: label '\\x1b[2Kcat' is neither a class index nor"),
        ("n" * 5000 + ",1", "line 1: cannot read nnnn"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_line_that_means_harm_is_one_short_line(folder: Path, text: str | bytes, expected: str) -> None:
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(folder / "socket.png"))
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "list.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    message = complaint(folder / "list.csv", 10)
    assert expected in message
    assert len(message) < 500
    assert "\x1b" not in message


@pytest.mark.parametrize("name", ["list.csv", "a.parquet", "a.tar"])
def test_the_data_itself_may_be_no_pipe(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "is a named pipe, not a regular file" in complaint(tmp_path / name)


def test_labels_from_1_stop_and_the_option_says_what_they_are(folder: Path) -> None:
    from bcdzoo.data.preflight import preflight

    for number in range(1, 10):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    (folder / "list.csv").write_text("".join(f"{number}.png,{number}\n" for number in range(1, 10)))
    first = preflight(open_dataset(folder / "list.csv", 10), 10)[0]
    assert first.severity == "stop"
    assert "the labels are 1 to 9 and none is 0: if they start at 1, use --label-offset -1 " in first.message
    for offset in (0, -1):
        images = open_dataset(folder / "list.csv", 10, label_offset=offset)
        assert [sample.label for sample in images.samples] == list(range(1 + offset, 10 + offset))
        assert all(finding.severity == "note" for finding in preflight(images, 10))
    assert images.labels_from == "the CSV file, -1"
    with pytest.raises(Exception, match=r"1\.png has label 1, and --label-offset -2 makes it negative"):
        open_dataset(folder / "list.csv", 10, label_offset=-2)


def test_one_file_by_two_paths_is_said(folder: Path) -> None:
    (folder / "list.csv").write_text(f"val/a.png,3\n{folder}/val/a.png,4\n")
    (note,) = open_dataset(folder / "list.csv", 10).notes
    assert note.startswith("1 images listed again under another name, and counted twice")
