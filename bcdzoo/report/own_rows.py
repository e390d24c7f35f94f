"""Rows of one's own for the comparison tables: a network that is counted here, or published figures from a file."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from bcdzoo.bits import Bits, bits_label
from bcdzoo.errors import BcdzooError
from bcdzoo.ops.conventions import Convention
from bcdzoo.registry import default_arguments, find, zoo_name
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import OWN, PUBLISHED, best_of, best_results, computed, dataset_of, is_on, is_strict, row_of
from bcdzoo.text import near_ones, printable
from bcdzoo.toml import decimal, is_number, read_toml

_MOST = 10**6  # in the units of published.toml: more operations than any network has
_PERCENT = ("top1", "top5")
_WORDS = ("method", "model", "wa")


def counted_row(
    model: str, build: dict[str, Any], results: Iterable[dict[str, Any]], convention: Convention | None = None
) -> Row:
    """A row of a network that is counted now, with the accuracy of one of its runs, if it has any.

    That is the strict run on the most images of the data that the network is for, ImageNet if it is not of the zoo. One
    that has runs on other data alone is counted at the size of their images, and the row says which they are.

    Args:
        model: A zoo name or ``package.module:callable``.
        build: Its arguments.
        results: Evaluation runs; those of this network built so are looked at, whether or not they name its defaults.
        convention: Counting convention; None for both shipped ones.

    Raises:
        BcdzooError: It cannot be built or counted.
    """
    from bcdzoo.ops.count import count_ops

    run, size = own_run(model, build, results)
    report = count_ops(model, input_size=size, **build)
    if left := report.unsupported:
        raise BcdzooError(f"{model} cannot be counted whole: {left[0]} is unknown to the counter")
    name = report.model
    low = {
        Bits(layer.w_bits, layer.a_bits)
        for layer in report.layers
        if layer.w_bits is not None and layer.a_bits is not None and min(layer.w_bits, layer.a_bits) < 32
    }
    about = [f"{key}={printable(value, 40)}" for key, value in build.items()]
    about += [f"{printable(run['dataset'], 40)}, {size}×{size}"] if run and size else []
    entry = {
        "method": name + (f" ({', '.join(about)})" if about else ""),
        "model": name,
        "wa": bits_label(low) if low else "32/32",
    }
    return row_of(OWN, entry, {name: run} if run else {}, convention) | computed(report.counts, convention)


def own_run(
    model: str, build: dict[str, Any], results: Iterable[dict[str, Any]]
) -> tuple[dict[str, Any] | None, int | None]:
    """The run that measured a network, and the side of its images if they are not those of the network's own data."""
    from bcdzoo.custom_model import default_values
    from bcdzoo.data.preprocess import parse

    name = model if ":" in model else find(model).name
    usual = default_values(model) if ":" in model else default_arguments(name)
    runs = [
        result
        for result in results
        if result["model"] == name and is_strict(result) and usual | result.get("build", {}) == usual | build
    ]
    own, elsewhere = [run for run in runs if is_on(run, dataset_of(name))], [run for run in runs if "preprocess" in run]
    if own or not elsewhere:
        return best_of(own, itemgetter("model")).get(name), None
    run = best_of(elsewhere, itemgetter("model"))[name]
    return run, parse(run["preprocess"]).crop


def rows_of_file(path: Path, results: Sequence[dict[str, Any]], convention: Convention | None = None) -> list[Row]:
    """The rows ``[[row]]`` of a TOML file with the keys of published.toml; ``model`` and ``wa`` may be missing.

    Raises:
        BcdzooError: It cannot be read, or something in it is wrong; the message names the row and the key.
    """
    content = read_toml(path, "file of rows", parse_float=decimal)
    entries = content.get("row")
    if content.keys() != {"row"} or not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise BcdzooError(f"{path}: write each row below [[row]], and nothing else")
    measured = best_results(results)
    rows = []
    for number, entry in enumerate(entries, 1):
        _check(f"{path}: row {number}", entry)
        words = {key: printable(entry.get(key, "")) for key in _WORDS}
        rows.append(row_of(OWN, entry | words | {"model": zoo_name(words["model"])}, measured, convention))
    return rows


def _check(where: str, entry: dict[str, Any]) -> None:
    known = (*_WORDS, *PUBLISHED)
    if unknown := entry.keys() - set(known):
        near = near_ones(min(unknown), known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BcdzooError(f"{where}: unknown key {printable(repr(min(unknown)), 60)}{hint}")
    for key in _WORDS:
        value = entry.get(key, "" if key != "method" else None)
        if not isinstance(value, str) or len(value) > 100 or (key == "method" and not value.strip()):
            raise BcdzooError(f"{where}: {key} must be a text of 100 characters at most")
    for key in PUBLISHED:
        if key in entry and not is_number(entry[key], 100 if key in _PERCENT else _MOST):
            raise BcdzooError(f"{where}: {key} is {printable(repr(entry[key]), 60)}, which it cannot be")
