"""Files of packed networks: a plan by itself (``.bcz``), or in a safetensors file.

A file selects operations and their sizes, and cannot do anything else: the network is not built to read it.
"""

import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import require_regular, sha256_of
from bcdzoo.packed import native
from bcdzoo.packed.pack import PlanNetwork, pack_in_place, plan_of
from bcdzoo.plan.file import decode, encode, read_plan, write_plan
from bcdzoo.plan.operations import PlanError
from bcdzoo.plan.plan import Plan
from bcdzoo.text import printable
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import LoadedModel, assume, resolve
from bcdzoo.weights.manifest import load_manifest
from bcdzoo.weights.metadata import remember
from bcdzoo.weights.tensors import read_tensors, write_tensors

FORMAT = "bcdzoo packed 2"
"""Marks packed safetensors files, by their version."""

SUFFIX = ".bcz"
"""Of a plan's file."""

_KEY = "plan"


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
        out: File to write, as for :func:`write_packed`.
        weights: As for :func:`bcdzoo.load_model`.
        manifest: As for :func:`bcdzoo.load_model`.

    Raises:
        BcdzooError: As for :func:`bcdzoo.load_model` and :func:`write_packed`.
    """
    found = resolve(name, weights, manifest)
    return write_packed(found, out)


def write_packed(found: LoadedModel, out: Path) -> Sizes:
    """Write a loaded network in packed form.

    Args:
        found: Network, whose modules are consumed.
        out: File to write: a plan (``.bcz``), or one in a safetensors file. It is for images of the size that the
            network's preprocessing gives.

    Raises:
        BcdzooError: It cannot be packed; or this build has no kernels.
        OSError: The file cannot be written.
    """
    plain = 4 * sum(parameter.numel() for parameter in found.model.parameters())
    if native.kernels() is None:
        raise BcdzooError("the 1-bit kernels are missing, and nothing can be packed without them")
    plan = exported_plan(replace(found, model=pack_in_place(found.model).network))
    if out.suffix == SUFFIX:
        write_plan(out, plan)
    else:
        content = torch.frombuffer(bytearray(encode(plan)), dtype=torch.uint8)
        write_tensors(out, {_KEY: content}, {"format": FORMAT, "model": found.name})
    constants = [array for operation in plan.operations for array in operation.constants.values()]
    planes = sum(array.nbytes for array in constants if array.dtype == np.uint64)
    return Sizes(out.stat().st_size, planes, sum(array.nbytes for array in constants) - planes, plain)


def exported_plan(found: LoadedModel) -> Plan:
    """The plan of a loaded network, with all that a file says of it.

    Args:
        found: Network, in evaluation mode on the CPU in float32, whose plan is for images of the size that its
            preprocessing gives; or a plan already.

    Raises:
        BcdzooError: It computes something that no plan has, or fails.
    """
    if isinstance(found.model, PlanNetwork):
        return found.model.plan
    preprocess = parse(found.preprocess) if found.preprocess else assume(found.name, found.assumed)
    names = getattr(found.model, "class_names", None) or ()
    shape = (3, preprocess.crop, preprocess.crop)
    with torch.no_grad():
        try:
            found.model(torch.zeros(1, *shape))
        except Exception as error:  # a user's network may raise anything
            what = f"{found.name} fails on an image of {'×'.join(map(str, shape))}"
            raise BcdzooError(f"{what}: {printable(error, 300)}") from error
        plan = plan_of(found.model, shape, found.name)
    provenance = {
        "weights": found.label or "",
        "sha256": found.sha256 or "",
        "build": json.dumps(found.build, sort_keys=True),
        "license": _license(found),
        "bcdzoo": importlib.metadata.version("bcdzoo"),
        "torch": torch.__version__,
    }
    if found.assumed and not found.preprocess:
        provenance["assumed"] = found.assumed
    names = tuple(names) if len(names) == plan.outputs else ()
    # In full: the engine reads it without knowing the presets.
    said = preprocess.spec() if found.preprocess else ""
    return Plan(plan.input_shape, plan.operations, found.name, said, names, provenance)


def _license(found: LoadedModel) -> str:
    """The license of a network's weights, as the manifest states it; "" if that does not know them."""
    known = (entry.license for entry in load_manifest().of(found.name) if found.sha256 and entry.sha256 == found.sha256)
    return next(known, "")


def is_packed_file(path: Path) -> bool:
    """Whether a file claims to be a packed network."""
    if path.suffix == SUFFIX:
        return True
    is_safetensors = path.suffix == ".safetensors" and path.is_file()
    return is_safetensors and safetensors_metadata(path).get("format", "").startswith("bcdzoo packed")


def load_packed(path: str | Path) -> PlanNetwork:
    """Load a packed network from its file, without building the network that it was made from.

    Args:
        path: File that ``bcdzoo export`` wrote, ``.bcz`` or ``.safetensors``.

    Returns:
        A module from images of the plan's size, float32 of shape (N, 3, H, W) on the CPU, to logits, float32 of shape
        (N, classes); with ``preprocess`` and ``class_names``, None if unknown, and the ``plan``.

    Raises:
        BcdzooError: The file is damaged, of another version, or no packed network; or this build has no kernels.
    """
    network = resolve_packed(Path(path)).model
    assert isinstance(network, PlanNetwork)
    return network


def resolve_packed(path: Path, name: str | None = None) -> LoadedModel:
    """Like :func:`load_packed`, with the network's origin.

    Args:
        path: File.
        name: Name of the expected network.
    """
    plan = _read(path)
    if name not in (None, plan.model):
        raise BcdzooError(f"{path} holds a packed {printable(plan.model, 100)}, not {name}")
    if native.kernels() is None:
        raise BcdzooError(f"{path} needs the 1-bit kernels, which are missing: install a C++ compiler and bcdzoo again")
    network: nn.Module = PlanNetwork(plan).eval()
    remember(network, plan.preprocess or None, plan.class_names or None)
    sha256 = plan.provenance.get("sha256") or sha256_of(path)
    try:
        build = json.loads(plan.provenance.get("build") or "{}")
    except (ValueError, RecursionError):
        build = None
    if not isinstance(build, dict):
        raise BcdzooError(f"{path} does not say how its network is built; make it again with `bcdzoo export`")
    network.__dict__["num_classes"] = build.get("num_classes")  # so that nobody takes features for logits
    assumed = plan.provenance.get("assumed") or None
    return LoadedModel(network, plan.model, str(path), sha256, plan.preprocess or None, build, assumed)


def _read(path: Path) -> Plan:
    require_regular(path)
    if path.suffix != ".safetensors":
        return read_plan(path)
    if safetensors_metadata(path).get("format") != FORMAT:
        raise BcdzooError(f"{path} is not a packed network of this version ({FORMAT}): write it with `bcdzoo export`")
    content = read_tensors(path)[0].get(_KEY)
    if content is None or content.dtype != torch.uint8 or content.ndim != 1:
        raise BcdzooError(f"{path} has no plan; make it again with `bcdzoo export`")
    try:
        return decode(content.numpy())
    except PlanError as error:
        reason = printable(error, 500)
        raise BcdzooError(f"{path} cannot be used as a plan: {reason}; make it again with `bcdzoo export`") from None
