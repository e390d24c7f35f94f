"""``bcdzoo doctor``."""

import json
from dataclasses import asdict

import click

from bcdzoo.cli.options import format_option
from bcdzoo.text import printable
from bcdzoo.text_table import facts


@click.command("doctor")
@click.option("--links", is_flag=True, help="Check that every link in the manifest still leads to its file.")
@format_option("text", "json")
def command(links: bool, style: str) -> int:
    """Check the installed packages, kernels, folders, settings, the hub and a mirror.

    Prints a line for each: ok, note, or problem and what to do about it. The exit code is 1 if there is a problem.
    """
    from bcdzoo.doctor import examine

    found = []
    for finding in examine(links):
        found.append(finding)
        if style == "text":
            advice = f" → {finding.advice}" if finding.advice else ""
            click.echo(facts(printable(f"{finding.state:<8} {finding.subject:<17} {finding.text}{advice}"), 27))
    if style == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    return int(any(finding.state == "problem" for finding in found))
