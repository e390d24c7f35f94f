"""liuzechun/ReActNet, mobilenet/ and resnet/, and liuzechun/Bi-Real-net."""

from bcdzoo.weights.keys.family import Family, Layout, Rule, shifted

HALVES: list[Rule] = [
    (r"feature\.0\.(conv|bn)1\.", r"stem.\1."),
    (r"feature\.(\d+)\.move11\.bias", shifted(1, -1, r"blocks.{n}.spatial.sign.bias")),
    (r"feature\.(\d+)\.binary_3x3\.weights?$", shifted(1, -1, r"blocks.{n}.spatial.conv.weight")),
    (r"feature\.(\d+)\.bn1\.", shifted(1, -1, r"blocks.{n}.spatial.bn.")),
    (r"feature\.(\d+)\.move12\.bias", shifted(1, -1, r"blocks.{n}.spatial.activation.shift_in")),
    (r"feature\.(\d+)\.prelu1\.weight", shifted(1, -1, r"blocks.{n}.spatial.activation.slope")),
    (r"feature\.(\d+)\.move13\.bias", shifted(1, -1, r"blocks.{n}.spatial.activation.shift_out")),
    (r"feature\.(\d+)\.move21\.bias", shifted(1, -1, r"blocks.{n}.pointwise.sign.bias")),
    (r"feature\.(\d+)\.binary_pw\.weights?$", shifted(1, -1, r"blocks.{n}.pointwise.conv.weight")),
    (r"feature\.(\d+)\.binary_pw_down([12])\.weights?$", shifted(1, -1, r"blocks.{n}.pointwise.conv.weight#\2")),
    (r"feature\.(\d+)\.bn2\.", shifted(1, -1, r"blocks.{n}.pointwise.bn.")),
    (r"feature\.(\d+)\.bn2_([12])\.(\w+)$", shifted(1, -1, r"blocks.{n}.pointwise.bn.\3#\2")),
    (r"feature\.(\d+)\.move22\.bias", shifted(1, -1, r"blocks.{n}.pointwise.activation.shift_in")),
    (r"feature\.(\d+)\.prelu2\.weight", shifted(1, -1, r"blocks.{n}.pointwise.activation.slope")),
    (r"feature\.(\d+)\.move23\.bias", shifted(1, -1, r"blocks.{n}.pointwise.activation.shift_out")),
]

UNIT = r"\.move0\.bias|\.move1\.bias|\.prelu\.weight|\.move2\.bias|\.bn1\."
UNIT_NAMES = {
    ".move0.bias": ".sign.bias",
    ".move1.bias": ".activation.shift_in",
    ".prelu.weight": ".activation.slope",
    ".move2.bias": ".activation.shift_out",
    ".bn1.": ".bn.",
}

_MOBILENET = Layout([*HALVES, (r"fc\.", "fc.")], preprocess="imagenet")

RESNET: list[Rule] = [
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"layer(\d)\.(\d+)\.binary_conv\.weights?$", shifted(1, -1, r"stages.{n}.\2.conv.weight")),
    (rf"layer(\d)\.(\d+)({UNIT})", lambda m: f"stages.{int(m[1]) - 1}.{m[2]}{UNIT_NAMES[m[3]]}"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.", shifted(1, -1, r"stages.{n}.\2.shortcut.conv.")),
    (r"layer(\d)\.(\d+)\.downsample\.2\.", shifted(1, -1, r"stages.{n}.\2.shortcut.bn.")),
    (r"fc\.", "fc."),
]

FAMILY = Family((_MOBILENET, Layout(RESNET, preprocess="imagenet")))
