"""The paper's two comparison tables, and one of other networks: published numbers beside counted and measured ones.

No torch, no pandas.
"""

import csv
import io
import json
import textwrap
import tomllib
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal
from importlib.resources import files
from operator import itemgetter
from typing import Any

from tabulate import tabulate

from bcdzoo.report.counts import counts, forms_of
from bcdzoo.text_table import Column, bold, table, terminal_width

Table = int | str

OWN = "own"

TITLES: dict[Table, str] = {
    1: "ImageNet, all networks (table 1)",
    2: "ImageNet on ResNet-18 (table 2)",
    "beyond": "ImageNet, networks that are not in the paper's tables",
    OWN: "Rows of your own",
}

PUBLISHED = ("bops", "flops", "flops_dagger", "ops", "ops_dagger", "top1", "top5")
"""Keys of published.toml; bops in 1e9, flops and ops in 1e8, accuracies in percent."""

UNITS = {"bops": Decimal(10**9), "flops": Decimal(10**8), "ops": Decimal(10**8)}

COMPUTED = tuple(f"computed_{what}{dagger}" for dagger in ("", "_dagger") for what in UNITS)
MEASURED = ("measured_top1", "measured_top5", "measured_n")

Row = dict[str, Any]


def rows(which: Iterable[Table], results: Iterable[dict[str, Any]]) -> list[Row]:
    """Every row of the chosen tables in the paper's order.

    Args:
        which: 1, 2 and "beyond", any of them.
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
    """For each network its strict ImageNet run on the most images, the latest of equals; no runs of its other forms."""
    on_imagenet = (result for result in results if result["dataset"] == "imagenet")
    return best_of((result for result in on_imagenet if is_strict(result) and own_form(result)), itemgetter("model"))


def best_of(results: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, dict[str, Any]]:
    """For each key the run on the most images, the latest of equals."""
    return {key(result): result for result in sorted(results, key=itemgetter("n", "started"))}


def is_strict(result: dict[str, Any]) -> bool:
    """Whether a run is in float32 and without anything faster that was asked for."""
    fast = result.get("compiled") or result.get("channels_last") or result.get("precision", "float32") != "float32"
    return not fast


def own_form(result: dict[str, Any], *free: str) -> bool:
    """Whether a run is of the network that bears the name, but for the arguments named as free: no step 1, say.

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
        row: Of :func:`rows`.
        key: "bops", "flops", "flops_dagger", "ops" or "ops_dagger".
    """
    printed = row[key]
    if printed is None or row[f"computed_{key}"] is None:
        return False
    keys = [key] if key.endswith("_dagger") or row.get(f"{key}_dagger") is not None else [key, f"{key}_dagger"]
    return all(rounded(row[f"computed_{k}"], k, printed) != printed for k in keys)


def rounded(count: int, key: str, like: Decimal) -> Decimal:
    """A raw count in the table's unit, to the digits of a printed number."""
    return (count / UNITS[key.removesuffix("_dagger")]).quantize(like, ROUND_HALF_UP)


HEADERS = (
    "Method", "W/A", "BOPs (1e9)", "computed", "FLOPs (1e8)", "computed", "OPs (1e8)", "computed", "Top-1", "Top-5",
    "measured Top-1", "Top-5", "images",
)  # fmt: skip


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
    digits = row[what] if row[what] else Decimal("0.01") if full else Decimal(0)
    text = f"{rounded(full, what, digits)}" + (" ≠" if differs(row, what) else "")
    if what == "bops":
        return text
    unlike = " ≠" if differs(row, f"{what}_dagger") else ""
    return f"{text} ({rounded(dagger, what, digits)}†{unlike})"


LEGEND = (
    "Unmarked columns are published, in the paper's tables or by a network's own authors; a dash: not published, or "
    "not counted or measured here.",
    "computed: counted by bcdzoo at 224×224; the full convention, and in brackets † the dagger convention. full: "
    "convolutions, linear layers and per element sign 1, shortcut addition 1, RPReLU 2, other activations 1, gates 1, "
    "global pooling 1. dagger (ReActNet's): convolutions and linear layers only. OPs = FLOPs + BOPs/64.",
    "≠: the computed number differs from the published one in the last printed digit (where one number is printed: "
    "under both conventions); docs/counting.md says why.",
    "measured: the run of `bcdzoo eval` on the most ImageNet images; fewer than 50000 images are a sample.",
)

BEYOND = (
    "BNext: its repository's README, whose operations are of a form with 8-bit stem, gates and classifier "
    "(docs/counting.md). BinaryDenseNet, BinaryResNetE and QuickNet: larq-zoo 2.4.0, accuracies as documented there, "
    "operations as larq's own summary computes them (the convention †).",
)


def legend(table_rows: list[Row]) -> tuple[str, ...]:
    """The notes under some rows, a sentence or two each."""
    return LEGEND + BEYOND if any(row["table"] == "beyond" for row in table_rows) else LEGEND


def render(table_rows: list[Row], style: str) -> str:
    """The rows as text.

    Args:
        table_rows: Of :func:`rows`.
        style: "text" (fits the terminal), "markdown", "latex" (booktabs), "csv", "json" or "html".
    """
    return _STYLES[style](table_rows)


def _by_table(table_rows: list[Row]) -> dict[Table, list[list[str]]]:
    tables: dict[Table, list[list[str]]] = {}
    for row in table_rows:
        tables.setdefault(row["table"], []).append(cells(row))
    return tables


_ON_TERMINAL = (
    Column("Method"),
    Column("W/A", rank=2),
    Column("BOPs (1e9)", right=True, rank=3),
    Column("computed BOPs", right=True, rank=4),
    Column("FLOPs (1e8)", right=True, rank=4),
    Column("computed FLOPs", right=True, rank=5),
    Column("OPs (1e8)", right=True),
    Column("computed OPs", right=True, rank=1),
    Column("Top-1", right=True),
    Column("Top-5", right=True, rank=6),
    Column("measured", right=True),
    Column("measured Top-5", right=True, rank=6),
    Column("images", right=True, rank=6),
)
"""The columns of :data:`HEADERS` where some of them may be missing."""


def _markdown(table_rows: list[Row]) -> str:
    columns = [Column(head, right=i > 1) for i, head in enumerate(HEADERS)]
    parts = [
        f"### {TITLES[number]}\n\n{table(columns, body, 'markdown')}" for number, body in _by_table(table_rows).items()
    ]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in legend(table_rows))])


def _text(table_rows: list[Row]) -> str:
    parts = [
        f"{bold(TITLES[number])}\n\n{table(_ON_TERMINAL, body, 'text')}"
        for number, body in _by_table(table_rows).items()
    ]
    width = terminal_width()
    notes = (textwrap.fill(line, width, subsequent_indent="  ") for line in legend(table_rows))
    return "\n\n".join([*parts, "\n".join(notes)])


def _html(table_rows: list[Row]) -> str:
    parts = [
        f"<h3>{TITLES[number]}</h3>\n" + str(tabulate(body, HEADERS, "html", disable_numparse=True))
        for number, body in _by_table(table_rows).items()
    ]
    items = "\n".join(f"<li>{line}</li>" for line in legend(table_rows))
    return "\n".join([*parts, f"<ul>\n{items}\n</ul>"])


_TEX = {"&": r"\&", "†": r"$^\dagger$", "≠": r"$\neq$", "×": r"$\times$", "–": "--", "%": r"\%", "_": r"\_"}
_TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {character: f"\\{character}" for character in "{}#$"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _latex(table_rows: list[Row]) -> str:
    parts = []
    for number, body in _by_table(table_rows).items():
        lines = [" & ".join(map(_tex, line)) + r" \\" for line in body]
        parts.append(
            "\n".join(
                [
                    rf"% needs \usepackage{{booktabs}}; {TITLES[number]}",
                    rf"\begin{{tabular}}{{ll{'r' * (len(HEADERS) - 2)}}}",
                    r"\toprule",
                    " & ".join(map(_tex, HEADERS)) + r" \\",
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
        )
    return "\n\n".join([*parts, "\n".join(f"% {line}" for line in legend(table_rows))])


def _plain(row: Row) -> Row:
    return {key: _number(value) if isinstance(value, Decimal) else value for key, value in row.items()}


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() and "." not in str(value) else float(value)


def _json(table_rows: list[Row]) -> str:
    return json.dumps([_plain(row) for row in table_rows], indent=1)


def _csv(table_rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table_rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows)  # Decimals print with the paper's own digits; None is an empty cell
    return out.getvalue().rstrip("\n")


_STYLES: dict[str, Callable[[list[Row]], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "json": _json,
    "html": _html,
}
