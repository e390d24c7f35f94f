"""hpi-xnor/BoolNet, src/models/boolnet.py of its four folders.

Every block has a third batch normalization, but only that of the last one is used; the temperatures are only used in
training.
"""

import re
from typing import TYPE_CHECKING

from bcdzoo.weights.keys.family import Family, Layout, Rule, State

if TYPE_CHECKING:  # the manifest uses the formats without torch
    from torch import nn

_BLOCKS = ("first", "second")


def _block(theirs: str, ours: str) -> Rule:
    """One part of every block; the groups of ``theirs`` begin with the third."""

    def replace(match: re.Match[str]) -> str:
        return f"stages.{int(match[1]) - 1}.{_BLOCKS[int(match[2])]}.{match.expand(ours)}"

    return rf"layer(\d)\.([01])\.{theirs}", replace


def _assumed(state: State, network: "nn.Module") -> str:
    """What a file of BoolNet leaves open: BoolNet* has the same tensors."""
    if not any(key.startswith("ghostbnsign.bn1.") for key in state):
        return ""
    return (
        "whether it is of BoolNet or of BoolNet*, whose tensors are alike, it does not say: read as the one asked for"
    )


def _layout(before_signs: dict[str, str]) -> Layout:
    return Layout(
        [
            (r".*\.?temperature$", None),
            (r"conv1\.", "stem.conv."),
            (r"maxpool\.0\.", "stem.bn."),
            *((re.escape(theirs), ours) for theirs, ours in before_signs.items()),
            (r"layer(?!4\.1\.)\d\.\d\.bn3\.", None),
            _block(r"conv([12])\.", r"conv\3.conv."),
            _block(r"bn([123])\.", r"bn\3."),
            _block(r"downsample\.0\.weight", "shortcut.conv.weight"),
            _block(r"downsample\.0\.bias", "shortcut.bias.bias"),
            _block(r"downsample\.[12]\.", "shortcut.bn."),
            (r"prelu2\.", "activation."),
            (r"fc\.", "fc."),
        ],
        preprocess="imagenet",
        assumed=_assumed,
    )


_BOOLNET = {
    "ghostbnsign.bn1.": "nudged.bn.",
    "ghostbnsign.bn2.": "nudged.bn_in.",
    "ghostbnsign.adaptive_zero_points.0.": "nudged.conv.",
    "ghostbnsign.adaptive_zero_points.1.": "nudged.bn_out.",
}

FAMILY = Family((_layout(_BOOLNET), _layout({"ghostbnsign.0.": "nudged."})))
