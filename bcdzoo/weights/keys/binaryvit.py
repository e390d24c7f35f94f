"""Phuoc-Hoan-Le/BinaryViT, transformer/modeling_vit_extra_res_pyramid.py: layers are numbered through all stages."""

import re
from itertools import accumulate

from bcdzoo.weights.keys.family import Family, Layout, Rule

_DEPTHS = (3, 4, 8, 4)
_FIRST = (0, *accumulate(_DEPTHS[:-1]))  # layer of each stage


def _bn(theirs: str, ours: str) -> dict[str, str]:
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{theirs}.{leaf}": f"{ours}.{leaf}" for leaf in leaves}


def _rprelu(theirs: str, ours: str) -> dict[str, str]:
    parts = {"move1": "shift_in", "prelu.weight": "slope", "move2": "shift_out"}
    return {f"{theirs}.{part}": f"{ours}.{own}" for part, own in parts.items()}


def _affine(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.alpha": f"{ours}.scale", f"{theirs}.move": f"{ours}.shift"}


def _unit(prefix: str, dense: str, move: str, norm: str, rprelu: str, ours: str) -> dict[str, str]:
    """A binary linear layer with what stands around it."""
    own = {f"{prefix}{dense}.weight": f"{ours}.conv.weight", f"{prefix}{move}": f"{ours}.sign.bias"}
    return own | _bn(f"{prefix}{norm}", f"{ours}.bn") | _rprelu(f"{prefix}{rprelu}", f"{ours}.activation")


_SELF = "attention.attention."
_OF_LAYER = {
    f"{_SELF}att_prob_clip": "attend.attention.level",
    **_unit(_SELF, "reduction", "mover", "norm_r", "rprelur", "attend.reduce.unit"),
    **_bn(f"{_SELF}norm_context", "attend.bn"),
    **_rprelu(f"{_SELF}rprelu_context", "attend.activation"),
    **_bn("layernorm_before", "norm_attention"),
    **_bn("layernorm_after", "norm_mlp"),
}
for _name in ("query", "key", "value"):
    _short = _name[0]
    _OF_LAYER |= _unit(_SELF, _name, f"move{_short}", f"norm{_short}", f"rprelu{_short}", f"attend.{_name}")
    _OF_LAYER[f"{_SELF}move{_short}2"] = f"attend.attention.{_name}.bias"
for _prefix, _ours in (("attention.output.", "project.0"), ("intermediate.", "mlp.0"), ("output.", "mlp.1")):
    _OF_LAYER |= _unit(_prefix, "dense", "move", "norm", "rprelu", _ours)
for _theirs, _ours in (("attention.output.layerscale", "project.1"), ("output.layerscale", "mlp.2")):
    _OF_LAYER |= _affine(_theirs, _ours)
for _number, _window in enumerate(("h3", "w3", "h5", "w5")):
    _OF_LAYER |= _affine(f"layerscale_{_window}", f"means.{_number}.1")


def _of_layer(match: re.Match[str]) -> str:
    """The key of what is in a layer; empty for what is in none."""
    layer = int(match[1])
    stage = max(i for i, first in enumerate(_FIRST) if first <= layer)
    return f"stages.{stage}.blocks.{layer - _FIRST[stage]}.{_OF_LAYER[match[2]]}" if match[2] in _OF_LAYER else ""


_PATCH = r"vit\.encoder\.patch_embed(\d)\."
_RULES: list[Rule] = [
    (r"vit\.encoder\.layer\.(\d+)\.(.+)$", _of_layer),
    (r"vit\.embeddings\.patch_embeddings\.projection\.", "stages.0.patch.conv."),
    (r"vit\.embeddings\.norm\.", "stages.0.patch.bn."),
    (r"vit\.embeddings\.position_embeddings$", "stages.0.position.weight"),
    (rf"{_PATCH}position_embeddings$", r"stages.\1.position.weight"),
    (rf"{_PATCH}norm0\.", r"stages.\1.patch.norm."),
    (r"vit\.layernorm\.", "bn."),
    (r"classifier\.", "fc."),
]
_BINARY: list[Rule] = [
    (rf"{_PATCH}move$", r"stages.\1.patch.unit.sign.bias"),
    (rf"{_PATCH}proj\.", r"stages.\1.patch.unit.conv."),
    (rf"{_PATCH}norm\.", r"stages.\1.patch.unit.bn."),
    *(
        (rf"{_PATCH}{re.escape(key)}$", rf"stages.\1.patch.unit.{own}")
        for key, own in _rprelu("rprelu", "activation").items()
    ),
]
_REAL: list[Rule] = [
    (rf"{_PATCH}proj\.", r"stages.\1.patch.conv."),
    (rf"{_PATCH}norm\.", r"stages.\1.patch.bn."),
]

FAMILY = Family(tuple(Layout([*_RULES, *own], preprocess="imagenet-bicubic") for own in (_BINARY, _REAL)))
