"""google/aqt, aqt/jax_legacy/jax/imagenet/pokebnn.py: its variables by name, kernels with their axes as torch has them.

The classifier's kernel is one of 1×1 pixels, and a bound is a number for each channel.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from bcdzoo.weights.keys.family import Family, Layout, Rule, State

if TYPE_CHECKING:
    from torch import nn

_FIRST_BLOCKS = (0, 3, 7, 13)
"""Number of each stage's first block; theirs are numbered consecutively."""

_PARTS = ("reduce", "spatial", "expand")
_SLOPES = (("bias_x", "bias_x"), ("bias_y", "bias_y"), ("neg_slope", "slope"), ("pos_slope", "positive"))
_STEM_ACTIVATIONS = ("stem.activation_patches", "stem.activation")


def _unit(block: int, part: int) -> str:
    stage = max(stage for stage, first in enumerate(_FIRST_BLOCKS) if first <= block)
    return f"stages.{stage}.{block - _FIRST_BLOCKS[stage]}.{_PARTS[part]}"


def _of_block(ours: str) -> Callable[[re.Match[str]], str]:
    """A part of a unit: the block's number (group 1), and the unit's in it (group 2)."""
    return lambda m: m.expand(f"{_unit(int(m[1]), int(m[2]) - 1)}.{ours}")


def _activation(ours: str) -> Callable[[re.Match[str]], str]:
    """A part of a DPReLU: they are numbered in the network's order, two of the stem, and one in each unit."""

    def replace(match: re.Match[str]) -> str:
        number = int(match[1])
        if number < len(_STEM_ACTIVATIONS):
            return f"{_STEM_ACTIVATIONS[number]}.{ours}"
        return f"{_unit(*divmod(number - len(_STEM_ACTIVATIONS), len(_PARTS)))}.activation.{ours}"

    return replace


def _norm(theirs: str, ours: str | Callable[[str], Callable[[re.Match[str]], str]]) -> list[Rule]:
    """The four tensors of a batch normalization."""
    where = ours if callable(ours) else lambda part: lambda m: f"{ours}.{part}"
    return [
        (rf"params\.{theirs}\.scale$", where("weight")),
        (rf"params\.{theirs}\.bias$", where("bias")),
        (rf"batch_stats\.{theirs}\.mean$", where("running_mean")),
        (rf"batch_stats\.{theirs}\.var$", where("running_var")),
    ]


def _bounded(theirs: str, ours: str | Callable[[str], Callable[[re.Match[str]], str]]) -> list[Rule]:
    """A convolution of several bits, or the classifier, and the bounds of its activations."""
    where = ours if callable(ours) else lambda part: lambda m: f"{ours}.{part}"
    bounds = rf"get_bounds\.{theirs}\.GetBounds_0\."
    return [
        (rf"params\.{theirs}\.kernel$", where("weight")),
        (rf"params\.{theirs}\.bias$", where("bias")),
        (rf"{bounds}bounds$", where("steps.bound")),
        (rf"{bounds}stats\.mean_batch_maximum$", where("steps.largest")),
        (rf"{bounds}stats\.mean_batch_minimum$", where("steps.smallest")),
    ]


_BLOCK = r"resblock(\d+)-([123])"
_BINARY = r"get_bounds\.conv-resblock.*\.bounds$"


def _other_bound(state: State, network: "nn.Module") -> str:
    others = [key for key, bound in state.items() if re.match(_BINARY, key) and not (bound == 3).all()]
    return f"{others[0]} is not 3, the bound of 1-bit activations" if others else ""


_LAYOUT = Layout(
    [
        *_bounded("init_conv", "stem.patches"),
        *_norm("init_bn", "stem.bn_patches"),
        *_bounded("init_conv_group", "stem.grouped"),
        *_norm("init_bn_group", "stem.bn"),
        *((rf"params\.DPReLU_(\d+)\.{theirs}$", _activation(ours)) for theirs, ours in _SLOPES),
        (rf"params\.conv-{_BLOCK}\.kernel$", _of_block("conv.weight")),
        *_norm(f"bn{_BLOCK}", lambda part: _of_block(f"bn.{part}")),
        *_norm(f"bn_split{_BLOCK}", lambda part: _of_block(f"bn_gated.{part}")),
        *_bounded(f"sefc1-{_BLOCK}", lambda part: _of_block(f"gate.reduce.{part}")),
        *_bounded(f"sefc2-{_BLOCK}", lambda part: _of_block(f"gate.expand.{part}")),
        *_bounded("DenseAqt_0", "head.fc"),
        (r"get_bounds\.", None),  # statistics that no bound is made of, and the constant bounds of 1-bit activations
    ],
    preprocess="imagenet",
    unfit=_other_bound,
)

FAMILY = Family((_LAYOUT,))
