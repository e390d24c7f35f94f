"""Read and write safetensors files; this zoo's own have a seal, which is checked whenever one is read."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bcdzoo.files import atomic_write, open_regular
from bcdzoo.seal import SEAL, DamagedError, digest
from bcdzoo.text import printable, say

OURS = "bcdzoo "
"""Prefix of ``format`` in the metadata of this zoo's own files."""

_LONGEST_HEADER = 16 << 20  # bytes; a network needs about a hundred per tensor

_TYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


# Errors of the library for a file that is damaged or has a dtype that torch does not have.
_FAILURES = (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)


class Contents(NamedTuple):
    """The content of a safetensors file.

    Attributes:
        tensors: Tensors by name.
        metadata: Metadata without the seal.
        checked: Whether a seal was checked; None for files that are not this zoo's.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    checked: bool | None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file with a seal, atomically; the same tensors and metadata always give the same bytes.

    Args:
        path: File to write.
        tensors: Tensors by name.
        metadata: Text for the header.

    Raises:
        OSError: The folder cannot be made or written to, or the disk is full.
    """
    # Larger dtypes first, so that all are aligned, like the safetensors library does.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {}
    content: dict[str, list[Any]] = {}
    end = 0
    for name, tensor in ordered:
        numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        begin, end = end, end + numbers.nbytes
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        content[name] = [_TYPES[tensor.dtype], list(tensor.shape), numbers]
    words = {key: _writable(value) for key, value in sorted(metadata.items()) if key != SEAL}
    header = {"__metadata__": words | {SEAL: digest([words, content])}, **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, _ in ordered:
            file.write(content[name][2])


def read_tensors(path: Path) -> Contents:
    """Read a file; one of this zoo's without a seal is reported as unchecked.

    Raises:
        DamagedError: It is not a safetensors file, or its seal does not match.
        BcdzooError: It is not a regular file.
        OSError: It cannot be read.
    """
    metadata, checked = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except _FAILURES as error:
        raise _damaged(path, error) from None
    return Contents(tensors, metadata, checked)


def read_header(path: Path) -> tuple[dict[str, str], bool | None]:
    """Like :func:`read_tensors`, without the tensors, which are still checked."""
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise DamagedError(f"{path} is not read: its header has {length} bytes, more than {_LONGEST_HEADER}")
        file.seek(0)
        try:
            with safe_open(path, framework="pt") as opened:  # it validates the header
                metadata: dict[str, str] = opened.metadata() or {}
        except _FAILURES as error:
            raise _damaged(path, error) from None
        if SEAL in metadata:
            if metadata.pop(SEAL) != digest([metadata, _Stored(file)]):
                raise DamagedError(f"{path} is damaged: its content does not match its hash")
            return metadata, True
    if not metadata.get("format", "").startswith(OURS):
        return metadata, None
    _say_unchecked(path)
    return metadata, False


class _Stored(Mapping[str, Any]):
    """The tensors of an open file for the digest, read one by one."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._start = 8 + int.from_bytes(file.read(8), "little")
        self._header = json.loads(file.read(self._start - 8))
        del self._header["__metadata__"]

    def __getitem__(self, name: str) -> list[Any]:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        self._file.seek(self._start + begin)
        return [entry["dtype"], entry["shape"], self._file.read(end - begin)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


def _writable(text: str) -> str:
    """Escape what UTF-8 cannot encode, such as bytes in a file name."""
    return text.encode("utf-8", "backslashreplace").decode()


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(f"{path} is a damaged safetensors file ({printable(error, 200)}); fetch it again")


@cache
def _say_unchecked(path: Path) -> None:
    say(f"{path} is unchecked: an older version wrote it, without a hash of its content")
