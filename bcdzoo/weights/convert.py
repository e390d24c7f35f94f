"""Other people's checkpoints to this zoo's keys, strictly: every key used once, every parameter given.

A layout is a list of (pattern, replacement) over keys. A replacement that ends in ``#1`` or ``#2`` is a part of one
tensor, concatenated along the output channels; a replacement None leaves out tensors that the network's output does not
depend on. Where a file's layout is not told it is the one that names most keys.
"""

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular
from bcdzoo.weights.tensors import read_header, read_tensors

State = dict[str, Tensor]
Replacement = str | Callable[[re.Match[str]], str] | None


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


LAYOUTS: dict[str, list[tuple[str, Replacement]]] = {
    # This zoo's own; torchvision's ResNet-18 and MobileNet-V2 and timm's ResNet-18 are named alike.
    "zoo": [("", "")],
    # liuzechun/ReActNet, mobilenet/
    "reactnet": [*_REACT_HALVES, (r"fc\.", "fc.")],
    # Sense-GVT/BCDNet, prototype/model/a_3.py and a_3f.py
    "bcdnet": [
        *_REACT_HALVES,
        (r"mlp_layer\.(\d)\.mlp_layer\.3\.binary_conv\.", r"mlp.\1.3.conv."),
        (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv\.", r"mlp.\1.\2.local."),
        (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv1\.", r"mlp.\1.\2.short."),
        (r"mlp_layer\.(\d)\.mlp_layer\.(\d)\.binary_conv2\.", r"mlp.\1.\2.long."),
        (rf"mlp_layer\.(\d)\.mlp_layer\.(\d)({_UNIT})", lambda m: f"mlp.{m[1]}.{m[2]}{_UNIT_NAMES[m[3]]}"),
        (r"fc(_dist)?\.", r"head.fc\1."),
    ],
    # liuzechun/ReActNet, resnet/, and liuzechun/Bi-Real-net
    "reactnet-resnet": [
        (r"(conv|bn)1\.", r"stem.\1."),
        (r"layer(\d)\.(\d+)\.binary_conv\.weights?$", _plus(1, -1, r"stages.{n}.\2.conv.weight")),
        (rf"layer(\d)\.(\d+)({_UNIT})", lambda m: f"stages.{int(m[1]) - 1}.{m[2]}{_UNIT_NAMES[m[3]]}"),
        (r"layer(\d)\.(\d+)\.downsample\.1\.", _plus(1, -1, r"stages.{n}.\2.shortcut.conv.")),
        (r"layer(\d)\.(\d+)\.downsample\.2\.", _plus(1, -1, r"stages.{n}.\2.shortcut.bn.")),
        (r"fc\.", "fc."),
    ],
    # hpi-xnor/BNext, src/bnext.py, which gives every unit a PReLU activation1 and uses that of every second 3×3 alone;
    # the temperatures are a matter of training
    "bnext": [
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
    # lmbxmu/RBNN, imagenet/, and htqin/IR-Net, ImageNet/, whose frame it is; neither uses its bn3
    "rbnn": [
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
    # larq/zoo, larq_zoo/literature/, as bcdzoo.weights.larq reads it
    "larq-birealnet": [
        (r"conv2d\.0\.", "stem.conv."),
        (r"conv2d\.([123])\.", r"stages.\1.0.shortcut.conv."),
        (r"quant_conv2d\.(\d+)\.", lambda m: f"stages.{int(m[1]) // 4}.{int(m[1]) % 4}.conv."),
        (r"batch_normalization\.(1?\d)\.", lambda m: f"{_BIREAL_NORMS[int(m[1])]}."),
        (r"dense\.0\.", "fc."),
    ],
    "larq-real-to-binary": [
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
    "larq-meliusnet": [
        (r"stem_s(\d)_(conv|bn)\.", r"stem.\1.\2."),
        (r"stem_s(\d)_groupconv_conv(\d)\.weight", r"stem.\1.conv.weight#\2"),
        (r"section_(\d)_block_(\d+)_(dense|improve)_bn\.", r"stages.\1.\2.\3.bn."),
        (r"section_(\d)_block_(\d+)_(dense|improve)_binconv\.", r"stages.\1.\2.\3.conv."),
        (r"section_(\d)_transition_bn\.", r"stages.\1.transition.bn."),
        (r"section_(\d)_transition_pw\.", r"stages.\1.transition.conv."),
        (r"head_bn\.", "bn."),
        (r"head_dense\.", "fc."),
    ],
    # hpi-xnor/bitorch, bitorch/models/meliusnet.py, up to version 0.3.0; the last block is in its files a second time
    "bitorch-meliusnet": [
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
    ],
    "timm-mobilenetv1": [
        (r"conv_stem\.", "stem.conv."),
        (r"bn1\.", "stem.bn."),
        (r"blocks\.([0-4])\.(\d)\.conv_dw\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.depthwise.conv.")),
        (r"blocks\.([0-4])\.(\d)\.bn1\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.depthwise.bn.")),
        (r"blocks\.([0-4])\.(\d)\.conv_pw\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.pointwise.conv.")),
        (r"blocks\.([0-4])\.(\d)\.bn2\.", _cumulative((0, 1, 3, 5, 11), "blocks.{n}.pointwise.bn.")),
        (r"classifier\.", "fc."),
    ],
    "timm-mobilenetv2": [
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
    "pytorchcv-mobilenet": [
        (r"features\.init_block\.", "stem."),
        (r"features\.stage([1-5])\.unit(\d)\.dw_conv\.", _cumulative((0, -1, 0, 2, 4, 10), "blocks.{n}.depthwise.")),
        (r"features\.stage([1-5])\.unit(\d)\.pw_conv\.", _cumulative((0, -1, 0, 2, 4, 10), "blocks.{n}.pointwise.")),
        (r"output\.", "fc."),
    ],
    "pytorchcv-resnet": [
        (r"features\.init_block\.conv\.(conv|bn)\.", r"\g<1>1."),
        (r"features\.stage(\d)\.unit(\d)\.body\.conv(\d)\.(conv|bn)\.", _plus(2, -1, r"layer\1.{n}.\4\3.")),
        (r"features\.stage(\d)\.unit1\.identity_conv\.conv\.", r"layer\1.0.downsample.0."),
        (r"features\.stage(\d)\.unit1\.identity_conv\.bn\.", r"layer\1.0.downsample.1."),
        (r"output\.", "fc."),
    ],
}


def load_state(path: Path, member: str | None = None) -> State:
    """The tensors of a checkpoint file, without wrappers, optimizers and ``module.`` prefixes.

    Reads safetensors, torch pickles (only those of plain data), also inside a zip archive, and Keras' HDF5.

    Args:
        path: The file; its content decides how it is read, not its name.
        member: In a zip archive, the file to read.

    Raises:
        BcdzooError: The file is none of these, is damaged, or needs code to be run in order to be read.
    """
    head = _head(path)
    if head.startswith(b"\x89HDF"):
        from bcdzoo.weights.larq import load_keras  # h5py takes a while

        return load_keras(path)
    if head.lstrip()[:1] == b"<":
        raise BcdzooError(f"{path} is a web page or XML, not a checkpoint: download the file itself")
    if head[8:9] == b"{":
        return read_tensors(path).tensors
    inner = _zip_member(path, member)
    return _unwrap(_load_pickle(path, inner), path)


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(16)
    except OSError as error:
        raise BcdzooError(f"cannot read {path}: {error.strerror}") from None


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a safetensors file, without a seal, which is checked; empty for any other file."""
    return read_header(path)[0] if _head(path)[8:9] == b"{" else {}


def _zip_member(path: Path, member: str | None) -> bytes | None:
    """The checkpoint inside a zip archive; None where the file is a checkpoint itself (torch's own format is a zip)."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return None
        wanted = [name for name in names if (name == member if member else name.endswith((".pth", ".pt")))]
        if len(wanted) != 1:
            raise BcdzooError(f"{path}: expected {member or 'one .pth file'} in the archive, found {', '.join(names)}")
        return archive.read(wanted[0])


def _load_pickle(path: Path, inner: bytes | None) -> Any:
    # Training codes store accuracies as NumPy scalars beside the weights; these are plain data as well.
    scalars: list[Any] = [np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64))]
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    scalars += [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    try:
        with torch.serialization.safe_globals(scalars):
            return torch.load(io.BytesIO(inner) if inner else path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged or hostile files; all mean the same to the user
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            reason = "it holds more than tensors and plain data, and reading that would run code from the file"
        else:
            reason = f"{type(error).__name__}, {str(error).splitlines()[0] if str(error) else 'no details'}"
        raise BcdzooError(f"{path} is not a plain state dict: {reason}") from None


_WRAPPERS = ("state_dict", "model", "net")


def _unwrap(content: Any, path: Path) -> State:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise BcdzooError(f"{path} is not a plain state dict: no table of tensors, also not under {_WRAPPERS}")
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def convert_state(state: State, model: nn.Module, source: str) -> State:
    """Rename a checkpoint's tensors to a network's own keys.

    Args:
        state: Tensors under the keys of any layout in :data:`LAYOUTS`.
        model: The network they are for (also on the meta device).
        source: What to call the checkpoint in an error.

    Returns:
        Exactly the keys, shapes and dtypes of ``model.state_dict()``. Binary weights stored as ±1 stay so: their scale
        mean(|W|) is then 1.

    Raises:
        BcdzooError: A key is missing, left over or of a wrong shape; the message names it.
    """
    target = model.state_dict()
    renamed = max((_rename(state, rules) for rules in LAYOUTS.values()), key=lambda r: len(target.keys() & r.keys()))
    # The counter of batches is no weight; files from before torch 0.4.1 and some batch norms lack it.
    missing = [key for key in target if key not in renamed and not key.endswith("num_batches_tracked")]
    extra = [original for key, parts in renamed.items() if key not in target for original, _ in parts]
    problems = [
        f"{what} {', '.join(keys[:4])}" + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
        for what, keys in (("missing", missing), ("left over", extra))
        if keys
    ]
    if problems:
        raise BcdzooError(f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}")
    return {
        key: _fit(key, renamed[key], wanted, source) if key in renamed else torch.zeros((), dtype=torch.int64)
        for key, wanted in target.items()
    }


def _rename(state: State, rules: list[tuple[str, Replacement]]) -> dict[str, list[tuple[str, Tensor]]]:
    """New key -> the (original key, tensor) it is made of, in the order of their ``#`` marks."""
    renamed: dict[str, list[tuple[str, str, Tensor]]] = {}
    for key, tensor in state.items():
        new = _new_key(key, rules)
        if new is None:
            continue
        name, _, part = new.partition("#")
        renamed.setdefault(name, []).append((part, key, tensor))
    return {
        name: [(key, tensor) for _, key, tensor in sorted(parts, key=lambda p: p[0])] for name, parts in renamed.items()
    }


def _new_key(key: str, rules: list[tuple[str, Replacement]]) -> str | None:
    """A key by the first rule that matches it; itself where none does, None where the rule leaves it out."""
    for pattern, replacement in rules:
        if match := re.match(pattern, key):
            if replacement is None:
                return None
            start = replacement(match) if callable(replacement) else match.expand(replacement)
            return start + key[match.end() :]
    return key


def _fit(key: str, parts: list[tuple[str, Tensor]], wanted: Tensor, source: str) -> Tensor:
    """The tensor of a key from its parts, in the shape the network wants, or an error that names what does not fit."""
    each = (wanted.shape[0] // len(parts), *wanted.shape[1:]) if wanted.ndim else ()
    fitted = []
    for original, tensor in parts:
        flat_weight = original.endswith(".weights") and tensor.shape == (torch.Size(each).numel(), 1)
        channel_bias = wanted.ndim == 1 and tensor.shape == (1, *each, 1, 1)
        if tensor.shape != each and not flat_weight and not channel_bias:
            raise BcdzooError(
                f"{source}: {original} has shape {tuple(tensor.shape)}, but {key} needs {tuple(each)}"
                + (f" of each of {len(parts)} parts" if len(parts) > 1 else "")
            )
        fitted.append(tensor.reshape(each))
    joined = torch.cat(fitted) if len(fitted) > 1 and wanted.ndim else fitted[0]
    return joined.to(wanted.dtype).contiguous()
