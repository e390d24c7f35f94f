"""Writes safetensors files, the same tensors and metadata always to the same bytes."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from bcdzoo.files import atomic_write


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file, whole or not at all.

    The safetensors library writes the metadata in another order every time; here the keys are sorted.

    Args:
        path: The file's name.
        tensors: By name.
        metadata: To stand in the header.
    """
    with atomic_write(path) as temporary:
        save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, temporary, dict(metadata))
        with temporary.open("r+b") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            if len(text) <= length:  # the same text but for its order, and for how a library may escape it
                file.seek(8)
                file.write(text.ljust(length))
