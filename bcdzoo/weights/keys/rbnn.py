"""lmbxmu/RBNN, imagenet/, and htqin/IR-Net, ImageNet/, whose trunk it shares; neither uses its bn3."""

import re

from bcdzoo.weights.keys.family import Family, Layout, shifted


def _rbnn_unit(match: re.Match[str]) -> str:
    """Name the unit of one of RBNN's convolutions by stage, block and position in the block (groups 1 to 3)."""
    return f"stages.{int(match[1]) - 1}.{match[2]}.{'first' if match[3] == '1' else 'second'}"


_RBNN = Layout(
    [
        (r"(conv|bn)1\.", r"stem.\1."),
        (r"layer(\d)\.(\d)\.conv([12])\.weight", lambda m: f"{_rbnn_unit(m)}.conv.weight"),
        (r"layer(\d)\.(\d)\.conv([12])\.", lambda m: f"{_rbnn_unit(m)}.conv.quantizer."),
        (r"layer(\d)\.(\d)\.bn([12])\.", lambda m: f"{_rbnn_unit(m)}.bn."),
        (r"layer(\d)\.(\d)\.downsample\.0\.", shifted(1, -1, r"stages.{n}.\2.first.shortcut.conv.")),
        (r"layer(\d)\.(\d)\.downsample\.1\.", shifted(1, -1, r"stages.{n}.\2.first.shortcut.bn.")),
        (r"bn2\.", "head.norm."),
        (r"bn3\.", None),
        (r"fc\.", "head.fc."),
    ],
    preprocess="imagenet",
)

FAMILY = Family((_RBNN,))
