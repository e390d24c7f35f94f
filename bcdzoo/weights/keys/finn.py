"""Xilinx/BNN-PYNQ, bnn/params/: a folder of files for a network, two for each processing element of each layer.

``L-P-weights.bin`` has the weight words of element P of layer L and ``L-P-thres.bin`` its thresholds, all of 64 bits,
little endian. Row ``fold·PE + P`` of a layer's matrix is the fold-th row of element P; its columns are chunks of SIMD
bits, the lowest first, ordered (kernel, kernel, input). A threshold counts agreeing bits.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable
from bcdzoo.weights.keys.family import Container, Family, Layout, State

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

_FILE = re.compile(r"(?:(.*)/)?(\d{1,2})-(\d{1,2})-(weights|thres)\.bin", re.DOTALL)
_CLASSES = 10
Parts = dict[tuple[int, int, str], bytes]


class Folding(NamedTuple):
    """How a layer's matrix lies in its files, and how large it is.

    Attributes:
        simd: Columns of a word.
        elements: Files of weights (PE).
        outputs: Rows that are used; the files may have more.
        inputs: Input channels that are used; the files' columns may be more.
        kernel: Height and width of the kernel.
        columns: Of the files.
        fixed_point: Whether its inputs are numbers of 8 bits, and its thresholds in units of 1/256.
        has_thresholds: False for the last layer of CNV, whose sums are the logits.
    """

    simd: int
    elements: int
    outputs: int
    inputs: int
    kernel: int = 1
    columns: int = 0
    fixed_point: bool = False
    has_thresholds: bool = True


PROGRAMS = {
    "lfc": (
        Folding(64, 32, 1024, 784, columns=832),
        Folding(32, 64, 1024, 1024),
        Folding(64, 32, 1024, 1024),
        Folding(8, 16, _CLASSES, 1024),
    ),
    "cnv": (
        Folding(3, 16, 64, 3, 3, fixed_point=True),
        Folding(32, 32, 64, 64, 3),
        Folding(32, 16, 128, 64, 3),
        Folding(32, 16, 128, 128, 3),
        Folding(32, 4, 256, 128, 3),
        Folding(32, 1, 256, 256, 3),
        Folding(4, 1, 512, 256),
        Folding(8, 1, 512, 512),
        Folding(1, 4, _CLASSES, 512, has_thresholds=False),
    ),
}
"""The 1-bit networks that BNN-PYNQ has, by layer."""


def _holds(path: Path, head: bytes) -> bool:
    from bcdzoo.weights.bundle import is_archive, names_in_zip

    return path.is_dir() or is_archive(path, head) or any(map(_FILE.fullmatch, names_in_zip(path, head)))


def _read(path: Path) -> State:
    from bcdzoo.weights.bundle import read_files

    folders: dict[str, Parts] = defaultdict(dict)
    for name, content in read_files(path).items():
        if match := _FILE.fullmatch(name):
            folders[match[1] or ""][int(match[2]), int(match[3]), match[4]] = content
    state: State = {}
    names: dict[str, str] = {}
    for folder, parts in folders.items():
        prefix = re.sub("[.#]", "_", folder) + "." if folder else ""
        if (other := names.setdefault(prefix, folder)) != folder:
            raise BcdzooError(f"{path}: {printable(other, 60)} and {printable(folder, 60)} cannot be told apart")
        where = f"{path}/{printable(folder, 100)}" if folder else str(path)
        program = _program(parts, where)
        for key, tensor in _tensors(parts, program, where).items():
            state[f"{prefix}{program}.{key}"] = tensor
    if not state:
        kind = "a folder" if path.is_dir() else "an archive"
        raise BcdzooError(
            f"{path} is {kind}, not a file of weights, and holds no L-P-weights.bin as FINN's networks do: give a file "
            "in it"
        )
    return state


def _program(parts: Parts, where: str) -> str:
    elements = [sum(layer == i and kind == "weights" for layer, _, kind in parts) for i in range(len(parts))]
    found = [layers for layers in elements if layers]
    for name, layers in PROGRAMS.items():
        if found == [folding.elements for folding in layers]:
            return name
    raise BcdzooError(f"{where} has files of {found} processing elements: none of {', '.join(PROGRAMS)} has these")


def _tensors(parts: Parts, program: str, where: str) -> State:
    import numpy as np
    import torch

    state: dict[str, Tensor] = {}
    for layer, folding in enumerate(PROGRAMS[program]):
        matrix = _matrix(parts, layer, folding, where)
        used = matrix[: folding.outputs, : folding.inputs * folding.kernel**2]
        if (matrix[: folding.outputs, used.shape[1] :] < 0).any():  # beyond the inputs there are only bits of 0
            raise BcdzooError(f"{where}: layer {layer} fills up its rows with bits that can agree: it is not read")
        kernel = used.reshape(folding.outputs, folding.kernel, folding.kernel, folding.inputs).transpose(0, 3, 1, 2)
        state[f"{layer}.weight"] = torch.from_numpy(kernel.astype(np.float32))
        if folding.has_thresholds:
            thresholds = _interleaved(parts, layer, folding, "thres", where)[: folding.outputs, 0]
            if folding.fixed_point:  # in units of 1/256, between two sums; and the inputs are moved up by 1
                bias = -(thresholds / 256 + 1 / 512) - used.sum(1)
            else:
                bias = used.shape[1] - 2.0 * thresholds - 1
            state[f"{layer}.bias"] = torch.from_numpy(bias.astype(np.float32))
    return state


def _matrix(parts: Parts, layer: int, folding: Folding, where: str) -> "npt.NDArray[np.int64]":
    """A layer's ±1 matrix, with the rows and columns that fill it up."""
    import numpy as np

    words = _interleaved(parts, layer, folding, "weights", where)
    bits = words[:, :, None] >> np.arange(folding.simd) & 1
    return bits.reshape(len(words), -1) * 2 - 1


def _interleaved(parts: Parts, layer: int, folding: Folding, kind: str, where: str) -> "npt.NDArray[np.int64]":
    """Rows of 64-bit numbers of all elements in the order of the layer's outputs."""
    import numpy as np

    columns = folding.columns or folding.inputs * folding.kernel**2
    numbers = columns // folding.simd if kind == "weights" else 1
    folds = -(-folding.outputs // folding.elements) if folding.outputs > _CLASSES else 64 // folding.elements
    rows = []
    for element in range(folding.elements):
        content = parts.get((layer, element, kind), b"")
        if len(content) != 8 * folds * numbers:
            raise BcdzooError(
                f"{where}/{layer}-{element}-{kind}.bin has {len(content)} bytes, and {8 * folds * numbers} are wanted"
            )
        rows.append(np.frombuffer(content, "<i8").reshape(folds, numbers))
    return np.stack(rows, axis=1).reshape(-1, numbers)


def _layout(program: str) -> Layout:
    others = "|".join(name for name in PROGRAMS if name != program)
    here = rf"(?:[^.]*\.)?{program}\.(\d)\."
    return Layout(
        [
            (here + "weight", r"layer\1.conv.weight"),
            (here + "bias", r"layer\1.sign.bias"),
            (rf"(?:[^.]*\.)?(?:{others})\.", None),
        ],
        preprocess="resize={0},crop={0},mean=0.5,std=0.5".format({"lfc": 28, "cnv": 32}[program]),
    )


FAMILY = Family(tuple(_layout(program) for program in PROGRAMS), Container(_holds, _read))
