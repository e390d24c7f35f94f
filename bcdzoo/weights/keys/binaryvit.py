"""Phuoc-Hoan-Le/BinaryViT, transformer/modeling_vit_extra_res_pyramid.py: layers are numbered through all stages."""

import re
from collections.abc import Callable
from itertools import accumulate

from bcdzoo.weights.keys.family import Family, Layout, Rule

_DEPTHS = (3, 4, 8, 4)
_FIRST = (0, *accumulate(_DEPTHS))  # layer of each stage


def _block(number: int) -> str:
    stage = max(i for i, first in enumerate(_FIRST[: len(_DEPTHS)]) if first <= number)
    return f"stages.{stage}.blocks.{number - _FIRST[stage]}"


def _of_block(ours: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"{_block(int(m[1]))}.{m.expand(ours)}"


def _unit(prefix: str, dense: str, move: str, norm: str, rprelu: str, ours: str) -> list[Rule]:
    """A binary linear layer with what stands around it; everything is named by a part of the layer."""
    layer = rf"encoder\.layer\.(\d+)\.{prefix}"
    return [
        (rf"{layer}{dense}\.weight$", _of_block(f"{ours}.conv.weight")),
        (rf"{layer}{move}$", _of_block(f"{ours}.sign.bias")),
        (rf"{layer}{norm}\.", _of_block(f"{ours}.bn.")),
        *_rprelu(rf"{layer}{rprelu}", lambda part: _of_block(f"{ours}.activation.{part}")),
    ]


def _rprelu(theirs: str, ours: Callable[[str], Callable[[re.Match[str]], str]]) -> list[Rule]:
    return [
        (rf"{theirs}\.move1$", ours("shift_in")),
        (rf"{theirs}\.prelu\.weight$", ours("slope")),
        (rf"{theirs}\.move2$", ours("shift_out")),
    ]


def _affine(theirs: str, ours: str) -> list[Rule]:
    layer = rf"encoder\.layer\.(\d+)\.{theirs}"
    return [
        (rf"{layer}\.alpha$", _of_block(f"{ours}.scale")),
        (rf"{layer}\.move$", _of_block(f"{ours}.shift")),
    ]


_SELF = r"attention\.attention\."
_PATCH = r"encoder\.patch_embed(\d)"
_RULES: list[Rule] = [
    (r"embeddings\.patch_embeddings\.projection\.", "stages.0.patch.conv."),
    (r"embeddings\.norm\.", "stages.0.patch.bn."),
    (r"embeddings\.position_embeddings$", "stages.0.position.weight"),
    (rf"{_PATCH}\.position_embeddings$", r"stages.\1.position.weight"),
    (rf"{_PATCH}\.norm0\.", r"stages.\1.patch.norm."),
    *(
        rule
        for theirs, short in (("query", "q"), ("key", "k"), ("value", "v"))
        for rule in [
            *_unit(_SELF, theirs, f"move{short}", f"norm{short}", f"rprelu{short}", f"attend.{theirs}"),
            (rf"encoder\.layer\.(\d+)\.{_SELF}move{short}2$", _of_block(f"attend.attention.{theirs}.bias")),
        ]
    ),
    *_unit(_SELF, "reduction", "mover", "norm_r", "rprelur", "attend.reduce.unit"),
    (rf"encoder\.layer\.(\d+)\.{_SELF}att_prob_clip$", _of_block("attend.attention.level")),
    (rf"encoder\.layer\.(\d+)\.{_SELF}norm_context\.", _of_block("attend.bn.")),
    *_rprelu(rf"encoder\.layer\.(\d+)\.{_SELF}rprelu_context", lambda part: _of_block(f"attend.activation.{part}")),
    *_unit(r"attention\.output\.", "dense", "move", "norm", "rprelu", "project.0"),
    *_affine(r"attention\.output\.layerscale", "project.1"),
    *_unit(r"intermediate\.", "dense", "move", "norm", "rprelu", "mlp.0"),
    *_unit(r"output\.", "dense", "move", "norm", "rprelu", "mlp.1"),
    *_affine(r"output\.layerscale", "mlp.2"),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", _of_block("norm_attention.")),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", _of_block("norm_mlp.")),
    *(
        rule
        for i, part in enumerate(("h3", "w3", "h5", "w5"))
        for rule in _affine(f"layerscale_{part}", f"means.{i}.1")
    ),
    (r"layernorm\.", "bn."),
    (r"classifier\.", "fc."),
]


def _placed(rules: list[Rule]) -> list[Rule]:
    """The rules with what the authors put before the keys of all but the classifier."""
    return [(pattern if pattern.startswith("classifier") else rf"vit\.{pattern}", ours) for pattern, ours in rules]


_BINARY: list[Rule] = [
    (rf"{_PATCH}\.move$", r"stages.\1.patch.unit.sign.bias"),
    (rf"{_PATCH}\.proj\.", r"stages.\1.patch.unit.conv."),
    (rf"{_PATCH}\.norm\.", r"stages.\1.patch.unit.bn."),
    *_rprelu(rf"{_PATCH}\.rprelu", lambda part: lambda m: f"stages.{m[1]}.patch.unit.activation.{part}"),
]
_REAL: list[Rule] = [(rf"{_PATCH}\.proj\.", r"stages.\1.patch.conv."), (rf"{_PATCH}\.norm\.", r"stages.\1.patch.bn.")]

FAMILY = Family(tuple(Layout(_placed([*_RULES, *own]), preprocess="imagenet-bicubic") for own in (_BINARY, _REAL)))
