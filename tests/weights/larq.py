"""Keras files of larq-zoo's networks that anybody can make again, with NumPy alone.

scripts/record_larq.py records what larq-zoo makes of them.

``authors/larq-*.json`` holds what larq-zoo's own network gave: its layers in order, each as the text
``name parameter,parameter:shape …``, and the logits and features in float64 for :func:`images` and the weights of
:func:`weight`.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "authors"
_PERIOD = 1_000_003  # a prime; weights of a very large layer are drawn once and repeated, because drawing takes long


def weight(path: str, shape: list[int]) -> npt.NDArray[np.float32]:
    """A weight that depends on its path in the file alone."""
    random = np.random.RandomState(zlib.crc32(path.encode()))  # its stream is frozen, unlike a Generator's
    if path.endswith(("gamma:0", "moving_variance:0")):
        values = random.uniform(0.5, 1.5, shape)
    elif path.endswith("alpha:0"):
        values = random.uniform(0.1, 0.4, shape)
    elif path.endswith("kernel:0"):
        size = int(np.prod(shape))
        drawn = random.standard_normal(min(size, 4 * _PERIOD)) / np.sqrt(
            size / shape[-2 if "depthwise" in path else -1]
        )
        return np.resize(drawn.astype(np.float32), shape)
    else:
        values = random.standard_normal(shape) * 0.2
    return values.astype(np.float32)


def images(size: int, n: int = 2) -> npt.NDArray[np.float32]:
    """Images like normalized photos: patches of 8×8 pixels with noise, of order 1; (n, size, size, 3)."""
    patches = np.random.RandomState(7).standard_normal((n, -(-size // 8), -(-size // 8), 3))
    noise = np.random.RandomState(8).standard_normal((n, size, size, 3))
    return (patches.repeat(8, 1).repeat(8, 2)[:, :size, :size] + 0.1 * noise).astype(np.float32)


def record(name: str) -> dict[str, Any]:
    """What is known of one of larq-zoo's networks; ``layers`` has the shapes of each layer's weights."""
    content: dict[str, Any] = json.loads((FOLDER / f"larq-{name}.json").read_text())
    if isinstance(content["layers"], list):
        content["layers"] = dict(map(_shapes, content["layers"]))
    else:  # of an older form
        content["layers"] = {
            layer: {weight: content["keys"][f"{layer}/{weight}"] for weight in weights}
            for layer, weights in content["layers"].items()
        }
    return content


def described(layer: str, shapes: dict[str, list[int]]) -> str:
    """A layer as text, which :func:`record` reads."""
    groups: dict[str, list[str]] = {}
    for weight, shape in shapes.items():
        groups.setdefault("x".join(map(str, shape)), []).append(weight.removeprefix(f"{layer}/").removesuffix(":0"))
    return " ".join([layer, *(f"{','.join(names)}:{shape}" for shape, names in groups.items())])


def _shapes(text: str) -> tuple[str, dict[str, list[int]]]:
    layer, *groups = text.split(" ")
    shapes: dict[str, list[int]] = {}
    for names, shape in (group.split(":") for group in groups):
        shapes |= {f"{layer}/{name}:0": [int(n) for n in shape.split("x")] for name in names.split(",")}
    return layer, shapes


def ones(path: str, shape: list[int]) -> npt.NDArray[np.float32]:
    """A weight for files whose values do not matter."""
    return np.ones(shape, np.float32)


def write(
    path: Path,
    layers: dict[str, dict[str, list[int]]],
    root: str = "/",
    rename: Callable[[str], str] = str,
    values: Callable[[str, list[int]], npt.NDArray[np.float32]] = weight,
) -> Path:
    """A file of the structure that Keras gives it, with its attributes."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root)
        top.attrs["backend"] = b"tensorflow"
        top.attrs["layer_names"] = [rename(layer).encode() for layer in layers]
        for layer, weights in layers.items():
            group = top.create_group(rename(layer))
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, shape in weights.items():
                group.create_dataset(name, data=values(f"{layer}/{name}", shape))
    return path
