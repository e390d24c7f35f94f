"""From a network's name, or a file, to a module with its weights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bcdzoo.data.classes import names
from bcdzoo.data.preprocess import Preprocess, parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import own_place, require_regular, sha256_of
from bcdzoo.registry import create_model, default_arguments, find, zoo_name
from bcdzoo.seal import DamagedError
from bcdzoo.text import printable, say
from bcdzoo.weights import tensors
from bcdzoo.weights.convert import convert_state, fit_of, layout_of, load_state, safetensors_metadata, split_part
from bcdzoo.weights.fetch import converted_path, fetch
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from bcdzoo.weights.metadata import FORMAT, check_class_names, model_of, read_metadata, remember

__all__ = [
    "ASSUMED",
    "FORMAT",
    "LoadedModel",
    "assume",
    "checkpoint_argument",
    "convert",
    "converted",
    "load_into",
    "load_model",
    "resolve",
]


ASSUMED = "imagenet"
"""The preprocessing of weights of which nobody said any."""


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, and where they are from.

    Attributes:
        model: The network; one of the zoo is in evaluation mode.
        name: A zoo name, ``package.module:callable``, or the class of a module that was given.
        label: Tag of the checkpoint in the manifest, or path of a file; None for a network that was given as it is.
        sha256: Of the file the weights were published in (for a file of the user: of that file), if there is one.
        preprocess: The preset they were trained for; None where nobody said.
        build: Arguments of :func:`bcdzoo.create_model` that they need.
    """

    model: nn.Module
    name: str
    label: str | None = None
    sha256: str | None = None
    preprocess: str | None = None
    build: dict[str, Any] = field(default_factory=dict)


def load_model(name: str, weights: str | Path | None = None, manifest: Path | None = None, **build: Any) -> nn.Module:
    """A network of the zoo with trained weights, in evaluation mode.

    It carries what belongs to its weights, None where nobody said: ``preprocess``, a
    :class:`bcdzoo.data.preprocess.Preprocess`, and ``class_names`` in the order of its outputs.

    Args:
        name: A name of :func:`bcdzoo.list_models`.
        weights: None for the manifest's default checkpoint, fetched where it is not yet cached; or a tag of the
            manifest; or the path of a .safetensors file or of the authors' own .pth, .pth.tar or .h5; ``FILE#NAME`` is
            one of several tables of weights in a file.
        manifest: A file of additional entries (docs/weights.md).
        **build: Arguments of :func:`bcdzoo.create_model` for a file that does not state them, such as ``step=1``.

    Raises:
        BcdzooError: No such network, tag or file; no public weights; a failed download; or a file that does not fit,
            with the name of the key.
    """
    return resolve(name, weights, manifest, **build).model


def resolve(name: str, weights: str | Path | None = None, manifest: Path | None = None, **build: Any) -> LoadedModel:
    """As :func:`load_model`, with the weights' origin and preprocessing."""
    name = zoo_name(name)
    if weights is not None and is_path(weights):
        path, _ = split_part(weights)
        require_regular(path)
        return _resolve_file(name, str(weights), str(weights), sha256_of(path), build)
    checkpoint = load_manifest(manifest).find(name, None if weights is None else str(weights))
    file = converted(checkpoint, fetch(checkpoint))
    source_sha256 = safetensors_metadata(file)["source_sha256"]
    return _resolve_file(name, str(file), checkpoint.tag, source_sha256, build, checkpoint)


def is_path(weights: str | Path) -> bool:
    """Whether weights are given by a path and not by a tag."""
    path, _ = split_part(weights)
    return path.exists() or len(path.parts) > 1 or bool(path.suffix)


def checkpoint_argument(checkpoint: str, weights: str | Path | None = None) -> tuple[str, str | Path | None]:
    """A network's name and its weights, where a file of this zoo may stand for both: it says itself what it holds.

    Args:
        checkpoint: A network's name, or a file that ``bcdzoo train``, ``convert`` or ``export`` wrote.
        weights: With a name, as in :func:`load_model`.

    Raises:
        BcdzooError: No such file, it does not say what it holds, or there are weights beside it.
    """
    path = Path(checkpoint)
    if ":" in checkpoint or not (path.exists() or path.suffix or len(path.parts) > 1):
        return checkpoint, weights
    require_regular(path)
    model = model_of(path)
    if weights is not None:
        raise BcdzooError(f"{path} is a file of weights itself: leave --weights out")
    return model, path


def _resolve_file(
    name: str, weights: str, label: str, sha256: str, build: dict[str, Any], known: Checkpoint | None = None
) -> LoadedModel:
    read = _read(name, weights, sha256, build, known)
    model = create_model(name, **read.build)
    model.load_state_dict(read.state)
    remember(model, read.preprocess, read.class_names)
    return LoadedModel(model.eval(), name, label, sha256, read.preprocess, read.build)


class _Read(NamedTuple):
    """What a file is taken for.

    Attributes:
        state: Its tensors under this zoo's keys.
        build: Arguments of :func:`bcdzoo.create_model` that the file, its layout or the user gives.
        unsaid: The network's defaults for those that nobody gave, and that its tensors do not show.
        preprocess: As in :class:`LoadedModel`.
        class_names: Of the outputs; None where nobody said.
    """

    state: dict[str, Tensor]
    build: dict[str, Any]
    unsaid: dict[str, Any]
    preprocess: str | None
    class_names: tuple[str, ...] | None


def _read(
    name: str,
    weights: str,
    sha256: str,
    build: dict[str, Any],
    known: Checkpoint | None,
    member: str | None = None,
) -> _Read:
    """Read a file for a network, which gets no numbers before all of its tensors are known to be in the file.

    Args:
        name: The network's.
        weights: The file, or one of the tables in it.
        sha256: Its hash.
        build: What the user asks for, which goes before everything else.
        known: The manifest's entry, where it is known; else it is looked for by the file's hash.
        member: In a zip archive, the file to read.
    """
    path, _ = split_part(weights)
    said = read_metadata(path)
    if said is None:
        known = known or _published(name, sha256)
    elif said.model != name:
        raise BcdzooError(f"{path} holds weights of {printable(said.model, 100)}, not of {name}")
    format = "zoo" if said else known.format if known else ""
    if known and not known.convertible:
        raise BcdzooError(f"{known.name} is of the format {known.format!r}, which is fetched only: {path}")
    stated = (said.build if said else {}) | (known.build if known else {})
    for key in sorted(key for key in stated.keys() & build.keys() if stated[key] != build[key]):
        say(f"{path} is of {key}={printable(stated[key], 60)}; {key}={printable(build[key], 60)} was asked for instead")
    build = stated | build
    try:
        network = _outline(name, build)
    except BcdzooError as error:  # which may be the file's fault
        raise BcdzooError(f"{path}: {error}") from error
    state = load_state(weights, member, fit_of(network, format))
    layout = layout_of(state, network, format)
    unsaid: dict[str, Any] = {}
    if said is None:
        taken = default_arguments(name)
        if lacking := layout.build.keys() - taken.keys():
            needed = ", ".join(f"{key}={layout.build[key]}" for key in sorted(lacking))
            raise BcdzooError(f"{path} needs {needed}, a form that {name} does not have")
        build = {**layout.build, **build}
        network = _outline(name, build)
        if known is None:
            shown = {"num_classes", *find(name).shown}
            unsaid = {key: value for key, value in taken.items() if key not in build and key not in shown}
    converted = convert_state(state, network, weights, format)
    if assumed := [f"{key}={printable(v)}" for key, v in unsaid.items() if key not in layout.as_usual]:
        say(f"{path} does not say how {name} is built; {', '.join(assumed)}: assumed (--set takes another)")
    names, preprocess = None, layout.preprocess
    if said is not None:
        names, preprocess = said.class_names, said.preprocess or ""
    if known is not None:
        preprocess = known.preprocess or preprocess
        names = names or _imagenet(name, build)
    return _Read(converted, build, unsaid, preprocess or None, names)


def _outline(name: str, build: dict[str, Any]) -> nn.Module:
    """A network without its numbers."""
    with torch.device("meta"):
        return create_model(name, **build)


def _imagenet(name: str, build: dict[str, Any]) -> tuple[str, ...] | None:
    """ImageNet's classes, which the manifest's networks of 1000 outputs tell apart."""
    found = names()
    return tuple(found) if build.get("num_classes", find(name).num_classes) == len(found) else None


def _published(name: str, sha256: str) -> Checkpoint | None:
    """The manifest's entry of a file that somebody gives by its path, told by its hash."""
    return next((checkpoint for checkpoint in load_manifest().of(name) if checkpoint.sha256 == sha256), None)


def load_into(model: nn.Module, weights: str | Path) -> None:
    """Load a checkpoint into anybody's module, strictly: its own keys, without wrappers and prefixes.

    Raises:
        BcdzooError: A key is missing, left over or of a wrong shape, the file cannot be read safely, or it needs a form
            of the network that a module does not tell.
    """
    state = load_state(weights, fits=fit_of(model))
    if needed := layout_of(state, model).build:
        form = ", ".join(f"{key}={value}" for key, value in needed.items())
        raise BcdzooError(f"{weights} needs {form}: `bcdzoo convert` makes a file of it that says so")
    converted = convert_state(state, model, str(weights))
    try:
        model.load_state_dict(converted)
    except RuntimeError as error:  # anybody's module takes them as it likes
        raise BcdzooError(f"{type(model).__name__} does not take {weights}: {printable(error, 200)}") from error


def assume(who: str, preprocess: str = ASSUMED) -> Preprocess:
    """The preprocessing of a network of which nobody said it, and a note that it is assumed."""
    say(f"{who}: nobody said what its images are made with; preprocess={preprocess}: assumed")
    return parse(preprocess)


def convert(
    source: str | Path,
    model: str,
    out: Path,
    preprocess: str | None = None,
    member: str | None = None,
    license: str = "",
    class_names: Sequence[str] | None = None,
    **build: Any,
) -> None:
    """Write a checkpoint as this zoo's safetensors, with the source's hash and what is needed to rebuild the network.

    Args:
        source: Anybody's file for this network, or ``FILE#NAME`` for one of the tables in it.
        model: Its name in the zoo.
        out: The file to write.
        preprocess: The preset the weights were trained for; None for the source's own.
        member: In a zip archive, the file to read.
        license: Of the weights.
        class_names: Of the outputs, in order; None for the source's own.
        **build: Arguments of :func:`bcdzoo.create_model`, such as ``step=1``.

    Raises:
        BcdzooError: The source cannot be read or does not fit.
    """
    _convert(str(source), model, out, preprocess, member, license, class_names, build, None)


def _convert(
    source: str,
    model: str,
    out: Path,
    preprocess: str | None,
    member: str | None,
    license: str,
    class_names: Sequence[str] | None,
    build: dict[str, Any],
    known: Checkpoint | None,
) -> None:
    path, _ = split_part(source)
    require_regular(path)
    sha256 = sha256_of(path)
    read = _read(model, source, sha256, build, known, member)
    build = read.build | read.unsaid
    classes = build.get("num_classes", find(model).num_classes)
    if preprocess:
        parse(preprocess)
    if class_names is not None and len(class_names) != classes:
        raise BcdzooError(f"{len(class_names)} names of classes are given, and {model} has {classes} outputs")
    said = read_metadata(path)
    metadata = {
        "format": FORMAT,
        "model": model,
        "build": json.dumps(build, sort_keys=True),
        "preprocess": preprocess or read.preprocess or "",
        "license": license or (said.license if said else ""),
        "source": path.name,
        "source_sha256": sha256,
    }
    if kept := class_names or read.class_names:
        check_class_names(kept)
        metadata["class_names"] = json.dumps(list(kept), ensure_ascii=False)
    if said and said.lineage:
        metadata["lineage"] = json.dumps(said.lineage, sort_keys=True)
    tensors.write_tensors(out, read.state, metadata)


def converted(checkpoint: Checkpoint, source: Path) -> Path:
    """This zoo's safetensors of a fetched checkpoint, converted on first use, and again where no hash vouches for it.

    Raises:
        BcdzooError: The file cannot be read or does not fit.
    """
    path, damage, readable = converted_path(checkpoint), "", False
    if path.is_file():
        try:
            metadata, checked = tensors.read_header(path)
            readable = metadata.get("source_sha256") == sha256_of(source)
            if readable and checked:
                return path
        except DamagedError:
            damage = f"{path} is damaged; converted anew"
    known = checkpoint
    try:
        own_place(path)
        _convert(str(source), known.model, path, known.preprocess, known.member or None, known.license, None, {}, known)
    except OSError:
        if not readable:  # an older version's, in a cache that may only be read
            raise
    if damage:
        say(damage)
    return path
