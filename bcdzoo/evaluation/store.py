"""The results store: a JSON file per run, with the predictions as Parquet beside it.

Reading it imports neither torch nor pandas.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bcdzoo.data.preprocess import DECODERS
from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, results_dir
from bcdzoo.seal import DamagedError, read_json
from bcdzoo.text import as_utf8, printable, say

ID = 6
"""Characters of a run's id."""


def write_record(path: Path, record: Any) -> None:
    """Write a sealed result, or a list of several, as JSON, atomically.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_result(path: Path) -> dict[str, Any]:
    """Read a result; adds its file's name as ``run``, and whether a seal was checked as ``checked``.

    Raises:
        BcdzooError: It is damaged, or not a result of ``bcdzoo eval``.
        OSError: It cannot be read.
    """
    result, checked = read_json(path)
    if problem := _problem(result) or (None if _text(path.stem) else "its file's name is not UTF-8"):
        raise DamagedError(f"{path} is not a result of bcdzoo eval: {problem}")
    return result | {"run": path.stem, "checked": checked}


def read_results() -> list[dict[str, Any]]:
    """Read all results in the store, oldest first, like :func:`read_result`.

    A file that is not a valid result is named on stderr and left out; unchecked ones are counted.
    """
    results, damaged = read_store()
    for path, reason in damaged.items():
        say(f"{path} is left out: {reason}")
    if unchecked := sum(not result["checked"] for result in results):
        say(f"{unchecked} of {len(results)} results are unchecked: they have no hash, as older versions wrote them")
    return results


def run_id(run: str) -> str:
    """A run's short id, made from its name: it stays the same whatever else is in the store."""
    return hashlib.sha256(run.encode()).hexdigest()[:ID]


def decoder_of(result: dict[str, Any]) -> str:
    """The decoder of a run's images; older versions had one alone."""
    return str(result.get("decoder", DECODERS[0]))


def runs_of(model: str) -> list[dict[str, Any]]:
    """The runs of a network in the store, oldest first."""
    return [result for result in read_results() if result["model"] == model]


def find_run(reference: str, among: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One run of the store.

    Args:
        reference: Its id, its name, its label, or the beginning of its name.
        among: The runs to look among; None for all evaluations.

    Raises:
        BcdzooError: It is none, or could be several.
    """
    results = read_results() if among is None else among
    found: list[dict[str, Any]] = []
    if reference:
        ways: tuple[Callable[[dict[str, Any]], bool], ...] = (
            lambda result: bool(result["run"] == reference),
            lambda result: run_id(result["run"]) == reference.lower(),
            lambda result: bool(result.get("label") == reference),
            lambda result: bool(result["run"].startswith(reference)),
        )
        found = next(filter(None, ([result for result in results if way(result)] for way in ways)), [])
    if len(found) == 1:
        return found[0]
    ids = ", ".join(run_id(result["run"]) for result in found[-3:])
    what = f"{len(found)} runs are called so, the latest {ids}" if found else "no run is called so"
    raise BcdzooError(f"{printable(reference, 100)!r}: {what}: `bcdzoo results` lists them")


def remove_run(result: dict[str, Any]) -> list[Path]:
    """Delete a run of the store, its predictions with it; the files that are gone.

    Raises:
        BcdzooError: A file cannot be deleted.
    """
    names = [f"{result['run']}.json"]
    predictions = result.get("predictions_file")
    if predictions and not any(
        other.get("predictions_file") == predictions for other in read_store()[0] if other["run"] != result["run"]
    ):
        names.append(predictions)
    gone = []
    for path in (results_dir() / name for name in names):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BcdzooError(f"cannot delete {path}: {error.strerror}") from None
        gone.append(path)
    return gone


def read_store() -> tuple[list[dict[str, Any]], dict[Path, str]]:
    """Read all results like :func:`read_results`, and the invalid files with the reason."""
    results, damaged = [], {}
    for path in sorted(results_dir().glob("*.json")):
        try:
            results.append(read_result(path))
        except (BcdzooError, OSError) as error:
            damaged[path] = str(error).removeprefix(f"{path} ").removeprefix("is ")
    return results, damaged


def _problem(result: dict[str, Any]) -> str | None:
    if missing := _NEEDED - result.keys():
        return f"it has no {min(missing)}"
    for key, right in _RIGHT.items():
        if key in result and not right(result[key]):
            return f"its {key} is {printable(repr(result[key]), 60)}"
    for key, hits in result.get("hits", {}).items():
        if abs(100 * hits / result["n"] - result[key]) > 1e-6:
            return f"its {key} is {result[key]}, but it has {hits} hits in {result['n']} images"
    return None


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 10_000 and value == as_utf8(value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _percent(value: Any) -> bool:
    return _number(value) and 0 <= value <= 100


def _interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_percent, value))


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool) or _text(value) or _number(value)


def _file_name(value: Any) -> bool:
    return _text(value) and Path(value).name == value and "\0" not in value


def _none_or(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or right(value)


def _table(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_text, value)) and all(map(right, value.values()))


def _list(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(right, value))


def _accuracy(value: Any) -> bool:
    return isinstance(value, dict) and _interval(value.get("top1")) and _interval(value.get("top5"))


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


_NEEDED = {"model", "weights", "backend", "n", "top1", "top5", "ci95", "dataset", "started"}

_RIGHT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("model", "backend", "dataset", "started", "state", "data", "layout", "labels_from"), _text),
    **dict.fromkeys(("fingerprint", "preprocess", "preprocess_from", "device", "precision", "decoder"), _text),
    **dict.fromkeys(("weights", "sha256", "predictions_sha256", "label"), _none_or(_text)),
    **dict.fromkeys(("outputs", "classes", "batch_size", "processes", "threads", "resumed", "networks"), _count),
    **dict.fromkeys(("top1", "top5"), _percent),
    **dict.fromkeys(("compiled", "channels_last"), _flag),
    "n": lambda value: _count(value) and 0 < value < 2**53,
    "ci95": _accuracy,
    "hits": lambda value: _table(_count)(value) and value.keys() == {"top1", "top5"},
    "build": _table(lambda value: _plain(value) or _list(_plain)(value)),
    "versions": _table(_text),
    "notes": _list(_text),
    "skipped": _list(_table(_text)),
    "predictions_file": _none_or(_file_name),
    "real": _none_or(lambda value: isinstance(value, dict)),
}
"""Checks of fields, which are optional because older versions did not have all of them."""
