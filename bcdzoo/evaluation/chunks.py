"""One network's partial predictions on disk, so that an interrupted run can be resumed.

The images are divided into chunks of whole batches, in order. A finished chunk is one small Parquet file, written
atomically; the last step joins the chunks into one file, a row group each. A chunk does not depend on which process
computed it or when.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.predictions import read_predictions, write_predictions
from bcdzoo.files import atomic_write
from bcdzoo.processes import Processes
from bcdzoo.seal import DamagedError, digest, read_json, write_json
from bcdzoo.text import as_utf8, say

RECORD = "run.json"
_IMAGES = 256  # per chunk, or one batch if that is more: what an interrupted run may have to repeat


class Plan(NamedTuple):
    """The division of a set of images into batches and chunks.

    Attributes:
        images: Number of images.
        batch_size: Number of images per batch.
    """

    images: int
    batch_size: int

    @property
    def chunk_size(self) -> int:
        """Number of images per chunk, a multiple of the batch size."""
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
    """A network's predictions of a chunk's images, filled batch by batch.

    Args:
        rows: Indices of the images.
        width: Number of predicted classes per image.
    """

    def __init__(self, rows: range, width: int) -> None:
        self.rows = rows
        self.guesses = np.zeros((len(rows), width), np.int32)
        self.logits = np.zeros((len(rows), width), np.float32)
        self.unreadable: dict[int, str] = {}
        self.missing = len(rows)

    def put(self, indices: Sequence[int], guesses: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> None:
        """Set the class indices by descending logit, and these logits, both (n, width), of some images."""
        places = np.array(indices) - self.rows.start
        self.guesses[places], self.logits[places] = guesses, logits
        self.missing -= len(indices)

    def refuse(self, index: int, reason: str) -> None:
        """Mark an image as unreadable."""
        self.unreadable[index] = reason
        self.missing -= 1

    def table(self, images: ImageSet) -> pa.Table:
        """Return the stored form: id, label, classes and their logits, and for an unreadable image the reason."""
        samples = [images.samples[row] for row in self.rows]
        unreadable = np.array([row in self.unreadable for row in self.rows])
        columns = {
            "id": pa.array([as_utf8(sample.id) for sample in samples], pa.string()),
            "label": pa.array([sample.label for sample in samples], pa.int32()),
        }
        for name, values in ("top", self.guesses), ("logit", self.logits):
            for place, column in enumerate(values.T, start=1):
                columns[f"{name}{place}"] = pa.array(column, mask=unreadable)
        columns["unreadable"] = pa.array([self.unreadable.get(row) for row in self.rows], pa.string())
        return pa.table(columns)


class Run:
    """A folder of finished chunks and ``run.json``, which records how they were computed.

    Each file has a seal; a chunk's also covers the run's identity and the chunk's number. Damaged ones are recomputed.

    Args:
        folder: Folder of the run, created if missing.
        words: Arguments of the command.
        identity: Everything that the predictions depend on.
        plan: Division of the images.
        started: Time of the start, UTC in ISO 8601; a resumed run keeps its own.

    Raises:
        BcdzooError: The folder's chunks were computed differently; the message says what differs.
    """

    def __init__(self, folder: Path, words: dict[str, str], identity: dict[str, str], plan: Plan, started: str) -> None:
        self.folder, self.plan, self.started = folder, plan, started
        self._identity = digest(identity)
        if (folder / RECORD).exists() and (kept := self._kept(identity)):
            self.started = kept
        else:
            clear(folder)
            write_json(folder / RECORD, {"words": words, "identity": identity, "started": started})

    def _kept(self, identity: dict[str, str]) -> str | None:
        """Return when the existing run was started; None if its chunks cannot be trusted."""
        try:
            record, checked = read_record(self.folder)
        except DamagedError as error:
            say(f"{error}; this run starts over")
            return None
        if differences := _differences(record["identity"], identity):
            raise BcdzooError(
                f"cannot resume the unfinished run in {self.folder}: {differences}; --fresh discards it and starts over"
            )
        if not checked:
            say(
                f"the unfinished run in {self.folder} is unchecked, because an older version started it: it starts over"
            )
        return str(record["started"]) if checked else None

    def done(self) -> set[int]:
        """Return the chunks that exist and are intact; a damaged one is named and removed."""
        return {chunk for chunk in self.plan.chunks if self.path(chunk).exists() and self._whole(chunk)}

    def _whole(self, chunk: int) -> bool:
        try:
            if self.read(chunk).num_rows == len(self.plan.rows(chunk)):
                return True
            reason = f"{self.path(chunk)} has a different number of images"
        except DamagedError as error:
            reason = str(error)
        except FileNotFoundError:  # removed by another process
            return False
        say(f"{reason}; its images are evaluated again")
        self.path(chunk).unlink(missing_ok=True)
        return False

    def path(self, chunk: int) -> Path:
        """File of a chunk."""
        return self.folder / f"{chunk:06}.parquet"

    def read(self, chunk: int) -> pa.Table:
        """Read a chunk.

        Raises:
            DamagedError: It is damaged.
            OSError: It is missing or cannot be opened.
        """
        table, checked = read_predictions(self.path(chunk), self._about(chunk))
        if not checked:
            raise DamagedError(f"{self.path(chunk)} is unchecked: it has no hash")
        return table

    def write(self, chunk: int, table: pa.Table) -> None:
        """Write a chunk.

        Raises:
            BcdzooError: The disk is full or cannot be written to.
        """
        try:
            write_predictions(self.path(chunk), [table], self._about(chunk))
        except OSError as error:
            kept = len(self.done())
            raise BcdzooError(
                f"cannot write predictions to {self.folder}: {error.strerror or error}; {kept} of "
                f"{len(self.plan.chunks)} parts are kept, and the same command resumes from there"
            ) from error

    def join(self, out: Path) -> None:
        """Write all chunks as one Parquet file, atomically."""
        write_predictions(out, [self.read(chunk) for chunk in self.plan.chunks])

    def remove(self) -> None:
        """Remove the folder; another process that shares it may have done so."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _about(self, chunk: int) -> str:
        return f"part {chunk} of {self._identity}"


def read_record(folder: Path) -> tuple[dict[str, Any], bool]:
    """Read ``run.json`` in a folder, and whether its seal was checked.

    Raises:
        DamagedError: It is damaged.
    """
    path = folder / RECORD
    record, checked = read_json(path)
    tables = [record.get(key) for key in ("words", "identity")]
    texts = [record.get("started"), *(value for table in tables if isinstance(table, dict) for value in table.values())]
    if not all(isinstance(table, dict) for table in tables) or not all(isinstance(text, str) for text in texts):
        raise DamagedError(f"{path} is damaged: it is not the record of a run")
    return record, checked


def clear(folder: Path) -> None:
    """Remove a run's chunks and record."""
    for old in [*folder.glob("*.parquet"), folder / RECORD]:
        old.unlink(missing_ok=True)


def bring_to_leader(runs: Sequence[Run], processes: Processes) -> None:
    """Send the leader the chunks that it cannot see, which are on other machines' disks."""
    have = processes.all([run.done() for run in runs])
    parcels = {
        (number, chunk): run.path(chunk).read_bytes()
        for number, run in enumerate(runs)
        for chunk in run.done() - have[0][number]
    }
    for parcel in processes.all(parcels):
        if processes.first:
            for (number, chunk), content in parcel.items():
                with atomic_write(runs[number].path(chunk)) as temporary:
                    temporary.write_bytes(content)


def _differences(then: dict[str, str], now: dict[str, str]) -> str:
    lines = [
        f"{key} was {then.get(key, 'not recorded')} but is {now.get(key, 'not recorded')}"
        for key in then | now
        if then.get(key) != now.get(key)
    ]
    return "; ".join(lines)
