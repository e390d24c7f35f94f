"""BNAS (Kim et al., Learning Architectures for Binary Networks, ECCV 2020), shaped as the authors' code.

A cell reads what the two before it gave, and has four nodes, each the sum of two edges; its output is these four, one
behind the other, and a shortcut around the cell is added. An edge is normalization, sign, binary convolution and ReLU,
or a max pooling.

The authors' code leaves the last two convolutions of a network with real-valued weights on binary activations: it
counts the convolutions to binarize without the shortcuts' two, and numbers them with these.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.base import RealWeight
from bcdzoo.layers.quantizers.bnas import RescaledXnorWeight
from bcdzoo.layers.quantizers.sign import clipped_sign
from bcdzoo.models.trunks import linear, pooled


class Edge(NamedTuple):
    """A term of a node.

    Attributes:
        kind: ``conv``, a 3×3; ``dilated``, one whose taps are two pixels apart; ``pool``, a 3×3 max pooling.
        state: What it reads: 0 and 1 are the cell's inputs, 2 and on its nodes.
    """

    kind: str
    state: int


Nodes = Sequence[tuple[Edge, Edge]]

NORMAL: Nodes = (
    (Edge("conv", 1), Edge("dilated", 0)),
    (Edge("conv", 1), Edge("conv", 2)),
    (Edge("conv", 2), Edge("dilated", 1)),
    (Edge("dilated", 1), Edge("conv", 0)),
)
REDUCTION: Nodes = (
    (Edge("pool", 0), Edge("pool", 1)),
    (Edge("pool", 0), Edge("conv", 2)),
    (Edge("pool", 0), Edge("dilated", 3)),
    (Edge("pool", 0), Edge("dilated", 4)),
)
"""The two cells that were found: ``latest_cell`` in the authors' genotypes.py."""


def binary_edge(
    c_in: int, c_out: int, kernel_size: int, stride: int = 1, dilation: int = 1, is_real: bool = False
) -> nn.Module:
    """BN → sign → convolution → ReLU.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Stride in pixels.
        dilation: Distance of the kernel's taps in pixels.
        is_real: Whether the weights are real-valued.
    """
    quantizer = RealWeight() if is_real else RescaledXnorWeight()
    conv = LowBitConv2d(c_in, c_out, kernel_size, stride, quantizer, dilation=dilation)
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(c_in), sign=clipped_sign(), conv=conv, activation=nn.ReLU()))


def _term(edge: Edge, width: int, reduces: bool, is_real: bool) -> nn.Module:
    stride = 2 if reduces and edge.state < 2 else 1
    if edge.kind == "pool":
        return nn.MaxPool2d(3, stride, 1)
    return binary_edge(width, width, 3, stride, 2 if edge.kind == "dilated" else 1, is_real)


class Cell(nn.Module):
    """A cell.

    Args:
        older: Channels of the map that the cell before the last gave.
        newer: Channels of the map that the last one gave.
        width: Channels of a node.
        reduces: Whether the edges that read the cell's inputs halve the map.
        halves_older: Whether the older map is twice as large as the newer one.
        shortcut: Whether the newer map is added to the output.
        is_last: Whether the last node's convolutions have real-valued weights.

    Shape:
        The older map and the newer, (N, newer, H, W), to (N, 4·width, H, W), or half of height and width.
    """

    def __init__(
        self, older: int, newer: int, width: int, reduces: bool, halves_older: bool, shortcut: bool, is_last: bool
    ) -> None:
        super().__init__()
        self.older = binary_edge(older, width, 3, 2) if halves_older else binary_edge(older, width, 1)
        self.newer = binary_edge(newer, width, 1)
        self.read = REDUCTION if reduces else NORMAL
        self.nodes = nn.ModuleList()
        for place, edges in enumerate(self.read):
            is_real = is_last and place == len(self.read) - 1
            self.nodes.append(nn.ModuleList(_term(edge, width, reduces, is_real) for edge in edges))
        self.shortcut: nn.Module | None = nn.Identity() if shortcut else None
        if reduces:
            conv = nn.Conv2d(newer, len(self.nodes) * width, 2, stride=2)
            self.shortcut = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(newer), conv=conv))

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        states = [self.older(older), self.newer(newer)]
        for edges, node in zip(self.read, self.nodes, strict=True):
            one, other = (term(states[edge.state]) for edge, term in zip(edges, node.children(), strict=True))
            states.append(one + other)
        out = torch.cat(states[2:], dim=1)
        return out if self.shortcut is None else out + self.shortcut(newer)


class SearchedNetwork(nn.Module):
    """A stem of three real-valued 3×3 of stride 2; cells, of which two halve the map; and a classifier.

    Args:
        cells: Number of cells.
        width: Channels of the stem, and of a node of the first cell; the latter double where the map is halved.
        num_classes: Number of outputs.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32; H and W are multiples of 32.
    """

    def __init__(self, cells: int, width: int, num_classes: int) -> None:
        super().__init__()

        def conv(c_in: int, c_out: int) -> nn.Module:
            return nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False)

        first = [conv(3, width // 2), nn.BatchNorm2d(width // 2), nn.ReLU(), conv(width // 2, width)]
        self.first = nn.Sequential(*first, nn.BatchNorm2d(width))
        self.second = nn.Sequential(nn.ReLU(), conv(width, width), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        older, newer, halves_older = width, width, True
        for place in range(cells):
            reduces = place in (cells // 3, 2 * cells // 3)
            width *= 2 if reduces else 1
            self.cells.append(Cell(older, newer, width, reduces, halves_older, place > 0, place == cells - 1))
            older, newer, halves_older = newer, len(NORMAL) * width, reduces
        self.fc = linear(newer, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        older = self.first(x)
        newer = self.second(older)
        if any(side % 4 for side in newer.shape[2:]):
            raise BcdzooError("BNAS halves maps of even height and width alone: use images of multiples of 32 pixels")
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        logits: Tensor = self.fc(pooled(newer))
        return logits


def bnas_d(num_classes: int = 1000) -> nn.Module:
    """12 cells, 64 channels."""
    return SearchedNetwork(12, 64, num_classes)


def bnas_e(num_classes: int = 1000) -> nn.Module:
    """12 cells, 68 channels."""
    return SearchedNetwork(12, 68, num_classes)


def bnas_f(num_classes: int = 1000) -> nn.Module:
    """15 cells, 68 channels."""
    return SearchedNetwork(15, 68, num_classes)


def bnas_g(num_classes: int = 1000) -> nn.Module:
    """11 cells, 74 channels."""
    return SearchedNetwork(11, 74, num_classes)


def bnas_h(num_classes: int = 1000) -> nn.Module:
    """16 cells, 128 channels."""
    return SearchedNetwork(16, 128, num_classes)
