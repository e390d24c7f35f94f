"""Checkpoints from which an interrupted run resumes."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, open_regular
from bcdzoo.seal import SEAL, DamagedError, digest
from bcdzoo.text import say


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint with its seal, atomically.

    Raises:
        BcdzooError: The disk is full or cannot be written to.
    """
    plain = _plain(state)
    content = BytesIO()  # torch.save does not report a full disk properly
    torch.save(plain | {SEAL: digest(_bytes(plain))}, content)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError as error:
        raise BcdzooError(
            f"cannot write {path}: {error.strerror or error}; the same command resumes from the previous checkpoint"
        ) from None


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None if there is none. One from an older version without a seal is reported.

    Raises:
        BcdzooError: It is damaged.
    """
    try:
        with open_regular(path) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        seal = state.pop(SEAL, None)
        if seal not in (None, digest(_bytes(state))):
            raise ValueError("its content does not match its hash")
    except FileNotFoundError:
        return None
    except Exception as error:  # torch.load raises many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedError(f"{path} is damaged, delete it to train this stage again: {reason[:200]}") from None
    if seal is None:
        say(f"{path} is unchecked: it has no hash, as older versions wrote it")
    return state


def _plain(value: Any) -> Any:
    """Reduce to plain tables, lists and tensors, because the seal would not cover their attributes."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _bytes(value: Any) -> Any:
    """Replace each tensor by its type, shape and bytes."""
    if isinstance(value, Mapping):
        return {key: _bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bytes(item) for item in value]
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), value.contiguous().flatten().view(torch.uint8).numpy()]
    return value
