"""FINN's folders: written from plain matrices, and run as the hardware runs them, in words and counted bits."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]
Matrices = list[tuple[Bits, npt.NDArray[np.int64] | None]]
"""For each layer the bits of its matrix, (outputs, kernel·kernel·inputs), and its thresholds."""


class Layer(NamedTuple):
    """How a layer is folded (SIMD, PE), how large it is, and what its files are filled up to."""

    simd: int
    elements: int
    outputs: int
    inputs: int
    kernel: int = 1
    rows: int = 0
    columns: int = 0


LAYERS = {
    "lfc": [
        Layer(64, 32, 1024, 784, columns=832),
        Layer(32, 64, 1024, 1024),
        Layer(64, 32, 1024, 1024),
        Layer(8, 16, 10, 1024, rows=64),
    ],
    "cnv": [
        Layer(3, 16, 64, 3, 3),
        Layer(32, 32, 64, 64, 3),
        Layer(32, 16, 128, 64, 3),
        Layer(32, 16, 128, 128, 3),
        Layer(32, 4, 256, 128, 3),
        Layer(32, 1, 256, 256, 3),
        Layer(4, 1, 512, 256),
        Layer(8, 1, 512, 512),
        Layer(1, 4, 10, 512, rows=64),
    ],
}
_NEVER = 32767  # a threshold of the rows that fill up
_POOLED = (1, 3)  # layers of CNV with max pooling behind them


def invented(program: str, seed: int = 0) -> Matrices:
    """Random matrices, with thresholds that about half of the sums exceed."""
    random = np.random.default_rng(seed)
    matrices: Matrices = []
    for number, layer in enumerate(LAYERS[program]):
        terms = layer.inputs * layer.kernel**2
        bits = random.integers(0, 2, (layer.outputs, terms), np.uint8)
        spread = int(terms**0.5)
        middle = 0 if (program, number) == ("cnv", 0) else terms // 2
        thresholds = middle + random.integers(-spread, spread + 1, layer.outputs)
        matrices.append((bits, None if (program, number) == ("cnv", 8) else thresholds))
    return matrices


def files(program: str, matrices: Matrices) -> dict[str, bytes]:
    """The files of a network by name."""
    written = {}
    for number, (layer, (bits, thresholds)) in enumerate(zip(LAYERS[program], matrices, strict=True)):
        rows, columns = layer.rows or layer.outputs, layer.columns or bits.shape[1]
        whole = np.ones((rows, columns), np.uint8)
        whole[: layer.outputs, : bits.shape[1]] = bits
        chunks = whole.reshape(rows, columns // layer.simd, layer.simd).astype(np.uint64)
        words = (chunks << np.arange(layer.simd, dtype=np.uint64)).sum(-1, dtype=np.uint64)
        for element in range(layer.elements):
            written[f"{number}-{element}-weights.bin"] = words[element :: layer.elements].astype("<u8").tobytes()
            if thresholds is not None:
                limits = np.full(rows, _NEVER)
                limits[: layer.outputs] = thresholds
                written[f"{number}-{element}-thres.bin"] = limits[element :: layer.elements].astype("<i8").tobytes()
    return written


def write_folder(content: Mapping[str, bytes], folder: Path) -> Path:
    for name, bytes_ in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes_)
    return folder


def write_archive(content: Mapping[str, bytes], path: Path) -> Path:
    """A tar archive, gzipped or not, or a zip, by the path's suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, bytes_ in content.items():
                archive.writestr(name, bytes_)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, bytes_ in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(bytes_)
            tar.addfile(member, io.BytesIO(bytes_))
    return path


def run(program: str, content: Mapping[str, bytes], images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """What the hardware computes of images, (N, H, W, channels) in bytes, as sums of ±1 minus their thresholds.

    A network is read word by word from its files, and no word is unpacked: the words of inputs and weights are
    compared bit by bit and the bits that agree are counted.
    """
    if program == "lfc":
        maps = (images.reshape(len(images), 1, 1, -1) >= 128).astype(np.uint8)
    for number, layer in enumerate(LAYERS[program]):
        if (program, number) == ("cnv", 0):
            maps = _first_of_cnv(content, layer, images)
            continue
        windows = _windows(maps, layer.kernel)
        agreeing = _agreeing(content, number, layer, windows)
        thresholds = _thresholds(content, number, layer)
        if number == len(LAYERS[program]) - 1:
            terms = windows.shape[-1]
            logits = 2 * agreeing - terms if thresholds is None else 2 * (agreeing - thresholds) - 1
            return logits[:, 0, 0]
        assert thresholds is not None
        maps = (agreeing > thresholds).astype(np.uint8)
        if program == "cnv" and number in _POOLED:
            n, height, width, channels = maps.shape
            maps = maps.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    raise AssertionError


def _windows(maps: npt.NDArray[np.generic], kernel: int) -> npt.NDArray[np.generic]:
    """Each window as a row in the order (kernel, kernel, input)."""
    views = np.lib.stride_tricks.sliding_window_view(maps, (kernel, kernel), (1, 2))
    return views.transpose(0, 1, 2, 4, 5, 3).reshape(*views.shape[:3], -1)


def _words(content: Mapping[str, bytes], number: int, layer: Layer) -> npt.NDArray[np.uint64]:
    """A row of words for each output, taken in turn from the processing elements."""
    rows = (layer.rows or layer.outputs) // layer.elements
    parts = [
        np.frombuffer(content[f"{number}-{element}-weights.bin"], "<u8").reshape(rows, -1)
        for element in range(layer.elements)
    ]
    return np.stack([parts[row % layer.elements][row // layer.elements] for row in range(layer.outputs)])


def _thresholds(content: Mapping[str, bytes], number: int, layer: Layer) -> npt.NDArray[np.int64] | None:
    if f"{number}-0-thres.bin" not in content:
        return None
    parts = [
        np.frombuffer(content[f"{number}-{element}-thres.bin"], "<i8").tolist() for element in range(layer.elements)
    ]
    return np.array([parts[row % layer.elements][row // layer.elements] for row in range(layer.outputs)])


def _agreeing(
    content: Mapping[str, bytes], number: int, layer: Layer, windows: npt.NDArray[np.generic]
) -> npt.NDArray[np.int64]:
    weights = _words(content, number, layer)
    filled = np.zeros((*windows.shape[:-1], weights.shape[1] * layer.simd), np.uint64)
    filled[..., : windows.shape[-1]] = windows
    chunks = filled.reshape(*windows.shape[:-1], weights.shape[1], layer.simd)
    inputs = (chunks << np.arange(layer.simd, dtype=np.uint64)).sum(-1, dtype=np.uint64)
    mask = np.uint64(2**layer.simd - 1)
    sums = [np.bitwise_count(~(inputs ^ row) & mask).sum(-1, dtype=np.int64) for row in weights]
    return np.stack(sums, -1)


def _first_of_cnv(content: Mapping[str, bytes], layer: Layer, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Sums of pixels from -128 to 127, in units of 1/128; the thresholds are in units of 1/256."""
    pixels = np.clip(np.rint((images / 255 - 0.5) / 0.5 * 128), -128, 127).astype(np.int64)
    windows = _windows(pixels, layer.kernel).astype(np.int64)
    words = _words(content, 0, layer)
    signs = np.stack([(words >> np.uint64(bit)) & np.uint64(1) for bit in range(layer.simd)], -1).astype(np.int64)
    sums = windows @ (signs.reshape(layer.outputs, -1) * 2 - 1).T
    thresholds = _thresholds(content, 0, layer)
    assert thresholds is not None
    return (2 * sums > thresholds).astype(np.uint8)
