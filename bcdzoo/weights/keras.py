"""Read Keras weight files (HDF5), larq's format, without TensorFlow.

A file holds a group per layer, named after it, with that layer's weights. They become tensors in PyTorch's layout,
named ``<layer>.<parameter>``; :mod:`bcdzoo.weights.keys.larq_h5` maps the layers to ours.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable, say

_MOST_ITEMS = 5_000  # groups and data sets; MeliusNet-22's file has about 300
_DEEPEST = 10
_LONGEST_NAME = 500

PARAMETERS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "alpha": "weight",  # PReLU's
    "depthwise_kernel": "weight",
}

# Names that Keras assigns: a layer's type and how many of that type were built before it (in TensorFlow 1, some
# with a version). The count continues from network to network within a program, so it may not start at 0 in a file.
_AUTOMATIC = re.compile(r"((?:quant_)?(?:conv2d|depthwise_conv2d|dense)|batch_normalization)(?:_v\d)?(?:_(\d+))?")


class KerasState(dict[str, Tensor]):
    """The tensors of a Keras file.

    Attributes:
        poolings: Number of max poolings among its layers, which have a name in the file, but no tensor.
    """

    poolings = 0


def load_keras(path: Path) -> KerasState:
    """Read the weights of a Keras HDF5 file, written by ``save_weights`` or of a whole model.

    The network may be a part of another that has no weights of its own.
    Convolution kernels become (c_out, c_in, k, k), depthwise ones (c_out, 1, k, k), those of dense layers
    (c_out, c_in), PReLU's slopes (channels,).
    Layers that Keras named are numbered from 0 within their type, in the order in which they were built:
    ``quant_conv2d_17`` becomes ``quant_conv2d.1`` in a file whose first is ``quant_conv2d_16``.

    Raises:
        BcdzooError: The file is damaged, or its data is stored elsewhere or not as Keras writes it.
    """
    state: dict[tuple[str, str], Tensor] = {}
    try:
        with h5py.File(path, "r") as file:
            whole_model = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            left = path.stat().st_size
            root = file["model_weights"] if whole_model else file
            if {"layers", "_layer_checkpoint_dependencies"} & set(list(root)[:10]):
                raise BcdzooError(
                    f"{path} is of Keras' newer kind (.weights.h5), which does not name its layers; in Keras, "
                    'save_weights("weights.h5") writes the other kind'
                )
            found = dict(_data_sets(path, root))
            layers = _layers(found)
            for name, data in found.items():
                _require_plain(path, name, data)
                left -= data.nbytes
                if left < 0:
                    raise BcdzooError(f"{path}: {printable(name, 100)} is larger than the file")
                parameter = name.split("/")[-1].partition(":")[0]
                key = (layers[name], PARAMETERS.get(parameter, parameter))
                if key in state:
                    raise BcdzooError(
                        f"{path} has two layers called {printable(key[0], 100)}: save the weights of one network"
                    )
                state[key] = _tensor(data, parameter == "depthwise_kernel")
            poolings = sum(name.startswith("max_pooling2d") for name in root)
            rescales = any(name.startswith("rescaling") for name in root)
    except BcdzooError:
        raise
    except Exception as error:  # HDF5 raises many kinds on damaged or hostile files; all mean the same to the user
        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
        raise BcdzooError(f"{path} is a damaged HDF5 file ({reason}); fetch it again") from None
    if rescales:
        say(f"{path}: its layer that rescales the pixels is left out; --preprocess states what images need instead")
    names = _numbered({layer for layer, _ in state})
    read = KerasState({f"{names[layer]}.{parameter}": tensor for (layer, parameter), tensor in state.items()})
    read.poolings = poolings
    return read


def _data_sets(path: Path, root: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every data set below a group, with its path; neither soft nor external links are followed."""
    seen = 0
    waiting = [("", root)]
    while waiting:
        place, group = waiting.pop()
        seen += len(group)  # known without reading the members
        if seen > _MOST_ITEMS or place.count("/") > _DEEPEST:
            raise BcdzooError(f"{path} is not read: it has more or deeper groups than Keras gives a network")
        for name in group:
            if len(name) > _LONGEST_NAME:
                raise BcdzooError(f"{path} is not read: a name in it has {len(name)} characters: {printable(name, 60)}")
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                item = group[name]
                if isinstance(item, h5py.Group):
                    waiting.append((f"{place}{name}/", item))
                elif isinstance(item, h5py.Dataset):
                    yield place + name, item


def _layers(paths: Iterable[str]) -> dict[str, str]:
    """Map the path of each data set to its layer: its first group, or its last where the first is a whole network."""
    groups = {path: path.split("/")[:-1] or [path] for path in paths}
    inner = defaultdict(set)
    for first, *rest in groups.values():
        inner[first].add(tuple(rest))
    return {path: group[0] if len(inner[group[0]]) == 1 else group[-1] for path, group in groups.items()}


def _require_plain(path: Path, name: str, data: h5py.Dataset) -> None:
    # A file may claim data of any size, or data in another file; Keras writes plain, complete arrays.
    plain = data.chunks is None and not data.external and not data.is_virtual
    if not plain or data.id.get_storage_size() != data.nbytes or data.dtype.kind != "f":
        remedy = "; `h5repack -l CONTI -f NONE` unpacks it" if data.compression else ""
        raise BcdzooError(
            f"{path}: {printable(name, 100)} is not a plain array of numbers, as Keras stores weights{remedy}"
        )


def _tensor(data: h5py.Dataset, depthwise: bool) -> Tensor:
    tensor = torch.from_numpy(np.asarray(data, dtype=np.float32))
    if tensor.ndim == 4 and depthwise:  # (k, k, channels, 1)
        return tensor.permute(2, 3, 0, 1).contiguous()
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if tensor.ndim == 2:
        return tensor.T.contiguous()
    return tensor.flatten()


def _numbered(layers: set[str]) -> dict[str, str]:
    """Map each layer to its new name."""
    names = {layer: layer for layer in layers}
    automatic = defaultdict(list)
    for layer in layers:
        if match := _AUTOMATIC.fullmatch(layer):
            automatic[match[1]].append((int(match[2] or 0), layer))
    for kind, members in automatic.items():
        names |= {layer: f"{kind}.{rank}" for rank, (_, layer) in enumerate(sorted(members))}
    return names
