"""Compare two groups of runs, such as trainings with several seeds, on the same images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import combinations, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import find_predictions, load_predictions
from bcdzoo.evaluation.stats import SIGNIFICANT, mcnemar, welch
from bcdzoo.evaluation.store import read_results, read_store, run_id
from bcdzoo.files import results_dir
from bcdzoo.registry import is_pattern, zoo_name
from bcdzoo.text import printable

_PAIRS = 12  # pairs that are listed one by one


@dataclass(frozen=True)
class Member:
    """A run of a group.

    Attributes:
        name: The run's name.
        network: Its network, as it was built; "" where the run does not say.
        state: Hash of its network; "" where the run does not say.
        data: Name and fingerprint of its data; None where the run does not say.
        guesses: Top-1 predictions by image, and ``label``.
        decoder: Decoder of its images; None where the run does not say.
    """

    name: str
    network: str
    state: str
    data: tuple[str, str] | None
    guesses: pd.DataFrame
    decoder: str | None = None

    @property
    def right(self) -> "pd.Series[bool]":
        """For each image whether the prediction is right."""
        return self.guesses["top1"] == self.guesses["label"]

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * int(self.right.sum()) / len(self.guesses)


@dataclass(frozen=True)
class GroupComparison:
    """The comparison of two groups of runs.

    Attributes:
        names: What the two groups were called.
        groups: Their runs.
        notes: What should be known beside the answer.
    """

    names: tuple[str, str]
    groups: tuple[list[Member], list[Member]]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return all numbers; accuracies in percent, their differences in points."""
        top1 = [[member.top1 for member in group] for group in self.groups]
        means = [fmean(values) for values in top1]
        test = welch(*top1)
        return {
            "groups": list(self.names),
            "runs": [[member.name for member in group] for group in self.groups],
            "n": len(self.groups[0][0].guesses),
            "top1": top1,
            "mean": means,
            "sd": [stdev(values) for values in top1],
            "difference": means[0] - means[1],
            "ci95": list(test.ci95) if test else None,
            "t": test.t if test else None,
            "df": test.df if test else None,
            "p": test.p if test else None,
            "pairs": list(_pairs(*self.groups)),
            "notes": self.notes,
        }

    def summary(self) -> str:
        """Format the answer in a few lines."""
        facts = self.to_json()
        names = [printable(name, 100) for name in self.names]
        lines = []
        for who, name, values, mean, sd in zip(
            ("first", "second"), names, facts["top1"], facts["mean"], facts["sd"], strict=True
        ):
            each = ", ".join(f"{value:.2f}" for value in values)
            lines.append(
                f"{who:<15}{name}: top-1 {mean:.2f} %, standard deviation {sd:.2f}, of {len(values)} runs: {each}"
            )
        lines.append(f"images         {facts['n']}, the same for all runs")
        if facts["p"] is None:
            lines += [
                f"difference     {facts['difference']:+.2f} points",
                "answer         no test: in neither group do the runs differ from each other",
            ]
        else:
            low, high = facts["ci95"]
            lines += [
                f"difference     {facts['difference']:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}",
                f"Welch          t = {facts['t']:.2f} with {facts['df']:.1f} degrees of freedom, p = {facts['p']:.3g}",
                f"answer         {_verdict(facts, names)}",
            ]
        lines += [f"               ({note})" for note in self.notes]
        return "\n".join([*lines, *_pair_lines(facts["pairs"])])


def _verdict(facts: dict[str, Any], names: list[str]) -> str:
    if facts["p"] < SIGNIFICANT:
        better = names[0] if facts["difference"] > 0 else names[1]
        return f"{better} is better: such a difference of means is unlikely by the chance of training"
    return "not significant: the difference may be the chance of training"


def _pairs(first: list[Member], second: list[Member]) -> Iterator[dict[str, Any]]:
    for one, two in product(first, second):
        right, other = one.right, two.right
        only = [int((right & ~other).sum()), int((other & ~right).sum())]
        yield {
            "runs": [one.name, two.name],
            "difference": one.top1 - two.top1,
            "only_right": only,
            "p": mcnemar(only[0], only[1]),
        }


def _pair_lines(pairs: list[dict[str, Any]]) -> list[str]:
    significant = [pair for pair in pairs if pair["p"] < SIGNIFICANT]
    better = sum(pair["difference"] > 0 for pair in significant)
    lines = [
        f"pairs          McNemar, run by run: of {len(pairs)} pairs the first is better in {better}, the second in "
        f"{len(significant) - better}, undecided {len(pairs) - len(significant)}"
    ]
    for pair in pairs if len(pairs) <= _PAIRS else []:
        one, two = (run_id(name) for name in pair["runs"])
        only = f"{pair['only_right'][0]} to {pair['only_right'][1]} images"
        lines.append(f"               {one} and {two}: {pair['difference']:+.2f} points, {only}, p = {pair['p']:.3g}")
    return lines


def is_group(reference: str) -> bool:
    """Whether a reference names several runs: a list with commas, a pattern, or a label that several runs have."""
    if _exists(reference):
        return False
    if "," in reference or is_pattern(reference):
        return _labelled(reference) != 1
    return _labelled(reference) > 1


def compare_groups(first: str, second: str) -> GroupComparison:
    """Compare two groups of runs by their saved predictions.

    Args:
        first: Runs with commas between them, each as :func:`bcdzoo.evaluation.compare.compare` takes it; patterns such
            as ``seed-*`` of labels, networks or runs' names; or a label that several runs have.
        second: The other group, likewise.

    Raises:
        BcdzooError: A group is one run or none, two have a run in common, or they are not of the same images.
    """
    found = [_members(reference) for reference in (first, second)]
    if both := found[0].keys() & found[1].keys():
        names = " and ".join(printable(repr(name), 100) for name in (first, second))
        raise BcdzooError(f"{names} have a run in common: {min(both).stem}")
    groups = tuple([_loaded(path, result) for path, result in members.items()] for members in found)
    members = [member for group in groups for member in group]
    for other in members[1:]:
        _check_same(members[0], other)
    for group in groups:
        for one, other in combinations(group, 2):
            if one.state and one.state == other.state:
                raise BcdzooError(
                    f"{one.name} and {other.name} are of the same weights: a group is of networks trained one by one"
                )
    return GroupComparison((first, second), (groups[0], groups[1]), _notes(groups))


def _notes(groups: tuple[list[Member], ...]) -> list[str]:
    notes = []
    members = [member for group in groups for member in group]
    if any(member.data is None for member in members):
        notes.append("not every run says which images it used: ids and labels agree, the images themselves may differ")
    elif len({member.data for member in members}) > 1:
        notes.append("the data have several names: ids, labels and sizes of files agree, the pixels may differ")
    if len(decoders := {member.decoder for member in members if member.decoder}) > 1:
        notes.append(f"the images were decoded by {' and '.join(sorted(decoders))}: pixels may differ")
    for group in groups:
        if len(networks := {member.network for member in group}) > 1:
            notes.append(f"one group is of several networks: {printable(', '.join(sorted(networks)), 200)}")
    same = next(
        (
            (one.name, other.name)
            for group in groups
            for one, other in combinations(group, 2)
            if one.guesses["top1"].equals(other.guesses["top1"])
        ),
        None,
    )
    if same:
        notes.append(f"{same[0]} and {same[1]} predict the same for every image: are they two trainings?")
    return notes


def _members(reference: str) -> dict[Path, dict[str, Any]]:
    """The files of predictions of a group's runs, with their results."""
    found: dict[Path, dict[str, Any]] = {}
    is_one = _exists(reference) or _labelled(reference) == 1
    parts = [reference] if is_one else [part.strip() for part in reference.split(",")]
    for part in parts:
        if not part:
            raise BcdzooError(f"{printable(repr(reference), 100)}: a run is missing beside a comma")
        for path, result in _runs(part):
            if path.resolve() in found:
                raise BcdzooError(f"{printable(repr(reference), 100)} names a run twice: {path.stem}")
            found[path.resolve()] = result
    if len(found) == 1:
        raise BcdzooError(
            f"{printable(repr(reference), 100)} is one run, {next(iter(found)).stem}: a group has two or more, with "
            "commas between them or by a pattern such as 'seed-*'"
        )
    return found


def _runs(part: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    if _exists(part) or _labelled(part) == 1 or not (is_pattern(part) or _labelled(part) > 1):
        yield find_predictions(zoo_name(part))
        return
    results = read_results()
    ways: tuple[Callable[[dict[str, Any]], str], ...] = (
        lambda result: result.get("label") or "",
        lambda result: str(result["model"]),
        lambda result: str(result["run"]),
    )
    found = next(filter(None, ([r for r in results if fnmatch(way(r).lower(), part.lower())] for way in ways)), [])
    found = found if is_pattern(part) else [result for result in results if result.get("label") == part]
    if not found:
        raise BcdzooError(
            f"{printable(repr(part), 100)}: no run's label, network or name matches: `bcdzoo results` lists them"
        )
    for result in found:
        if not result.get("predictions_file"):
            raise BcdzooError(f"{result['run']} has no saved predictions: evaluate it again")
        yield results_dir() / str(result["predictions_file"]), result


def _labelled(label: str) -> int:
    return sum(result.get("label") == label for result in read_store()[0])


def _loaded(path: Path, result: dict[str, Any]) -> Member:
    _, frame, data, decoder = load_predictions(str(path), path, result)
    build = "".join(f" {key}={value}" for key, value in sorted(result.get("build", {}).items()))
    network = f"{result.get('model', '')}{build}"
    return Member(path.stem, network, str(result.get("state", "")), data, frame.set_index("id").sort_index(), decoder)


def _check_same(one: Member, other: Member) -> None:
    advice = "evaluate all runs of both groups on the same images"
    if not one.guesses.index.equals(other.guesses.index):
        missing = len(one.guesses.index.symmetric_difference(other.guesses.index))
        raise BcdzooError(f"{one.name} and {other.name} differ in {missing} images that only one has: {advice}")
    if wrong := int((one.guesses["label"] != other.guesses["label"]).sum()):
        raise BcdzooError(f"{one.name} and {other.name} disagree about the labels of {wrong} images: {advice}")
    if one.data and other.data and one.data[1] != other.data[1]:
        raise BcdzooError(f"{one.name} and {other.name} are not of the same files, by their fingerprints: {advice}")


def _exists(reference: str) -> bool:
    try:
        return Path(reference).exists()
    except (OSError, ValueError):
        return False
