"""One network's predictions on disk while they are made, so that a run that was cut off can go on.

The images are cut into chunks, whole batches in order. A chunk that is done is one small Parquet file, written whole
or not at all; the last step joins the chunks into one file, a row group each. Which process computed a chunk, and
when, makes no difference to it.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.team import Team
from bcdzoo.files import atomic_write

_RECORD = "run.json"
_IMAGES = 256  # of a chunk, or one batch where that is more: what a run that is killed may have to repeat


class Plan(NamedTuple):
    """How a set of images is cut into batches and chunks.

    Attributes:
        images: Their number.
        batch_size: Images of a batch.
    """

    images: int
    batch_size: int

    @property
    def chunk_size(self) -> int:
        """Images of a chunk: whole batches."""
        return self.batch_size * -(-_IMAGES // self.batch_size)

    @property
    def chunks(self) -> range:
        """Numbers of the chunks."""
        return range(-(-self.images // self.chunk_size))

    def rows(self, chunk: int) -> range:
        """Indices of a chunk's images."""
        return range(chunk * self.chunk_size, min((chunk + 1) * self.chunk_size, self.images))

    def batches(self, chunk: int) -> list[range]:
        """Indices of each batch's images."""
        rows = self.rows(chunk)
        return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]


class Predictions:
    """What a network says of a chunk's images, filled batch by batch.

    Args:
        rows: Indices of the images.
        width: Guesses of each image.
    """

    def __init__(self, rows: range, width: int) -> None:
        self.rows = rows
        self.guesses = np.zeros((len(rows), width), np.int32)
        self.logits = np.zeros((len(rows), width), np.float32)
        self.unreadable: dict[int, str] = {}
        self.missing = len(rows)

    def put(self, indices: Sequence[int], guesses: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> None:
        """Class indices by falling logit, and these logits, both (n, width), of the images of these indices."""
        places = np.array(indices) - self.rows.start
        self.guesses[places], self.logits[places] = guesses, logits
        self.missing -= len(indices)

    def refuse(self, index: int, reason: str) -> None:
        """Say of an image that it cannot be read."""
        self.unreadable[index] = reason
        self.missing -= 1

    def table(self, images: ImageSet) -> pa.Table:
        """As they are stored: id, label, guesses and their logits, and for an unreadable image the reason."""
        samples = [images.samples[row] for row in self.rows]
        unreadable = np.array([row in self.unreadable for row in self.rows])
        columns = {
            "id": pa.array([_text(sample.id) for sample in samples], pa.string()),
            "label": pa.array([sample.label for sample in samples], pa.int32()),
        }
        for name, values in ("top", self.guesses), ("logit", self.logits):
            for place, column in enumerate(values.T, start=1):
                columns[f"{name}{place}"] = pa.array(column, mask=unreadable)
        columns["unreadable"] = pa.array([self.unreadable.get(row) for row in self.rows], pa.string())
        return pa.table(columns)


class Run:
    """A folder of finished chunks and ``run.json``, which says what they are computed with.

    Args:
        folder: Made if it is not there.
        words: What was asked for.
        identity: Everything that the predictions depend on.
        plan: Of the images.
        started: UTC, ISO 8601; of a run that goes on its own is kept.

    Raises:
        BcdzooError: The folder's chunks were computed with something else; the message says what differs.
    """

    def __init__(self, folder: Path, words: dict[str, str], identity: dict[str, str], plan: Plan, started: str) -> None:
        self.folder, self.plan = folder, plan
        record: dict[str, Any] = {"words": words, "identity": identity, "started": started}
        if (folder / _RECORD).is_file():
            record = self.read_record(folder)
            if differences := _differences(record["identity"], identity):
                raise BcdzooError(
                    f"cannot go on with the unfinished run in {folder}: {differences}; --fresh throws it away and "
                    "starts anew"
                )
        else:
            with atomic_write(folder / _RECORD) as temporary:
                temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.started: str = record["started"]

    @staticmethod
    def read_record(folder: Path) -> dict[str, Any]:
        """What ``run.json`` in a folder says, and the folder itself."""
        record: dict[str, Any] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return record | {"folder": str(folder)}

    def done(self) -> set[int]:
        """Chunks that are here and whole; a damaged one is removed."""
        return {int(path.stem) for path in self.folder.glob("*.parquet") if self._whole(path)}

    def _whole(self, path: Path) -> bool:
        try:
            whole: bool = pq.read_metadata(path).num_rows == len(self.plan.rows(int(path.stem)))
        except (OSError, pa.ArrowException):
            whole = False
        if not whole:
            path.unlink(missing_ok=True)
        return whole

    def path(self, chunk: int) -> Path:
        """File of a chunk."""
        return self.folder / f"{chunk:06}.parquet"

    def write(self, chunk: int, table: pa.Table) -> None:
        """Keep a chunk.

        Raises:
            BcdzooError: The disk is full or cannot be written to.
        """
        try:
            with atomic_write(self.path(chunk)) as temporary:
                pq.write_table(table, temporary)
        except OSError as error:
            kept = len(self.done())
            raise BcdzooError(
                f"cannot write predictions to {self.folder}: {error.strerror or error}; {kept} of "
                f"{len(self.plan.chunks)} parts are kept, and the same command goes on from there"
            ) from error

    def join(self, out: Path) -> None:
        """Write all chunks as one Parquet file, whole or not at all."""
        with atomic_write(out) as temporary:
            parts = (pq.read_table(self.path(chunk)) for chunk in self.plan.chunks)
            first = next(parts)
            with pq.ParquetWriter(temporary, first.schema) as writer:
                for part in chain([first], parts):
                    writer.write_table(part)

    def remove(self) -> None:
        """Forget the chunks; where processes share the folder another may have done so."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def only_process(folder: Path, fresh: bool) -> Iterator[None]:
    """Hold a run's folder against a second process with the same command.

    Args:
        folder: Made if it is not there.
        fresh: Throw away what is in it.

    Raises:
        BcdzooError: Another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()  # of a process that was killed
            for old in [*folder.glob("*.parquet"), folder / _RECORD] if fresh else []:
                old.unlink(missing_ok=True)
            yield
    except Timeout:
        raise BcdzooError(f"another process is evaluating the same ({folder}): wait for it or stop it") from None


def bring_to_leader(runs: Sequence[Run], mates: Team) -> None:
    """Send the leader the chunks that it cannot see: those of machines with a disk of their own."""
    have = mates.all([run.done() for run in runs])
    parcels = {
        (number, chunk): run.path(chunk).read_bytes()
        for number, run in enumerate(runs)
        for chunk in run.done() - have[0][number]
    }
    for parcel in mates.all(parcels):
        if mates.leads:
            for (number, chunk), content in parcel.items():
                with atomic_write(runs[number].path(chunk)) as temporary:
                    temporary.write_bytes(content)


def _text(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")  # names that are not UTF-8


def _differences(then: dict[str, str], now: dict[str, str]) -> str:
    lines = [
        f"{key} was {then.get(key, 'not recorded')} and is {now.get(key, 'not recorded')}"
        for key in then | now
        if then.get(key) != now.get(key)
    ]
    return "; ".join(lines)
