"""``bcdzoo fetch``."""

from pathlib import Path

import click

from bcdzoo.cli.options import MODEL, TAG, manifest_option
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable, say


@click.command("fetch")
@click.argument("models", type=MODEL, nargs=-1, metavar="MODEL...")
@click.option("--all", "everything", is_flag=True, help="Fetch the default checkpoint of every network that has one.")
@click.option("--tag", type=TAG, help="Tag of a checkpoint other than the network's default.")
@click.option(
    "--from",
    "from_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Local file to use instead of downloading one.",
)
@manifest_option
def command(
    models: tuple[str, ...], everything: bool, tag: str | None, from_file: Path | None, manifest: Path | None
) -> int:
    """Download, check and convert checkpoints, each only once.

    Prints a tab-separated line for each: model, tag, file, SHA-256 of the original, and whether that hash is published
    or was recorded at the first fetch.
    """
    from bcdzoo.registry import REGISTRY
    from bcdzoo.weights.fetch import fetch, read_record
    from bcdzoo.weights.manifest import load_manifest

    if everything == bool(models):
        raise click.UsageError("name networks, or use --all")
    if (from_file or tag) and len(models) != 1:
        raise click.UsageError("--tag and --from take exactly one network")
    known = load_manifest(manifest)
    failed = 0
    for model in models or dict.fromkeys(checkpoint.model for checkpoint in known.checkpoints):
        try:
            checkpoint = known.find(model, tag)
            path = fetch(checkpoint, from_file=from_file)
            if checkpoint.convertible and model in REGISTRY:
                from bcdzoo.weights.load import converted

                path = converted(checkpoint, path)
            record = read_record(checkpoint)
        except (BcdzooError, OSError) as error:  # such as a full disk
            say(f"{model}: {error.strerror}: {error.filename}" if isinstance(error, OSError) else error)
            failed += 1
        else:
            assert record is not None
            click.echo("\t".join([checkpoint.model, checkpoint.tag, printable(path), record.sha256, record.trust]))
    return 1 if failed else 0
