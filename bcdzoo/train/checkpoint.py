"""The state that a killed run goes on from."""

from pathlib import Path
from typing import Any

import torch

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None where there is none.

    Raises:
        BcdzooError: It is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch.load's own, many
        raise BcdzooError(f"{path} is damaged, delete it to train this stage anew: {error}".splitlines()[0]) from error
    return state
