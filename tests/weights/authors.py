"""Weights and images that anybody can make again, under the keys of the authors' own networks.

``authors/*.json`` holds, for each network, the keys and shapes of its authors' state dict and the logits that the
authors' own code (at the commit named there) gave for :func:`images` with the weights of :func:`state`, computed in
float64. Only these figures are kept here.
"""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FLAX = "scale|var|bounds|pos_slope"  # names of numbers above 0 in PokeBNN's files
FOLDER = Path(__file__).parent / "authors"


def record(name: str) -> dict[str, Any]:
    """What is known of one of the authors' networks."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def tensor(key: str, shape: list[int]) -> Tensor:
    """A tensor that depends on its key alone, in a range that keeps a network's maps of order 1."""
    random = np.random.RandomState(zlib.crc32(key.encode()))  # its stream is frozen, unlike a Generator's
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if key.endswith("temperature"):
        return torch.full(shape, 0.9**512)  # BNext's after the last of its 512 epochs
    if key.startswith("get_bounds.conv-"):
        return torch.full(shape, 3.0)  # PokeBNN's bounds of 1-bit activations
    is_positive = key.endswith("running_var") or re.match(r"(params|batch_stats|get_bounds)\..*\.(" + _FLAX + ")$", key)
    if is_positive or (re.search(r"\.(bn|norm)", key) and key.endswith("weight")):
        values = random.uniform(0.5, 1.5, shape)
    elif key.endswith("att_prob_clip"):
        values = random.uniform(0.01, 0.03, shape)  # BinaryViT's level of attention: some of 49 weights are below half
    elif key.endswith(".B"):
        values = random.randint(0, 2, shape).astype(np.float64)  # SiMaN's weights
    elif key.endswith("L_alpha"):
        values = random.uniform(-4, 0, shape)  # A&B BNN's exponents
    elif "prelu" in key or key.endswith(".neg_slope"):
        values = random.uniform(0.1, 0.4, shape)
    elif len(shape) >= 2 and "move" not in key:
        fan_in = np.prod(shape[1:]) if shape[1] > 1 or len(shape) == 4 else 512
        values = random.standard_normal(shape) / np.sqrt(fan_in)
    else:
        values = random.standard_normal(shape) * 0.2
    return torch.from_numpy(np.asarray(values, np.float32))


def state(keys: dict[str, list[int]], stored_as_signs: bool = False) -> dict[str, Tensor]:
    """A whole state dict; with the binary weights stored as exactly ±1, as in some released files.

    AdaBin's activations are around 1, so that maps stay of order 1.
    """
    tensors = {key: tensor(key, shape) + key.endswith("alpha_a") for key, shape in keys.items()}
    if stored_as_signs:
        for key in tensors:
            if "binary" in key:
                tensors[key] = torch.where(tensors[key] >= 0, 1.0, -1.0)
    return tensors


def images(n: int = 2) -> Tensor:
    """Images like normalized photos: smooth, of order 1; (n, 3, 224, 224) float32."""
    coarse = np.random.RandomState(7).standard_normal((n, 3, 14, 14)).astype(np.float32)
    fine = np.random.RandomState(8).standard_normal((n, 3, 224, 224)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=224, mode="bilinear", align_corners=False)
    return smooth + 0.1 * torch.from_numpy(fine)
