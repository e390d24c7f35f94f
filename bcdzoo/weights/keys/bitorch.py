"""hpi-xnor/bitorch, bitorch/models/meliusnet.py, up to version 0.3.0; its files contain the last block twice."""

from bcdzoo.weights.keys.family import Family, Layout, Rule, shifted


def _block(theirs: str, ours: str) -> Rule:
    """One part of every block of bitorch's MeliusNet, which counts stages and blocks from 1."""
    return (
        rf"(?:_model\.)?features\.DenseBlock_(\d)\.{theirs}\.",
        lambda m: f"stages.{int(m[1]) - 1}.{int(m[2]) - 1}.{ours}.",
    )


_MELIUSNET = Layout(
    [
        (r"(?:_model\.)?current_dense_block\.", None),
        (r"(?:_model\.)?features\.([036])\.", lambda m: f"stem.{int(m[1]) // 3}.conv."),
        (r"(?:_model\.)?features\.([147])\.", lambda m: f"stem.{int(m[1]) // 3}.bn."),
        _block(r"DenseLayer_(\d+)\.features\.0", "dense.bn"),
        _block(r"DenseLayer_(\d+)\.features\.1", "dense.conv"),
        _block(r"ImprovementBlock(\d+)\.body\.0", "improve.bn"),
        _block(r"ImprovementBlock(\d+)\.body\.1", "improve.conv"),
        (r"(?:_model\.)?features\.Transition_(\d)\.0\.", shifted(1, -1, "stages.{n}.transition.bn.")),
        (r"(?:_model\.)?features\.Transition_(\d)\.3\.", shifted(1, -1, "stages.{n}.transition.conv.")),
        (r"(?:_model\.)?finalize\.0\.", "bn."),
        (r"(?:_model\.)?output\.", "fc."),
    ],
    as_usual=("padding", "stem_pool"),
)

FAMILY = Family((_MELIUSNET,))
