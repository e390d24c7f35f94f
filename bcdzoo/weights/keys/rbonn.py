"""SteveTsui/RBONN and SteveTsui/ReBNN, 2_step2_*: ReActNet's keys on ResNet-18, and their own parameters."""

from bcdzoo.weights.keys.family import Family, Layout, shifted
from bcdzoo.weights.keys.reactnet import RESNET

_LAYOUT = Layout(
    [
        (
            r"layer(\d)\.(\d+)\.binary_conv\.scal(?:e|ing)_factor$",
            shifted(1, -1, r"stages.{n}.\2.conv.quantizer.scale"),
        ),
        (r"layer(\d)\.(\d+)\.binary_conv\.u$", shifted(1, -1, r"stages.{n}.\2.conv.quantizer.u")),
        *RESNET,
    ],
    preprocess="imagenet",
)

FAMILY = Family((_LAYOUT,))
