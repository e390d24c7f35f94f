"""Networks that come as a QONNX file."""

from pathlib import Path
from typing import Any

from torch import nn

from bcdzoo.custom_model import import_network, is_onnx_file
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.registry import create_model, find
from bcdzoo.text import printable
from bcdzoo.weights.load import LoadedModel
from bcdzoo.weights.metadata import remember


def load_qonnx(path: str | Path) -> nn.Module:
    """Load the network of a QONNX file.

    Args:
        path: File (``.onnx``) that Brevitas, QONNX or ``bcdzoo export --as qonnx`` wrote.

    Returns:
        A module in evaluation mode, from images, float32 of shape (N, 3, side, side), to logits, float32 of shape
        (N, classes); a network for grey images takes their first channel. It has ``preprocess`` and ``class_names``,
        None if the file does not state them, and ``input_size``, the side.

    Raises:
        BcdzooError: The file is damaged, or has something that is not read; the message names it.
    """
    try:
        from bcdzoo.interchange.from_qonnx import network_of
    except ImportError as error:
        what = f"ONNX files need packages that cannot be imported ({printable(error, 200)})"
        raise BcdzooError(f"{what}: pip install 'bcdzoo[onnx]'") from None
    network, said = network_of(Path(path))
    remember(network, said.preprocess, said.class_names)
    return network


def resolve_qonnx(path: str, **build: Any) -> LoadedModel:
    """Like :func:`load_qonnx`, with its origin, and what to assume of its images: numbers from 0 to 1.

    Raises:
        BcdzooError: As for :func:`load_qonnx`, or there are arguments.
    """
    network: Any = _from_file(path, build)
    said = str(network.preprocess) if network.preprocess else None
    return LoadedModel(network, Path(path).name, path, sha256_of(Path(path)), said, assumed=network.assumed)


def build_network(model: str, **build: Any) -> tuple[nn.Module, int]:
    """Build a network with random weights, or load that of a QONNX file, which has its own.

    Args:
        model: Name of a network of the zoo, ``package.module:callable``, or the file.
        **build: Arguments of the network.

    Returns:
        The network, and the side of its images.

    Raises:
        BcdzooError: It cannot be built.
    """
    if is_onnx_file(model):
        network: Any = _from_file(model, build)
        return network, network.input_size
    if ":" in model:
        return import_network(model, **build), 224
    return create_model(model, **build), find(model).input_size


def _from_file(path: str, build: dict[str, Any]) -> nn.Module:
    if build:
        raise BcdzooError(f"{path} is a network that is built already, and takes no {printable(', '.join(build), 100)}")
    return load_qonnx(path)
