"""Layout ``csv``: a file with image paths and labels."""

import codecs
import csv
import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path

from bcdzoo.data.labels import FROM_WNIDS, label_of, wnid_indices
from bcdzoo.data.names import SkippedFiles, image_id, is_split_column, refuse_split_column, shown, some
from bcdzoo.data.samples import FileRange, Listing, Sample
from bcdzoo.errors import BcdzooError
from bcdzoo.files import kind_of, open_regular

IMAGE_COLUMNS = ("path", "image", "img", "file", "filename", "file_name", "image_path", "filepath", "image_id", "name")
LABEL_COLUMNS = ("label", "class", "target", "cls", "labels", "class_id", "label_id", "class_index", "category")
_LONGEST_LINE = 1 << 17  # characters
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)
"""A first line for Excel, which is not a row."""


def csv_file(path: Path, classes: int, columns: tuple[str, str] | None = None) -> Listing:
    """List the images that a CSV file names; relative paths start at its folder, labels are indices or wnids.

    Args:
        path: File with commas, semicolons or tabs, which are tried first for a ``.tsv``.
        classes: Number of outputs of the network.
        columns: Names of the columns of paths and labels; by default recognized by common names, or the only two.

    Raises:
        BcdzooError: A line cannot be parsed, or an image is missing.
        OSError: The file cannot be read.
    """
    imagenet = wnid_indices(classes)
    samples, from_wnids = [], []
    places: tuple[int, int] | None = None
    width = 2
    seen: dict[tuple[int, int], str] = {}
    again = SkippedFiles()
    in_splits: dict[tuple[int, str], set[str]] = {}
    for number, cells in _rows(path):
        if places is None:
            places = _header(f"{path}, line {number}", cells, columns)
            if places:
                width = len(cells)
                named = [at for at in enumerate(cells) if at[0] not in places and is_split_column(at[1])]
                in_splits = {at: set() for at in named}
                continue
            places = 0, 1
        if len(cells) != width:
            raise BcdzooError(
                f"{path}, line {number}: {len(cells)} columns where "
                f"{'path,label are' if width == 2 else f'{width} are'} expected"
            )
        for (place, _), values in in_splits.items():
            values.add(cells[place])
        name, text = (cells[place] for place in places)
        where = f"{path}, line {number}"
        label = label_of(where, text, imagenet)
        from_wnids.append(text in imagenet)
        image = path.parent / name
        found = _regular(where, name, image)
        size = found.st_size
        if seen.setdefault((found.st_dev, found.st_ino), name) != name:
            again.add("images listed again under another name, and counted twice", name)
        samples.append(Sample(image_id(Path(name).as_posix()), label, size, FileRange(str(image), 0, size)))
    for (_, column), values in in_splits.items():
        refuse_split_column(str(path), column, sorted(values - {""}))
    return Listing(samples, FROM_WNIDS if samples and all(from_wnids) else "the CSV file", notes=again.notes())


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the non-empty rows with their line numbers; cells are stripped."""
    try:
        with open_regular(path) as content, TextIOWrapper(content, encoding=_encoding(content), newline="") as file:
            lines, start = _lines(file), 1
            first = next(lines, "")
            if said := _SEPARATOR.fullmatch(first):
                delimiter, start = said[1], 2
            else:
                marks = "\t,;" if path.suffix.lower() == ".tsv" else ",;\t"
                delimiter = next((mark for mark in marks if mark in first), marks[0])
                lines = chain([first], lines)
            for number, row in enumerate(csv.reader(lines, strict=True, delimiter=delimiter), start):
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield number, cells
    except (csv.Error, UnicodeError) as error:
        raise BcdzooError(f"{path} is not a CSV file in UTF-8: {error}; save it as one") from error


def _encoding(content: BufferedReader) -> str:
    """Detect UTF-16 and UTF-32 by their byte order mark, which Excel's "Unicode text" has; all else must be UTF-8."""
    first = content.peek(4)[:4]
    if first in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if 0 in first[:2]:
        raise csv.Error("it seems to be UTF-16 without a byte order mark")
    return "utf-16" if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _lines(file: TextIOWrapper) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise csv.Error(f"a line of {_LONGEST_LINE} characters or more")
        yield line


def _header(where: str, cells: list[str], columns: tuple[str, str] | None) -> tuple[int, int] | None:
    """Return the indices of the columns of paths and labels if this first row is a header, else None."""
    if columns:
        if missing := [name for name in columns if cells.count(name) != 1]:
            raise BcdzooError(f"{where}: no single column {some(missing)}; there are: {shown(', '.join(cells))}")
        return cells.index(columns[0]), cells.index(columns[1])
    names = [cell.lower() for cell in cells]
    images = [place for place, name in enumerate(names) if name in IMAGE_COLUMNS]
    labels = [place for place, name in enumerate(names) if name in LABEL_COLUMNS]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    if len(cells) == 2 and labels == [1]:
        return 0, 1
    if len(images) > 1 or len(labels) > 1 or (len(cells) > 2 and (images or labels)):
        raise BcdzooError(
            f"{where}: it is not clear which columns of {shown(', '.join(cells))} are the paths and labels; name them "
            "with --columns PATH,LABEL"
        )
    return None


def _regular(where: str, name: str, image: Path) -> os.stat_result:
    try:
        found = os.stat(image)  # noqa: PTH116 - pathlib is too slow for 50,000 files
    except ValueError as error:  # a NUL
        raise BcdzooError(f"{where}: cannot read {shown(name)}: {error}") from error
    except OSError as error:
        hint = "; write its path with / instead of \\" if "\\" in name else ""
        raise BcdzooError(f"{where}: cannot read {shown(name)}: {error.strerror}{hint}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BcdzooError(f"{where}: {shown(name)} is {kind_of(found.st_mode)}, not a regular file")
    return found
