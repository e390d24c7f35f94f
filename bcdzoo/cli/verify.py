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
    from bcdzoo.errors import BcdzooError
    from bcdzoo.weights.fetch import cached, converted_path, verify
    from bcdzoo.weights.manifest import load_manifest

    known = load_manifest(manifest)
    for model in models:
        known.find(model)
    failed = False
    for checkpoint in known.checkpoints:
        if models and checkpoint.model not in models:
            continue
        verdict = verify(checkpoint)
        damage = ""
        if verdict == "differs":
            # the cached file is none if its size or its record is wrong, too
            damage = (
                f"{cached(checkpoint) or checkpoint.name} differs from what was fetched: `bcdzoo fetch` replaces it"
            )
        elif verdict == "ok" and (path := converted_path(checkpoint)).is_file():
            from bcdzoo.weights.tensors import read_header

            try:
                read_header(path)
            except BcdzooError as error:
                verdict, damage = "differs", f"{error}; it is converted anew when it is used"
        click.echo(f"{checkpoint.model}\t{checkpoint.tag}\t{verdict}")
        if damage:
            failed = True
            say(damage)
    return 1 if failed else 0
