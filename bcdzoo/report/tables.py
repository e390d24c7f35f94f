"""The paper's two comparison tables, and those of other networks: published numbers beside counted and measured ones.

No torch, no pandas.
"""

import tomllib
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal
from importlib.resources import files
from operator import itemgetter
from typing import Any

from bcdzoo.registry import REGISTRY
from bcdzoo.report import sheets
from bcdzoo.report.counts import counts, forms_of
from bcdzoo.report.sheets import Row, Sheet
from bcdzoo.text_table import Column

Table = int | str

OWN = "own"

TITLES: dict[Table, str] = {
    1: "ImageNet, all networks (table 1)",
    2: "ImageNet on ResNet-18 (table 2)",
    "beyond": "ImageNet, networks that are not in the paper's tables",
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    OWN: "Rows of your own",
}
IMAGENET: tuple[Table, ...] = (1, 2, "beyond")
SHIPPED: tuple[Table, ...] = tuple(table for table in TITLES if table != OWN)
"""The tables of published.toml."""

_FINGERPRINTS = {
    "cifar10": "a34f3f620e2a353b43e87db497e30b1daa1cd74f1bba7be2b6df2c7bfdd4e123",
    "fashion-mnist": "711a04cc97e4ce04cf92256608d251406f70fa6ed0423ddae5fc104fd05ad675",
    "mnist": "676c70d66ea17dba0c5e65a3aa02ff5288ee1c97095f73271d64d5218459d295",
}
"""Of whole test sets, in their own files: a folder's name does not say what is in it.

CIFAR-10's is computed from its labels in order (cleanlab/label-errors@6d5d6b3), because its files were not at hand.
"""

PUBLISHED = ("bops", "flops", "flops_dagger", "ops", "ops_dagger", "top1", "top5")
"""Keys of published.toml; bops in 1e9, flops and ops in 1e8, accuracies in percent."""

UNITS = {"bops": Decimal(10**9), "flops": Decimal(10**8), "ops": Decimal(10**8)}

COMPUTED = tuple(f"computed_{what}{dagger}" for dagger in ("", "_dagger") for what in UNITS)
MEASURED = ("measured_top1", "measured_top5", "measured_n")


def rows(which: Iterable[Table], results: Iterable[dict[str, Any]]) -> list[Row]:
    """Every row of the chosen tables in the paper's order.

    Args:
        which: Some of :data:`SHIPPED`.
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).

    Returns:
        Rows with ``table``, ``method``, ``model``, ``wa``, the keys of :data:`PUBLISHED` (``Decimal``, with the printed
        digits), :data:`COMPUTED` (raw counts) and :data:`MEASURED`; None where nothing is known.
    """
    text = (files("bcdzoo") / "report" / "published.toml").read_text(encoding="utf-8")
    published = tomllib.loads(text, parse_float=Decimal)
    measured = best_results(results)
    return [
        row_of(number, entry, measured)
        for number in which
        for entry in published[number if isinstance(number, str) else f"table{number}"]
    ]


def row_of(number: Table, entry: dict[str, Any], measured: dict[str, dict[str, Any]]) -> Row:
    """A row, from an entry of published.toml and the best run of each network."""
    return {
        "table": number,
        **{key: entry[key] for key in ("method", "model", "wa")},
        **{key: Decimal(entry[key]) if key in entry else None for key in PUBLISHED},
        **_computed(entry["model"]),
        **_measured(measured.get(entry["model"])),
    }


def _computed(model: str) -> Row:
    known = counts().get(model)
    names = {"": "full", "_dagger": "dagger"}
    return {
        f"computed_{what}{suffix}": known[convention][what] if known else None
        for suffix, convention in names.items()
        for what in UNITS
    }


def best_results(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each network its strict run on the most images, the latest of equals; no runs of its other forms.

    Only images of the data that it was published for count: of ImageNet any number, of others the whole test set.
    """
    own = (result for result in results if _is_on(result, dataset_of(result["model"])))
    return best_of((result for result in own if is_strict(result) and own_form(result)), itemgetter("model"))


def dataset_of(model: str) -> str:
    """The data that a network was published for; ImageNet for one that is not of the zoo."""
    return REGISTRY[model].dataset if model in REGISTRY else "imagenet"


def _is_on(result: dict[str, Any], dataset: str) -> bool:
    if dataset == "imagenet":
        return bool(result["dataset"] == dataset)
    return dataset in _FINGERPRINTS and result.get("fingerprint") == _FINGERPRINTS[dataset]


def best_of(results: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, dict[str, Any]]:
    """For each key the run on the most images, the latest of equals."""
    return {key(result): result for result in sorted(results, key=itemgetter("n", "started"))}


def is_strict(result: dict[str, Any]) -> bool:
    """Whether a run is in float32 and without anything faster that was asked for."""
    fast = result.get("compiled") or result.get("channels_last") or result.get("precision", "float32") != "float32"
    return not fast


def own_form(result: dict[str, Any], *free: str) -> bool:
    """Whether a run used the named network, not another form such as step 1; arguments named as free may differ.

    Its forms are its arguments' defaults, and what its published checkpoints need.
    """
    forms = forms_of(result["model"])
    built = forms[0] | result.get("build", {})
    return any(all(key in free or form.get(key) == built[key] for key in built) for form in forms)


def _measured(result: dict[str, Any] | None) -> Row:
    return {key: result[key.removeprefix("measured_")] if result else None for key in MEASURED}


def differs(row: Row, key: str) -> bool:
    """Whether a published operation count differs from the computed one in its last printed digit.

    A row that prints one number does not say under which convention: it agrees if either gives it.

    Args:
        row: Row from :func:`rows`.
        key: "bops", "flops", "flops_dagger", "ops" or "ops_dagger".
    """
    printed = row[key]
    if printed is None or row[f"computed_{key}"] is None:
        return False
    keys = [key] if key.endswith("_dagger") or row.get(f"{key}_dagger") is not None else [key, f"{key}_dagger"]
    return all(rounded(row[f"computed_{k}"], k, printed) != printed for k in keys)


def rounded(count: int, key: str, like: Decimal) -> Decimal:
    """Round a raw count in the table's unit to the digits of a printed number."""
    return (count / UNITS[key.removesuffix("_dagger")]).quantize(like, ROUND_HALF_UP)


COLUMNS = (
    Column("Method"),
    Column("W/A", rank=2),
    Column("BOPs (1e9)", right=True, rank=3),
    Column("computed", right=True, rank=4),
    Column("FLOPs (1e8)", right=True, rank=4),
    Column("computed", right=True, rank=5),
    Column("OPs (1e8)", right=True),
    Column("computed", right=True, rank=1),
    Column("Top-1", right=True),
    Column("Top-5", right=True, rank=6),
    Column("measured Top-1", right=True),
    Column("Top-5", right=True, rank=6),
    Column("images", right=True, rank=6),
)
"""Of the tables; on a terminal those of a high rank may be missing."""

HEADERS = tuple(column.head for column in COLUMNS)


def cells(row: Row) -> list[str]:
    """A row as text, in the columns of :data:`HEADERS`; † marks the dagger convention, ≠ a difference."""
    texts = [row["method"], row["wa"]]
    for what in UNITS:
        texts += [_published(row, what), _counted(row, what)]
    texts += [_dash(row["top1"]), _dash(row["top5"])]
    for key in ("measured_top1", "measured_top5"):
        texts.append("–" if row[key] is None else f"{row[key]:.1f}")
    texts.append(_dash(row["measured_n"]))
    return texts


def _dash(value: Any) -> str:
    return "–" if value is None else str(value)


def _published(row: Row, what: str) -> str:
    dagger = row.get(f"{what}_dagger")
    return _dash(row[what]) + (f" ({dagger}†)" if dagger is not None else "")


def _counted(row: Row, what: str) -> str:
    full, dagger = row[f"computed_{what}"], row[f"computed_{what}_dagger"]
    if full is None:
        return "–"
    digits = row[what] if row[what] else _digits(full / UNITS[what])
    text = f"{rounded(full, what, digits):f}" + (" ≠" if differs(row, what) else "")
    if what == "bops":
        return text
    unlike = " ≠" if differs(row, f"{what}_dagger") else ""
    return f"{text} ({rounded(dagger, what, digits):f}†{unlike})"


def _digits(value: Decimal) -> Decimal:
    """The last place shown of a number without published digits: the second after the point, or its own second."""
    return Decimal(1).scaleb(min(-2, value.adjusted() - 1)) if value else Decimal(0)


LEGEND = (
    "Unmarked columns are published, in the paper's tables or by a network's own authors; a dash: not published, or "
    "not counted or measured here.",
    "computed: counted by bcdzoo at the size of the data's images, 224×224 for ImageNet; the full convention, and in "
    "brackets † the dagger convention. full: convolutions, linear layers and per element sign 1, shortcut addition 1, "
    "RPReLU 2, other activations 1, gates 1, global pooling 1. dagger (ReActNet's): convolutions and linear layers "
    "only. OPs = FLOPs + BOPs/64.",
    "≠: the computed number differs from the published one in the last printed digit (where one number is printed: "
    "under both conventions); docs/counting.md says why.",
    "measured: the run of `bcdzoo eval` on the most ImageNet images; fewer than 50000 images are a sample. Of MNIST "
    "and CIFAR-10: a run on the whole test set.",
)

BEYOND = (
    "BNext: its repository's README, whose operations are of a form with 8-bit stem, gates and classifier "
    "(docs/counting.md). BinaryDenseNet, BinaryResNetE and QuickNet: larq-zoo 2.4.0, accuracies as documented there, "
    "operations as larq's own summary computes them (the convention †). BMXNet's networks: trained weights are public, "
    "no accuracy of theirs is.",
)
SMALL = (
    "FINN: handed down with BNN-PYNQ's weights (its notebook prints 98.4 for LFC). TFC: the README of the QONNX model "
    "zoo. IR-Net, RBNN, AdaBin: the README of their authors' repositories, but `best_prec1` in the file of the weights "
    "of AdaBin's ResNet-20. `bcdzoo table --which reproduced` has what was measured.",
)


def legend(table_rows: list[Row]) -> tuple[str, ...]:
    """The notes under some rows, a sentence or two each."""
    tables = {row["table"] for row in table_rows}
    return LEGEND + (BEYOND if "beyond" in tables else ()) + (SMALL if tables & {"cifar10", "mnist"} else ())


def render(table_rows: list[Row], style: str) -> str:
    """The rows as text.

    Args:
        table_rows: Rows from :func:`rows`.
        style: One of :data:`bcdzoo.report.sheets.STYLES`.
    """
    bodies: dict[Table, list[list[str]]] = {}
    for row in table_rows:
        bodies.setdefault(row["table"], []).append(cells(row))
    return sheets.render(
        [Sheet(TITLES[table], COLUMNS, body) for table, body in bodies.items()], legend(table_rows), table_rows, style
    )
