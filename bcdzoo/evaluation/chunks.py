"""One network's predictions on disk while they are made, so that a run that was cut off can go on.

The images are cut into chunks, whole batches in order. A chunk that is done is one small Parquet file, written whole
or not at all; the last step joins the chunks into one file, a row group each. Which process computed a chunk, and
when, makes no difference to it.
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
            "id": pa.array([as_utf8(sample.id) for sample in samples], pa.string()),
            "label": pa.array([sample.label for sample in samples], pa.int32()),
        }
        for name, values in ("top", self.guesses), ("logit", self.logits):
            for place, column in enumerate(values.T, start=1):
                columns[f"{name}{place}"] = pa.array(column, mask=unreadable)
        columns["unreadable"] = pa.array([self.unreadable.get(row) for row in self.rows], pa.string())
        return pa.table(columns)


class Run:
    """A folder of finished chunks and ``run.json``, which says what they are computed with.

    Each file has a seal, a chunk's over what the run is and which part it is too; what is damaged is computed again.

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
        self.folder, self.plan, self.started = folder, plan, started
        self._identity = digest(identity)
        if (folder / RECORD).exists() and (kept := self._kept(identity)):
            self.started = kept
        else:
            clear(folder)
            write_json(folder / RECORD, {"words": words, "identity": identity, "started": started})

    def _kept(self, identity: dict[str, str]) -> str | None:
        """When the run that is here was started; None where its chunks cannot be relied on."""
        try:
            record, checked = read_record(self.folder)
        except DamagedError as error:
            say(f"{error}; this run starts anew")
            return None
        if differences := _differences(record["identity"], identity):
            raise BcdzooError(
                f"cannot go on with the unfinished run in {self.folder}: {differences}; --fresh throws it away and "
                "starts anew"
            )
        if not checked:
            say(f"the unfinished run in {self.folder} is unchecked, an older version began it: it starts anew")
        return str(record["started"]) if checked else None

    def done(self) -> set[int]:
        """Chunks that are here and whole; a damaged one is named and removed."""
        return {chunk for chunk in self.plan.chunks if self.path(chunk).exists() and self._whole(chunk)}

    def _whole(self, chunk: int) -> bool:
        try:
            if self.read(chunk).num_rows == len(self.plan.rows(chunk)):
                return True
            reason = f"{self.path(chunk)} has another number of images"
        except DamagedError as error:
            reason = str(error)
        except FileNotFoundError:  # another process has seen to it
            return False
        say(f"{reason}; its images are evaluated again")
        self.path(chunk).unlink(missing_ok=True)
        return False

    def path(self, chunk: int) -> Path:
        """File of a chunk."""
        return self.folder / f"{chunk:06}.parquet"

    def read(self, chunk: int) -> pa.Table:
        """A chunk.

        Raises:
            DamagedError: It is not what was written.
            OSError: It is not there or cannot be opened.
        """
        table, checked = read_predictions(self.path(chunk), self._about(chunk))
        if not checked:
            raise DamagedError(f"{self.path(chunk)} is unchecked, it has no hash")
        return table

    def write(self, chunk: int, table: pa.Table) -> None:
        """Keep a chunk.

        Raises:
            BcdzooError: The disk is full or cannot be written to.
        """
        try:
            write_predictions(self.path(chunk), [table], self._about(chunk))
        except OSError as error:
            kept = len(self.done())
            raise BcdzooError(
                f"cannot write predictions to {self.folder}: {error.strerror or error}; {kept} of "
                f"{len(self.plan.chunks)} parts are kept, and the same command goes on from there"
            ) from error

    def join(self, out: Path) -> None:
        """Write all chunks as one Parquet file, whole or not at all."""
        write_predictions(out, [self.read(chunk) for chunk in self.plan.chunks])

    def remove(self) -> None:
        """Forget the chunks; where processes share the folder another may have done so."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _about(self, chunk: int) -> str:
        return f"part {chunk} of {self._identity}"


def read_record(folder: Path) -> tuple[dict[str, Any], bool]:
    """What ``run.json`` in a folder says, and whether a seal vouches for it.

    Raises:
        DamagedError: It is not what was written.
    """
    path = folder / RECORD
    record, checked = read_json(path)
    tables = [record.get(key) for key in ("words", "identity")]
    texts = [record.get("started"), *(value for table in tables if isinstance(table, dict) for value in table.values())]
    if not all(isinstance(table, dict) for table in tables) or not all(isinstance(text, str) for text in texts):
        raise DamagedError(f"{path} is damaged: it is no record of a run")
    return record, checked


def clear(folder: Path) -> None:
    """Throw away what a run has done."""
    for old in [*folder.glob("*.parquet"), folder / RECORD]:
        old.unlink(missing_ok=True)


def bring_to_leader(runs: Sequence[Run], processes: Processes) -> None:
    """Send the leader the chunks that it cannot see: those of machines with a disk of their own."""
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
        f"{key} was {then.get(key, 'not recorded')} and is {now.get(key, 'not recorded')}"
        for key in then | now
        if then.get(key) != now.get(key)
    ]
    return "; ".join(lines)
