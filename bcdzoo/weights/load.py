"""From a network's name, or a file, to a module with its weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.files import own_place, sha256_of
from bcdzoo.registry import create_model
from bcdzoo.seal import DamagedError
from bcdzoo.text import say
from bcdzoo.weights.convert import convert_state, load_state, safetensors_metadata
from bcdzoo.weights.fetch import converted_path, fetch
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from bcdzoo.weights.tensors import read_header, write_tensors

FORMAT = "bcdzoo 1"
"""Marks this zoo's own safetensors files, by the version of their keys."""


@dataclass(frozen=True)
class Resolved:
    """A network with its weights, and where they are from.

    Attributes:
        model: The network, in evaluation mode.
        label: Tag of the checkpoint in the manifest, or path of a file.
        sha256: Of the file the weights were published in (for a file of the user: of that file).
        preprocess: The preset they were trained for; None where nobody said.
        build: Arguments of :func:`bcdzoo.create_model` that they need.
    """

    model: nn.Module
    label: str
    sha256: str
    preprocess: str | None
    build: dict[str, Any]


def load_model(name: str, weights: str | Path | None = None, manifest: Path | None = None, **build: Any) -> nn.Module:
    """A network of the zoo with trained weights, in evaluation mode.

    Args:
        name: A name of :func:`bcdzoo.list_models`.
        weights: None for the manifest's default checkpoint, fetched where it is not yet cached; or a tag of the
            manifest; or the path of a .safetensors file or of the authors' own .pth, .pth.tar or .h5.
        manifest: A file of additional entries (docs/weights.md).
        **build: Arguments of :func:`bcdzoo.create_model` for a file that does not state them, such as ``step=1``.

    Raises:
        BcdzooError: No such network, tag or file; no public weights; a failed download; or a file that does not fit,
            with the name of the key.
    """
    return resolve(name, weights, manifest, **build).model


def resolve(name: str, weights: str | Path | None = None, manifest: Path | None = None, **build: Any) -> Resolved:
    """As :func:`load_model`, with the weights' origin and preprocessing."""
    path = Path(weights) if weights is not None else None
    if path is not None and (path.exists() or len(path.parts) > 1 or path.suffix):
        if not path.is_file():
            raise BcdzooError(f"no file {path}")
        return _resolve_file(name, path, str(weights), sha256_of(path), None, build)
    checkpoint = load_manifest(manifest).find(name, None if weights is None else str(weights))
    original = fetch(checkpoint)
    file = converted(checkpoint, original)
    source_sha256 = safetensors_metadata(file)["source_sha256"]
    return _resolve_file(name, file, checkpoint.tag, source_sha256, checkpoint.preprocess, checkpoint.build | build)


def named(checkpoint: str, weights: str | Path | None = None) -> tuple[str, str | Path | None]:
    """A network's name and its weights, where a file of this zoo may stand for both: it says itself what it holds.

    Args:
        checkpoint: A network's name, or a file that ``bcdzoo train``, ``convert`` or ``export`` wrote.
        weights: With a name, as in :func:`load_model`.

    Raises:
        BcdzooError: No such file, it does not say what it holds, or there are weights beside it.
    """
    path = Path(checkpoint)
    if ":" in checkpoint or not (path.is_file() or path.suffix or len(path.parts) > 1):
        return checkpoint, weights
    if not path.is_file():
        raise BcdzooError(f"no file {path}")
    model = safetensors_metadata(path).get("model")
    if model is None:
        raise BcdzooError(f"{path} does not say which network it holds: name that, and give the file as --weights")
    if weights is not None:
        raise BcdzooError(f"{path} is a file of weights itself: leave --weights out")
    return model, path


def _resolve_file(
    name: str, path: Path, label: str, sha256: str, preprocess: str | None, build: dict[str, Any]
) -> Resolved:
    metadata = safetensors_metadata(path)
    if metadata.get("format") == FORMAT:
        if metadata["model"] != name:
            raise BcdzooError(f"{path} holds weights of {metadata['model']}, not of {name}")
        build = json.loads(metadata["build"]) | build
        preprocess = preprocess or metadata.get("preprocess") or None
    elif metadata.get("format", "").startswith("bcdzoo packed"):
        raise BcdzooError(f"{path} is a packed file, of bits alone: take the weights that it was exported from")
    elif known := _published(name, sha256):
        build = known.build | build
        preprocess = preprocess or known.preprocess
    model = create_model(name, **build)
    model.load_state_dict(convert_state(load_state(path), model, str(path)))
    return Resolved(model.eval(), label, sha256, preprocess, build)


def _published(name: str, sha256: str) -> Checkpoint | None:
    """The manifest's entry of a file that somebody gives by its path, told by its hash."""
    return next((checkpoint for checkpoint in load_manifest().of(name) if checkpoint.sha256 == sha256), None)


def load_into(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into anybody's module, strictly: its own keys, without wrappers and ``module.`` prefix.

    Raises:
        BcdzooError: A key is missing, left over or of a wrong shape, or the file cannot be read safely.
    """
    model.load_state_dict(convert_state(load_state(path), model, str(path)))


def convert(
    source: Path,
    model: str,
    out: Path,
    preprocess: str | None = None,
    member: str | None = None,
    license: str = "",
    **build: Any,
) -> None:
    """Write a checkpoint as this zoo's safetensors, with the source's hash and what is needed to rebuild the network.

    Args:
        source: Anybody's file for this network.
        model: Its name in the zoo.
        out: The file to write.
        preprocess: The preset the weights were trained for.
        member: In a zip archive, the file to read.
        license: Of the weights.
        **build: Arguments of :func:`bcdzoo.create_model`, such as ``step=1``.

    Raises:
        BcdzooError: The source cannot be read or does not fit.
    """
    theirs = load_state(source, member)
    sha256 = sha256_of(source)
    if known := _published(model, sha256):
        build = known.build | build
        preprocess = preprocess or known.preprocess
    with torch.device("meta"):
        network = create_model(model, **build)
    state = convert_state(theirs, network, str(source))
    metadata = {
        "format": FORMAT,
        "model": model,
        "build": json.dumps(build, sort_keys=True),
        "preprocess": preprocess or "",
        "license": license,
        "source": source.name,
        "source_sha256": sha256,
    }
    if lineage := safetensors_metadata(source).get("lineage"):
        metadata["lineage"] = lineage
    write_tensors(out, state, metadata)


def converted(checkpoint: Checkpoint, source: Path) -> Path:
    """This zoo's safetensors of a fetched checkpoint, converted on first use, and again where no hash vouches for it.

    Raises:
        BcdzooError: The file cannot be read or does not fit.
    """
    path, damage, readable = converted_path(checkpoint), "", False
    if path.is_file():
        try:
            metadata, checked = read_header(path)
            readable = metadata.get("source_sha256") == sha256_of(source)
            if readable and checked:
                return path
        except DamagedError:
            damage = f"{path} is damaged; converted anew"
    of_theirs = (checkpoint.preprocess, checkpoint.member, checkpoint.license)
    try:
        own_place(path)
        convert(source, checkpoint.model, path, *of_theirs, **checkpoint.build)
    except OSError:
        if not readable:  # an older version's, in a cache that may only be read
            raise
    if damage:
        say(damage)
    return path
