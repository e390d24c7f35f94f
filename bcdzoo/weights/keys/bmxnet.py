"""hpi-xnor/BMXNet, smd_hpi/binary_models/: MXNet's parameter files, with the weights of 1-bit layers as packed words.

A word has 64 bits, the lowest first, 1 for +1. Those of a convolution are the flattened (out, in, kernel, kernel);
those of a linear layer are the words of one chunk of inputs for all outputs side by side.

The ResNets take pixels from 0 to 255 less the mean that BMXNet's training script subtracts by default: the means that
the files' first normalization has seen are within 10 of 0.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable
from bcdzoo.weights.keys.family import Container, Family, Layout, Rule, State, shifted

if TYPE_CHECKING:
    from torch import Tensor, nn

_PARAMETERS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_PARAMETERS |= {"moving_mean": "running_mean", "moving_var": "running_var"}
_FIXED = "arg:bn_data_gamma"
"""The input's normalization has fix_gamma in the symbol files: 1, whatever stands in the file."""

_CENTRED = "mean=12368/25500:116779/255000:103939/255000,std=1/255"
_SMALL = 32
"""Pixels of an image; the networks for these have no normalization in their stem."""


def _holds(path: Path, head: bytes) -> bool:
    return head.startswith(b"\x12\x01" + bytes(6))


def _read(path: Path) -> State:
    import torch

    from bcdzoo.weights.mxnet import load_params

    state = load_params(path)
    for name, tensor in state.items():
        if tensor.dtype == torch.int64 and tensor.ndim == 1 and name.endswith("_weight"):
            state[name] = _unpacked(name, tensor, state, path)
    if _FIXED in state:
        state[_FIXED] = torch.ones_like(state[_FIXED])
    return state


def _unpacked(name: str, words: "Tensor", state: State, path: Path) -> "Tensor":
    """The ±1 weights of a layer; the normalizations beside it say how many channels it has."""
    import numpy as np
    import torch

    def channels(norm: str) -> int:
        if f"arg:{norm}_gamma" not in state:
            raise BcdzooError(f"{path} has packed weights {printable(name, 100)}, but no {norm}_gamma")
        return len(state[f"arg:{norm}_gamma"])

    signs = torch.from_numpy(np.unpackbits(words.numpy().view(np.uint8), bitorder="little").astype(np.float32) * 2 - 1)
    if match := re.fullmatch(r"arg:(stage\d_unit\d_)(conv[12]|sc)_weight", name):
        outputs = channels(match[1] + "bn2")
        inputs = channels(match[1] + ("bn2" if match[2] == "conv2" else "bn1"))
        kernel = 1 if match[2] == "sc" else 3
    elif name == "arg:qconvolution0_weight":
        outputs, inputs, kernel = channels("batchnorm1"), channels("batchnorm0"), 5
    elif name == "arg:qfullyconnected0_weight":
        outputs, inputs, kernel = channels("batchnorm2"), channels("batchnorm1"), 4
        if outputs and len(words) % outputs == 0:
            signs = signs.view(-1, outputs, 64).transpose(0, 1).reshape(-1)
    else:
        raise BcdzooError(f"{path} has packed weights {printable(name, 100)} of a network that is not known")
    if signs.numel() != outputs * inputs * kernel**2:
        raise BcdzooError(
            f"{path}: {printable(name, 100)} has {signs.numel()} bits, and {outputs * inputs * kernel**2} are wanted"
        )
    return signs.view(outputs, inputs, kernel, kernel)


def _parameters(theirs: str, ours: str) -> list[Rule]:
    """All parameters of a layer."""
    return [(rf"(?:arg|aux):{theirs}_{name}$", f"{ours}.{parameter}") for name, parameter in _PARAMETERS.items()]


def _in_block(stage: str, theirs: str, ours: str) -> list[Rule]:
    """All parameters of a part of every block of a stage; BMXNet counts from 1."""
    part = rf"(?:arg|aux):stage{stage}_unit(\d)_{theirs}_"
    return [
        (f"{part}{name}$", shifted(1, -1, f"stages.{int(stage) - 1}.{{n}}.{ours}.{parameter}"))
        for name, parameter in _PARAMETERS.items()
    ]


def _unfit(real_stages: str) -> "Callable[[State, nn.Module], str]":
    """The keys do not show which stages are real-valued; the numbers do, where a file has packed words at all."""

    def unfit(state: State, network: "nn.Module") -> str:
        binary = {stage for stage in "1234" if _is_binary(state, stage)}
        if wrong := sorted(binary & set(real_stages)):
            return f"its stage {', '.join(wrong)} is 1-bit, and the network's is real-valued"
        if wrong := sorted(set("1234") - binary - set(real_stages)) if binary else []:
            return f"its stage {', '.join(wrong)} is real-valued, and the network's is 1-bit"
        return ""

    return unfit


def _is_binary(state: State, stage: str) -> bool:
    weights = [
        tensor for key, tensor in state.items() if re.fullmatch(rf"arg:stage{stage}_unit\d_(conv[12]|sc)_weight", key)
    ]
    return bool(weights) and all(bool((tensor.abs() == 1).all()) for tensor in weights)


def _resnet(size: int, real_stages: str = "") -> Layout:
    """A ResNet-18 for images of this size, of which the stages with these numbers have real-valued convolutions."""
    rules: list[Rule] = []
    for stage in "1234":
        conv = "" if stage in real_stages else ".conv"
        for theirs, ours in (("conv1", "conv1"), ("conv2", "conv2"), ("sc", "shortcut")):
            rules += _in_block(stage, theirs, ours + conv)
        rules += _in_block(stage, "bn1", "bn1") + _in_block(stage, "bn2", "bn2")
    rules += _parameters("bn_data", "stem.data") + _parameters("conv0", "stem.conv")
    rules += _parameters("bn0", "stem.bn") if size > _SMALL else []
    rules += _parameters("bn1", "bn") + _parameters("fc1", "fc")
    return Layout(
        rules, preprocess=f"resize={256 if size > _SMALL else size},crop={size},{_CENTRED}", unfit=_unfit(real_stages)
    )


_LENET = Layout(
    [
        *_parameters(r"convolution0", "conv1"),
        *_parameters(r"qconvolution0", "conv2.conv"),
        *_parameters(r"qfullyconnected0", "fc1.conv"),
        *_parameters(r"fullyconnected0", "fc2"),
        *_parameters(r"batchnorm0", "bn1"),
        *_parameters(r"batchnorm1", "bn2"),
        *_parameters(r"batchnorm2", "bn3"),
    ],
    preprocess="resize=28,crop=28,mean=0,std=1",
)

FAMILY = Family((_resnet(32), _resnet(224), _resnet(224, "1"), _LENET), Container(_holds, _read))
