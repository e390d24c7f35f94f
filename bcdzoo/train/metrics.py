"""Metrics of a run: a CSV file, and optionally TensorBoard."""

import hashlib
from pathlib import Path
from typing import Any

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, open_regular
from bcdzoo.text import say

VALUES = ("stage", "iteration", "lr", "loss", "train_top1", "test_top1", "images_per_second")
COLUMNS = (*VALUES, "check")
"""The last column is a prefix of a hash of the others."""


class Metrics:
    """Appends rows to ``metrics.csv``.

    Args:
        folder: Folder of the run.
        stage: Name of the stage.
        done: Number of updates from which the stage resumes; later rows of an interrupted run are removed.
        tensorboard: Whether to write TensorBoard files too, to ``tensorboard/`` in the folder.

    Raises:
        BcdzooError: TensorBoard is not installed, or the file cannot be written to.
    """

    def __init__(self, folder: Path, stage: str, done: int, tensorboard: bool) -> None:
        self.path, self.stage = folder / "metrics.csv", stage
        kept = [row for row in read(self.path) if row["stage"] != stage or int(row["iteration"]) <= done]
        try:
            with atomic_write(self.path) as temporary:
                lines = [",".join(COLUMNS), *(",".join(row.values()) for row in kept)]
                temporary.write_text("\n".join(lines) + "\n")
        except OSError as error:
            raise self._cannot_write(error) from None
        self.board = _board(folder / "tensorboard" / stage, done) if tensorboard else None

    def add(self, iteration: int, **values: float) -> None:
        """Add a row; missing columns stay empty.

        Raises:
            BcdzooError: The disk is full or cannot be written to.
        """
        cells = [self.stage, str(iteration), *(str(values.get(column, "")) for column in VALUES[2:])]
        try:
            with self.path.open("a") as file:
                file.write(",".join([*cells, _check(cells)]) + "\n")
            if self.board is not None:
                for key, value in values.items():
                    self.board.add_scalar(key, value, iteration)
                self.board.flush()
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> BcdzooError:
        return BcdzooError(
            f"cannot write {self.path}: {error.strerror or error}; the same command resumes from the last checkpoint"
        )


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a metrics file; none if there is no file.

    Damaged rows are left out, and the file is kept as ``metrics.csv.damaged``. An incomplete last line is from an
    interrupted run, and is dropped without loss. Rows of older versions without a hash are
    reported.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
    except FileNotFoundError:
        return []
    lines = content.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    old = lines[0] == ",".join(VALUES)
    found = [[*line.split(","), *([""] if old else [])] for line in lines[1:-1]]
    rows = [cells for cells in found if _right(cells)]
    if len(rows) < len(found) or not (old or lines[0] == ",".join(COLUMNS)):
        aside = path.with_name(path.name + ".damaged")
        with atomic_write(aside) as temporary:
            temporary.write_bytes(content)
        say(f"{path} is damaged: {len(found) - len(rows)} of its {len(found)} rows are left out, they are in {aside}")
    if not all(cells[-1] for cells in rows):
        say(f"{path} is unchecked: rows in it have no hash, as older versions wrote them")
    return [dict(zip(COLUMNS, cells, strict=True)) for cells in rows]


def _right(cells: list[str]) -> bool:
    if len(cells) != len(COLUMNS) or cells[-1] not in ("", _check(cells[:-1])):
        return False
    try:
        int(cells[1])
        [float(cell) for cell in cells[2:-1] if cell]
    except ValueError:
        return False
    return True


def _check(cells: list[str]) -> str:
    return hashlib.sha256(",".join(cells).encode()).hexdigest()[:8]


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BcdzooError("TensorBoard is not installed: pip install 'bcdzoo[tensorboard]'") from None
    return SummaryWriter(str(folder), purge_step=done + 1)
