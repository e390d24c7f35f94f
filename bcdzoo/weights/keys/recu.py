"""z-hXu/ReCU and edmav4/BiPer, which is made from it: blocks of two convolutions, or of one in ReCU's form of ReActNet.

tau is the state of training that the clamp of the weights depends on (BiPer's: its penalty), no sign of theirs. BiPer's
code for CIFAR-10 has a beta, too, which it does not use; by that alone can the two's files be told apart.
"""

import re
from functools import partial
from typing import TYPE_CHECKING

from bcdzoo.weights.keys.family import Family, Layout, Rule, State, shifted

if TYPE_CHECKING:  # the manifest uses the formats without torch
    from torch import nn


def _frequency(network: "nn.Module") -> float | None:
    """The frequency of BiPer's weights; None for another network."""
    from bcdzoo.layers.quantizers.biper import WaveWeight

    return next((module.frequency for module in network.modules() if isinstance(module, WaveWeight)), None)


def _assumed(state: State, network: "nn.Module") -> str:
    frequency = _frequency(network)
    lacks = "it does not hold the frequency of its weights, which its authors' config.txt says"
    return f"{lacks}; freq={frequency:g} is taken (--set freq=… takes another)" if frequency else ""


def _unfit(state: State, network: "nn.Module") -> str:
    is_biper = any(key.endswith(".beta") for key in state)
    if is_biper == (_frequency(network) is not None):
        return ""
    return "its beta says that it is BiPer's" if is_biper else "BiPer's files have a beta, and it has none: ReCU's?"


def _unit(match: re.Match[str]) -> str:
    """Name the unit of a convolution by stage, block and position in the block (groups 1 to 3)."""
    return f"stages.{int(match[1]) - 1}.{2 * int(match[2]) + int(match[3]) - 1}"


def _shortcut(match: re.Match[str]) -> str:
    """Name the shortcut of a block's first unit."""
    return f"stages.{int(match[1]) - 1}.{2 * int(match[2])}.shortcut"


def _in_block(match: re.Match[str]) -> str:
    """Name the same where one shortcut is around both convolutions."""
    return f"stages.{int(match[1]) - 1}.{match[2]}.{'first' if match[3] == '1' else 'second'}"


_TAU: Rule = (r".*\.(tau|beta)$", None)
_layout = partial(Layout, as_usual=("freq",), assumed=_assumed)  # which says more of freq
_STEM: Rule = (r"(conv|bn)1\.", r"stem.\1.")
_UNITS: list[Rule] = [
    _TAU,
    _STEM,
    (r"layer(\d)\.(\d)\.conv([12])\.weight", lambda m: f"{_unit(m)}.conv.weight"),
    (r"layer(\d)\.(\d)\.conv([12])\.alpha", lambda m: f"{_unit(m)}.conv.quantizer.alpha"),
    (r"layer(\d)\.(\d)\.bn([12])\.", lambda m: f"{_unit(m)}.bn."),
    (r"bn2\.", "norm."),
]
_RESNET = _layout(
    [
        *_UNITS,
        (r"layer(\d)\.(\d)\.downsample\.0\.", lambda m: f"{_shortcut(m)}.conv."),
        (r"layer(\d)\.(\d)\.downsample\.1\.", lambda m: f"{_shortcut(m)}.bn."),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
)
_REACTNET = Layout(
    [
        _TAU,
        (r"(conv|bn)\.", r"stem.\1."),
        (r"layer(\d)\.(\d+)\.move0\.bias", shifted(1, -1, r"stages.{n}.\2.sign.bias")),
        (r"layer(\d)\.(\d+)\.conv\.weight", shifted(1, -1, r"stages.{n}.\2.conv.weight")),
        (r"layer(\d)\.(\d+)\.conv\.alpha", shifted(1, -1, r"stages.{n}.\2.conv.quantizer.alpha")),
        (r"layer(\d)\.(\d+)\.bn\.", shifted(1, -1, r"stages.{n}.\2.bn.")),
        (r"layer(\d)\.(\d+)\.move1\.bias", shifted(1, -1, r"stages.{n}.\2.activation.shift_in")),
        (r"layer(\d)\.(\d+)\.nonlinear\.weight", shifted(1, -1, r"stages.{n}.\2.activation.slope")),
        (r"layer(\d)\.(\d+)\.move2\.bias", shifted(1, -1, r"stages.{n}.\2.activation.shift_out")),
        (r"layer(\d)\.(\d+)\.downsample\.1\.", shifted(1, -1, r"stages.{n}.\2.shortcut.conv.")),
        (r"layer(\d)\.(\d+)\.downsample\.2\.", shifted(1, -1, r"stages.{n}.\2.shortcut.bn.")),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
)
_SMALL = "resize=32,crop=32"
_RESNET20 = _layout([*_UNITS, (r"linear\.", "fc.")], preprocess=_SMALL, unfit=_unfit)
_RESNET18 = _layout(
    [
        _TAU,
        _STEM,
        (r"layer(\d)\.(\d)\.conv([12])\.weight", lambda m: f"{_in_block(m)}.conv.weight"),
        (r"layer(\d)\.(\d)\.conv([12])\.alpha", lambda m: f"{_in_block(m)}.conv.quantizer.alpha"),
        (r"layer(\d)\.(\d)\.bn([12])\.", lambda m: f"{_in_block(m)}.bn."),
        (r"bn2\.", "norm."),
        (r"linear\.", "fc."),
    ],
    preprocess=_SMALL,
    unfit=_unfit,
)
_VGG = _layout(
    [
        _TAU,
        (r"conv0\.weight", "features.0.conv.weight"),
        (r"conv([1-5])\.weight", r"features.\1.conv.conv.weight"),
        (r"conv([1-5])\.alpha", r"features.\1.conv.conv.quantizer.alpha"),
        (r"bn([0-5])\.", r"features.\1.bn."),
        (r"fc\.", "fc."),
    ],
    preprocess=_SMALL,
    unfit=_unfit,
)

FAMILY = Family((_RESNET, _REACTNET, _RESNET20, _RESNET18, _VGG))
