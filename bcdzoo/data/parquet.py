"""Layout ``parquet``: the files of a Hugging Face dataset, with the images' bytes in a column."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from bcdzoo.data.rows import Columns, cells
from bcdzoo.data.samples import Listing, Sample, choose_split, some
from bcdzoo.errors import BcdzooError

_LARGEST_ROW_GROUP = 1 << 29  # bytes; two are held in memory by every process that reads images


class Row(NamedTuple):
    """Reads an image from a column of a parquet file."""

    path: str
    changed: int  # nanoseconds; a file that was written anew is not taken for the one in memory
    column: str
    group: int
    row: int

    def __call__(self) -> bytes:
        """Read it."""
        content: bytes = _row_group(self.path, self.changed, self.column, self.group)[self.row].as_py()
        return content


def parquet_files(path: Path, classes: int) -> Listing:
    """List the images of a folder of parquet files, or of one such file.

    Raises:
        BcdzooError: There are none, one is damaged, or their columns are not an image and a class index.
        OSError: The folder cannot be read.
    """
    files, split = _files(path)
    samples: list[Sample] = []
    names: list[tuple[str, ...]] = []
    for file in files:
        try:
            with parquet.ParquetFile(file) as opened:
                columns = Columns.of(str(file), opened.schema_arrow)
                names.append(columns.class_names)
                samples += _rows(file, opened, columns, classes)
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are not UTF-8
            reason = " ".join(str(error).split())
            raise BcdzooError(f"{file} is damaged or no parquet file: {reason}; fetch it anew") from error
    if len(set(names)) > 1:
        raise BcdzooError(f"{path}: its files name different classes, so they are not of one dataset; give one of them")
    return Listing(samples, f"column label{split}", names[0])


def _files(path: Path) -> tuple[list[Path], str]:
    """The files to read, and the split they are as a remark."""
    if not path.is_dir():
        return [path], ""
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))
    splits = {file: _split(file) for file in files}
    split = choose_split(splits.values())
    chosen = [file for file in files if splits[file] == split] if split else files
    if not chosen:
        raise BcdzooError(f"no .parquet files in {path} or its subfolders")
    folders = {file.parent.name for file in chosen}
    if len(folders) > 1:
        raise BcdzooError(f"{path} has parquet files in several folders ({some(folders)}): give one of them")
    return chosen, f" of split {split}" if split else ""


def _split(file: Path) -> str:
    # validation-00000-of-00014.parquet, validation.parquet, validation/0000.parquet
    word = re.match(r"[A-Za-z]+", file.stem)
    return word[0] if word else file.parent.name


def _rows(file: Path, opened: parquet.ParquetFile, columns: Columns, classes: int) -> Iterator[Sample]:
    changed = file.stat().st_mtime_ns
    first = 0
    for group in range(opened.num_row_groups):
        size = opened.metadata.row_group(group).total_byte_size
        if size > _LARGEST_ROW_GROUP:
            raise BcdzooError(
                f"{file}: row group {group} is {size >> 20} MiB, and every process holds two in memory; "
                f"write the file anew with row groups of at most {_LARGEST_ROW_GROUP >> 20} MiB"
            )
        # The sizes of the images are nowhere but in the images' column, so that this reads the whole file once.
        table = opened.read_row_group(group, [columns.image, columns.label], use_threads=False)
        for row, cell in enumerate(cells(str(file), table, columns, classes, first)):
            if cell.size is None:
                raise BcdzooError(
                    f"{file}, row {first + row}: no image bytes; write the dataset with its images embedded"
                )
            read = Row(str(file), changed, columns.image, group, row)
            yield Sample(cell.id, cell.label, cell.size, read)
        first += len(table)


@lru_cache(maxsize=2)  # of every process: in order of the ids one group follows the other
def _row_group(path: str, changed: int, column: str, group: int) -> pa.ChunkedArray:
    with parquet.ParquetFile(path) as opened:
        return opened.read_row_group(group, [f"{column}.bytes"], use_threads=False).flatten().column(0)
