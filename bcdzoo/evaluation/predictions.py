"""Files of predictions: Parquet, a row per image, sealed in the schema's metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bcdzoo.files import atomic_write, open_regular
from bcdzoo.seal import SEAL, DamagedError, digest

_MOST_ROWS = 100_000_000  # a damaged or hostile file may announce any number


def write_predictions(path: Path, parts: Sequence[pa.Table], about: str = "") -> None:
    """Write tables of the same columns below each other, a row group each, whole or not at all.

    Args:
        path: The file.
        parts: At least one; without metadata.
        about: What else the seal covers, such as which part of which run this is; the reader has to know it.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    seal = _seal(pa.concat_tables(parts), about)
    schema = parts[0].schema.with_metadata({SEAL: seal})
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            writer.write_table(part.cast(schema))


def read_predictions(path: Path, about: str = "") -> tuple[pa.Table, bool]:
    """A table that :func:`write_predictions` wrote, and whether a seal vouches for it: older versions wrote none.

    Raises:
        DamagedError: It is no Parquet file, or not what was written.
        BcdzooError: It is no regular file.
        OSError: It cannot be opened.
    """
    with open_regular(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            if parquet.metadata.num_rows > _MOST_ROWS:
                raise ValueError(f"{parquet.metadata.num_rows} rows")
            table = parquet.read()
            metadata = table.schema.metadata or {}
            seal = metadata.get(SEAL.encode())
            table = table.replace_schema_metadata(None)
            if seal is not None and seal.decode("latin-1") != _seal(table, about):
                raise ValueError("its content does not fit the hash in it")
        except (OSError, ValueError, TypeError, MemoryError, OverflowError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:300]
            raise DamagedError(f"{path} is damaged, or no file of predictions: {reason}") from None
    return table, seal is not None


def _seal(table: pa.Table, about: str) -> str:
    names = zip(table.column_names, table.columns, strict=True)
    columns = [[name, str(column.type), *_content(column)] for name, column in names]
    return digest([about, table.num_rows, columns])


def _content(column: pa.ChunkedArray) -> list[Any]:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return [column.to_pylist()]
    missing = column.is_null().to_numpy()
    values: Any = column.fill_null(0).to_numpy()
    return [np.packbits(missing), np.ascontiguousarray(values)]
