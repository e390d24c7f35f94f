"""lmbxmu/RBNN and SiMaN, htqin/IR-Net and DravenALG/ReSTE, ImageNet's and CIFAR-10's networks, which name parts alike.

RBNN and IR-Net do not use the bn3 of its ImageNet network. SiMaN's percent is the state of training at which weights
are clipped; its B says which weights are +1.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from bcdzoo.text import printable
from bcdzoo.weights.keys.family import Family, Layout, Rule, State, shifted

if TYPE_CHECKING:  # the manifest uses the formats without torch
    from torch import nn


def _unfit(state: State, network: "nn.Module") -> str:
    for key, tensor in state.items():
        if key.endswith(".B") and not ((tensor == 0) | (tensor == 1)).all():
            return f"{printable(key, 100)} holds other values than 0 and 1"
    return ""


def _rbnn_unit(match: re.Match[str]) -> str:
    """Name the unit of one of RBNN's convolutions by stage, block and position in the block (groups 1 to 3)."""
    return f"stages.{int(match[1]) - 1}.{match[2]}.{'first' if match[3] == '1' else 'second'}"


def _small_unit(match: re.Match[str]) -> str:
    """The same where each convolution has a shortcut."""
    return f"stages.{int(match[1]) - 1}.{2 * int(match[2]) + int(match[3]) - 1}"


def _small_shortcut(match: re.Match[str]) -> str:
    """Name the shortcut of a block's first unit there."""
    return f"stages.{int(match[1]) - 1}.{2 * int(match[2])}.shortcut"


_PERCENT: Rule = (r".*\.percent$", None)
_CONVS: list[Rule] = [
    _PERCENT,
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"layer(\d)\.(\d)\.conv([12])\.weight", lambda m: f"{_rbnn_unit(m)}.conv.weight"),
    (r"layer(\d)\.(\d)\.conv([12])\.", lambda m: f"{_rbnn_unit(m)}.conv.quantizer."),
    (r"layer(\d)\.(\d)\.bn([12])\.", lambda m: f"{_rbnn_unit(m)}.bn."),
]
_RBNN = Layout(
    [
        *_CONVS,
        (r"layer(\d)\.(\d)\.downsample\.0\.", shifted(1, -1, r"stages.{n}.\2.first.shortcut.conv.")),
        (r"layer(\d)\.(\d)\.downsample\.1\.", shifted(1, -1, r"stages.{n}.\2.first.shortcut.bn.")),
        (r"bn2\.", "head.norm."),
        (r"bn3\.", None),
        (r"fc\.", "head.fc."),
    ],
    preprocess="imagenet",
)

_SMALL = "resize=32,crop=32"


def _assumed(shortcuts: str) -> "Callable[[State, nn.Module], str]":
    """Only RBNN has both forms of ResNet-20, and their keys and shapes are the same."""

    def assumed(state: State, network: "nn.Module") -> str:
        is_rbnn = any(key.endswith("conv1.rotate") and len(tensor) == 16 for key, tensor in state.items())
        other = "its entry model says which it is, resnet20_1w1a or resnet20_bireal_1w1a"
        return f"read as RBNN's ResNet-20 with a shortcut around {shortcuts}; {other}" if is_rbnn else ""

    return assumed


_HEAD: list[Rule] = [(r"bn2\.", "norm."), (r"linear\.", "fc.")]
_BLOCKS = Layout(
    [
        *_CONVS,
        (r"layer(\d)\.(\d)\.shortcut\.0\.weight", shifted(1, -1, r"stages.{n}.\2.shortcut.conv.weight")),
        (r"layer(\d)\.(\d)\.shortcut\.0\.", shifted(1, -1, r"stages.{n}.\2.shortcut.conv.quantizer.")),
        (r"layer(\d)\.(\d)\.shortcut\.1\.", shifted(1, -1, r"stages.{n}.\2.shortcut.bn.")),
        *_HEAD,
    ],
    preprocess=_SMALL,
    unfit=_unfit,
    assumed=_assumed("two convolutions"),
)
_PARTS: list[Rule] = [
    _PERCENT,
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"layer(\d)\.(\d)\.conv([12])\.weight", lambda m: f"{_small_unit(m)}.conv.weight"),
    (r"layer(\d)\.(\d)\.conv([12])\.", lambda m: f"{_small_unit(m)}.conv.quantizer."),
    (r"layer(\d)\.(\d)\.bn([12])\.", lambda m: f"{_small_unit(m)}.bn."),
    (r"layer(\d)\.(\d)\.nonlinear([12])\.", lambda m: f"{_small_unit(m)}.activation."),
]
_UNITS = Layout([*_PARTS, *_HEAD], preprocess=_SMALL, unfit=_unfit, assumed=_assumed("each convolution"))
_SIMAN = Layout(
    [
        *_PARTS,
        (r"layer(\d)\.(\d)\.downsample\.0\.", lambda m: f"{_small_shortcut(m)}.conv."),
        (r"layer(\d)\.(\d)\.downsample\.1\.", lambda m: f"{_small_shortcut(m)}.bn."),
        (r"bn2\.", "norm."),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
    unfit=_unfit,
)
_VGG = Layout(
    [
        _PERCENT,
        (r"conv0\.weight", "features.0.conv.weight"),
        (r"conv([1-5])\.weight", r"features.\1.conv.conv.weight"),
        (r"conv([1-5])\.", r"features.\1.conv.conv.quantizer."),
        (r"bn([0-5])\.", r"features.\1.bn."),
        (r"nonlinear([0-5])\.", r"features.\1.activation."),
        (r"fc\.", "fc."),
    ],
    preprocess=_SMALL,
    unfit=_unfit,
)

FAMILY = Family((_RBNN, _BLOCKS, _UNITS, _SIMAN, _VGG))
