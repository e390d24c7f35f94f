"""Collect the page's content and fill its template."""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from itertools import combinations
from operator import itemgetter
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from bcdzoo import versions
from bcdzoo.bench.machine import described
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import compare
from bcdzoo.evaluation.stats import SIGNIFICANT
from bcdzoo.evaluation.store import run_id
from bcdzoo.files import results_dir
from bcdzoo.ops.conventions import CONVENTIONS, DAGGER
from bcdzoo.ops.count import OpsReport, count_ops
from bcdzoo.registry import list_models
from bcdzoo.report.counts import counts
from bcdzoo.report.listing import details
from bcdzoo.report.own_rows import counted_row, own_run
from bcdzoo.report.plots.accuracy_ops import accuracy_ops, row_convention, undrawn
from bcdzoo.report.plots.speed import accuracy_speed, speed_ops
from bcdzoo.report.plots.style import render
from bcdzoo.report.plots.tradeoff import tradeoff
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import (
    HEADERS,
    MEASURED,
    OWN,
    SHIPPED,
    TITLES,
    UNITS,
    best_of,
    best_results,
    cells,
    computed,
    is_strict,
    legend,
    own_form,
    rows,
)
from bcdzoo.weights.manifest import Manifest, load_manifest

_HERE = files("bcdzoo") / "report" / "page"

Results = Sequence[dict[str, Any]]


def report(
    results: Results,
    own: Sequence[Row] = (),
    networks: Sequence[tuple[str, dict[str, Any]]] = (),
    progress: Callable[[list[str]], Iterable[str]] = iter,
    benchmarks: Results = (),
) -> str:
    """Build the page: tables, figures, every network layer by layer, evaluation runs and their comparisons, benchmarks.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        own: Rows of one's own (:mod:`bcdzoo.report.own_rows`).
        networks: Names and arguments of the networks that the first of these rows were counted for.
        progress: Wrapper of the names of networks, which shows progress.
        benchmarks: Stored benchmarks (:func:`bcdzoo.bench.store.read_benchmarks`).

    Returns:
        Self-contained HTML with styles, script and figures.
    """
    tables = {number: rows((number,), results) for number in SHIPPED}
    best = best_results(results)
    manifest = load_manifest()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    shown = [(TITLES[key], [_line(row, row["model"], best) for row in table]) for key, table in tables.items()]
    if own:
        anchors = [f"own-{number}" for number, _ in enumerate(networks, 1)]
        anchors += [row["model"] for row in own[len(networks) :]]
        shown.append((TITLES[OWN], [_line(row, anchor, best) for row, anchor in zip(own, anchors, strict=True)]))
    return template.render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions={"bcdzoo": versions.package_version(), "torch": versions.installed("torch")},
        headers=HEADERS,
        tables=shown,
        legend=legend([row for table in tables.values() for row in table]),
        figures=[*_figures(results, own, networks), *_speed_figures(benchmarks)],
        times=[
            {"record": record, "result": result, "started": benchmark["started"], "machine": _machine(benchmark)}
            for benchmark in reversed(benchmarks)
            for record in benchmark["records"]
            for result in record["results"]
        ],
        networks=[
            *(_network(name, manifest, results) for name in progress(list_models())),
            *(
                _own_network(f"own-{i}", row, *one, own_run(*one, results)[1])
                for i, (row, one) in enumerate(zip(own, networks, strict=False), 1)
            ),
        ],
        runs=[run | {"form": _form(run), "id": run_id(run["run"])} for run in reversed(results)],
        pairs=list(_pairs(results)),
        significant=SIGNIFICANT,
    )


_COMPUTED = [f"computed_{what}" for what in UNITS]
_KINDS = ("", "", *("published", "computed") * 3, "published", "published", *("measured",) * 3)
"""Where the numbers of each of :data:`HEADERS` come from."""


def _line(row: Row, anchor: str, best: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row of a table: the names that it is found by, and its cells with text, sort key, origin, and link.

    Args:
        row: Numbers.
        anchor: Id of the layers that its operations were counted from.
        best: Runs that the numbers of published networks were measured by.
    """
    values = [row["method"], row["wa"]]
    for what in UNITS:
        values += [row[what], row[f"computed_{what}"]]
    values += [row["top1"], row["top5"], *(row[key] for key in MEASURED)]
    where = "its authors" if isinstance(row["table"], str) else f"table {row['table']} of the paper"
    titles = {
        "published": "published: your file" if row["table"] == OWN else f"published: {where}",
        "computed": "computed: layer by layer",
        "measured": "measured: the run",
    }
    run = best.get(row["model"], {}).get("run", "runs") if anchor == row["model"] else "runs"
    links = {"computed": f"#{anchor}", "measured": f"#{run}"}
    cells_of_row = [
        {
            "text": text,
            "sort": "" if value is None else str(value),
            "kind": "" if value is None else kind,
            "link": links.get(kind, "") if value is not None else "",
            "title": titles.get(kind, ""),
        }
        for text, value, kind in zip(cells(row), values, _KINDS, strict=True)
    ]
    return {"names": f"{row['method']} {row['model']}", "cells": cells_of_row}


def _figures(
    results: Results, own: Sequence[Row], networks: Sequence[tuple[str, dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    for rules in CONVENTIONS.values():
        mine = own
        if one := row_convention(rules):
            again = [counted_row(*network, results, one) for network in networks]
            kinds = [counts().get(row["model"], {}).get("kinds") for row in own[len(networks) :]]
            again += [computed(counted, one) for counted in kinds]
            mine = [row | {key: new[key] for key in _COMPUTED} for row, new in zip(own, again, strict=True)]
        yield {
            "title": f"Accuracy over operations, {rules.name} convention",
            "source": _embedded(accuracy_ops(results, convention=rules, own=mine)),
            "notes": undrawn(mine, rules),
        }
    yield {
        "title": "The trade-off between convolutional and MLP blocks",
        "source": _embedded(tradeoff(results)),
        "notes": ["The digitised numbers were read off the picture of the paper's poster, which prints none."],
    }


def _speed_figures(benchmarks: Results) -> Iterator[dict[str, Any]]:
    """Those that the benchmarks of one image at a time give, if any do."""
    draw = {"Accuracy over measured time": accuracy_speed, "Measured time over operations": speed_ops}
    for title, figure in draw.items():
        with suppress(BcdzooError):
            yield {"title": title, "source": _embedded(figure(benchmarks)), "notes": []}


def _machine(benchmark: dict[str, Any]) -> str:
    of = benchmark["machine"]
    return f"{described(of)}; load {of['load_before']:g} before, {of['load_after']:g} after"


def _embedded(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(render(figure, ".svg")).decode()


def _network(name: str, manifest: Manifest, results: Results) -> dict[str, Any]:
    return {"id": name, "name": name, "facts": details(manifest, name, results), **_layers(count_ops(name))}


def _own_network(anchor: str, row: Row, name: str, build: dict[str, Any], size: int | None) -> dict[str, Any]:
    counted = count_ops(name, input_size=size, **build)
    facts = {"wa": row["wa"], "paper": "your own", "input_size": counted.input_size}
    return {"id": anchor, "name": row["method"], "facts": facts, **_layers(counted)}


def _layers(counted: OpsReport) -> dict[str, Any]:
    layers = [
        {
            "name": layer.name or "(network)",
            "type": layer.type,
            "bits": "" if layer.w_bits is None else f"{layer.w_bits}/{layer.a_bits}",
            "shape": "×".join(map(str, layer.output_shape)),
            "numbers": (layer.bops, layer.flops, DAGGER.flops(layer.counts), layer.params),
        }
        for layer in counted.layers
    ]
    return {"layers": layers, "totals": [sum(column) for column in zip(*(x["numbers"] for x in layers), strict=True)]}


def _form(run: dict[str, Any]) -> str:
    """Describe the arguments and mode of a run that differ from the defaults."""
    build = [f"{key}={value}" for key, value in run.get("build", {}).items()]
    precision = [run["precision"]] if run.get("precision", "float32") != "float32" else []
    return ", ".join([*build, *precision, *(word for word in ("compiled", "channels_last") if run.get(word))])


def _pairs(results: Results) -> Iterator[dict[str, Any]]:
    """Compare every two networks by their best strict runs on the same images with stored predictions."""
    kept = (run for run in results if run.get("predictions_file") and run.get("fingerprint") and is_strict(run))
    kept = (run for run in kept if own_form(run))
    runs = best_of(kept, itemgetter("fingerprint", "model", "weights")).values()
    for first, second in combinations(runs, 2):
        if first["fingerprint"] == second["fingerprint"]:
            files = [str(results_dir() / run["predictions_file"]) for run in (first, second)]
            try:
                facts = compare(*files).to_json()
            except BcdzooError as error:
                facts = {"problem": str(error)}
            yield {"first": first, "second": second, **facts}
