"""``bcdzoo push``."""

from pathlib import Path

import click

from bcdzoo.cli.options import MODEL


@click.command("push")
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--repo", required=True, metavar="OWNER/NAME", help="Repository on the Hugging Face hub; created if missing."
)
@click.option("--model", type=MODEL, help="Network of your own that the file is of, as package.module:callable.")
@click.option("--license", metavar="SPDX", help="License of your own weights; converted weights keep theirs.")
@click.option("--private", is_flag=True, help="Create a private repository.")
@click.option("--dry-run", is_flag=True, help="Print the model card and publish nothing.")
def command(weights: Path, repo: str, model: str | None, license: str | None, private: bool, dry_run: bool) -> None:
    """Publish WEIGHTS, a file from `bcdzoo train` or `bcdzoo convert`, with a model card; print its manifest entry."""
    from bcdzoo.push import manifest_entry, prepare_publication, push

    publication = prepare_publication(weights, repo, license, model)
    click.echo(publication.card if dry_run else manifest_entry(push(publication, private)))
