"""Why what is published of a network and what is counted here differ, figure by figure."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from bcdzoo.ops.conventions import BINARY, DAGGER, KINDS, MACS_AGAIN, OF_PAPERS, Convention, is_of_papers
from bcdzoo.ops.count import LayerOps, OpsReport, count_ops
from bcdzoo.registry import REGISTRY, find
from bcdzoo.report.reproduced import reproduced
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import HEADS, SHIPPED, TITLES, UNITS, best_results, own_form, rounded, rows
from bcdzoo.text import masked, printable
from bcdzoo.text_table import Column, folded, table
from bcdzoo.weights.manifest import load_manifest

_LARGEST = 5  # layers that are named


@cache
def reasons() -> list[dict[str, Any]]:
    """What is known of differences: the entries of reasons.toml."""
    text = (files("bcdzoo") / "report" / "reasons.toml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = tomllib.loads(text, parse_float=Decimal)["reason"]
    return found


def explain(
    model: str,
    convention: Convention | None = None,
    input_size: int | None = None,
    results: Iterable[dict[str, Any]] = (),
    **build: Any,
) -> dict[str, Any]:
    """Explain a network's figures.

    Args:
        model: A zoo name or ``package.module:callable``.
        convention: Counting convention besides those of papers' figures, or the only one of these.
        input_size: Height and width of the image in pixels; by default the network's own.
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        **build: Arguments of the network.

    Returns:
        ``model``, ``input_size``, ``source`` (where its figures are printed), ``figures`` (what each is called,
        published, computed, their difference, whether they agree, the largest layers), ``reasons``, ``kinds`` (number,
        cost and layers of each kind of operation), ``top1`` (each accuracy with its source), ``notes``, ``unsupported``
        and ``warnings``; None where nothing is known.

    Raises:
        BcdzooError: It cannot be built or counted.
    """
    report = count_ops(model, "full", input_size, **build)
    name = report.model
    shown = [convention] if convention in OF_PAPERS else [*OF_PAPERS, convention]
    reports = [report.under(rules) for rules in shown if rules]
    compared = name in REGISTRY and report.input_size == find(name).input_size
    compared = compared and own_form({"model": name, "build": build})
    printed = [row for row in rows(SHIPPED, ()) if row["model"] == name] if compared else []
    row = next((row for row in printed if any(row[what] is not None for what in UNITS)), None)
    return {
        "model": name,
        "input_size": report.input_size,
        "source": _source(row) if row else None,
        "figures": list(_figures(reports, row)),
        "reasons": [_reason(reason, report) for reason in reasons() if compared and name in reason["models"]],
        "kinds": list(_kinds(report, [rules for rules in shown if rules])),
        "top1": list(_accuracies(name, printed, results)) if compared else [],
        "notes": _notes(name, compared, row),
        "unsupported": report.unsupported,
        "warnings": report.warnings,
    }


def _notes(name: str, compared: bool, row: Row | None) -> list[str]:
    if name not in REGISTRY:
        return ["a network of your own: there is nothing published to compare with"]
    if not compared:
        return ["what is published is of another form of this network, or of images of another size: not compared"]
    if row is None:
        return ["its operations are not published"]
    if _is_single(row):
        return ["the source prints one number, without a convention: it agrees if either convention gives it"]
    return []


def _is_single(row: Row) -> bool:
    return row["flops_dagger"] is None and row["ops_dagger"] is None


def _source(row: Row) -> str:
    number = row["table"]
    return f"table {number} of the paper" if isinstance(number, int) else f"its authors ({TITLES[number]})"


def _figures(reports: Sequence[OpsReport], row: Row | None) -> Iterator[dict[str, Any]]:
    for what in UNITS:
        for report in reports if what != "bops" else reports[:1]:
            printed = _printed(row, what, report.rules) if row else None
            count = report.rules.totals(report.counts)[what]
            near = rounded(count, what, printed) if printed is not None else None
            yield {
                "figure": what,
                "called": report.rules.called[what],
                "convention": None if what == "bops" else report.convention,
                "published": printed,
                "computed": count,
                "rounded": near,
                "difference": None if printed is None else count - int(printed * UNITS[what]),
                "agrees": None if printed is None else near == printed,
                "layers": _largest(report, what),
            }


def _printed(row: Row, what: str, rules: Convention) -> Decimal | None:
    if what == "bops" or rules != DAGGER or _is_single(row):
        found = row[what] if what == "bops" or is_of_papers(rules) else None
    else:
        found = row[f"{what}_dagger"]
    number: Decimal | None = found
    return number


def _largest(report: OpsReport, what: str) -> list[dict[str, Any]]:
    def number(layer: LayerOps) -> int:
        return report.rules.totals(layer.counts)[what]

    found = sorted((layer for layer in report.layers if number(layer)), key=number, reverse=True)
    return [{"name": layer.name or "(network)", "number": number(layer)} for layer in found[:_LARGEST]]


def _reason(reason: dict[str, Any], report: OpsReport) -> dict[str, Any]:
    """A reason as it is known, with the OPs that come out where it is a counting choice."""
    counted = None
    if "cost" in reason:
        counted = report.under(Convention("as published", "", reason["cost"])).ops
    return {"figures": reason["figures"], "text": f"{reason['title']} {reason['text']}", "counted_so": counted}


def _kinds(report: OpsReport, shown: Sequence[Convention]) -> Iterator[dict[str, Any]]:
    totals = report.counts
    for kind in KINDS:
        if kind not in totals or (kind in MACS_AGAIN and not any(kind in rules.cost for rules in shown)):
            continue
        layers = Counter({layer.name or "(network)": layer.counts.get(kind, 0) for layer in report.layers})
        most, _ = layers.most_common(1)[0]
        yield {
            "kind": kind,
            "description": KINDS[kind],
            "number": totals[kind],
            "flops": {rules.name: rules.flops({kind: totals[kind]}) for rules in shown},
            "layers": sum(number > 0 for number in layers.values()),
            "most_in": most,
        }


def _accuracies(name: str, printed: Sequence[Row], results: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The network's top-1 in percent by everybody who states one."""
    for row in printed:
        if row["top1"] is not None:
            yield {"kind": "published", "top1": row["top1"], "source": _source(row)}
    for found in load_manifest().of(name):
        if found.top1 is not None:
            source = masked("; ".join(filter(None, (found.top_source, found.evidence))))
            yield {"kind": f"checkpoint {found.tag}", "top1": Decimal(str(found.top1)), "source": source}
    for entry in reproduced(()):
        if entry["model"] == name and entry["n"]:
            yield {"kind": "measured", "top1": entry["measured"], "source": f"{entry['command']}, {entry['n']} images"}
    if run := best_results(results).get(name):
        top1 = Decimal(run["top1"]).quantize(Decimal("0.01"))
        yield {"kind": "measured", "top1": top1, "source": f"your run {run['run']}, {run['n']} images"}


_FIGURES = (
    Column("figure"),
    Column("published", right=True),
    Column("computed", right=True),
    Column("difference", right=True, rank=1),
    Column("answer"),
)
_TOP1 = (Column("top-1"), Column("from"), Column("source", fold=True))


def show(facts: dict[str, Any], style: str) -> str:
    """The explanation as "text" or "markdown"."""
    name, size = printable(facts["model"], 100), facts["input_size"]
    source = f"; published: {facts['source']}" if facts["source"] else ""
    parts = [f"{name}, one image of 3×{size}×{size}{source}", table(_FIGURES, _figure_cells(facts), style)]
    parts += [f"Note: {note}." for note in facts["notes"]]
    for reason in facts["reasons"]:
        so = reason["counted_so"]
        parts += [f"Why: {reason['text']}" + (f" Counted so: OPs {so / 1e8:.3f}e8." if so is not None else "")]
    parts += [_made_of(figure) for figure in _differing(facts)]
    parts += ["What is counted, and what it costs:", _kind_table(facts, style)]
    if facts["top1"]:
        cells = [[f"{one['top1']}", one["kind"], one["source"]] for one in facts["top1"]]
        parts += [_of_accuracies(facts["top1"]), table(_TOP1, cells, style)]
    parts += [f"Note: {warning}." for warning in facts["warnings"]]
    if facts["unsupported"]:
        parts.append("Not counted, unknown to the counter: " + "; ".join(facts["unsupported"]))
    return "\n\n".join(folded(part) if style == "text" else part for part in parts)


def _figure_cells(facts: dict[str, Any]) -> list[list[str]]:
    return [
        [
            _called(figure),
            _in_unit(figure["published"], figure),
            f"{figure['computed']:,}",
            "–" if figure["difference"] is None else f"{figure['difference']:+,}",
            _answer(facts, figure),
        ]
        for figure in facts["figures"]
    ]


def _in_unit(number: Decimal | None, figure: dict[str, Any]) -> str:
    return f"{number}{HEADS[figure['figure']][1][1:]}" if number else "–" if number is None else "0"


def _called(figure: dict[str, Any]) -> str:
    return _under(figure["called"], figure["convention"] or "")


def _under(called: str, convention: str) -> str:
    """What a total is called, and its convention unless that is in it already."""
    return called if not convention or convention.lower() in called.lower().split() else f"{called} {convention}"


def _answer(facts: dict[str, Any], figure: dict[str, Any]) -> str:
    if figure["agrees"] is None:
        return "–"
    if figure["agrees"]:
        return "agrees"
    other = next((o["convention"] for o in facts["figures"] if o["figure"] == figure["figure"] and o["agrees"]), None)
    single = len({o["published"] for o in facts["figures"] if o["figure"] == figure["figure"]}) == 1
    if other and single:
        return f"agrees under {other}"
    return f"differs: {_in_unit(figure['rounded'], figure)}"


def _differing(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures whose layers are shown: those that differ, or all of a network without published ones."""
    nothing = all(figure["agrees"] is None for figure in facts["figures"])
    found = [one for one in facts["figures"] if nothing or _answer(facts, one).startswith("differs")]
    flops = [one["convention"] for one in found if one["figure"] == "flops"]  # of which the OPs are made
    return [one for one in found if one["figure"] != "ops" or one["convention"] not in flops]


def _made_of(figure: dict[str, Any]) -> str:
    parts = [f"{layer['number']:,} in {printable(layer['name'], 60)}" for layer in figure["layers"]]
    if rest := figure["computed"] - sum(layer["number"] for layer in figure["layers"]):
        parts.append(f"{rest:,} in other layers")
    return f"{_called(figure)} {figure['computed']:,}" + (" = " + " + ".join(parts) if parts else "")


def _kind_table(facts: dict[str, Any], style: str) -> str:
    called = {one["convention"]: one["called"] for one in facts["figures"] if one["figure"] == "flops"}
    columns = [
        Column("operation"),
        Column("number", right=True),
        *(Column(_under(called[name], name), right=True) for name in called),
        Column("layers", right=True, rank=1),
        Column("most in", rank=2),
    ]
    cells = [
        [
            one["kind"],
            f"{one['number']:,}",
            *("BOPs" if one["kind"] == BINARY else f"{one['flops'][name]:,}" for name in called),
            f"{one['layers']}",
            printable(one["most_in"], 60),
        ]
        for one in facts["kinds"]
    ]
    return table(columns, cells, style)


def _of_accuracies(found: Sequence[dict[str, Any]]) -> str:
    values = sorted({one["top1"] for one in found})
    if len(values) == 1:
        return "All sources state the same top-1:"
    return f"Its top-1 differs by {values[-1] - values[0]} points between sources:"
