"""An audit: a network is loaded, run on some real images, watched and judged."""

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
from bcdzoo.packed.pack import PackedNetwork
from bcdzoo.registry import REGISTRY, ModelSpec, create_model
from bcdzoo.text import printable
from bcdzoo.weights.convert import split_part
from bcdzoo.weights.fetch import fetch
from bcdzoo.weights.load import assume, checkpoint_argument, is_path
from bcdzoo.weights.manifest import load_manifest

_DEMO_SIZE = 28


@dataclass(frozen=True)
class Audit:
    """What was found of a network.

    Attributes:
        model: Its name.
        weights: Tag or file of its weights, None where it came as it is.
        data: The images' name; None where the weights alone were looked at.
        images: Their number, 0 without.
        claimed: W/A of its low-bit layers by the registry; None for a network that is not of the zoo.
        verdict: In words.
        failure: Why it is not what it claims, in words; None where it is. What is not of the zoo claims to be binary.
        layers: In the order of their calls.
        size: What its weights take.
        unknown: Operations that may multiply and were not recognised: how often for each image, and where first.
        elementwise: Products for each image of two maps, or of a map and its scales, that are in no layer.
        counted: Multiply-accumulates for each image by :func:`bcdzoo.count_ops`, which asks the layers.
        not_counted: Why there is no such number.
        notes: What else is to be known of the network, such as an answer that depends on the batch.
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
        """Multiply-accumulates for each image that were seen."""
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
    """Look at every multiplication of a network while it runs on real images, on the CPU.

    Args:
        model: A zoo name, a ``.safetensors`` file of the zoo's, ``package.module:callable``, or a module from float32
            images of shape (N, 3, H, W) to logits, which is left on the CPU, in float32 and in evaluation mode.
        data: As for :func:`bcdzoo.evaluate`. Without it the zoo's networks for 28×28 pixels get the images in this
            package; of others the weights alone are looked at.
        images: How many of them, spread evenly over the set.
        weights: As for :func:`bcdzoo.evaluate`.
        manifest: Likewise.
        preprocess: Likewise.
        layout: Likewise.
        **build: Likewise.

    Raises:
        BcdzooError: As :func:`bcdzoo.evaluate` for the network, its weights and the images.
    """
    if isinstance(model, str) and ":" not in model:
        model, weights = checkpoint_argument(model, weights)
    loaded = load_network(model, weights, manifest, **build)
    name = loaded.name
    spec = REGISTRY.get(name) if isinstance(model, str) else None
    try:
        network = unwrapped(loaded.model).to("cpu", torch.float32).eval()
    except Exception as error:  # without values, exported, quantized in a way of its own
        reason = " ".join(str(error).split())[:300]
        raise BcdzooError(
            f"the network {name} cannot be put on the CPU, in float32 and to evaluate: {reason}"
        ) from error
    loaded = replace(loaded, model=network)
    side = f"resize={spec.input_size},crop={spec.input_size}" if spec and spec.input_size == _DEMO_SIZE else "imagenet"
    spec_of_images = preprocess or loaded.preprocess
    how = parse(spec_of_images) if spec_of_images else assume(name, side)
    subject = EvalModel(loaded, how, "", torch.device("cpu"))
    with torch.no_grad():
        subject.try_out()
    counted, not_counted = _count(network, spec, loaded.build, how.crop)
    if data is None and spec is not None and spec.input_size == _DEMO_SIZE:
        data = DEMO.name
    batches = _noise(subject) if data is None else batches_of(data, how, subject.outputs, layout, images)
    watch = watched(network.network if isinstance(network, PackedNetwork) else network, batches, name)
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
    """What was seen of a network while it ran.

    Args:
        network: On the CPU, in evaluation mode.
        batches: Normalized images, (n, 3, H, W) each.
        name: Of the network, for messages.

    Raises:
        BcdzooError: It fails.
    """
    watch = Watch(network)
    with torch.no_grad():
        for batch in batches:
            try:
                watch.run(batch)
            except Exception as error:  # anybody's network fails as it likes
                reason = " ".join(str(error).split())
                raise BcdzooError(
                    f"the network {name} fails on {len(batch)} images of {'×'.join(map(str, batch.shape[1:]))} "
                    f"while it is looked at: {type(error).__name__}: {reason[:300]}"
                ) from error
    return watch


def _count(network: nn.Module, spec: ModelSpec | None, build: dict[str, Any], side: int) -> tuple[int | None, str]:
    """Multiply-accumulates by the counter, or why it has none."""
    try:
        if spec is not None:
            with torch.device("meta"):
                network = create_model(spec.name, **build)
        return multiply_accumulates(network, side), ""
    except BcdzooError as error:
        return None, str(error)


def _noise(subject: EvalModel) -> Iterator[Tensor]:
    """An image, (1, 3, H, W)."""
    side = subject.preprocess.crop
    yield subject.preprocess.normalize(255 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)))


def _file(spec: Any, weights: str | Path | None, manifest: Path | None) -> Path | None:
    """The file that a network's weights are from."""
    if weights is not None and is_path(weights):
        return split_part(weights)[0]
    if spec is None:
        return None
    return fetch(load_manifest(manifest).find(spec.name, None if weights is None else str(weights)))
