"""Say what a plan has fused, what stands alone and why, and what runs on the kernels."""

import math
from typing import Any

from torch import nn

from bcdzoo.graph.fuse import low_bit_layers
from bcdzoo.graph.record import NotLoweredError
from bcdzoo.packed.pack import PlanNetwork, fused, recorded, unpacked
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan.operations import LOW_BIT, Operation
from bcdzoo.plan.plan import Plan
from bcdzoo.text import printable
from bcdzoo.text_table import Column, table

_SHORTCUTS = {
    "same": "its input added",
    "average-pool": "its input averaged 2×2 and added",
    "duplicate": "its input twice added",
    "given": "another map added",
}


def explain_network(network: nn.Module, input_shape: tuple[int, ...], name: str) -> dict[str, Any]:
    """What :func:`explain_plan` says of a network's plan, or why it has none (``reasons``).

    Args:
        network: Network in evaluation mode, on the CPU in float32.
        input_shape: Channels, height and width of its images.
        name: Its name.
    """
    if isinstance(network, PlanNetwork):
        return explain_plan(network.plan)
    try:
        plan = recorded(unpacked(network, "a plan", name), input_shape, name)
    except NotLoweredError as error:
        return {"model": name, "input_shape": list(input_shape), "reasons": error.reasons}
    return explain_plan(fused(plan), len(plan.operations))


def explain_plan(plan: Plan, before: int | None = None) -> dict[str, Any]:
    """What there is in a plan.

    Args:
        plan: Plan, fused.
        before: Operations before fusing, if that is known.

    Returns:
        ``operations_recorded`` and ``operations``; the ``steps``, those on the kernels and those by the engine's slow
        reference (``in_part`` and ``torch`` are 0: all runs in the engine); and the ``layers`` of few bits: each with
        what is in its unit, or why it stands alone.
    """
    runner = PlanRunner(plan)
    slow = {each.name for each in runner.slow if each.kind in LOW_BIT}
    units = {each.name: each for each in plan.operations if each.kind in ("binary_unit", "binary_attention")}
    layers = [
        {"name": name, "unit": "" if why else in_words(units[name], name in slow), "why_alone": why}
        for name, why in dict.fromkeys(low_bit_layers(plan))  # a layer may be several units: one for each group
    ]
    reference = len(runner.slow)
    steps = {"kernels": len(plan.operations) - reference, "in_part": 0, "torch": 0, "reference": reference}
    shape = list(plan.input_shape)
    counts = {"operations_recorded": before, "operations": len(plan.operations), "steps": steps}
    return {"model": plan.model, "input_shape": shape, **counts, "stem": True, "layers": layers}


def in_words(unit: Operation, is_slow: bool = False) -> str:
    """What is in a binary unit, or in attention of bits, in the order in which it is computed."""
    fields: Any = unit.fields
    if unit.kind == "binary_attention":
        heads = f"{fields['heads']} head{'s' if fields['heads'] > 1 else ''}"
        slowly = ", by the slow reference, as a head's channels are no multiple of 32" if is_slow else ""
        return f"signs, products of {heads}, softmax, 0 or 1, products{slowly}"
    constants, inputs = unit.constants, unit.inputs
    size = "×".join(map(str, fields["kernel"]))
    stride = "" if fields["stride"] == (1, 1) else f" by {fields['stride'][0]}"
    branches = [each for each in fields["samplings"] if each != "none"]
    activation = "ReLU" if "slope" in constants and not constants["slope"].any() else "PReLU"
    shortcut = _SHORTCUTS.get(fields["shortcut"], "")
    tail = ["slope" in constants and activation, shortcut]
    parts = [
        "threshold of each image" if "threshold" in inputs else "sign",
        f"{size}{stride}",
        "scores" in inputs and "weights that the image chooses",
        branches and f"with {' and '.join(branches)} samples",
        "gate" in inputs and "gate",
        "offset" in inputs and "offset",
        "inner_slope" in constants and "PReLU",
        "alpha" in constants and "normalization",
        *(tail if fields["activation_first"] else tail[::-1]),
        fields["append"] and "appended to its input",
        fields["limit"] != math.inf and f"clip to ±{fields['limit']:g}",
        is_slow and "by the slow reference, as the kernels do not know its window",
    ]
    return ", ".join(part for part in parts if part)


def show_plan(facts: dict[str, Any], style: str) -> str:
    """The facts for people."""
    size = "×".join(map(str, facts["input_shape"]))
    name = printable(facts["model"] or "a plan", 100)
    if "reasons" in facts:
        lines = "".join(f"\n  {printable(reason, 200)}" for reason in facts["reasons"])
        return f"{name}, images of {size}: no plan, so that convolutions are packed by themselves:{lines}"
    steps, before = facts["steps"], facts["operations_recorded"]
    was = f", {before} before fusing" if before else ""
    said = f"{name}, images of {size}: {facts['operations']} operations{was}; {steps['kernels']} on the kernels"
    said += f", {steps['reference']} by the slow reference" if steps["reference"] else ""
    layers = facts["layers"]
    if not layers:
        return f"{said}; no layer has few bits"
    count = sum(1 for layer in layers if layer["why_alone"])
    said += f"\nlayers of few bits: {len(layers) - count} fused, {count} alone\n\n"
    rows = [(printable(each["name"], 100), each["unit"] or f"alone: {each['why_alone']}") for each in layers]
    return said + table((Column("layer"), Column("in one with it")), rows, style)
