"""Compare two runs on the same images, image by image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.predictions import read_predictions
from bcdzoo.evaluation.stats import SIGNIFICANT, mcnemar, paired_interval, smallest_significant
from bcdzoo.evaluation.store import decoder_of, find_run, read_result, runs_of
from bcdzoo.files import results_dir, sha256_of
from bcdzoo.registry import zoo_name
from bcdzoo.seal import DamagedError
from bcdzoo.text import printable, say


@dataclass(frozen=True)
class Comparison:
    """The comparison of two runs.

    Attributes:
        names: Names of the two runs.
        images: One row per common image: ``id``, ``label``, ``first`` and ``second`` (their top-1 predictions).
        left_out: Number of images that only one of them evaluated.
        data: Name and fingerprint of each run's data; None for bare predictions, which do not state them.
        decoders: Decoder of each run's images, likewise.
    """

    names: tuple[str, str]
    images: pd.DataFrame
    left_out: int
    data: tuple[tuple[str, str] | None, tuple[str, str] | None] = (None, None)
    decoders: tuple[str | None, str | None] = (None, None)

    @property
    def n(self) -> int:
        """Number of images that both evaluated."""
        return len(self.images)

    @property
    def same_data(self) -> bool | None:
        """Whether both runs used the same images by name, id, label and file size; None if unknown."""
        one, two = self.data
        if one is None or two is None or (one != two and (one[1] == two[1] or self.left_out)):
            return None  # equal images with two names may be copies; different images may be parts of one set
        return one == two

    @property
    def doubt(self) -> str | None:
        """One line on why the images may not be the same; None if they are."""
        if None not in self.decoders and self.decoders[0] != self.decoders[1]:
            by = " and ".join(printable(str(decoder), 20) for decoder in self.decoders)
            return "; ".join(filter(None, (f"the images were decoded by {by}: pixels may differ", self._other_images)))
        return self._other_images

    @property
    def _other_images(self) -> str | None:
        one, two = self.data
        if one is None or two is None:
            which = "neither run says" if one == two else f"the {'first' if one is None else 'second'} run does not say"
            return f"{which} which images it used: ids and labels agree, the images themselves may differ"
        if one == two:
            return None
        first, second = printable(one[0], 100), printable(two[0], 100)
        names = f"{first} and {second}" if first != second else f"both called {first}"
        if one[1] == two[1]:
            return f"the data are called {names}: ids, labels and sizes of files agree, the pixels may differ"
        if self.left_out:
            return f"the data differ ({names}): parts of one set, or different images with the same ids and labels"
        return (
            f"the images differ ({names}): same ids and labels, different files; the networks may not be the only cause"
        )

    @property
    def hits(self) -> tuple[int, int]:
        """Number of correct top-1 predictions of each."""
        return tuple(int((self.images[who] == self.images["label"]).sum()) for who in ("first", "second"))  # type: ignore[return-value]

    @property
    def only(self) -> tuple[int, int]:
        """Number of images that only the first, and that only the second gets right."""
        first, second = (self.images[who] == self.images["label"] for who in ("first", "second"))
        return int((first & ~second).sum()), int((second & ~first).sum())

    @property
    def changed(self) -> pd.DataFrame:
        """The images whose prediction differs, with ``right``: first, second or neither."""
        rows = self.images[self.images["first"] != self.images["second"]].copy()
        rows["right"] = "neither"
        for who in ("first", "second"):
            rows.loc[rows[who] == rows["label"], "right"] = who
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return all numbers; accuracies in percent, their difference in points."""
        low, high = paired_interval(*self.only, self.n)
        return {
            "runs": list(self.names),
            "n": self.n,
            "left_out": self.left_out,
            "same_data": self.same_data,
            "decoders": list(self.decoders),
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
    def detectable(self) -> float | None:
        """The smallest significant difference in points, given how often these two disagree.

        None if there are too few images.
        """
        images = smallest_significant(sum(self.only), self.n)
        return None if images is None else 100 * images / self.n

    def summary(self) -> str:
        """Format the answer in a few lines."""
        facts = self.to_json()
        low, high = facts["ci95"]
        first, second = facts["top1"]
        names = [printable(name, 200) for name in self.names]
        significant = facts["p"] < SIGNIFICANT
        if significant:
            better = names[0] if self.difference > 0 else names[1]
            verdict = f"{better} is better: a difference this large is unlikely by chance"
        else:
            verdict = "not significant: the difference may be chance"
        takes = facts["detectable"]
        return "\n".join(
            [
                f"first          {names[0]}: top-1 {first:.2f} %",
                f"second         {names[1]}: top-1 {second:.2f} %",
                f"images         {self.n} in both"
                + (f", {self.left_out} in only one and left out" if self.left_out else ""),
                f"difference     {self.difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}",
                f"McNemar        p = {facts['p']:.3g} ({self.only[0]} images only the first gets right, "
                f"{self.only[1]} only the second)",
                f"answer         {verdict}",
                *([f"               ({self.doubt})"] if self.doubt else []),
                *([_PART[significant]] if significant != (low > 0 or high < 0) else []),
                f"               (between these two, on {self.n} images, "
                + (
                    f"{takes:.2f} points would be significant)"
                    if takes is not None
                    else "no difference would be significant)"
                ),
                f"changed        {facts['changed']} images have a different top-1 prediction",
            ]
        )


_PART = {
    False: "               (the interval excludes 0, but it is an approximation: the exact test decides)",
    True: "               (the interval includes 0, but it is an approximation: the exact test decides)",
}


def compare(first: str, second: str) -> Comparison:
    """Compare two runs by their saved predictions.

    Args:
        first: Network's name, for its latest run in the results store; a run's id, name or label, or the beginning of
            its name; or the path of a run's JSON or Parquet file.
        second: The other run, likewise. The same network's name twice is for its latest two runs, the older first.

    Raises:
        BcdzooError: No such run, or it has no predictions; a run and itself; different labels for the same image; no
            common image.
    """
    (name, one, data, decoder), (other_name, two, other_data, other_decoder) = _load_both(first, second)
    both = one.merge(two, on="id", suffixes=("", "_second"), validate="one_to_one")
    if not len(both):
        raise BcdzooError(f"{first} and {second} have no image in common: compare runs on the same data")
    if (wrong := both[both["label"] != both["label_second"]]).size:
        raise BcdzooError(
            f"{first} and {second} disagree about the labels of {len(wrong)} images, the first {wrong['id'].iloc[0]}: "
            "evaluate both with the same labels"
        )
    images = both.rename(columns={"top1": "first", "top1_second": "second"})[["id", "label", "first", "second"]]
    left_out = len(one) + len(two) - 2 * len(both)
    return Comparison((name, other_name), images, left_out, (data, other_data), (decoder, other_decoder))


_Loaded = tuple[str, pd.DataFrame, tuple[str, str] | None, str | None]


def _load_both(first: str, second: str) -> tuple[_Loaded, _Loaded]:
    one, two = zoo_name(first), zoo_name(second)
    if one == two and not Path(one).exists() and len(runs := runs_of(one)) > 1:
        one, two = (result["run"] for result in runs[-2:])
        say(f"the latest two runs of {first}: {one} and {two}")
    found = find_predictions(one), find_predictions(two)
    (path, _), (other, _) = found
    if path == other or (path.exists() and other.exists() and path.samefile(other)):
        raise BcdzooError(f"{first} and {second} are one run, {path.stem}: `bcdzoo results` lists the others")
    return load_predictions(one, *found[0]), load_predictions(two, *found[1])


def load_predictions(reference: str, path: Path, result: dict[str, Any]) -> _Loaded:
    """Read a run's predictions: its name, its ``id``, ``label`` and ``top1``, its data and decoder where it says so.

    Raises:
        BcdzooError: The file cannot be read, is damaged, or is none of the result.
    """
    expected = result.get("predictions_sha256")
    try:
        table, checked = read_predictions(path)
        if expected is not None and sha256_of(path) != expected:
            raise DamagedError(f"{path} is not the file from which its result was computed")
        frame = table.select(["id", "label", "top1"]).to_pandas()
        frame = frame.dropna().astype({"id": str, "label": "int64", "top1": "int64"})
    except OSError as error:
        raise BcdzooError(f"cannot read {path}: {error.strerror or error}") from None
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise BcdzooError(f"{path} is not a file of predictions: {' '.join(str(error).split())}") from None
    if len(repeated := frame["id"][frame["id"].duplicated()]):
        raise BcdzooError(f"{path} is not a file of predictions: {repeated.iloc[0]} occurs twice")
    if not checked and expected is None:
        say(f"{path} is unchecked: it has no hash, as older versions wrote it")
    data = (result["dataset"], result["fingerprint"]) if "fingerprint" in result else None
    decoder = decoder_of(result) if result else None
    return path.stem if Path(reference).exists() else reference, frame, data, decoder


def find_predictions(reference: str) -> tuple[Path, dict[str, Any]]:
    """Find a run's file of predictions, and its result; an empty dictionary if there is none.

    Raises:
        BcdzooError: No such run, or it has no predictions.
    """
    given = Path(reference)
    if given.suffix == ".parquet" and given.exists():
        return given, {}
    if given.suffix == ".json" and given.exists():
        result = read_result(given)
        if not result["checked"]:
            say(f"{given} is unchecked: it has no hash, as older versions wrote it")
        return _of_result(result, given.parent, reference)
    if of_name := runs_of(reference):
        return _of_result(of_name[-1], results_dir(), f"the latest run of {reference}")
    stem = reference.removesuffix(".json").removesuffix(".parquet")
    alone = [path for path in results_dir().glob("*.parquet") if stem and path.name.startswith(stem)]
    if len(alone) == 1 and not alone[0].with_suffix(".json").exists():
        return alone[0], {}
    try:
        run = find_run(stem)
    except BcdzooError as error:
        if stem == reference:
            raise
        raise BcdzooError(f"{printable(reference, 100)}: no such file, and {error}") from error
    return _of_result(run, results_dir(), run["run"])


def _of_result(result: dict[str, Any], folder: Path, who: str) -> tuple[Path, dict[str, Any]]:
    if not result.get("predictions_file"):
        raise BcdzooError(f"{who} has no saved predictions: evaluate it again")
    beside = folder / str(result["predictions_file"])
    return beside if beside.exists() else results_dir() / beside.name, result
