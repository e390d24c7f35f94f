"""Collect the page's content and fill its template."""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import combinations
from operator import itemgetter
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from bcdzoo import versions
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import compare
from bcdzoo.evaluation.stats import SIGNIFICANT
from bcdzoo.files import results_dir
from bcdzoo.ops.conventions import CONVENTIONS, DAGGER
from bcdzoo.ops.count import count_ops
from bcdzoo.registry import list_models
from bcdzoo.report.listing import details
from bcdzoo.report.plots.accuracy_ops import accuracy_ops
from bcdzoo.report.plots.style import render
from bcdzoo.report.plots.tradeoff import tradeoff
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import (
    HEADERS,
    MEASURED,
    SHIPPED,
    TITLES,
    UNITS,
    best_of,
    best_results,
    cells,
    is_strict,
    legend,
    own_form,
    rows,
)
from bcdzoo.weights.manifest import Manifest, load_manifest

_HERE = files("bcdzoo") / "report" / "page"

Results = Sequence[dict[str, Any]]


def report(results: Results, progress: Callable[[list[str]], Iterable[str]] = iter) -> str:
    """Build the page: tables, figures, every network layer by layer, evaluation runs and their comparisons.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        progress: Wrapper of the names of networks, which shows progress.

    Returns:
        Self-contained HTML with styles, script and figures.
    """
    tables = {number: rows((number,), results) for number in SHIPPED}
    best = best_results(results)
    manifest = load_manifest()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    return template.render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions={"bcdzoo": versions.package_version(), "torch": versions.installed("torch")},
        headers=HEADERS,
        tables=[(TITLES[key], [_cells(row, best.get(row["model"])) for row in table]) for key, table in tables.items()],
        legend=legend([row for table in tables.values() for row in table]),
        figures=list(_figures(results)),
        networks=[_network(name, manifest, results) for name in progress(list_models())],
        runs=[run | {"form": _form(run)} for run in reversed(results)],
        pairs=list(_pairs(results)),
        significant=SIGNIFICANT,
    )


_KINDS = ("", "", *("published", "computed") * 3, "published", "published", *("measured",) * 3)
"""Where the numbers of each of :data:`HEADERS` come from."""


def _cells(row: Row, run: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return a row's cells: text, sort key, origin, and link."""
    values = [row["method"], row["wa"]]
    for what in UNITS:
        values += [row[what], row[f"computed_{what}"]]
    values += [row["top1"], row["top5"], *(row[key] for key in MEASURED)]
    where = "its authors" if isinstance(row["table"], str) else f"table {row['table']} of the paper"
    titles = {
        "published": f"published: {where}",
        "computed": "computed: layer by layer",
        "measured": "measured: the run",
    }
    links = {"computed": f"#{row['model']}", "measured": f"#{run['run']}" if run else ""}
    return [
        {
            "text": text,
            "sort": "" if value is None else str(value),
            "kind": "" if value is None else kind,
            "link": links.get(kind, "") if value is not None else "",
            "title": titles.get(kind, ""),
        }
        for text, value, kind in zip(cells(row), values, _KINDS, strict=True)
    ]


def _figures(results: Results) -> Iterator[dict[str, str]]:
    for convention in CONVENTIONS:
        title = f"Accuracy over operations, {convention} convention"
        yield {"title": title, "source": _embedded(accuracy_ops(results, convention=convention))}
    yield {"title": "The trade-off between convolutional and MLP blocks", "source": _embedded(tradeoff(results))}


def _embedded(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(render(figure, ".svg")).decode()


def _network(name: str, manifest: Manifest, results: Results) -> dict[str, Any]:
    layers = [
        {
            "name": layer.name or "(network)",
            "type": layer.type,
            "bits": "" if layer.w_bits is None else f"{layer.w_bits}/{layer.a_bits}",
            "shape": "×".join(map(str, layer.output_shape)),
            "numbers": (layer.bops, layer.flops, DAGGER.flops(layer.counts), layer.params),
        }
        for layer in count_ops(name).layers
    ]
    totals = [sum(column) for column in zip(*(layer["numbers"] for layer in layers), strict=True)]
    return {"name": name, "facts": details(manifest, name, results), "layers": layers, "totals": totals}


def _form(run: dict[str, Any]) -> str:
    """Describe the arguments and mode of a run that differ from the defaults."""
    build = [f"{key}={value}" for key, value in run.get("build", {}).items()]
    return ", ".join([*build, *(word for word in ("compiled", "channels_last") if run.get(word))])


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
