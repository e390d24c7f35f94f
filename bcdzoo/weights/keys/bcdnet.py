"""Sense-GVT/BCDNet, prototype/model/a_3.py and a_3f.py."""

from bcdzoo.weights.keys.family import Family, Layout
from bcdzoo.weights.keys.reactnet import HALVES, UNIT, UNIT_NAMES

_BCDNET = Layout(
    [
        *HALVES,
        (r"mlp_layer\.(\d)\.mlp_layer\.3\.binary_conv\.", r"mlp.\1.3.conv."),
        (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv\.", r"mlp.\1.\2.local."),
        (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv1\.", r"mlp.\1.\2.short."),
        (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv2\.", r"mlp.\1.\2.long."),
        (rf"mlp_layer\.(\d)\.mlp_layer\.(\d)({UNIT})", lambda m: f"mlp.{m[1]}.{m[2]}{UNIT_NAMES[m[3]]}"),
        (r"fc(_dist)?\.", r"head.fc\1."),
    ],
    preprocess="imagenet",
)

FAMILY = Family((_BCDNET,))
