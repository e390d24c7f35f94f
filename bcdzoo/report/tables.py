"""The paper's two comparison tables, and those of other networks: published numbers beside counted and measured ones.

No torch, no pandas.
"""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatch
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

from bcdzoo.data.preprocess import DECODERS
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.store import decoder_of
from bcdzoo.ops.conventions import DAGGER, FULL, OF_PAPERS, Convention, is_of_papers
from bcdzoo.registry import REGISTRY, find, is_pattern, list_models
from bcdzoo.report import sheets
from bcdzoo.report.counts import counts, forms_of
from bcdzoo.report.sheets import Row, Sheet
from bcdzoo.text import printable
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

UNITS = {what: Decimal(10**power) for what, power in FULL.units.items()}
"""Of :data:`PUBLISHED`."""

COMPUTED = tuple(f"computed_{what}{dagger}" for dagger in ("", "_dagger") for what in UNITS)
MEASURED = ("measured_top1", "measured_top5", "measured_n")
TIMED = ("measured_ms", "measured_by")
"""Keys of :func:`bcdzoo.report.speeds.with_speeds`; None without benchmarks."""


def rows(which: Iterable[Table], results: Iterable[dict[str, Any]], convention: Convention | None = None) -> list[Row]:
    """Every row of the chosen tables in the paper's order.

    Args:
        which: Some of :data:`SHIPPED`.
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        convention: Counting convention of what is computed; None for both of the papers.

    Returns:
        Rows with ``table``, ``method``, ``model``, ``wa``, the keys of :data:`PUBLISHED` (``Decimal``, with the printed
        digits), :data:`COMPUTED` (raw counts), :data:`MEASURED` and :data:`TIMED`; None where nothing is known. With a
        convention its name is the key ``convention``, and ``computed_bops``, ``computed_flops`` and
        ``computed_ops`` are under it.
    """
    published = published_figures()
    measured = best_results(results)
    return [
        row_of(number, entry, measured, convention)
        for number in which
        for entry in published[number if isinstance(number, str) else f"table{number}"]
    ]


@cache
def published_figures() -> dict[str, Any]:
    """The entries of published.toml, by table."""
    text = (files("bcdzoo") / "report" / "published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)


def row_of(
    number: Table, entry: dict[str, Any], measured: dict[str, dict[str, Any]], convention: Convention | None = None
) -> Row:
    """A row, from an entry of published.toml and the best run of each network."""
    return {
        "table": number,
        **{key: entry[key] for key in ("method", "model", "wa")},
        **{key: Decimal(entry[key]) if key in entry else None for key in PUBLISHED},
        **computed(counts()[entry["model"]]["kinds"] if entry["model"] in counts() else None, convention),
        **_measured(measured.get(entry["model"])),
        **dict.fromkeys(TIMED),
    }


def computed(kinds: dict[str, int] | None, convention: Convention | None) -> Row:
    """The operations of a row, from those of its network by kind; None where it is not counted."""
    rules = {"": convention} if convention else dict(zip(("", "_dagger"), OF_PAPERS, strict=True))
    totals = {suffix: one.totals(kinds) if kinds is not None else {} for suffix, one in rules.items()}
    named = {"convention": convention.name} if convention else {}
    return named | {f"computed_{what}{suffix}": found.get(what) for suffix, found in totals.items() for what in UNITS}


def best_results(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each network its strict run on the most images, the latest of equals; no runs of its other forms.

    Only images of the data that it was published for count: of ImageNet any number, of others the whole test set.
    """
    own = (result for result in results if is_on(result, dataset_of(result["model"])))
    return best_of((result for result in own if is_strict(result) and own_form(result)), itemgetter("model"))


def dataset_of(model: str) -> str:
    """The data that a network was published for; ImageNet for one that is not of the zoo."""
    return REGISTRY[model].dataset if model in REGISTRY else "imagenet"


def is_on(result: dict[str, Any], dataset: str) -> bool:
    """Whether a run is on some images of ImageNet, or on the whole test set of other data."""
    if dataset == "imagenet":
        return bool(result["dataset"] == dataset)
    return dataset in _FINGERPRINTS and result.get("fingerprint") == _FINGERPRINTS[dataset]


def best_of(results: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, dict[str, Any]]:
    """For each key the run on the most images, the latest of equals."""
    return {key(result): result for result in sorted(results, key=itemgetter("n", "started"))}


def is_strict(result: dict[str, Any]) -> bool:
    """Whether a run is in float32, of images that Pillow decoded, and without anything faster that was asked for."""
    fast = result.get("compiled") or result.get("channels_last") or result.get("precision", "float32") != "float32"
    return not fast and decoder_of(result) == DECODERS[0]


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
    if printed is None or row.get(f"computed_{key}") is None:
        return False
    keys = [key] if key.endswith("_dagger") or row.get(f"{key}_dagger") is not None else [key, f"{key}_dagger"]
    return all(rounded(row[f"computed_{k}"], k, printed) != printed for k in keys)


def rounded(count: int, key: str, like: Decimal) -> Decimal:
    """Round a raw count in the table's unit to the digits of a printed number."""
    return (count / UNITS[key.removesuffix("_dagger")]).quantize(like, ROUND_HALF_UP)


class Field(NamedTuple):
    """A column that rows can be shown in.

    Attributes:
        column: How it is printed.
        cell: Text of a row in it.
        group: In LaTeX, what it belongs to: a short head of its own is below that.
        short: That head.
    """

    column: Column
    cell: Callable[[Row], str]
    group: str = ""
    short: str = ""


def _of_key(key: str) -> Callable[[Row], str]:
    return lambda row: _dash(row[key])


def _of_percent(key: str) -> Callable[[Row], str]:
    return lambda row: "–" if row[key] is None else f"{row[key]:.2f}"


COMBINED: dict[str, Field] = {
    "method": Field(Column("Method", fold=True), _of_key("method")),
    "wa": Field(Column("W/A", rank=2), _of_key("wa")),
    "bops": Field(Column("BOPs (1e9)", right=True, rank=3), lambda row: _published(row, "bops")),
    "computed_bops": Field(
        Column("computed", right=True, rank=4, name="computed BOPs"), lambda row: _counted(row, "bops")
    ),
    "flops": Field(Column("FLOPs (1e8)", right=True, rank=4), lambda row: _published(row, "flops")),
    "computed_flops": Field(
        Column("computed", right=True, rank=5, name="computed FLOPs"), lambda row: _counted(row, "flops")
    ),
    "ops": Field(Column("OPs (1e8)", right=True), lambda row: _published(row, "ops")),
    "computed_ops": Field(
        Column("computed", right=True, rank=1, name="computed OPs"), lambda row: _counted(row, "ops")
    ),
    "top1": Field(Column("Top-1", right=True), _of_key("top1")),
    "top5": Field(Column("Top-5", right=True, rank=6), _of_key("top5")),
    "measured_top1": Field(Column("measured Top-1", right=True), _of_percent("measured_top1")),
    "measured_top5": Field(Column("Top-5", right=True, rank=6, name="measured Top-5"), _of_percent("measured_top5")),
    "measured_n": Field(Column("images", right=True, rank=6), _of_key("measured_n")),
}
"""The columns if nobody chooses: both conventions in one; on a terminal those of a high rank may be missing."""

_TIME = Field(
    Column("ms (measured)", right=True, rank=2),
    lambda row: "–" if row["measured_ms"] is None else f"{row['measured_ms']:.2f} ({row['measured_by']})",
    "measured",
    "ms",
)
"""Another, where there are benchmarks."""

COLUMNS = tuple(field.column for field in COMBINED.values())
HEADERS = tuple(column.head for column in COLUMNS)


def cells(row: Row) -> list[str]:
    """A row as text, in the columns of :data:`HEADERS`; † marks the dagger convention, ≠ a difference."""
    return [field.cell(row) for field in COMBINED.values()]


def _dash(value: Any) -> str:
    return "–" if value is None else str(value)


def _published(row: Row, what: str) -> str:
    dagger = row.get(f"{what}_dagger")
    return _dash(row[what]) + (f" ({dagger}†)" if dagger is not None else "")


def _counted(row: Row, what: str) -> str:
    full = _count(row, what, "", differs(row, what))
    if what == "bops" or row["computed_bops"] is None:
        return full
    dagger = _count(row, what, "_dagger", False) + "†" + " ≠" * differs(row, f"{what}_dagger")
    return f"{full} ({dagger})"


def _count(row: Row, what: str, suffix: str, marked: bool) -> str:
    """A computed number with the digits of the published one; under another convention it is of the same kind."""
    count = row[f"computed_{what}{suffix}"]
    if not count:
        return _alone(count, UNITS[what])
    digits = row[what] or _digits((row.get(f"computed_{what}") or count) / UNITS[what])
    return f"{rounded(count, what, digits):f}" + " ≠" * marked


def _alone(count: int | None, unit: Decimal) -> str:
    """A computed number that no published one is beside."""
    if not count:
        return "–" if count is None else "0"
    return f"{(count / unit).quantize(_digits(count / unit), ROUND_HALF_UP):f}"


def _digits(value: Decimal) -> Decimal:
    """The last place shown of a number without published digits: the second after the point, or its own second."""
    return Decimal(1).scaleb(min(-2, value.adjusted() - 1)) if value else Decimal(0)


HEADS = {"bops": ("BOPs", "1e9"), "flops": ("FLOPs", "1e8"), "ops": ("OPs", "1e8")}


def fields(convention: Convention | None) -> dict[str, Field]:
    """Every column that can be chosen, by the key that the rows have for it: one number each."""
    found = {
        "table": Field(Column("Table"), _of_key("table"), short="Table"),
        "method": Field(Column("Method", fold=True), _of_key("method"), short="Method"),
        "model": Field(Column("Network"), _of_key("model"), short="Network"),
        "wa": Field(Column("W/A"), _of_key("wa"), short="W/A"),
    }
    if convention:
        found["convention"] = Field(Column("Convention"), _of_key("convention"), short="Convention")
    for what, (name, unit) in HEADS.items():
        for suffix, dagger in (("", ""), ("_dagger", "†")):
            key = what + suffix
            if key in PUBLISHED:
                column = Column(f"{name}{dagger} ({unit})", right=True)
                found[key] = Field(column, _of_key(key), name, f"p{dagger}")
            if not (convention and dagger):
                found[f"computed_{key}"] = _computed_field(what, suffix, convention)
    for key, name in (("top1", "Top-1"), ("top5", "Top-5")):
        found[key] = Field(Column(name, right=True), _of_key(key), "published", name)
    for key, name in (("measured_top1", "Top-1"), ("measured_top5", "Top-5"), ("measured_n", "images")):
        cell = _of_key(key) if key == "measured_n" else _of_percent(key)
        found[key] = Field(Column(f"measured {name}", right=True), cell, "measured", name)
    found["measured_ms"] = Field(Column("ms (measured)", right=True), _of_percent("measured_ms"), "measured", "ms")
    found["measured_by"] = Field(Column("measured by"), _of_key("measured_by"), "measured", "by")
    return found


def _computed_field(what: str, suffix: str, convention: Convention | None) -> Field:
    name, unit = HEADS[what]
    dagger = "†" if suffix else ""
    if convention is None or what == "bops":
        column = Column(f"computed {name}{dagger} ({unit})", right=True)
        published = what + suffix if what + suffix in PUBLISHED else what
        return Field(column, lambda row: _count(row, what, suffix, differs(row, published)), name, f"c{dagger}")
    if not is_of_papers(convention):
        called, power = convention.called[what], convention.units[what]
        head = called if convention.name.lower() in called.lower().split() else f"{convention.name} {called}"
        column = Column(f"{head} (1e{power})", right=True)
        return Field(column, lambda row: _alone(row[f"computed_{what}"], Decimal(10**power)), called, convention.name)
    column = Column(f"{convention.name} {name} ({unit})", right=True)
    mark = "†" if convention == DAGGER else ""
    return Field(column, lambda row: _count(row, what, "", _differs_under(row, what, mark)), name, f"c{mark}")


def _differs_under(row: Row, what: str, mark: str) -> bool:
    """As :func:`differs`, of a row that has only what is computed under one of the shipped conventions."""
    if row["computed_bops"] is None or row["model"] not in counts():
        return False
    key = f"{what}_dagger" if mark and row[f"{what}_dagger"] is not None else what
    return differs(row | computed(counts()[row["model"]]["kinds"], None), key)


def _layout(
    convention: Convention | None, columns: Sequence[str] | None, style: str, timed: bool = False
) -> list[Field]:
    """What is shown, with the times if there are any.

    Figures under somebody's own convention do not stand beside published ones.
    """
    known = fields(convention)
    if columns:
        return [known[key]._replace(column=replace(known[key].column, rank=rank)) for rank, key in enumerate(columns)]
    ours = convention is None or is_of_papers(convention)
    if style == "latex":
        without = ("table", "model", "convention", "computed_bops_dagger", *(() if ours else _UNLIKE))
        without += () if timed else TIMED
        return [field for key, field in known.items() if key not in without]
    shown = COMBINED | ({"measured_ms": _TIME} if timed else {})
    if convention:
        for key in ("computed_flops", "computed_ops"):
            name, column = known[key].column.head, replace(known[key].column, rank=COMBINED[key].column.rank)
            shown[key] = known[key]._replace(
                column=replace(column, head=convention.name, name=name) if ours else column
            )
    return [field for key, field in shown.items() if ours or key not in _UNLIKE]


_UNLIKE = ("flops", "flops_dagger", "ops", "ops_dagger")


def matching(table_rows: list[Row], patterns: Iterable[str]) -> list[Row]:
    """The rows whose network, or its printed name, matches one of the patterns; all of them without a pattern.

    Rows of one's own stay in any case.

    Raises:
        BcdzooError: A pattern matches none.
    """
    kept = {number for number, row in enumerate(table_rows) if row.get("table") == OWN}
    patterns = list(patterns)
    for pattern in patterns:
        names = list_models(pattern)
        found = [
            number
            for number, row in enumerate(table_rows)
            if row["model"] in names
            or any(fnmatch(row.get(key, "").lower(), pattern.lower()) for key in ("model", "method"))
        ]
        if not found and not is_pattern(pattern):
            name = find(pattern).name  # what is no network at all is said so
            raise BcdzooError(f"{name} has no row in these tables; `bcdzoo table --row {name}` counts it")
        if not found:
            raise BcdzooError(f"no row of the tables matches {printable(repr(pattern), 100)}")
        kept.update(found)
    return [row for number, row in enumerate(table_rows) if number in kept] if patterns else table_rows


def arranged(table_rows: list[Row], key: str, descending: bool) -> list[Row]:
    """The rows in the order of a column, within each table; those without a value last."""

    def order(row: Row) -> Any:
        return row[key].casefold() if isinstance(row[key], str) else row[key]

    parts: dict[Table, list[Row]] = {}
    for row in table_rows:
        parts.setdefault(row["table"], []).append(row)
    arranged = []
    for part in parts.values():
        known = [row for row in part if row[key] not in (None, "")]
        arranged += sorted(known, key=order, reverse=descending) + [row for row in part if row[key] in (None, "")]
    return arranged


_OF_COUNTS = (
    "full: convolutions, linear layers and per element sign 1, shortcut addition 1, RPReLU 2, other activations 1, "
    "gates 1, global pooling 1. dagger (ReActNet's): convolutions and linear layers only. OPs = FLOPs + BOPs/64."
)
_UNMARKED = (
    "Unmarked columns are published, in the paper's tables or by a network's own authors; a dash: not published, or "
    "not counted or measured here."
)
_COUNTED = "counted by bcdzoo at the size of the data's images, 224×224 for ImageNet"
DIFFERS = (
    "≠: the computed number differs from the published one in the last printed digit (where one number is printed: "
    "under both conventions); docs/counting.md and `bcdzoo explain` say why."
)
_MEASURED = (
    "measured: the run of `bcdzoo eval` on the most ImageNet images; fewer than 50000 images are a sample. Of MNIST "
    "and CIFAR-10: a run on the whole test set."
)
_OWN = (
    "Rows of your own: counted at 224×224, or at the network's own size; where data and a size are named, at that size "
    "and measured on those images, by the run on the most of them."
)
BEYOND = (
    "BNext: its repository's README, whose operations are of a form with 8-bit stem, gates and classifier "
    "(docs/counting.md). AlexNets, BinaryDenseNet, QuickNet and BinaryResNetE: larq-zoo 2.4.0, accuracies as "
    "documented there, BOPs and FLOPs as in larq's own summary (the convention †), which has no OPs. BMXNet's "
    "networks: trained weights are public, no accuracy of theirs is.",
)
SMALL = (
    "FINN: handed down with BNN-PYNQ's weights (its notebook prints 98.4 for LFC). TFC: the README of the QONNX model "
    "zoo. IR-Net, RBNN, AdaBin: the README of their authors' repositories, but `best_prec1` in the file of the weights "
    "of AdaBin's ResNet-20. `bcdzoo table --which reproduced` has what was measured.",
)


def legend(table_rows: list[Row], convention: Convention | None = None) -> tuple[str, ...]:
    """The notes under some rows, a sentence or two each."""
    differs = DIFFERS if convention is None or is_of_papers(convention) else _unlike(convention)
    return (_UNMARKED, counts_note(convention), differs, _MEASURED, *sources(table_rows))


def _unlike(rules: Convention) -> str:
    return f"{rules.real} and {rules.total} under this convention are not comparable with published ones."


def units_note(rules: Convention) -> str:
    """The units that totals under a convention are printed in."""
    units = rules.units
    return ", ".join(f"{called} in 1e{units[what]}" for what, called in rules.called.items()) + " of one image"


def counts_note(convention: Convention | None, what: str = "computed") -> str:
    """How something is counted, in a sentence or two."""
    under = f"; the full convention, and in brackets † the dagger convention. {_OF_COUNTS}"
    if convention:
        under = f", under {convention.line}. {convention.formula}."
    return f"{what}: {_COUNTED}{under}"


def sources(table_rows: Sequence[Row]) -> tuple[str, ...]:
    """Where the figures of some rows are printed."""
    tables = {row["table"] for row in table_rows}
    return (
        (BEYOND if "beyond" in tables else ())
        + (SMALL if tables & {"cifar10", "mnist"} else ())
        + ((_OWN,) if OWN in tables else ())
    )


def _footnotes(table_rows: list[Row], shown: list[Field], convention: Convention | None) -> list[str]:
    """The marks of a table in LaTeX, as short as they can be."""
    marks = {field.short for field in shown}
    full = "the full convention (per element also signs, shortcuts, activations, gates and global pooling)"
    dagger = "the dagger convention (convolutions and linear layers only)"
    notes = [f"{units_note(convention or FULL)}."]
    notes += ["p: published."] * bool({"p", "p†"} & marks)
    if convention is None:
        notes += [f"c: counted by bcdzoo under {full}."] * ("c" in marks) + [f"†: {dagger}."] * ("c†" in marks)
    else:
        notes += [f"Counted by bcdzoo under {convention.line}."]
        notes += [] if is_of_papers(convention) else [_unlike(convention)]
    notes += [f"{convention.formula if convention else FULL.formula}."]
    if any(" ≠" in field.cell(row) for field in shown for row in table_rows):
        notes += ["≠: not the published number in its last digit (where one is printed: under both conventions)."]
    if any(row["measured_n"] for row in table_rows):
        notes += ["measured: by `bcdzoo eval`; fewer than 50000 images of ImageNet are a sample."]
    return [*notes, *sources(table_rows)]


def render(
    table_rows: list[Row],
    style: str,
    columns: Sequence[str] | None = None,
    convention: Convention | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The rows as text.

    Args:
        table_rows: Rows from :func:`rows`.
        style: One of :data:`bcdzoo.report.sheets.STYLES`.
        columns: Some of :func:`fields`, in the order in which they are shown; None for those that suit the style.
        convention: Counting convention of the rows, as for :func:`rows`.
        notes: Further notes under them.
    """
    shown = _layout(convention, columns, style, any(row["measured_ms"] for row in table_rows))
    bodies: dict[Table, list[Row]] = {}
    for row in table_rows:
        bodies.setdefault(row["table"], []).append(row)
    parts = [
        Sheet(
            TITLES[table],
            [field.column for field in shown],
            [[field.cell(row) for field in shown] for row in body],
            [(field.group, field.short or field.column.head) for field in shown],
            [*_footnotes(body, shown, convention), *notes],
        )
        for table, body in bodies.items()
    ]
    records = [{key: row[key] for key in columns} for row in table_rows] if columns else table_rows
    return sheets.render(parts, (*legend(table_rows, convention), *notes), records, style)
