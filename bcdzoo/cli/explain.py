"""``bcdzoo explain``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import MODEL, build_settings, convention_option, format_option
from bcdzoo.ops.conventions import find_convention


@click.command("explain")
@click.argument("model", type=MODEL)
@convention_option(default=None)
@click.option("--input-size", type=click.IntRange(1), help="Image side in pixels; default: the network's own.")
@click.option("--plan", is_flag=True, help="Explain what the 1-bit engine runs: what is fused, what is not, and why.")
@format_option("text", "markdown", "json")
@build_settings
def command(
    model: str, convention: str | None, input_size: int | None, plan: bool, style: str, build: dict[str, Any]
) -> None:
    """Explain why published and computed operations of MODEL differ, figure by figure, and whose top-1 is which.

    MODEL is a network of the zoo, package.module:callable or a QONNX file (.onnx), of which is said what is counted and
    where. With --plan it may be a plan's file (.bcz) too.
    """
    if plan:
        if convention is not None:
            raise click.UsageError("--plan counts nothing: omit --convention")
        from bcdzoo.packed.explain import show_plan

        found = _of_plan(model, input_size, build)
        click.echo(json.dumps(found, indent=1) if style == "json" else show_plan(found, style))
        return
    rules = find_convention(convention) if convention is not None else None
    from bcdzoo.evaluation.store import read_results
    from bcdzoo.report.explain import explain, show
    from bcdzoo.report.sheets import plain

    facts = explain(model, rules, input_size, read_results(), **build)
    click.echo(json.dumps(facts, indent=1, default=plain) if style == "json" else show(facts, style))


def _of_plan(model: str, input_size: int | None, build: dict[str, Any]) -> dict[str, Any]:
    """Facts about the plan of a network with random weights, or of a file."""
    from bcdzoo.interchange.importing import build_network
    from bcdzoo.packed.checkpoint import is_packed_file, load_packed
    from bcdzoo.packed.explain import explain_network, explain_plan

    if ":" not in model and is_packed_file(Path(model)):
        if input_size or build:
            raise click.UsageError(f"{model} is a plan, for images of one size: omit --input-size and --set")
        return explain_plan(load_packed(model).plan)
    network, size = build_network(model, **build)
    size = input_size or size
    return explain_network(network.float().cpu().eval(), (3, size, size), model)
