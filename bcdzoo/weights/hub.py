"""Weights by their address on the Hugging Face hub, ``hf-hub:OWNER/NAME``, as ``bcdzoo push`` puts them there."""

import re
from pathlib import Path

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable, say
from bcdzoo.weights.limits import LARGEST
from bcdzoo.weights.sources import HubError, from_hub, no_more_than, offline

PREFIX = "hf-hub:"

FILENAME = "model.safetensors"
"""The file of weights in a repository that ``bcdzoo push`` wrote."""

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_ADDRESS = re.compile(rf"{PREFIX}(?P<repo>{_PART}/{_PART})(@(?P<revision>[A-Za-z0-9_][A-Za-z0-9_.-]*))?")


def is_address(name: object) -> bool:
    """Whether something is meant as an address on the hub."""
    return str(name).startswith(PREFIX)


def from_address(address: str) -> tuple[Path, str]:
    """Fetch the file of weights at an address, unless the hub's own cache has it.

    Args:
        address: ``hf-hub:OWNER/NAME``, which is whatever is published there now, or ``hf-hub:OWNER/NAME@COMMIT``.

    Returns:
        The file, and the address with its commit.

    Raises:
        BcdzooError: That is no address, or the hub does not have the file or cannot be reached.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BcdzooError(
            f"{printable(address, 100)!r} is not an address on the hub: write {PREFIX}OWNER/NAME or "
            f"{PREFIX}OWNER/NAME@COMMIT"
        )
    repo, revision = found["repo"], found["revision"] or "main"
    try:
        file = from_hub(repo, FILENAME, revision, offline(), no_more_than(LARGEST, address))
    except HubError as error:
        raise BcdzooError(f"{address}: {error}") from error
    commit = file.parent.name  # the hub's cache keeps a folder for each commit
    pinned = f"{PREFIX}{repo}@{commit}"
    if revision != commit:
        say(f"{address} is now commit {commit}; {pinned} is always the same")
    return file, pinned
