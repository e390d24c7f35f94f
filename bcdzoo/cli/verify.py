"""bcdzoo verify."""

from pathlib import Path

import click

from bcdzoo.cli.options import MODEL
from bcdzoo.text import say


@click.command("verify")
@click.argument("models", type=MODEL, nargs=-1, metavar="[MODEL]...")
@click.option("--manifest", type=click.Path(path_type=Path), metavar="FILE", help="Additional or other entries.")
def command(models: tuple[str, ...], manifest: Path | None) -> int:
    """Hash the cached checkpoints again and compare them with their records and the manifest.

    Prints a line for each checkpoint of the networks (without any: of all): model, tag, and ok, differs or missing;
    separated by tabs.
    """
    from bcdzoo.weights.fetch import cached, verify
    from bcdzoo.weights.manifest import load_manifest

    known = load_manifest(manifest)
    for model in models:
        known.find(model)
    failed = False
    for checkpoint in known.checkpoints:
        if models and checkpoint.model not in models:
            continue
        verdict = verify(checkpoint)
        click.echo(f"{checkpoint.model}\t{checkpoint.tag}\t{verdict}")
        if verdict == "differs":
            failed = True
            path = cached(checkpoint)  # none if it is so wrong that `bcdzoo fetch` replaces it by itself
            advice = f"delete {path} and fetch it again" if path else "fetch it again"
            say(f"{checkpoint.name} differs from what was fetched: {advice}")
    return 1 if failed else 0
