"""Ruichen0424/AB-BNN, Network/ReActNet_18_Qaw.py and ReActNet_A_Qaw.py."""

import re

from bcdzoo.weights.keys.family import Family, Layout, Replacement, Rule

_PARTS = {
    "move0.bias": "sign.bias",
    "conv1.weight": "conv.weight",
    "conv1.gain": "conv.quantizer.gain",
    "move1.bias": "activation.shift_in",
    "prelu.L_alpha": "activation.exponent",
    "move2.bias": "activation.shift_out",
    "downsample.1.weight": "shortcut.conv.weight",
    "downsample.1.gain": "shortcut.conv.quantizer.gain",
}
_HALVES = {
    "move{}1.bias": "sign.bias",
    "move{}2.bias": "activation.shift_in",
    "prelu{}.L_alpha": "activation.exponent",
    "move{}3.bias": "activation.shift_out",
}
_CONV = {"weight": "conv.weight", "gain": "conv.quantizer.gain"}


def _in_stage(ours: str) -> Replacement:
    return lambda match: f"stages.{int(match[1]) - 1}.{match[2]}.{ours}"


def _in_block(half: str, ours: str, part: str = "") -> Replacement:
    return lambda match: f"blocks.{int(match[1]) - 1}.{half}.{ours}{part}"


def _half(half: str, number: int) -> list[Rule]:
    named = {theirs.format(number): ours for theirs, ours in _HALVES.items()}
    return [(rf"feature\.(\d+)\.{re.escape(theirs)}$", _in_block(half, ours)) for theirs, ours in named.items()]


def _convs(theirs: str, half: str, part: str = "") -> list[Rule]:
    return [(rf"feature\.(\d+)\.{theirs}\.{kind}$", _in_block(half, ours, part)) for kind, ours in _CONV.items()]


_RESNET = Layout(
    [
        (r"conv1\.", "stem.conv."),
        *((rf"layer(\d)\.(\d+)\.{re.escape(theirs)}$", _in_stage(ours)) for theirs, ours in _PARTS.items()),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
)

_MOBILENET = Layout(
    [
        (r"feature\.0\.conv1\.", "stem.conv."),
        *_half("spatial", 1),
        *_half("pointwise", 2),
        *_convs("binary_3x3", "spatial"),
        *_convs("binary_pw", "pointwise"),
        *_convs("binary_pw_down1", "pointwise", "#1"),
        *_convs("binary_pw_down2", "pointwise", "#2"),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
)

FAMILY = Family((_RESNET, _MOBILENET))
