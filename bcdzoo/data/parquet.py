"""Layout ``parquet``: the files of a Hugging Face dataset, with the images' bytes in a column."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from bcdzoo.data.folders import parquet_in
from bcdzoo.data.hf_columns import Columns, cells, parts
from bcdzoo.data.names import PassedOver, choose_split, refuse_split_column, shown, some, splits_in
from bcdzoo.data.samples import Listing, Sample
from bcdzoo.errors import BcdzooError
from bcdzoo.files import require_regular

_LARGEST_ROW_GROUP = 1 << 29  # bytes; two are held in memory by every process that reads images
_MOST_ROWS = 1 << 21
_MOST_EQUAL = 10_000  # a file of equal rows is small however many they are, and each takes memory


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


def parquet_files(path: Path, classes: int, columns: tuple[str, str] | None = None) -> Listing:
    """List the images of a folder of parquet files, or of one such file.

    Args:
        path: The folder or the file.
        classes: Outputs of the network.
        columns: Names of the columns of images and of labels; by default those that usual names say.

    Raises:
        BcdzooError: There are none, one is damaged, or their columns are not an image and a class index.
        OSError: The folder cannot be read.
    """
    passed = PassedOver()
    files, split = _files(path, passed)
    samples: list[Sample] = []
    found: list[Columns] = []
    in_splits: dict[str, set[str]] = {}
    size = 0
    for file in files:
        require_regular(file)
        try:
            with parquet.ParquetFile(file) as opened:
                found.append(Columns.of(str(file), opened.schema_arrow, classes, columns))
                if len(samples) + opened.metadata.num_rows > _MOST_ROWS:
                    raise BcdzooError(f"{path} has more than {_MOST_ROWS} images")
                size += file.stat().st_size
                if len(samples) + opened.metadata.num_rows > max(_MOST_EQUAL, size):
                    raise BcdzooError(
                        f"{file} has {opened.metadata.num_rows} rows, more than its bytes, so that they are the same "
                        "few again and again; write it anew with each image once"
                    )
                by_number = _by_number(opened.schema, found[-1])
            with parquet.ParquetFile(file, read_dictionary=by_number) as opened:
                for column in found[-1].splits:
                    values = opened.read([column], use_threads=False).column(0).unique().to_pylist()
                    in_splits.setdefault(column, set()).update(str(value) for value in values if value is not None)
                    refuse_split_column(str(path), column, sorted(in_splits[column]))
                samples += _rows(file, opened, found[-1], classes)
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are not UTF-8
            reason = " ".join(str(error).split())
            raise BcdzooError(f"{file} is damaged or no parquet file: {reason}; fetch it anew") from error
    if len({columns.class_names for columns in found}) > 1:
        raise BcdzooError(f"{path}: its files name different classes, so they are not of one dataset; give one of them")
    labels = sorted({shown(columns.label) for columns in found})
    return Listing(samples, f"column {' and '.join(labels)}{split}", found[0].class_names, passed.notes())


def _files(path: Path, passed: PassedOver) -> tuple[list[Path], str]:
    """The files to read, and the split they are as a remark."""
    if not path.is_dir():
        return [path], ""
    files = parquet_in(path)
    by_name, by_folder = splits_in([file.stem for file in files]), splits_in([file.parent.name for file in files])
    splits = {file: name or folder for file, name, folder in zip(files, by_name, by_folder, strict=True)}
    split = choose_split(filter(None, splits.values()))
    chosen = [file for file in files if splits[file] == split]
    for file in files:
        if splits[file] != split:
            passed.add(f"files passed over, which are not of the split {split}", file.relative_to(path).as_posix())
    if not chosen:
        raise BcdzooError(f"no .parquet files in {path} or its subfolders")
    folders = {file.parent.name for file in chosen}
    if len(folders) > 1:
        raise BcdzooError(f"{path} has parquet files in several folders ({some(folders)}): give one of them")
    passed.unlike(file.name for file in chosen)
    return chosen, f" of split {split}" if split else ""


def _by_number(schema: parquet.ParquetSchema, columns: Columns) -> list[str]:
    """The columns to read as numbers of values: a value that is in many rows is in the file, and in memory, once."""
    leaves = [schema.column(index) for index in range(len(schema))]
    wanted = (columns.image, columns.label, *columns.splits, f"{columns.image}.bytes", f"{columns.image}.path")
    return [leaf.path for leaf in leaves if leaf.path in wanted and leaf.physical_type == "BYTE_ARRAY"]


def _rows(file: Path, opened: parquet.ParquetFile, columns: Columns, classes: int) -> Iterator[Sample]:
    changed = file.stat().st_mtime_ns
    of_struct = pa.types.is_struct(opened.schema_arrow.field(columns.image).type)
    leaf = f"{columns.image}.bytes" if of_struct else columns.image
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
            read = Row(str(file), changed, leaf, group, row)
            yield Sample(cell.id, cell.label, cell.size, read)
        first += len(table)


@lru_cache(maxsize=2)  # of every process: in order of the ids one group follows the other
def _row_group(path: str, changed: int, column: str, group: int) -> pa.ChunkedArray:
    with parquet.ParquetFile(path, read_dictionary=[column]) as opened:
        return parts(opened.read_row_group(group, [column], use_threads=False).column(0))["bytes"]
