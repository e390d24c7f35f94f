"""How other people's checkpoints name their tensors, and what their files need of the network.

A layout's rules are (pattern, replacement) over keys. A replacement that ends in ``#1`` or ``#2`` is a part of one
tensor, concatenated along the output channels; a replacement None leaves out tensors that the network's output does not
depend on.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = dict[str, Tensor]
Replacement = str | Callable[[re.Match[str]], str] | None


@dataclass(frozen=True)
class Layout:
    """The files of one program.

    Attributes:
        rules: From their keys to this zoo's; the first that matches a key is taken.
        build: Arguments of :func:`bcdzoo.create_model` that make the network the one they were trained as.
        preprocess: What they were trained for; empty where nobody said.
        unfit: Says of a file's tensors why they cannot be run, if they cannot.
    """

    rules: list[tuple[str, Replacement]]
    build: Mapping[str, Any] = field(default_factory=dict)
    preprocess: str = ""
    unfit: Callable[[State], str] = lambda state: ""


def _plus(group: int, number: int, template: str) -> Callable[[re.Match[str]], str]:
    """A replacement in which one group counts from another start: ``{n}`` is that group plus ``number``."""

    def replace(match: re.Match[str]) -> str:
        return match.expand(template.replace("{n}", str(int(match[group]) + number)))

    return replace


_TV_MOBILENET_V2_FIRST = (1, 2, 4, 7, 11, 14, 17)  # torchvision numbers the blocks through; timm by stage


def _timm_v2(parts: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        block = _TV_MOBILENET_V2_FIRST[int(match[1])] + int(match[2])
        return f"features.{block}.conv.{parts[match[3]]}"

    return replace


def _cumulative(first: tuple[int, ...], template: str) -> Callable[[re.Match[str]], str]:
    """``{n}``: the index of a block numbered by stage (group 1, from ``first``) and place in it (group 2)."""

    def replace(match: re.Match[str]) -> str:
        return match.expand(template.replace("{n}", str(first[int(match[1])] + int(match[2]))))

    return replace


_REACT_HALVES: list[tuple[str, Replacement]] = [
    (r"feature\.0\.(conv|bn)1\.", r"stem.\1."),
    (r"feature\.(\d+)\.move11\.bias", _plus(1, -1, r"blocks.{n}.spatial.sign.bias")),
    (r"feature\.(\d+)\.binary_3x3\.weights?$", _plus(1, -1, r"blocks.{n}.spatial.conv.weight")),
    (r"feature\.(\d+)\.bn1\.", _plus(1, -1, r"blocks.{n}.spatial.bn.")),
    (r"feature\.(\d+)\.move12\.bias", _plus(1, -1, r"blocks.{n}.spatial.activation.shift_in")),
    (r"feature\.(\d+)\.prelu1\.weight", _plus(1, -1, r"blocks.{n}.spatial.activation.slope")),
    (r"feature\.(\d+)\.move13\.bias", _plus(1, -1, r"blocks.{n}.spatial.activation.shift_out")),
    (r"feature\.(\d+)\.move21\.bias", _plus(1, -1, r"blocks.{n}.pointwise.sign.bias")),
    (r"feature\.(\d+)\.binary_pw\.weights?$", _plus(1, -1, r"blocks.{n}.pointwise.conv.weight")),
    (r"feature\.(\d+)\.binary_pw_down([12])\.weights?$", _plus(1, -1, r"blocks.{n}.pointwise.conv.weight#\2")),
    (r"feature\.(\d+)\.bn2\.", _plus(1, -1, r"blocks.{n}.pointwise.bn.")),
    (r"feature\.(\d+)\.bn2_([12])\.(\w+)$", _plus(1, -1, r"blocks.{n}.pointwise.bn.\3#\2")),
    (r"feature\.(\d+)\.move22\.bias", _plus(1, -1, r"blocks.{n}.pointwise.activation.shift_in")),
    (r"feature\.(\d+)\.prelu2\.weight", _plus(1, -1, r"blocks.{n}.pointwise.activation.slope")),
    (r"feature\.(\d+)\.move23\.bias", _plus(1, -1, r"blocks.{n}.pointwise.activation.shift_out")),
]

_UNIT = r"\.move0\.bias|\.move1\.bias|\.prelu\.weight|\.move2\.bias|\.bn1\."
_UNIT_NAMES = {
    ".move0.bias": ".sign.bias",
    ".move1.bias": ".activation.shift_in",
    ".prelu.weight": ".activation.slope",
    ".move2.bias": ".activation.shift_out",
    ".bn1.": ".bn.",
}

_BNEXT_UNITS = {"Attention": "spatial", "FFN": "pointwise", "FFN_1": "pointwise.0", "FFN_2": "pointwise.1"}


def _bnext(theirs: str, ours: str) -> tuple[str, Replacement]:
    """One part of every unit of a BNext."""
    return (
        rf"feature\.(\d+)\.(Attention|FFN(?:_[12])?)\.{theirs}",
        lambda m: f"blocks.{int(m[1]) - 1}.{_BNEXT_UNITS[m[2]]}.{ours}",
    )


def _rbnn_unit(match: re.Match[str]) -> str:
    """The unit of a convolution of RBNN's by stage, block and place in the block (groups 1 to 3)."""
    return f"stages.{int(match[1]) - 1}.{match[2]}.{'first' if match[3] == '1' else 'second'}"


# larq's Bi-Real Net numbers its batch norms through; where the width changes the shortcut's comes first.
_BIREAL_NORMS = ["stem.bn"]
for _stage in range(4):
    _BIREAL_NORMS += [f"stages.{_stage}.0.shortcut.bn"] * (_stage > 0) + [f"stages.{_stage}.{i}.bn" for i in range(4)]


def _larq_r2b(theirs: str, ours: str) -> tuple[str, Replacement]:
    """One part of every unit of larq's Real-to-Binary Net; its blocks 2 to 9 have two units, a and b, each."""

    def replace(match: re.Match[str]) -> str:
        block = int(match[1]) - 2
        return f"stages.{block // 2}.{block % 2 * 2 + (match[2] == 'b')}.{ours}."

    return rf"r2b_bnn_block_([2-9])([ab])_{theirs}\.", replace


def _bitorch(theirs: str, ours: str) -> tuple[str, Replacement]:
    """One part of every block of bitorch's MeliusNet, which counts stages and blocks from 1."""
    return (
        rf"(?:_model\.)?features\.DenseBlock_(\d)\.{theirs}\.",
        lambda m: f"stages.{int(m[1]) - 1}.{int(m[2]) - 1}.{ours}.",
    )


_KERAS = {"padding": "tensorflow"}


def _bnext_unfit(state: State) -> str:
    """The authors' weights are signs from epoch 153 on; before, they are real numbers divided by a temperature."""
    temperatures = [tensor for key, tensor in state.items() if key.endswith(".temperature") and tensor.numel()]
    hottest = max((float(tensor.float().max()) for tensor in temperatures if tensor.is_floating_point()), default=0.0)
    if hottest < 1e-7:
        return ""
    return f"its temperature is {hottest:.2g}, that of a training before epoch 153, when the weights are not yet signs"


LAYOUTS: dict[str, Layout] = {
    # This zoo's own; torchvision's ResNet-18 and MobileNet-V2 and timm's ResNet-18 are named alike.
    "zoo": Layout([("", "")]),
    # liuzechun/ReActNet, mobilenet/
    "reactnet": Layout([*_REACT_HALVES, (r"fc\.", "fc.")], preprocess="imagenet"),
    # Sense-GVT/BCDNet, prototype/model/a_3.py and a_3f.py
    "bcdnet": Layout(
        [
            *_REACT_HALVES,
            (r"mlp_layer\.(\d)\.mlp_layer\.3\.binary_conv\.", r"mlp.\1.3.conv."),
            (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv\.", r"mlp.\1.\2.local."),
            (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv1\.", r"mlp.\1.\2.short."),
            (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv2\.", r"mlp.\1.\2.long."),
            (rf"mlp_layer\.(\d)\.mlp_layer\.(\d)({_UNIT})", lambda m: f"mlp.{m[1]}.{m[2]}{_UNIT_NAMES[m[3]]}"),
            (r"fc(_dist)?\.", r"head.fc\1."),
        ],
        preprocess="imagenet",
    ),
    # liuzechun/ReActNet, resnet/, and liuzechun/Bi-Real-net
    "reactnet-resnet": Layout(
        [
            (r"(conv|bn)1\.", r"stem.\1."),
            (r"layer(\d)\.(\d+)\.binary_conv\.weights?$", _plus(1, -1, r"stages.{n}.\2.conv.weight")),
            (rf"layer(\d)\.(\d+)({_UNIT})", lambda m: f"stages.{int(m[1]) - 1}.{m[2]}{_UNIT_NAMES[m[3]]}"),
            (r"layer(\d)\.(\d+)\.downsample\.1\.", _plus(1, -1, r"stages.{n}.\2.shortcut.conv.")),
            (r"layer(\d)\.(\d+)\.downsample\.2\.", _plus(1, -1, r"stages.{n}.\2.shortcut.bn.")),
            (r"fc\.", "fc."),
        ],
        preprocess="imagenet",
    ),
    # hpi-xnor/BNext, src/bnext.py, which gives every unit a PReLU activation1 and uses that of every second 3×3 alone;
    # the temperatures are a matter of training
    "bnext": Layout(
        [
            (r"feature\.0\.prelu\.", None),
            (r"feature\.0\.(conv|bn)1\.", r"stem.\1."),
            (r"feature\.\d*[13579]\.Attention\.activation1\.|feature\.\d+\.FFN(_[12])?\.activation1\.", None),
            (r".*\.temperature$", None),
            _bnext(r"move\.bias", "sign.bias"),
            _bnext(r"binary_conv\.", "conv."),
            _bnext(r"norm1\.", "bn."),
            _bnext(r"norm2\.", "bn_gated."),
            _bnext(r"activation1\.", "shortcut_activation."),
            _bnext(r"activation2\.", "activation."),
            _bnext(r"se\.se\.1\.", "gate.reduce."),
            _bnext(r"se\.se\.3\.", "gate.expand."),
            _bnext(r"scale$", "mix.weight"),
            (r"prelu\.", "activation."),
            (r"fc\.", "fc."),
        ],
        preprocess="imagenet-235-bicubic",
        unfit=_bnext_unfit,
    ),
    # lmbxmu/RBNN, imagenet/, and htqin/IR-Net, ImageNet/, whose frame it is; neither uses its bn3
    "rbnn": Layout(
        [
            (r"(conv|bn)1\.", r"stem.\1."),
            (r"layer(\d)\.(\d)\.conv([12])\.weight", lambda m: f"{_rbnn_unit(m)}.conv.weight"),
            (r"layer(\d)\.(\d)\.conv([12])\.", lambda m: f"{_rbnn_unit(m)}.conv.quantizer."),
            (r"layer(\d)\.(\d)\.bn([12])\.", lambda m: f"{_rbnn_unit(m)}.bn."),
            (r"layer(\d)\.(\d)\.downsample\.0\.", _plus(1, -1, r"stages.{n}.\2.first.shortcut.conv.")),
            (r"layer(\d)\.(\d)\.downsample\.1\.", _plus(1, -1, r"stages.{n}.\2.first.shortcut.bn.")),
            (r"bn2\.", "head.norm."),
            (r"bn3\.", None),
            (r"fc\.", "head.fc."),
        ],
        preprocess="imagenet",
    ),
    # larq/zoo, larq_zoo/literature/, as bcdzoo.weights.larq reads it
    "larq-birealnet": Layout(
        [
            (r"conv2d\.0\.", "stem.conv."),
            (r"conv2d\.([123])\.", r"stages.\1.0.shortcut.conv."),
            (r"quant_conv2d\.(\d+)\.", lambda m: f"stages.{int(m[1]) // 4}.{int(m[1]) % 4}.conv."),
            (r"batch_normalization\.(1?\d)\.", lambda m: f"{_BIREAL_NORMS[int(m[1])]}."),
            (r"dense\.0\.", "fc."),
        ],
        build=_KERAS | {"bn_eps": 1e-3},
        preprocess="larq",
    ),
    "larq-real-to-binary": Layout(
        [
            (r"r2b_bnn_block_1_conv2d\.", "stem.conv."),
            (r"r2b_bnn_block_1_batch_norm\.", "stem.bn."),
            (r"r2b_bnn_block_1_prelu\.", "stem.activation."),
            _larq_r2b("batch_norm", "bn"),
            _larq_r2b("conv2d", "conv"),
            _larq_r2b("scaling_dense_reduce", "gate.reduce"),
            _larq_r2b("scaling_dense_expand", "gate.expand"),
            _larq_r2b("prelu", "activation"),
            _larq_r2b("shortcut_conv2d", "shortcut.conv"),
            _larq_r2b("shortcut_batch_norm", "shortcut.bn"),
            (r"r2b_bnn_block_10_logits\.", "fc."),
        ],
        build=_KERAS | {"bn_eps": 1e-3},
        preprocess="larq",
    ),
    "larq-meliusnet": Layout(
        [
            (r"stem_s(\d)_(conv|bn)\.", r"stem.\1.\2."),
            (r"stem_s(\d)_groupconv_conv(\d)\.weight", r"stem.\1.conv.weight#\2"),
            (r"section_(\d)_block_(\d+)_(dense|improve)_bn\.", r"stages.\1.\2.\3.bn."),
            (r"section_(\d)_block_(\d+)_(dense|improve)_binconv\.", r"stages.\1.\2.\3.conv."),
            (r"section_(\d)_transition_bn\.", r"stages.\1.transition.bn."),
            (r"section_(\d)_transition_pw\.", r"stages.\1.transition.conv."),
            (r"head_bn\.", "bn."),
            (r"head_dense\.", "fc."),
        ],
        build=_KERAS | {"stem_pool": 2},
        preprocess="larq",
    ),
    # hpi-xnor/bitorch, bitorch/models/meliusnet.py, up to version 0.3.0; the last block is in its files a second time
    "bitorch-meliusnet": Layout(
        [
            (r"(?:_model\.)?current_dense_block\.", None),
            (r"(?:_model\.)?features\.([036])\.", lambda m: f"stem.{int(m[1]) // 3}.conv."),
            (r"(?:_model\.)?features\.([147])\.", lambda m: f"stem.{int(m[1]) // 3}.bn."),
            _bitorch(r"DenseLayer_(\d+)\.features\.0", "dense.bn"),
            _bitorch(r"DenseLayer_(\d+)\.features\.1", "dense.conv"),
            _bitorch(r"ImprovementBlock(\d+)\.body\.0", "improve.bn"),
            _bitorch(r"ImprovementBlock(\d+)\.body\.1", "improve.conv"),
            (r"(?:_model\.)?features\.Transition_(\d)\.0\.", _plus(1, -1, "stages.{n}.transition.bn.")),
            (r"(?:_model\.)?features\.Transition_(\d)\.3\.", _plus(1, -1, "stages.{n}.transition.conv.")),
            (r"(?:_model\.)?finalize\.0\.", "bn."),
            (r"(?:_model\.)?output\.", "fc."),
        ]
    ),
    "timm-mobilenetv1": Layout(
        [
            (r"conv_stem\.", "stem.conv."),
            (r"bn1\.", "stem.bn."),
            (r"blocks\.([0-4])\.(\d)\.conv_dw\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.depthwise.conv.")),
            (r"blocks\.([0-4])\.(\d)\.bn1\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.depthwise.bn.")),
            (r"blocks\.([0-4])\.(\d)\.conv_pw\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.pointwise.conv.")),
            (r"blocks\.([0-4])\.(\d)\.bn2\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.pointwise.bn.")),
            (r"classifier\.", "fc."),
        ],
        build={"activation": "relu6"},
        preprocess="inception-bicubic",
    ),
    "timm-mobilenetv2": Layout(
        [
            (r"conv_stem\.", "features.0.0."),
            (r"bn1\.", "features.0.1."),
            (
                r"blocks\.(0)\.(0)\.(conv_dw|bn1|conv_pw|bn2)\b",
                _timm_v2({"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}),
            ),
            (
                r"blocks\.([0-6])\.(\d)\.(conv_pwl|conv_pw|conv_dw|bn[123])\b",
                _timm_v2({"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}),
            ),
            (r"conv_head\.", "features.18.0."),
            (r"bn2\.", "features.18.1."),
            (r"classifier\.", "classifier.1."),
        ],
        preprocess="imagenet-bicubic",
    ),
    "pytorchcv-mobilenet": Layout(
        [
            (r"features\.init_block\.", "stem."),
            (
                r"features\.stage([1-5])\.unit(\d)\.dw_conv\.",
                _cumulative((0, -1, 0, 2, 4, 10), "blocks.{n}.depthwise."),
            ),
            (
                r"features\.stage([1-5])\.unit(\d)\.pw_conv\.",
                _cumulative((0, -1, 0, 2, 4, 10), "blocks.{n}.pointwise."),
            ),
            (r"output\.", "fc."),
        ],
        preprocess="imagenet",
    ),
    "pytorchcv-resnet": Layout(
        [
            (r"features\.init_block\.conv\.(conv|bn)\.", r"\g<1>1."),
            (r"features\.stage(\d)\.unit(\d)\.body\.conv(\d)\.(conv|bn)\.", _plus(2, -1, r"layer\1.{n}.\4\3.")),
            (r"features\.stage(\d)\.unit1\.identity_conv\.conv\.", r"layer\1.0.downsample.0."),
            (r"features\.stage(\d)\.unit1\.identity_conv\.bn\.", r"layer\1.0.downsample.1."),
            (r"output\.", "fc."),
        ],
        preprocess="imagenet",
    ),
}
