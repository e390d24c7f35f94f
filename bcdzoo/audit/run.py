"""An audit: a network is loaded, run on some real images, watched and judged."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bcdzoo.audit.size import Size, measure
from bcdzoo.audit.verdict import Layer, judge, summarize
from bcdzoo.audit.watch import Watch
from bcdzoo.data.imagenet import DEMO, open_dataset
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.subject import Subject, find_network
from bcdzoo.packed.pack import PackedNetwork
from bcdzoo.registry import REGISTRY
from bcdzoo.weights.convert import split_part
from bcdzoo.weights.fetch import fetch
from bcdzoo.weights.load import Resolved, assume, is_path, named
from bcdzoo.weights.manifest import load_manifest

_BATCH = 8  # all maps of a layer are looked at together
_DEMO_SIZE = 28


@dataclass(frozen=True)
class Audit:
    """What was found of a network.

    Attributes:
        model: Its name.
        weights: Tag or file of its weights, None where it came as it is.
        data: The images' name; None where the weights alone were looked at.
        images: Their number, 0 without.
        claimed: W/A as the zoo's table has it; None for a network that is not of the zoo.
        verdict: In words.
        layers: In the order of their calls.
        size: What its weights take.
    """

    model: str
    weights: str | None
    data: str | None
    images: int
    claimed: str | None
    verdict: str
    layers: list[Layer]
    size: Size


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
        model, weights = named(model, weights)
    network, name, label, sha256, own_preprocess, build = find_network(model, weights, manifest, build)
    spec = REGISTRY.get(name) if isinstance(model, str) else None
    loaded = Resolved(network.to("cpu", torch.float32).eval(), label or "", sha256 or "", own_preprocess, build)
    side = f"resize={spec.input_size},crop={spec.input_size}" if spec and spec.input_size == _DEMO_SIZE else "imagenet"
    spec_of_images = preprocess or own_preprocess
    how = parse(spec_of_images) if spec_of_images else assume(name, side)
    subject = Subject(loaded.model, name, label, sha256, build, how, "", torch.device("cpu"))
    with torch.no_grad():
        subject.try_out()
    if data is None and spec is not None and spec.input_size == _DEMO_SIZE:
        data = DEMO.name
    batches = _noise(subject) if data is None else _batches(subject, data, layout, images)
    seen = 0
    watched = loaded.model.network if isinstance(loaded.model, PackedNetwork) else loaded.model
    wanted = [parameter for parameter in watched.parameters() if parameter.requires_grad]
    try:
        watched.requires_grad_(False)
        # with gradients on, though of nothing: the zoo's convolutions then compute the same in floats, not in 8 bits
        with torch.enable_grad(), Watch(watched) as watch:
            for batch in batches:
                watched(batch)
                seen += len(batch)
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
    layers = judge(list(watch.layers.values()), seen, real_input=data is not None)
    return Audit(
        name,
        label,
        data,
        seen if data is not None else 0,
        spec.wa if spec else None,
        summarize(layers),
        layers,
        measure(loaded, layers, spec, _file(spec, weights, manifest)),
    )


def _noise(subject: Subject) -> Iterator[Tensor]:
    """An image, (1, 3, H, W)."""
    side = subject.preprocess.crop
    yield subject.preprocess.normalize(255 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)))


def _batches(subject: Subject, data: str, layout: str | None, number: int) -> Iterator[Tensor]:
    """Images spread evenly over a set, (n, 3, H, W)."""
    found = open_dataset(data, subject.outputs, layout)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(number, len(found)), dtype=int)).tolist()
    parts = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    for _, crops, unreadable in loader(Pixels(found, [subject.preprocess.geometry]), parts, workers=0):
        if unreadable:
            raise BcdzooError(unreadable[0][1])
        yield subject.preprocess.normalize(crops[0])


def _file(spec: Any, weights: str | Path | None, manifest: Path | None) -> Path | None:
    """The file that a network's weights are from."""
    if weights is not None and is_path(weights):
        return split_part(weights)[0]
    if spec is None:
        return None
    return fetch(load_manifest(manifest).find(spec.name, None if weights is None else str(weights)))
