"""Load a network by name, or from a file, with its weights."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bcdzoo.custom_model import is_onnx_file
from bcdzoo.data.classes import classes_of
from bcdzoo.data.preprocess import PRESETS, Preprocess, parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import own_place, require_regular, sha256_of
from bcdzoo.registry import REGISTRY, create_model, default_arguments, feature_maps, find, zoo_name
from bcdzoo.seal import DamagedError
from bcdzoo.text import printable, say
from bcdzoo.weights import tensors
from bcdzoo.weights.bundle import sha256_of_weights
from bcdzoo.weights.convert import convert_state, fit_of, layout_of, load_state, safetensors_metadata, split_part
from bcdzoo.weights.fetch import converted_path, fetch
from bcdzoo.weights.hub import from_address, is_address
from bcdzoo.weights.keys.family import State
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from bcdzoo.weights.metadata import FORMAT, check_class_names, model_of, read_metadata, remember

__all__ = [
    "FORMAT",
    "LoadedModel",
    "assume",
    "assumed",
    "checkpoint_argument",
    "convert",
    "converted",
    "load_into",
    "load_model",
    "resolve",
]


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, and where they came from.

    Attributes:
        model: The network; one of the zoo is in evaluation mode.
        name: Zoo name, ``package.module:callable``, or the class of a module that was passed.
        label: Tag of the checkpoint in the manifest, or path of a file; None for a module that was passed.
        sha256: Hash of the published file, or of the user's file, if there is one.
        preprocess: Preset that the weights were trained with; None if unknown.
        build: Arguments of :func:`bcdzoo.create_model` that the weights need.
        assumed: Preset to assume if there is none; None for :func:`assumed`.
    """

    model: nn.Module
    name: str
    label: str | None = None
    sha256: str | None = None
    preprocess: str | None = None
    build: dict[str, Any] = field(default_factory=dict)
    assumed: str | None = None


def load_model(
    name: str,
    weights: str | Path | None = None,
    manifest: Path | None = None,
    features_only: bool = False,
    **build: Any,
) -> nn.Module:
    """Load a network of the zoo with trained weights, in evaluation mode.

    The module has two attributes from its weights, None if unknown: ``preprocess``, a
    :class:`bcdzoo.data.preprocess.Preprocess`, and ``class_names`` in the order of its outputs.

    Args:
        name: Name from :func:`bcdzoo.list_models`; or ``hf-hub:OWNER/NAME``, where ``bcdzoo push`` put a network of
            the zoo.
        weights: Tag in the manifest, or path of a .safetensors file or of the authors' .pth, .pth.tar or .h5;
            ``FILE#NAME`` is one of several state dicts in a file. Or such an address on the hub. None for the
            manifest's default checkpoint, which is fetched if it is not cached.
        manifest: File with additional entries (docs/weights.md).
        features_only: As for :func:`bcdzoo.create_model`.
        **build: Arguments of :func:`bcdzoo.create_model` for a file that does not state them, such as ``step=1``.
            ``num_classes=0`` leaves the classifier in the file.

    Raises:
        BcdzooError: No such network, tag or file; no public weights; a failed download; or a file that does not fit
            (the message names the key).
    """
    if not isinstance(features_only, bool):
        raise BcdzooError(f"features_only must be True or False, not {printable(repr(features_only), 60)}")
    found = resolve(name, weights, manifest, **build)
    if not features_only:
        return found.model
    maps = feature_maps(found.model, found.name).eval()
    maps.__dict__.update({key: getattr(found.model, key) for key in ("preprocess", "class_names")})
    return maps


def resolve(name: str, weights: str | Path | None = None, manifest: Path | None = None, **build: Any) -> LoadedModel:
    """Like :func:`load_model`, with the weights' origin and preprocessing."""
    if "features_only" in build:
        raise BcdzooError("features_only gives maps, no predictions: it is for bcdzoo.load_model and create_model")
    if is_address(name) or is_address(weights):
        return _resolve_address(name, weights, build)
    name = zoo_name(name)
    if weights is not None and is_path(weights):
        path, _ = split_part(weights)
        return _resolve_file(name, str(weights), str(weights), _sha256_of(path), build)
    checkpoint = load_manifest(manifest).find(name, None if weights is None else str(weights))
    _require_form(name, checkpoint, build)
    file = converted(checkpoint, fetch(checkpoint))
    source_sha256 = safetensors_metadata(file)["source_sha256"]
    return _resolve_file(name, str(file), checkpoint.tag, source_sha256, build, checkpoint)


def _resolve_address(name: str, weights: str | Path | None, build: dict[str, Any]) -> LoadedModel:
    """Like :func:`resolve`, where the name or the weights are an address on the hub."""
    if is_address(name) and weights is not None:
        raise BcdzooError(f"{printable(name, 150)} has weights of its own: omit the others")
    address = name if is_address(name) else str(weights)
    file, pinned = from_address(address)
    model = _model_in(file, address) if is_address(name) else zoo_name(name)
    return _resolve_file(model, str(file), pinned, _sha256_of(file), build)


def _model_in(file: Path, address: str) -> str:
    """The network of the zoo whose weights are at an address on the hub."""
    said = read_metadata(file)
    instead = f"name the network, and give {address} as its weights"
    if said is None:
        raise BcdzooError(f"the weights of {address} do not say which network they are of: {instead}")
    if said.model not in REGISTRY:
        raise BcdzooError(f"{address} has weights of {printable(said.model, 100)}, whose code is not here: {instead}")
    return said.model


def _require_form(name: str, checkpoint: Checkpoint, build: dict[str, Any]) -> None:
    """Refuse arguments that give a network other tensors than published weights have, before these are fetched."""
    usual = default_arguments(name) | checkpoint.build
    other = [key for key in find(name).shown if key in build and build[key] != usual.get(key)]
    if other and _shapes(name, usual) != _shapes(name, usual | build):
        asked, of = (", ".join(f"{key}={printable(values[key], 60)}" for key in other) for values in (build, usual))
        raise BcdzooError(
            f"{checkpoint.name} is of {of}, not of {asked}: give weights of this form (--weights FILE), or build it "
            f"with random ones, as bcdzoo.models.{find(name).build}"
        )


def _shapes(name: str, build: dict[str, Any]) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in _outline(name, build).state_dict().items()}


def _sha256_of(path: Path) -> str:
    if not path.is_dir():
        require_regular(path)
    return sha256_of_weights(path)


def is_path(weights: str | Path) -> bool:
    """Whether weights are given as a path, not as a tag."""
    path, _ = split_part(weights)
    return path.exists() or len(path.parts) > 1 or bool(path.suffix)


def checkpoint_argument(checkpoint: str, weights: str | Path | None = None) -> tuple[str, str | Path | None]:
    """Return a network's name and its weights from an argument that is a name, or a file that states its network.

    Args:
        checkpoint: Network's name, a file that ``bcdzoo train``, ``convert`` or ``export`` wrote, or an address on the
            hub.
        weights: Weights for a name, as in :func:`load_model`.

    Raises:
        BcdzooError: No such file, it does not state its network, or ``weights`` is given too.
    """
    path = Path(checkpoint)
    if is_address(checkpoint) and weights is None:
        path, _ = from_address(checkpoint)
        return _model_in(path, checkpoint), path
    if is_onnx_file(checkpoint) or ":" in checkpoint or not (path.exists() or path.suffix or len(path.parts) > 1):
        return checkpoint, weights
    require_regular(path)
    if path.suffix == ".bcz":
        raise BcdzooError(
            f"{path} is a plan, which has only what the engine runs: name its network, and its own weights"
        )
    model = model_of(path)
    if weights is not None:
        raise BcdzooError(f"{path} is itself a file of weights: omit --weights")
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
    """The content of a file for a network.

    Attributes:
        state: Tensors with this zoo's keys.
        build: Arguments of :func:`bcdzoo.create_model` from the file, its layout or the user.
        unsaid: The network's defaults for arguments that are given nowhere and cannot be read from the tensors.
        preprocess: As in :class:`LoadedModel`.
        class_names: Names of the outputs; None if unknown.
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
    """Read a file for a network, without its classifier if ``build`` has ``num_classes=0``, whether or not it has one.

    The arguments are those of :func:`_read_whole`.
    """
    if build.get("num_classes") != 0:
        return _read_whole(name, weights, sha256, build, known, member)
    rest = {key: value for key, value in build.items() if key != "num_classes"}
    try:
        whole = _read_whole(name, weights, sha256, rest, known, member)
    except BcdzooError as error:
        try:
            return _read_whole(name, weights, sha256, build, known, member)
        except BcdzooError:
            raise error from None
    headless = whole.build | {"num_classes": 0}
    kept = {key: whole.state[key] for key in _outline(name, headless).state_dict()}
    return whole._replace(state=kept, build=headless, class_names=None)


def _read_whole(
    name: str,
    weights: str,
    sha256: str,
    build: dict[str, Any],
    known: Checkpoint | None,
    member: str | None = None,
) -> _Read:
    """Read a file for a network; the network is allocated only once all of its tensors are known to be in the file.

    Args:
        name: Network's name.
        weights: File, or one of the state dicts in it.
        sha256: Hash of the file.
        build: The user's arguments, which override all others.
        known: Entry in the manifest, if known; else it is looked up by the file's hash.
        member: File to read in a zip archive.
    """
    path, _ = split_part(weights)
    said = read_metadata(path)
    if said is None:
        known = known or _published(name, sha256)
    elif said.model != name:
        raise BcdzooError(f"{path} holds weights of {printable(said.model, 100)}, not of {name}")
    format = "zoo" if said else known.format if known else ""
    if known and not known.convertible:
        raise BcdzooError(f"{known.name} has the format {known.format!r}, which is only fetched: {path}")
    stated = (said.build if said else {}) | (known.build if known else {})
    for key in sorted(key for key in stated.keys() & build.keys() if stated[key] != build[key]):
        say(f"{path} is of {key}={printable(stated[key], 60)}; {key}={printable(build[key], 60)} was asked for instead")
    build = stated | build
    try:
        network = _outline(name, build)
    except BcdzooError as error:  # possibly caused by the file
        raise BcdzooError(f"{path}: {error}") from error
    state = load_state(weights, member, fit_of(network, format))
    layout = layout_of(state, network, format)
    unsaid: dict[str, Any] = {}
    if said is None:
        taken = default_arguments(name)
        if lacking := layout.build.keys() - taken.keys():
            needed = ", ".join(f"{key}={layout.build[key]}" for key in sorted(lacking))
            what = f"{path} needs {needed}, a form that {name} does not have"
            raise BcdzooError(what + _networks_of(state, format))
        build = {**layout.build, **build}
        network = _outline(name, build)
        if known is None:
            shown = {"num_classes", *find(name).shown}
            unsaid = {key: value for key, value in taken.items() if key not in build and key not in shown}
    try:
        converted = convert_state(state, network, weights, format)
    except BcdzooError as error:
        if outputs := _outputs(name, build, state, format):
            raise BcdzooError(
                f"{error}; it has {outputs} outputs: num_classes={outputs} (--set num_classes={outputs})"
            ) from error
        if not _lacks_classifier(name, build, state, format):
            raise BcdzooError(f"{error}{_networks_of(state, format)}") from error
        raise BcdzooError(
            f"{path} has no classifier: num_classes=0 (--set num_classes=0) builds {name} without one, for features"
        ) from error
    if assumed := [f"{key}={printable(v)}" for key, v in unsaid.items() if key not in layout.as_usual]:
        say(f"{path} does not say how {name} is built; {', '.join(assumed)}: assumed (--set takes another)")
    names, preprocess = None, layout.preprocess
    if said is not None:
        names, preprocess = said.class_names, said.preprocess or ""
    if known is not None:
        preprocess = known.preprocess or preprocess
        names = names or _classes(name, build)
    return _Read(converted, build, unsaid, preprocess or None, names)


@cache
def _sizes() -> dict[str, int]:
    """Number of values in the tensors of each network of the zoo, as it is built by default."""
    return {name: _values(_outline(name, {}).state_dict()) for name in REGISTRY}


def _values(state: State) -> int:
    return sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())


def _networks_of(state: State, format: str) -> str:
    """The end of a message that names the networks which a file fits, if any."""
    values, found = _values(state), []
    for name in (name for name, size in _sizes().items() if size == values):
        with suppress(BcdzooError):
            convert_state(state, _outline(name, {}), name, format)
            found.append(name)
    return f"; it fits {' and '.join(found)}" if found else ""


def _outputs(name: str, build: dict[str, Any], state: State, format: str) -> int | None:
    """The number of outputs with which a file would fit, if that alone is different."""
    whole, *_ = fit_of(_outline(name, build), format)(state)
    linear = [tensor for tensor in state.values() if whole and tensor.ndim > 1 and set(tensor.shape[2:]) <= {1}]
    for outputs in dict.fromkeys(tensor.shape[0] for tensor in linear):
        with suppress(BcdzooError):
            convert_state(state, _outline(name, build | {"num_classes": outputs}), name, format)
            return outputs
    return None


def _lacks_classifier(name: str, build: dict[str, Any], state: State, format: str) -> bool:
    """Whether a file is of this network without its classifier, which is wanted."""
    if build.get("num_classes") == 0:
        return False
    whole, *_ = fit_of(_outline(name, build | {"num_classes": 0}), format)(state)
    return bool(whole)


def _outline(name: str, build: dict[str, Any]) -> nn.Module:
    """Build a network on the meta device, without values."""
    with torch.device("meta"):
        return create_model(name, **build)


def _classes(name: str, build: dict[str, Any]) -> tuple[str, ...] | None:
    """The classes of the data that a network was published for, if it has as many outputs."""
    spec = find(name)
    found = classes_of(spec.dataset)
    return tuple(found) if build.get("num_classes", spec.num_classes) == len(found) else None


def _published(name: str, sha256: str) -> Checkpoint | None:
    """Find the manifest's entry for a file by its hash."""
    return next((checkpoint for checkpoint in load_manifest().of(name) if checkpoint.sha256 == sha256), None)


def load_into(model: nn.Module, weights: str | Path) -> None:
    """Load a checkpoint into any module, strictly: with the module's own keys, ignoring wrappers and prefixes.

    Raises:
        BcdzooError: A key is missing, left over or of the wrong shape, the file cannot be read safely, or it needs
            arguments of the network that a module does not show.
    """
    state = load_state(weights, fits=fit_of(model))
    if needed := layout_of(state, model).build:
        form = ", ".join(f"{key}={value}" for key, value in needed.items())
        raise BcdzooError(f"{weights} needs {form}: use `bcdzoo convert`, which stores that in its file")
    converted = convert_state(state, model, str(weights))
    try:
        model.load_state_dict(converted)
    except RuntimeError as error:  # a module may override load_state_dict
        raise BcdzooError(f"{type(model).__name__} does not take {weights}: {printable(error, 200)}") from error


def assumed(name: str) -> str:
    """The preprocessing that is assumed of a network without any: that of ImageNet, at the network's own size."""
    spec = REGISTRY.get(name)
    usual = PRESETS["imagenet"].crop
    size = usual if spec is None else spec.input_size
    return "imagenet" if size == usual else f"resize={size},crop={size}"


def assume(who: str, preprocess: str | None = None) -> Preprocess:
    """Return the assumed preprocessing of a network that has none, and print a note.

    Args:
        who: Name of the network.
        preprocess: What is assumed; None for :func:`assumed`.
    """
    preprocess = preprocess or assumed(who)
    say(f"{who}: its preprocessing is not stated; preprocess={preprocess}: assumed")
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
    """Write a checkpoint as this zoo's safetensors, with the source's hash and the arguments of the network.

    Args:
        source: Checkpoint for this network, or ``FILE#NAME`` for one of several state dicts in it.
        model: Name of the network in the zoo.
        out: File to write.
        preprocess: Preset that the weights were trained with; None for the source's own.
        member: File to read in a zip archive.
        license: SPDX identifier of the weights' license.
        class_names: Names of the outputs, in order; None for the source's own.
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
    sha256 = _sha256_of(path)
    read = _read(model, source, sha256, build, known, member)
    build = read.build | read.unsaid
    classes = build.get("num_classes", find(model).num_classes)
    if preprocess:
        parse(preprocess)
    if class_names is not None and len(class_names) != classes:
        raise BcdzooError(f"{len(class_names)} class names are given, but {model} has {classes} outputs")
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
    """Return a fetched checkpoint as this zoo's safetensors; converted on first use, and again if it has no seal.

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
            damage = f"{path} is damaged; converted again"
    known = checkpoint
    try:
        own_place(path)
        _convert(str(source), known.model, path, known.preprocess, known.member or None, known.license, None, {}, known)
    except OSError:
        if not readable:  # an older version's file in a read-only cache will do
            raise
    if damage:
        say(damage)
    return path
