"""``bcdzoo verify``."""

from pathlib import Path

import click

from bcdzoo.cli.options import MODEL, manifest_option
from bcdzoo.text import say


@click.command("verify")
@click.argument("models", type=MODEL, nargs=-1, metavar="[MODEL]...")
@manifest_option
def command(models: tuple[str, ...], manifest: Path | None) -> int:
    """Hash the cached checkpoints again and compare them with their records and the manifest.

    Prints a tab-separated line for each checkpoint of the given networks, or of all: model, tag, and ok, differs or
    missing.
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
            # `cached` is also None if the size or the record is wrong
            damage = (
                f"{cached(checkpoint) or checkpoint.name} differs from what was fetched: `bcdzoo fetch` replaces it"
            )
        elif verdict == "ok" and (path := converted_path(checkpoint)).is_file():
            from bcdzoo.weights.tensors import read_header

            try:
                read_header(path)
            except BcdzooError as error:
                verdict, damage = "differs", f"{error}; it will be converted again when it is used"
        click.echo(f"{checkpoint.model}\t{checkpoint.tag}\t{verdict}")
        if damage:
            failed = True
            say(damage)
    return 1 if failed else 0
