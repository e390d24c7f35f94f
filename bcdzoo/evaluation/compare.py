"""Two runs on the same images, image by image."""

import json
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import pandas as pd

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.stats import Z_95, mcnemar, paired_interval
from bcdzoo.evaluation.store import read_results
from bcdzoo.files import results_dir

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """How two runs differ.

    Attributes:
        names: Of the two runs.
        images: One row per image that both evaluated: ``id``, ``label``, ``first`` and ``second`` (their guesses).
        left_out: Number of images that only one of them evaluated.
    """

    names: tuple[str, str]
    images: pd.DataFrame
    left_out: int

    @property
    def n(self) -> int:
        """Images that both evaluated."""
        return len(self.images)

    @property
    def hits(self) -> tuple[int, int]:
        """Right guesses of each."""
        return tuple(int((self.images[who] == self.images["label"]).sum()) for who in ("first", "second"))  # type: ignore[return-value]

    @property
    def only(self) -> tuple[int, int]:
        """Images that only the first, and that only the second gets right."""
        first, second = (self.images[who] == self.images["label"] for who in ("first", "second"))
        return int((first & ~second).sum()), int((second & ~first).sum())

    @property
    def changed(self) -> pd.DataFrame:
        """The images whose guess differs, with ``right``: first, second or neither."""
        rows = self.images[self.images["first"] != self.images["second"]].copy()
        rows["right"] = "neither"
        for who in ("first", "second"):
            rows.loc[rows[who] == rows["label"], "right"] = who
        return rows

    def to_json(self) -> dict[str, Any]:
        """Every figure; accuracies and their difference in percent and points."""
        low, high = paired_interval(*self.only, self.n)
        return {
            "runs": list(self.names),
            "n": self.n,
            "left_out": self.left_out,
            "top1": [100 * hits / self.n for hits in self.hits],
            "difference": self.difference,
            "ci95": [low, high],
            "only_right": list(self.only),
            "changed": len(self.changed),
            "p": mcnemar(*self.only),
            "detectable": self.detectable,
        }

    @property
    def difference(self) -> float:
        """First minus second, in percentage points."""
        first, second = self.hits
        return 100 * (first - second) / self.n

    @property
    def detectable(self) -> float:
        """The difference in points from which chance is unlikely (5 %), given how often these two disagree."""
        return 100 * Z_95 * sqrt(sum(self.only)) / self.n

    def summary(self) -> str:
        """The straight answer, in a few lines."""
        facts = self.to_json()
        low, high = facts["ci95"]
        first, second = facts["top1"]
        if facts["p"] < SIGNIFICANT:
            better = self.names[0] if self.difference > 0 else self.names[1]
            verdict = f"{better} is better: so large a difference by chance is unlikely"
        else:
            verdict = "not significant: chance alone makes such a difference"
        return "\n".join(
            [
                f"first          {self.names[0]}: top-1 {first:.2f} %",
                f"second         {self.names[1]}: top-1 {second:.2f} %",
                f"images         {self.n} in both"
                + (f", {self.left_out} in one only and left out" if self.left_out else ""),
                f"difference     {self.difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}",
                f"McNemar        p = {facts['p']:.3g} ({self.only[0]} images only the first gets right, "
                f"{self.only[1]} only the second)",
                f"answer         {verdict}",
                f"               (between these two, on {self.n} images, it takes {self.detectable:.2f} points)",
                f"changed        {facts['changed']} images have another first guess",
            ]
        )


def compare(first: str, second: str) -> Comparison:
    """Compare two runs by their saved predictions.

    Args:
        first: A network's name, for its latest run in the results store; the name or path of a run's JSON or Parquet
            file, or the beginning of a name in the store.
        second: Likewise.

    Raises:
        BcdzooError: No such run, or no predictions of it; different labels for the same image; no common image.
    """
    (name, one), (other_name, two) = _load(first), _load(second)
    both = one.merge(two, on="id", suffixes=("", "_second"), validate="one_to_one")
    if not len(both):
        raise BcdzooError(f"{first} and {second} have no image in common: compare runs on the same data")
    if (wrong := both[both["label"] != both["label_second"]]).size:
        raise BcdzooError(
            f"{first} and {second} disagree about the labels of {len(wrong)} images, the first {wrong['id'].iloc[0]}: "
            "evaluate both with the same labels"
        )
    images = both.rename(columns={"top1": "first", "top1_second": "second"})[["id", "label", "first", "second"]]
    return Comparison((name, other_name), images, len(one) + len(two) - 2 * len(both))


def _load(reference: str) -> tuple[str, pd.DataFrame]:
    path = _predictions(reference)
    try:
        frame = pd.read_parquet(path, columns=["id", "label", "top1"])
    except (OSError, ValueError) as error:
        raise BcdzooError(f"{path} is not a file of predictions: {' '.join(str(error).split())}") from error
    return path.stem if Path(reference).exists() else reference, frame.dropna().astype({"top1": "int64"})


def _predictions(reference: str) -> Path:
    given = Path(reference)
    if given.suffix == ".parquet" and given.is_file():
        return given
    if given.suffix == ".json" and given.is_file():
        try:
            record = json.loads(given.read_text(encoding="utf-8"))
            return given.with_name(str(record["predictions_file"]))
        except (ValueError, KeyError, TypeError):
            raise BcdzooError(f"{given} is not a result with saved predictions") from None
    of_name = [result for result in read_results() if result["model"] == reference]
    stem = reference.removesuffix(".json").removesuffix(".parquet")
    named = [path for path in results_dir().glob("*.parquet") if path.name.startswith(stem)]
    if of_name:
        if not of_name[-1].get("predictions_file"):
            raise BcdzooError(f"the latest run of {reference} has no saved predictions: evaluate it again")
        return results_dir() / str(of_name[-1]["predictions_file"])
    if len(named) == 1:
        return named[0]
    what = f"{len(named)} runs begin with" if named else "no run is called"
    raise BcdzooError(f"{what} {reference!r}: `bcdzoo results` lists them")
