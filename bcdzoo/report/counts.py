"""The zoo's counted operations and parameters, stored as data so that no network has to be built to show them."""

import functools
import json
from importlib.resources import files
from typing import Any

from bcdzoo.ops.conventions import CONVENTIONS
from bcdzoo.registry import default_arguments
from bcdzoo.weights.manifest import load_manifest

COUNTS = files("bcdzoo") / "report" / "counts.json"


@functools.cache
def counts() -> dict[str, Any]:
    """Network -> ``params``, and under each convention's name ``bops``, ``flops`` and ``ops``, all raw integers.

    ``kinds`` are its operations by kind, from which these follow and those of any other convention. ``forms`` are the
    arguments of a network's known forms: the defaults, and those of its published checkpoints.

    Made by scripts/make_counts.py.
    """
    content: dict[str, Any] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return {
        model: known | {rules.name: rules.totals(known["kinds"]) for rules in CONVENTIONS.values()}
        for model, known in content.items()
    }


def forms_of(model: str) -> list[dict[str, Any]]:
    """Return the forms of a network, the default first; only the default for a network outside the zoo."""
    forms: list[dict[str, Any]] = counts().get(model, {}).get("forms", [{}])
    return forms


def derived_forms(name: str) -> list[dict[str, Any]]:
    """Derive the forms of a network from its function's signature and the manifest, for the shipped counts.

    A checkpoint of step 1 belongs to an intermediate stage and is not a form of the network, nor is one without its
    classifier.
    """
    defaults = default_arguments(name)
    published = [defaults | checkpoint.build for checkpoint in load_manifest().of(name)]
    own = [form for form in published if form.get("step") == defaults.get("step") and form["num_classes"]]
    return [defaults, *(form for form in own if form != defaults)]
