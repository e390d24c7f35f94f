"""Keras weight files (HDF5), as larq publishes its networks, read without TensorFlow.

A file holds a group per layer, named after it, with that layer's weights inside. Here they become tensors as PyTorch
lays them out, under ``<layer>.<parameter>``; :mod:`bcdzoo.weights.convert` knows which of their layers is which of
ours.
"""

import re
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError

PARAMETERS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "alpha": "weight",  # PReLU's
}

# Names that Keras gives by itself: a layer's type and how many of that type were built before it (by TensorFlow 1, some
# with a version). The count goes on from network to network within a program, so it need not begin at 0 in a file.
_AUTOMATIC = re.compile(r"(conv2d|quant_conv2d|batch_normalization|dense)(?:_v\d)?(?:_(\d+))?")


def load_keras(path: Path) -> dict[str, Tensor]:
    """The weights of a Keras HDF5 file, of ``save_weights`` or of a whole model.

    Convolution kernels come out as (c_out, c_in, k, k), those of dense layers as (c_out, c_in), PReLU's slopes as
    (channels,). Layers that Keras named by itself are numbered from 0 within their type, in the order they were built
    in: ``quant_conv2d_17`` is ``quant_conv2d.1`` in a file whose first is ``quant_conv2d_16``.

    Raises:
        BcdzooError: The file is damaged, or its data are not all in it or not as Keras writes them.
    """
    state: dict[tuple[str, str], Tensor] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            layer, parameter = name.split("/")[0], name.split("/")[-1].partition(":")[0]
            state[layer, PARAMETERS.get(parameter, parameter)] = _tensor(path, name, item)

    try:
        with h5py.File(path, "r") as file:
            whole_model = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            root = file["model_weights"] if whole_model else file
            root.visititems(visit)  # follows neither soft nor external links
    except BcdzooError:
        raise
    except Exception as error:  # HDF5 raises many kinds on damaged or hostile files; all mean the same to the user
        raise BcdzooError(f"{path} is a damaged HDF5 file ({str(error).splitlines()[0]}); fetch it again") from None
    names = _numbered({layer for layer, _ in state})
    return {f"{names[layer]}.{parameter}": tensor for (layer, parameter), tensor in state.items()}


def _tensor(path: Path, name: str, data: h5py.Dataset) -> Tensor:
    # A file may claim data of any size, or that they lie in another file: Keras writes plain numbers, in full.
    inside = not data.external and not data.is_virtual and data.id.get_storage_size() == data.nbytes
    if not inside or data.dtype.kind != "f":
        raise BcdzooError(f"{path}: {name} is not a plain array of numbers, as Keras stores weights")
    tensor = torch.from_numpy(np.asarray(data, dtype=np.float32))
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if tensor.ndim == 2:
        return tensor.T.contiguous()
    return tensor.flatten()


def _numbered(layers: set[str]) -> dict[str, str]:
    """Layer -> the name it gets."""
    names = {layer: layer for layer in layers}
    automatic = defaultdict(list)
    for layer in layers:
        if match := _AUTOMATIC.fullmatch(layer):
            automatic[match[1]].append((int(match[2] or 0), layer))
    for kind, members in automatic.items():
        names |= {layer: f"{kind}.{rank}" for rank, (_, layer) in enumerate(sorted(members))}
    return names
