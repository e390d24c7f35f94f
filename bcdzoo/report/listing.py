"""What is known about each network, for ``bcdzoo list`` and ``bcdzoo info``. Imports neither torch nor pandas."""

from collections.abc import Iterable
from typing import Any

from bcdzoo.registry import find
from bcdzoo.report.counts import counts
from bcdzoo.report.tables import SHIPPED, best_results, rows
from bcdzoo.text import masked
from bcdzoo.weights.fetch import cached
from bcdzoo.weights.manifest import Checkpoint, Manifest

Facts = dict[str, Any]


def state(manifest: Manifest, model: str) -> str:
    """State of a network's default checkpoint: "cached", "public" if it can be fetched, or "none"."""
    known = manifest.of(model)
    if not known:
        return "none"
    return "cached" if cached(known[0]) else "public"


def summary(manifest: Manifest, model: str) -> Facts:
    """Summarize a network: raw integers, accuracies in percent as published, on the test images of ``dataset``."""
    spec = find(model)
    model = spec.name
    published = [row for row in rows(SHIPPED, ()) if row["model"] == model]
    checkpoints = manifest.of(model)
    return {
        "model": model,
        "w_bits": spec.w_bits,
        "a_bits": spec.a_bits,
        "wa": spec.wa,
        "params": counts()[model]["params"],
        "ops": counts()[model]["full"]["ops"],
        "ops_dagger": counts()[model]["dagger"]["ops"],
        "dataset": spec.dataset,
        "top1": next((float(row["top1"]) for row in published if row["top1"] is not None), None),
        "top5": next((float(row["top5"]) for row in published if row["top5"] is not None), None),
        "checkpoint": state(manifest, model),
        "license": (checkpoints[0].license or "none stated") if checkpoints else None,
    }


def details(manifest: Manifest, model: str, results: Iterable[Facts]) -> Facts:
    """Return everything known about a network: summary, paper, both counts, measured accuracy and checkpoints."""
    spec = find(model)
    model = spec.name
    measured = best_results(results).get(model)
    return {
        **summary(manifest, model),
        "paper": spec.paper,
        "input_size": spec.input_size,
        "counts": {key: value for key, value in counts()[model].items() if key not in ("params", "kinds", "forms")},
        "measured": {key: measured[key] for key in ("top1", "top5", "n", "weights")} if measured else None,
        "checkpoints": [_checkpoint(checkpoint) for checkpoint in manifest.of(model)],
        "no_checkpoint": next((entry.advice for entry in manifest.missing if entry.model == model), None),
    }


def _checkpoint(checkpoint: Checkpoint) -> Facts:
    keys = ("tag", "source", "url", "hf_repo", "gdrive_id", "format", "build", "preprocess", "top1", "top5")
    facts = {key: value for key in keys if (value := getattr(checkpoint, key)) not in ("", None, {})}
    if checkpoint.url:
        facts["url"] = masked(checkpoint.url)
    path = cached(checkpoint)
    more = {"hashes": checkpoint.hashes, "license": checkpoint.license or "none stated"}
    notes = {key: value for key in ("evidence", "note") if (value := getattr(checkpoint, key))}
    return {**facts, **more, "cached": str(path) if path else None, **notes}
