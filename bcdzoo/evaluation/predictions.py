"""Files of predictions: Parquet with one row per image and a seal in the schema's metadata."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bcdzoo.files import atomic_write, open_regular
from bcdzoo.seal import SEAL, DamagedError, digest
from bcdzoo.text import printable

_COLUMN = re.compile(r"id|label|top[1-5]|logit[1-5]|unreadable")
_MOST_ROWS = 2_000_000  # equal rows take no space in a file, but do in memory
_MOST_TEXT = 1 << 28  # bytes of a text column
_LARGEST = 1 << 29  # bytes of all columns, as the file states them


def write_predictions(path: Path, parts: Sequence[pa.Table], about: str = "") -> None:
    """Write tables with the same columns to one file, a row group each, atomically.

    Args:
        path: File to write.
        parts: Tables without metadata, at least one.
        about: Text that the seal also covers, such as the part and run; the reader has to pass the same.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    seal = _seal(pa.concat_tables(parts), about)
    schema = parts[0].schema.with_metadata({SEAL: seal})
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            writer.write_table(part.cast(schema))


def read_predictions(path: Path, about: str = "") -> tuple[pa.Table, bool]:
    """Read a table that :func:`write_predictions` wrote, and whether its seal was checked; older versions wrote none.

    Columns with other names are not read.

    Raises:
        DamagedError: It is not a Parquet file, is damaged, or is too large.
        BcdzooError: It is not a regular file.
        OSError: It cannot be opened.
    """
    with open_regular(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            fields = _fields(parquet)
            # text as dictionaries, so that equal values are in memory once until their length is checked
            texts = [field.name for field in fields if _is_text(field.type)]
            whole = pq.ParquetFile(file, metadata=parquet.metadata, read_dictionary=texts)
            table = _spelled_out(whole.read(columns=[field.name for field in fields]), fields)
            metadata = parquet.schema_arrow.metadata or {}
            seal = metadata.get(SEAL.encode())
            table = table.replace_schema_metadata(None)
            if seal is not None and seal.decode("latin-1") != _seal(table, about):
                raise ValueError("its content does not match its hash")
        except (OSError, ValueError, TypeError, MemoryError, OverflowError, pa.ArrowException) as error:
            reason = printable(" ".join(str(error).split()), 300)
            raise DamagedError(f"{path} is damaged, or not a file of predictions: {reason}") from None
    return table, seal is not None


def _fields(parquet: pq.ParquetFile) -> list[pa.Field]:
    """Return the columns to read, after checking their types and stated sizes.

    Raises:
        ValueError: They are invalid.
    """
    metadata = parquet.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    if rows > _MOST_ROWS:
        raise ValueError(f"{rows:,} rows, more than {_MOST_ROWS:,}")
    fields = [field for field in parquet.schema_arrow if _COLUMN.fullmatch(field.name)]
    if len(fields) > len({field.name for field in fields}):
        raise ValueError("a column occurs twice")
    for field in fields:
        if not (_is_number(field.type) or _is_text(field.type)):
            raise ValueError(f"its {field.name} has the type {field.type}")
    size = sum(group.column(place).total_uncompressed_size for group in groups for place in range(group.num_columns))
    if size > _LARGEST:
        raise ValueError(f"{size:,} bytes, more than {_LARGEST:,}")
    return fields


def _spelled_out(table: pa.Table, fields: list[pa.Field]) -> pa.Table:
    """Replace dictionaries by text, unless it is too long."""
    for place, field in enumerate(fields):
        column = table.column(place)
        if pa.types.is_dictionary(column.type):
            lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
            size = sum(pc.sum(length).as_py() or 0 for length in lengths)
            if size > _MOST_TEXT:
                raise ValueError(f"its {field.name} has {size:,} bytes, more than {_MOST_TEXT:,}")
        table = table.set_column(place, field, column.cast(field.type))
    return table


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _seal(table: pa.Table, about: str) -> str:
    names = zip(table.column_names, table.columns, strict=True)
    columns = [[name, str(column.type), *_content(column)] for name, column in names]
    return digest([about, table.num_rows, columns])


def _content(column: pa.ChunkedArray) -> list[Any]:
    if not _is_number(column.type):
        return [column.to_pylist()]
    missing = column.is_null().to_numpy()
    values: Any = column.fill_null(0).to_numpy()
    return [np.packbits(missing), np.ascontiguousarray(values)]
