"""1adrianb/expert-binary-networks, test/model.py: blocks of three convolutions of experts.

The real-valued convolutions of its shortcuts hold experts, too, of which the first is used, and scores of no effect.
"""

import re

from bcdzoo.weights.keys.family import Family, Layout, Rule, State, shifted

_OF_SHORTCUT = re.compile(r".*\.downsample\.\d\.weight")


def _unit(theirs: str, ours: str) -> Rule:
    """One part of a unit; the key has the stage, the block, and the position in it (groups 1 to 3)."""
    pattern = rf"layer(\d)\.(\d)\.{theirs}"
    return pattern, lambda m: f"stages.{int(m[1]) - 1}.{3 * int(m[2]) + int(m[3]) - 1}.{ours}"


def _used(state: State) -> State:
    experts = {key for key, tensor in state.items() if _OF_SHORTCUT.fullmatch(key) and tensor.ndim == 5 and len(tensor)}
    return {key: tensor[0] if key in experts else tensor for key, tensor in state.items()}


def _shortcut(theirs: str, ours: str) -> Rule:
    return rf"layer(\d)\.0\.downsample\.{theirs}", shifted(1, -1, rf"stages.{{n}}.0.shortcut.{ours}")


_LAYOUT = Layout(
    [
        (r"conv1\.0\.", "stem.first.conv."),
        (r"conv1\.1\.", "stem.first.bn."),
        (r"conv2_1\.0\.", "stem.narrow.conv."),
        (r"conv2_1\.1\.", "stem.narrow.bn."),
        (r"conv2_2\.0\.", "stem.spatial.conv."),
        (r"conv2_2\.1\.", "stem.spatial.bn."),
        (r"conv3\.0\.", "stem.last.conv."),
        (r"conv3\.1\.", "stem.last.bn."),
        _unit(r"bn([123])\.", "bn."),
        _unit(r"activation([123])\.", "activation."),
        _unit(r"conv([123])\.weight", "conv.weight"),
        _unit(r"conv([123])\.alpha2", "conv.alpha"),
        _unit(r"conv([123])\.fc\.", "conv.select."),
        _unit(r"conv([123])\.se_fc\.0\.", "gate.reduce."),
        _unit(r"conv([123])\.se_fc\.2\.", "gate.expand."),
        (r"layer\d\.0\.downsample\.\d\.fc\.", None),
        _shortcut(r"1\.alpha2", "2.alpha"),
        _shortcut(r"1\.", "1."),
        _shortcut(r"2\.", "3."),
        _shortcut(r"3\.", "4."),
        _shortcut(r"4\.alpha2", "6.alpha"),
        _shortcut(r"4\.", "5."),
        _shortcut(r"5\.", "7."),
        _shortcut(r"6\.", "8."),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet",
    used=_used,
)

FAMILY = Family((_LAYOUT,))
