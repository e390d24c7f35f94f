"""cornell-zhang/FracBNN, model/fracbnn_imagenet.py and fracbnn_cifar10.py; its teacher and its tables are left out."""

import re
from collections.abc import Callable

from bcdzoo.weights.keys.family import Family, Layout, Rule

_PARTS = {
    "weight": "conv.conv.weight",
    "threshold": "conv.threshold",
    "shift_x.bias": "activation.shift_in",
    "prelu.weight": "activation.slope",
    "shift_y.bias": "activation.shift_out",
}
_RPRELU = r"(shift_x\.bias|prelu\.weight|shift_y\.bias)"


def _mobilenet(ours: str, half: Callable[[re.Match[str]], bool]) -> Callable[[re.Match[str]], str]:
    """One part of a half of a block (group 1)."""

    def replace(match: re.Match[str]) -> str:
        name = "spatial" if half(match) else "pointwise"
        return f"blocks.{int(match[1]) - 1}.{name}.{_PARTS.get(match[3], ours)}"

    return replace


def _resnet(ours: str) -> Callable[[re.Match[str]], str]:
    """One part of one of a block's two units (group 3)."""
    return lambda m: f"stages.{int(m[1]) - 1}.{2 * int(m[2]) + (int(m[3]) - 1) % 2}.{_PARTS.get(m[4], ours)}"


_UNUSED: list[Rule] = [(r"encoder\.placeholder$", None)]
_IMAGENET = Layout(
    [
        (r"model\.0\.0\.weight", "stem.conv.weight"),
        (r"model\.0\.1\.", "stem.bn."),
        (r"model\.(\d+)\.(conv3x3|pointwise)\.0\.(weight|threshold)$", _mobilenet("", lambda m: m[2] == "conv3x3")),
        (r"model\.(\d+)\.(conv3x3|pointwise)\.1()\.", _mobilenet("bn.", lambda m: m[2] == "conv3x3")),
        (rf"model\.(\d+)\.rprelu([12])\.{_RPRELU}$", _mobilenet("", lambda m: m[2] == "1")),
        (r"model\.(\d+)\.shiftbn([12])()\.", _mobilenet("shift.", lambda m: m[2] == "1")),
        (r"fc\.", "fc."),
        (r"teacher\.|img_(mean|std)$", None),
        *_UNUSED,
    ],
    preprocess="imagenet",
)
_CIFAR10 = Layout(
    [
        (r"conv1\.", "stem.conv."),
        (r"bn1\.", "stem.bn."),
        (r"layer(\d)\.(\d)\.conv([12])\.(weight|threshold)$", _resnet("")),
        (r"layer(\d)\.(\d)\.bn([12])()\.", _resnet("bn.")),
        (r"layer(\d)\.(\d)\.bn([34])()\.", _resnet("shift.")),
        (rf"layer(\d)\.(\d)\.rprelu([12])\.{_RPRELU}$", _resnet("")),
        (r"linear\.", "fc."),
        *_UNUSED,
    ],
    preprocess="resize=32,crop=32,mean=0,std=1",
)

FAMILY = Family((_IMAGENET, _CIFAR10))
