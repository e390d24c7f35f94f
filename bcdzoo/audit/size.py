"""Sizes of a network's weights: with the bits found, at 32 bits, and with the bits claimed."""

import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bcdzoo.audit.verdict import AuditedLayer
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.metadata import declared_bits
from bcdzoo.ops.count import is_new
from bcdzoo.packed.checkpoint import write_packed
from bcdzoo.registry import ModelSpec
from bcdzoo.weights.load import LoadedModel


@dataclass(frozen=True)
class Size:
    """Sizes in bytes.

    Attributes:
        float32: All parameters and statistics at 32 bits.
        found: Low-bit weights at the bits that were found, with a 32-bit scale for each output channel that has one,
            and everything else at 32 bits.
        claimed: Likewise with the bits in the registry, or of the layers if these are mixed; None for a network outside
            the zoo.
        stored: File of the weights; None if there is none.
        packed: File that ``bcdzoo export`` writes; None if there is none.
        no_packed: Reason if there is no packed file.
    """

    float32: int
    found: int
    claimed: int | None
    stored: int | None
    packed: int | None
    no_packed: str


def measure(loaded: LoadedModel, layers: Sequence[AuditedLayer], spec: ModelSpec | None, stored: Path | None) -> Size:
    """Compute the sizes of a network.

    Args:
        loaded: Network as it was run.
        layers: Findings about its layers.
        spec: Entry in the registry, if it has one.
        stored: File of its weights.
    """
    network = loaded.model
    file = stored.stat().st_size if stored else None
    known: set[Any] = set()
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and is_new(tensor, known)
    }
    found = _bytes(state, {layer.latent: (layer, layer.w_bits) for layer in layers})
    if spec is None:
        return Size(_bytes(state, {}), found, None, file, None, "not of the zoo")
    claims = {
        layer.latent: (layer, bits.w_bits if spec.w_bits is None else spec.w_bits)
        for layer in layers
        if (bits := declared_bits(network.get_submodule(layer.name))) is not None
    }
    return Size(_bytes(state, {}), found, _bytes(state, claims), file, *_packed(loaded))


def _bytes(state: Mapping[str, Tensor], bits: Mapping[str, tuple[AuditedLayer, int]]) -> int:
    """Sum the size of tensors at 32 bits, except for the weights of some layers."""
    total = 0
    for name, tensor in state.items():
        layer, width = bits.get(name, (None, 32))
        if layer is None or width == 32:
            total += 4 * tensor.numel()
        else:
            total += -(-layer.weights.numbers * width // 8) + 4 * layer.weights.channels * layer.weights.has_scale
    return total


def _packed(loaded: LoadedModel) -> tuple[int | None, str]:
    """Return the size of the packed file, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            mine = replace(loaded, model=deepcopy(loaded.model))
            return write_packed(mine, Path(folder) / "packed.bcz").file, ""
        except BcdzooError as error:
            return None, str(error)
