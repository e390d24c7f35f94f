"""Files of packed networks: bit planes, folded constants and real-valued tensors, in one safetensors file.

A file holds only tensors. The network is built from the zoo's own description, and the tensors must be those that it
expects, by name, type and shape: a file cannot change what is computed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.files import require_regular
from bcdzoo.packed.pack import pack_in_place
from bcdzoo.registry import create_model
from bcdzoo.text import printable
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import LoadedModel, resolve
from bcdzoo.weights.tensors import read_tensors, write_tensors

FORMAT = "bcdzoo packed 1"
"""Marks packed files, by the version of their keys."""

_PARAMETERS_PER_BYTE = 64  # more than any packed network has
_LARGEST_CHOICE = 64


class Sizes(NamedTuple):
    """Sizes of a packed file in bytes.

    Attributes:
        file: Size on disk.
        planes: Size of the bit planes, a bit for each binary weight, rounded up to whole words.
        real: Size of everything real-valued.
        float32: Size of all parameters of the plain network.
    """

    file: int
    planes: int
    real: int
    float32: int


def export(name: str, out: Path, weights: str | Path | None = None, manifest: Path | None = None) -> Sizes:
    """Write a network of the zoo with trained weights in packed form.

    Args:
        name: Name of the network.
        out: File to write.
        weights: As for :func:`bcdzoo.load_model`.
        manifest: As for :func:`bcdzoo.load_model`.

    Raises:
        BcdzooError: As for :func:`bcdzoo.load_model` and :func:`bcdzoo.pack`; or this build has no kernels.
    """
    return write_packed(resolve(name, weights, manifest), name, out)


def write_packed(found: LoadedModel, name: str, out: Path) -> Sizes:
    """Like :func:`export`, for a loaded network, whose modules are consumed."""
    plain = 4 * sum(parameter.numel() for parameter in found.model.parameters())
    network = pack_in_place(found.model)
    if not network.is_packed:
        raise BcdzooError("the 1-bit kernels are missing, and nothing can be packed without them")
    state = network.state_dict()
    metadata = {
        "format": FORMAT,
        "model": name,
        "build": json.dumps(found.build, sort_keys=True),
        "preprocess": found.preprocess or "",
        "source_sha256": found.sha256 or "",
    }
    write_tensors(out, state, metadata)
    planes = sum(tensor.nbytes for tensor in state.values() if tensor.dtype == torch.uint64)
    real = sum(tensor.nbytes for tensor in state.values()) - planes
    return Sizes(out.stat().st_size, planes, real, plain)


def _build(path: Path, model: str, build: dict[str, Any], tensors: int) -> nn.Module:
    """Build the plain network, unless it is larger than the file allows."""
    for key, value in build.items():
        # Every argument but the number of classes counts parts, of which each has tensors, or is a small choice.
        if not isinstance(value, bool | int | float | str) or (
            isinstance(value, int) and key != "num_classes" and value > max(tensors, _LARGEST_CHOICE)
        ):
            raise ValueError(
                f"{printable(key, 60)} = {printable(value, 60)} does not make a network of {tensors} tensors"
            )
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in create_model(model, **build).parameters())
    if parameters > _PARAMETERS_PER_BYTE * path.stat().st_size:
        raise ValueError(f"a network of {parameters} parameters does not fit in a file of {path.stat().st_size} bytes")
    return create_model(model, **build)


def is_packed_file(path: Path) -> bool:
    """Whether a file claims to be a packed file."""
    return path.suffix == ".safetensors" and path.is_file() and safetensors_metadata(path).get("format") == FORMAT


def load_packed(path: Path, name: str | None = None) -> LoadedModel:
    """Load a packed network from its file.

    Args:
        path: File written by :func:`export`.
        name: Name of the expected network.

    Raises:
        BcdzooError: The file is damaged, of another version or network, or its tensors are not those of the network.
    """
    require_regular(path)
    if safetensors_metadata(path).get("format") != FORMAT:
        raise BcdzooError(f"{path} is not a packed network of this version ({FORMAT}): write it with `bcdzoo export`")
    given, metadata, _ = read_tensors(path)
    try:
        model, build = metadata["model"], json.loads(metadata["build"])
        if not isinstance(build, dict):
            raise TypeError("build is not a table")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BcdzooError(f"{path} does not say what it holds: {printable(error, 200)}; export it again") from error
    if name not in (None, model):
        raise BcdzooError(f"{path} holds a packed {printable(model, 100)}, not {name}")
    try:
        network = pack_in_place(_build(path, model, build, len(given)))
    except (BcdzooError, TypeError, ValueError, RuntimeError, OverflowError, RecursionError) as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise BcdzooError(f"{path} does not say what it holds: {reason}; export it again") from error
    if not network.is_packed:
        raise BcdzooError(f"{path} needs the 1-bit kernels, which are missing: install a C++ compiler and bcdzoo again")
    expected = network.state_dict()
    for key in sorted(expected.keys() ^ given.keys()):
        what = "missing" if key in expected else "left over"
        raise BcdzooError(f"{path} does not fit {model}: {printable(key, 100)} is {what}")
    for key, tensor in expected.items():
        if given[key].shape != tensor.shape or given[key].dtype != tensor.dtype:
            what = f"{given[key].dtype} {tuple(given[key].shape)}, not {tensor.dtype} {tuple(tensor.shape)}"
            raise BcdzooError(f"{path} does not fit {model}: {key} is {what}")
        if tensor.is_floating_point() and given[key].isnan().any():
            raise BcdzooError(f"{path} does not fit {model}: {key} has values that are not numbers")
    network.load_state_dict(given)
    return LoadedModel(
        network, model, str(path), metadata.get("source_sha256", ""), metadata.get("preprocess") or None, build
    )
