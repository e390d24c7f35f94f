"""Audit a network: load it, run it on real images, observe and judge it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.audit.size import Size, measure
from bcdzoo.audit.verdict import AuditedLayer, failure, judge, summarize
from bcdzoo.bits import BINARY
from bcdzoo.custom_model import unwrapped
from bcdzoo.data.batches import AT_ONCE, batches_of
from bcdzoo.data.imagenet import DEMO
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.batch import batch_notes
from bcdzoo.evaluation.model import EvalModel, load_network
from bcdzoo.observe.watch import Watch
from bcdzoo.ops.count import multiply_accumulates
from bcdzoo.packed.pack import unpacked
from bcdzoo.registry import REGISTRY, ModelSpec, create_model
from bcdzoo.text import printable
from bcdzoo.weights.convert import split_part
from bcdzoo.weights.fetch import fetch
from bcdzoo.weights.load import assume, checkpoint_argument, is_path
from bcdzoo.weights.manifest import load_manifest

_DEMO_SIZE = 28


@dataclass(frozen=True)
class Audit:
    """The findings about a network.

    Attributes:
        model: Name of the network.
        weights: Tag or file of its weights; None for a module that was passed.
        data: Name of the images; None if only the weights were examined.
        images: Number of images, possibly 0.
        claimed: W/A of its low-bit layers in the registry; None for a network outside the zoo.
        verdict: Verdict in words.
        failure: Reason why it is not what it claims, in words; None if it is. A network outside the zoo claims to be
            binary.
        layers: Layers in the order of their calls.
        size: Size of its weights.
        unknown: Operations that may multiply and were not recognized: how often per image, and where first.
        elementwise: Number of element-wise products per image that are in no layer.
        counted: Multiply-accumulates per image by :func:`bcdzoo.count_ops`, which uses the layers' statements.
        not_counted: Reason if there is no such number.
        notes: Other findings, such as logits that depend on the batch.
    """

    model: str
    weights: str | None
    data: str | None
    images: int
    claimed: str | None
    verdict: str
    failure: str | None
    layers: list[AuditedLayer]
    size: Size
    unknown: list[str]
    elementwise: int
    counted: int | None
    not_counted: str
    notes: list[str]

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image that were observed."""
        return sum(layer.macs for layer in self.layers)


def audit(
    model: nn.Module | str,
    data: str | None = None,
    *,
    images: int = 32,
    weights: str | Path | None = None,
    manifest: Path | None = None,
    preprocess: str | None = None,
    layout: str | None = None,
    **build: Any,
) -> Audit:
    """Observe every multiplication of a network while it runs on real images, on the CPU.

    Args:
        model: Zoo name, ``.safetensors`` file of the zoo, ``package.module:callable``, or a module from float32
            images of shape (N, 3, H, W) to logits, which is left on the CPU, in float32 and in evaluation mode.
        data: Images as for :func:`bcdzoo.evaluate`. If omitted, the zoo's networks for 28×28 pixels use the images in
            this package; for others only the weights are examined.
        images: Number of images, evenly spaced in the set.
        weights: As for :func:`bcdzoo.evaluate`.
        manifest: As for :func:`bcdzoo.evaluate`.
        preprocess: As for :func:`bcdzoo.evaluate`.
        layout: As for :func:`bcdzoo.evaluate`.
        **build: As for :func:`bcdzoo.evaluate`.

    Raises:
        BcdzooError: As for :func:`bcdzoo.evaluate`, for the network, its weights and the images.
    """
    if isinstance(model, str) and ":" not in model:
        model, weights = checkpoint_argument(model, weights)
    loaded = load_network(model, weights, manifest, **build)
    name = loaded.name
    spec = REGISTRY.get(name) if isinstance(model, str) else None
    plain = unpacked(loaded.model, "an audit", loaded.label or name)
    try:
        network = unwrapped(plain).to("cpu", torch.float32).eval()
    except Exception as error:  # without values, exported, or quantized
        reason = " ".join(str(error).split())[:300]
        raise BcdzooError(
            f"the network {name} cannot be moved to the CPU, float32 and evaluation mode: {reason}"
        ) from error
    loaded = replace(loaded, model=network)
    spec_of_images = preprocess or loaded.preprocess
    how = parse(spec_of_images) if spec_of_images else assume(name, loaded.assumed)
    subject = EvalModel(loaded, how, "", torch.device("cpu"))
    with torch.no_grad():
        subject.try_out()
    counted, not_counted = _count(network, spec, loaded.build, how.crop)
    if data is None and spec is not None and spec.input_size == _DEMO_SIZE:
        data = DEMO.name
    batches = _noise(subject) if data is None else batches_of(data, how, subject.outputs, layout, images)
    watch = watched(network, batches, name)
    layers = judge(list(watch.layers.values()), watch.images, real_input=data is not None)
    with torch.no_grad():
        notes = batch_notes(subject, AT_ONCE if watch.images > 1 else 1)
    unknown = [
        f"{operation} ×{-(-len(paths) // watch.runs)}, first in {printable(paths[0] or 'the network', 100)}"
        for operation, paths in watch.unknown.items()
    ]
    return Audit(
        name,
        loaded.label,
        data,
        watch.images if data is not None else 0,
        ", ".join(map(str, spec.bits)) if spec else None,
        summarize(layers, unknown),
        failure(layers, spec.bits if spec else (BINARY,), unknown),
        layers,
        measure(loaded, layers, spec, _file(spec, weights, manifest)),
        unknown,
        watch.sums.elements // watch.images,
        counted,
        not_counted,
        notes,
    )


def watched(network: nn.Module, batches: Iterable[Tensor], name: str) -> Watch:
    """Run a network and return what was observed.

    Args:
        network: Network on the CPU, in evaluation mode.
        batches: Normalized images, (n, 3, H, W) each.
        name: Name of the network in messages.

    Raises:
        BcdzooError: The network fails.
    """
    watch = Watch(network)
    with torch.no_grad():
        for batch in batches:
            try:
                watch.run(batch)
            except Exception as error:  # a user's network may raise anything
                reason = " ".join(str(error).split())
                raise BcdzooError(
                    f"the network {name} fails on {len(batch)} images of {'×'.join(map(str, batch.shape[1:]))} "
                    f"while it is observed: {type(error).__name__}: {reason[:300]}"
                ) from error
    return watch


def _count(network: nn.Module, spec: ModelSpec | None, build: dict[str, Any], side: int) -> tuple[int | None, str]:
    """Count multiply-accumulates, or return why they cannot be counted."""
    try:
        if spec is not None:
            with torch.device("meta"):
                network = create_model(spec.name, **build)
        return multiply_accumulates(network, side), ""
    except BcdzooError as error:
        return None, str(error)


def _noise(subject: EvalModel) -> Iterator[Tensor]:
    """Yield an image of noise, (1, 3, H, W)."""
    side = subject.preprocess.crop
    yield subject.preprocess.normalize(255 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)))


def _file(spec: Any, weights: str | Path | None, manifest: Path | None) -> Path | None:
    """Return the file of a network's weights."""
    if weights is not None and is_path(weights):
        return split_part(weights)[0]
    if spec is None:
        return None
    return fetch(load_manifest(manifest).find(spec.name, None if weights is None else str(weights)))
