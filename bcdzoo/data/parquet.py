"""Layout ``parquet``: files of a Hugging Face dataset, with the images' bytes in a column."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from bcdzoo.data.folders import parquet_in
from bcdzoo.data.hf_columns import Columns, cells, parts
from bcdzoo.data.names import SkippedFiles, choose_split, refuse_split_column, shown, some, splits_in
from bcdzoo.data.samples import Listing, Sample
from bcdzoo.errors import BcdzooError
from bcdzoo.files import require_regular

_LARGEST_ROW_GROUP = 1 << 29  # bytes; two are held in memory by every process that reads images
_MOST_ROWS = 1 << 21
_MOST_EQUAL = 10_000  # a file of any number of equal rows is small, but each takes memory


class Row(NamedTuple):
    """Reader of an image in a column of a parquet file."""

    path: str
    changed: int  # modification time in ns, so that a rewritten file is not confused with the cached one
    column: str
    group: int
    row: int

    def __call__(self) -> bytes:
        """Read the image's bytes."""
        content: bytes = _row_group(self.path, self.changed, self.column, self.group)[self.row].as_py()
        return content


def parquet_files(path: Path, classes: int, columns: tuple[str, str] | None = None) -> Listing:
    """List the images of a folder of parquet files, or of one such file.

    Args:
        path: Folder or file.
        classes: Number of outputs of the network.
        columns: Names of the columns of images and labels; by default recognized by common names.

    Raises:
        BcdzooError: There are none, one is damaged, or they lack columns of images and labels.
        OSError: The folder cannot be read.
    """
    skipped = SkippedFiles()
    files, split = _files(path, skipped)
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
                        f"{file} has {opened.metadata.num_rows} rows, more than its bytes, so the same "
                        "few are repeated; rewrite it with each image once"
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
            raise BcdzooError(f"{file} is damaged or not a parquet file: {reason}; fetch it again") from error
    if len({columns.class_names for columns in found}) > 1:
        raise BcdzooError(f"{path}: its files name different classes, so they are different datasets; use one of them")
    labels = sorted({shown(columns.label) for columns in found})
    return Listing(samples, f"column {' and '.join(labels)}{split}", found[0].class_names, skipped.notes())


def _files(path: Path, skipped: SkippedFiles) -> tuple[list[Path], str]:
    """Return the files to read, and a remark on their split."""
    if not path.is_dir():
        return [path], ""
    files = parquet_in(path)
    by_name, by_folder = splits_in([file.stem for file in files]), splits_in([file.parent.name for file in files])
    splits = {file: name or folder for file, name, folder in zip(files, by_name, by_folder, strict=True)}
    split = choose_split(filter(None, splits.values()))
    chosen = [file for file in files if splits[file] == split]
    for file in files:
        if splits[file] != split:
            skipped.add(f"files skipped that are not of the split {split}", file.relative_to(path).as_posix())
    if not chosen:
        raise BcdzooError(f"no .parquet files in {path} or its subfolders")
    folders = {file.parent.name for file in chosen}
    if len(folders) > 1:
        raise BcdzooError(f"{path} has parquet files in several folders ({some(folders)}): use one of them")
    skipped.unlike(file.name for file in chosen)
    return chosen, f" of split {split}" if split else ""


def _by_number(schema: parquet.ParquetSchema, columns: Columns) -> list[str]:
    """Return the columns to read as dictionaries, so that a value of many rows is in memory only once."""
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
                f"rewrite the file with row groups of at most {_LARGEST_ROW_GROUP >> 20} MiB"
            )
        # The images' sizes are stored only in the images' column, so this reads the whole file once.
        table = opened.read_row_group(group, [columns.image, columns.label], use_threads=False)
        for row, cell in enumerate(cells(str(file), table, columns, classes, first)):
            if cell.size is None:
                raise BcdzooError(
                    f"{file}, row {first + row}: no image bytes; write the dataset with its images embedded"
                )
            read = Row(str(file), changed, leaf, group, row)
            yield Sample(cell.id, cell.label, cell.size, read)
        first += len(table)


@lru_cache(maxsize=2)  # per process; in order of the ids, row groups follow one another
def _row_group(path: str, changed: int, column: str, group: int) -> pa.ChunkedArray:
    with parquet.ParquetFile(path, read_dictionary=[column]) as opened:
        return parts(opened.read_row_group(group, [column], use_threads=False).column(0))["bytes"]
