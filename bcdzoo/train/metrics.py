"""The course of a run: a CSV file, and TensorBoard for who wants it."""

import csv
from pathlib import Path
from typing import Any

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write

COLUMNS = ("stage", "iteration", "lr", "loss", "train_top1", "test_top1", "images_per_second")


class Metrics:
    """Appends rows to ``metrics.csv``.

    Args:
        folder: Of the run.
        stage: What the rows are of.
        done: Updates that the stage goes on from; rows beyond them, of a run that was killed, are removed.
        tensorboard: Whether TensorBoard's files are written too, to ``tensorboard/`` in the folder.

    Raises:
        BcdzooError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, stage: str, done: int, tensorboard: bool) -> None:
        self.path, self.stage = folder / "metrics.csv", stage
        kept = [row for row in read(self.path) if row["stage"] != stage or int(row["iteration"]) <= done]
        with atomic_write(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        self.board = _board(folder / "tensorboard" / stage, done) if tensorboard else None

    def add(self, iteration: int, **values: float) -> None:
        """Add a row; columns that are not given stay empty."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"stage": self.stage, "iteration": iteration, **values})
        if self.board is not None:
            for key, value in values.items():
                self.board.add_scalar(key, value, iteration)
            self.board.flush()


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BcdzooError("TensorBoard is not installed: pip install 'bcdzoo[tensorboard]'") from None
    return SummaryWriter(str(folder), purge_step=done + 1)
