"""huawei-noah/Efficient-Computing, BinaryNetworks/AdaBin/cifar10/nets/ and imagenet/nets/.

The latter's output does not depend on its nonlinear2 and bn3.
"""

import re

from bcdzoo.weights.keys.family import Family, Layout, Replacement, Rule


def _unit(theirs: str, ours: str) -> Rule:
    """One part of every convolution's unit; a block has two."""

    def replace(match: re.Match[str]) -> str:
        return f"stages.{int(match[1]) - 1}.{2 * int(match[2]) + int(match[3]) - 1}.{ours}"

    return rf"layer(\d)\.(\d)\.{theirs}", replace


def _shortcut(ours: str) -> Replacement:
    """One part of a block's shortcut, which is its first unit's here."""
    return lambda match: f"stages.{int(match[1]) - 1}.{2 * int(match[2])}.shortcut.{ours}"


_PARTS: list[Rule] = [
    _unit(r"conv([12])\.weight", "conv.conv.weight"),
    _unit(r"conv([12])\.binary_a\.alpha_a", "conv.alpha"),
    _unit(r"conv([12])\.binary_a\.beta_a", "conv.beta"),
    _unit(r"bn([12])\.", "bn."),
    _unit(r"nonlinear([12])\.neg_scale", "activation.negative"),
    _unit(r"nonlinear([12])\.pos_scale", "activation.positive"),
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"nonlinear1\.neg_scale", "stem.activation.negative"),
    (r"nonlinear1\.pos_scale", "stem.activation.positive"),
    (r"bn2\.", "norm."),
]
_SMALL = Layout(
    [
        *_PARTS,
        (r"layer(\d)\.(\d)\.shortcut\.0\.", _shortcut("conv.")),
        (r"layer(\d)\.(\d)\.shortcut\.1\.", _shortcut("bn.")),
        (r"linear\.", "fc."),
    ],
    preprocess="resize=32,crop=32",
)

_IMAGENET = Layout(
    [
        *_PARTS,
        (r"layer(\d)\.(\d)\.downsample\.1\.", _shortcut("conv.")),
        (r"layer(\d)\.(\d)\.downsample\.2\.", _shortcut("bn.")),
        (r"(nonlinear2|bn3)\.", None),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
)

FAMILY = Family((_SMALL, _IMAGENET))
