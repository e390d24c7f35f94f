"""larq/zoo, larq_zoo/literature/: Keras' HDF5 files, as :mod:`bcdzoo.weights.keras` reads them."""

import re
from pathlib import Path

from bcdzoo.weights.keys.family import Container, Family, Layout, Rule, State


def _read(path: Path) -> State:
    from bcdzoo.weights.keras import load_keras  # h5py takes a while

    return load_keras(path)


_KERAS = {"padding": "tensorflow"}

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

FAMILY = Family(
    (_BIREALNET, _REAL_TO_BINARY, _MELIUSNET),
    Container(lambda path, head: head.startswith(b"\x89HDF"), _read),
)
