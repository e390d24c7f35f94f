"""larq/zoo, larq_zoo/: Keras' HDF5 files, as :mod:`bcdzoo.weights.keras` reads them.

Most of larq's networks leave it to Keras to name their layers, by type and number. The networks of this zoo that are
built as larq builds them have their layers in the same order, so that a list of these for each type is the mapping.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bcdzoo.text import say
from bcdzoo.weights.keys.family import Container, Family, Layout, Rule, State

if TYPE_CHECKING:
    from torch import nn


def _read(path: Path) -> State:
    from bcdzoo.weights.keras import load_keras  # h5py takes a while

    return load_keras(path)


_KERAS = {"padding": "tensorflow"}
_POOLINGS_DILATED = 2
"""Max poolings of BinaryDenseNet-37's dilated form; the others have 4."""

# Bi-Real Net numbers its batch norms consecutively; where the width changes, the shortcut's comes first.
_BIREAL_NORMS = ["stem.bn"]
for _stage in range(4):
    _BIREAL_NORMS += [f"stages.{_stage}.0.shortcut.bn"] * (_stage > 0) + [f"stages.{_stage}.{i}.bn" for i in range(4)]


def _unit(theirs: str, ours: str) -> Rule:
    """One part of every unit of the Real-to-Binary Net; blocks 2 to 9 have two units, a and b, each."""

    def replace(match: re.Match[str]) -> str:
        block = int(match[1]) - 2
        return f"stages.{block // 2}.{block % 2 * 2 + (match[2] == 'b')}.{ours}."

    return rf"r2b_bnn_block_([2-9])([ab])_{theirs}\.", replace


_BIREALNET = Layout(
    [
        (r"conv2d\.0\.", "stem.conv."),
        (r"conv2d\.([123])\.", r"stages.\1.0.shortcut.conv."),
        (r"quant_conv2d\.(\d+)\.", lambda m: f"stages.{int(m[1]) // 4}.{int(m[1]) % 4}.conv."),
        (r"batch_normalization\.(1?\d)\.", lambda m: f"{_BIREAL_NORMS[int(m[1])]}."),
        (r"dense\.0\.", "fc."),
    ],
    build=_KERAS | {"bn_eps": 1e-3},
    as_usual=("activation",),
    preprocess="larq",
)

_REAL_TO_BINARY = Layout(
    [
        (r"r2b_bnn_block_1_conv2d\.", "stem.conv."),
        (r"r2b_bnn_block_1_batch_norm\.", "stem.bn."),
        (r"r2b_bnn_block_1_prelu\.", "stem.activation."),
        _unit("batch_norm", "bn"),
        _unit("conv2d", "conv"),
        _unit("scaling_dense_reduce", "gate.reduce"),
        _unit("scaling_dense_expand", "gate.expand"),
        _unit("prelu", "activation"),
        _unit("shortcut_conv2d", "shortcut.conv"),
        _unit("shortcut_batch_norm", "shortcut.bn"),
        (r"r2b_bnn_block_10_logits\.", "fc."),
    ],
    build=_KERAS | {"bn_eps": 1e-3},
    preprocess="larq",
)

_MELIUSNET = Layout(
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
)


def _numbered(unfit: "Callable[[State, nn.Module], str] | None" = None, **layers: Sequence[str]) -> Layout:
    """The layout of a network whose layers Keras named: of each type, ours in the order in which larq builds them."""

    def replace(match: re.Match[str]) -> str:
        ours, number = layers.get(match[1], ()), int(match[2])
        return f"{ours[number]}." if number < len(ours) else match[0]

    return Layout([(r"(\w+)\.(\d+)\.", replace)], preprocess="larq", unfit=unfit or _other_poolings)


def _poolings(network: "nn.Module") -> int:
    return sum(type(module).__name__ == "MaxPool2d" for module in network.modules())


def _other_poolings(state: State, network: "nn.Module") -> str:
    theirs, ours = getattr(state, "poolings", 0), _poolings(network)
    return f"it has {theirs} max poolings, and the network has {ours}" if theirs and theirs != ours else ""


def _other_dilation(state: State, network: "nn.Module") -> str:
    """Tell BinaryDenseNet-37 from its dilated form, which has the same tensors, by the poolings."""
    form = "dilated" if _poolings(network) == _POOLINGS_DILATED else "not dilated"
    if not getattr(state, "poolings", 0):
        say(f"the file does not name its poolings, by which alone a dilated BinaryDenseNet is known; {form}: assumed")
    reason = _other_poolings(state, network)
    return reason and f"{reason}, because the network is {form}"


def _quicknet(depths: Sequence[int]) -> Layout:
    convs, blurs = ["stem.conv", "stem.pointwise"], []
    norms = ["stem.bn", "stem.depthwise_bn", "stem.pointwise_bn"]
    for i, depth in enumerate(depths):
        if i:
            blurs.append(f"stages.{i}.transition.blur")
            convs.append(f"stages.{i}.transition.conv")
            norms.append(f"stages.{i}.transition.bn")
        convs += [f"stages.{i}.{j}.conv" for j in range(depth)]
        norms += [f"stages.{i}.{j}.bn" for j in range(depth)]
    return _numbered(
        quant_conv2d=convs,
        batch_normalization=norms,
        quant_depthwise_conv2d=["stem.depthwise"],
        depthwise_conv2d=blurs,
        quant_dense=["fc"],
    )


def _densenet(depths: Sequence[int], unfit: "Callable[[State, nn.Module], str] | None" = None) -> Layout:
    convs, binary, norms = ["stem.conv"], [], ["stem.bn"]
    for i, depth in enumerate(depths):
        binary += [f"stages.{i}.{j}.conv" for j in range(depth)]
        norms += [f"stages.{i}.{j}.bn" for j in range(depth)]
        if i < len(depths) - 1:
            convs.append(f"stages.{i}.transition.conv")
            norms.append(f"stages.{i}.transition.bn")
    return _numbered(unfit, conv2d=convs, quant_conv2d=binary, batch_normalization=[*norms, "bn"], dense=["fc"])


_RESNET_E = _numbered(
    conv2d=["stem.conv", *(f"stages.{i}.0.shortcut.conv" for i in (1, 2, 3))],
    quant_conv2d=[f"stages.{i}.{j}.conv" for i in range(4) for j in range(4)],
    batch_normalization=["stem.bn", "stem.norm", *_BIREAL_NORMS[1:]],
    dense=["fc"],
)

_CONVOLUTIONS = [f"convolutions.{i}" for i in range(6)]
_HIDDEN = ["classifier.hidden1", "classifier.hidden2"]


def _part(layers: Sequence[str], part: str) -> list[str]:
    return [f"{layer}.{part}" for layer in layers]


_BINARY_ALEXNET = [*_CONVOLUTIONS[:5], *_HIDDEN, "classifier.fc"]
_XNOR_ALEXNET = [*_CONVOLUTIONS[1:], "classifier.hidden"]
_ALEXNETS = (
    _numbered(quant_conv2d=_part(_BINARY_ALEXNET, "conv"), batch_normalization=_part(_BINARY_ALEXNET, "bn")),
    _numbered(
        conv2d=["convolutions.0.conv"],
        quant_conv2d=_part(_XNOR_ALEXNET, "conv"),
        batch_normalization=["convolutions.0.bn", "convolutions.0.norm", *_part(_XNOR_ALEXNET, "bn")],
        dense=["classifier.fc"],
    ),
    _numbered(
        conv2d=["convolutions.0.conv"],
        quant_conv2d=_part(_CONVOLUTIONS[1:5], "conv"),
        quant_dense=_part(_HIDDEN, "conv"),
        batch_normalization=_part([*_CONVOLUTIONS[1:5], *_HIDDEN], "bn"),
        dense=["classifier.fc"],
    ),
)

FAMILY = Family(
    (
        _BIREALNET,
        _REAL_TO_BINARY,
        _MELIUSNET,
        _quicknet((4, 4, 4, 4)),
        _quicknet((6, 8, 12, 6)),
        _densenet((6, 6, 6, 5)),
        _densenet((6, 8, 12, 6), _other_dilation),
        _densenet((6, 12, 14, 8)),
        _RESNET_E,
        *_ALEXNETS,
    ),
    Container(lambda path, head: head.startswith(b"\x89HDF"), _read),
)
