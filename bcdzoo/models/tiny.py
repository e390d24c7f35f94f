"""BCDNet and ReActNet small enough to train on a CPU in minutes: the same blocks, for images of 28×28.

The stem and the first block halve the map to 7×7, where the large networks have their MLP stage too. As there, a group
of the MLP stage replaces a convolutional block of the same binary operations.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.sign import RSign
from bcdzoo.models.bcdnet import BCDNet, mlp_group
from bcdzoo.models.reactnet import ReActNet, pointwise_half, spatial_half

STEM_WIDTH = 64
WIDTHS = (128, 128)
"""Output channels of the blocks that the networks share; the first halves the map."""

GROUPS = 1
"""Groups of the MLP stage, or blocks in their place."""


def bcdnet_tiny(num_classes: int = 10, step: int = 2) -> nn.Module:
    """A BCDNet-A of three convolutional blocks, counting the stem, and one group of the MLP stage."""
    mlp = nn.Sequential(*(mlp_group(WIDTHS[-1], step) for _ in range(GROUPS)))
    return BCDNet(_blocks(WIDTHS, step), mlp, num_classes, WIDTHS[-1], STEM_WIDTH)


def reactnet_tiny(num_classes: int = 10, step: int = 2) -> nn.Module:
    """A ReActNet-A of the same operations as :func:`bcdnet_tiny`."""
    return ReActNet(_blocks((*WIDTHS, *WIDTHS[-1:] * GROUPS), step), num_classes, WIDTHS[-1], STEM_WIDTH)


def bcdnet_tiny_real(num_classes: int = 10) -> nn.Module:
    """:func:`bcdnet_tiny` with real-valued weights and activations: its nonlinearities are the RPReLU alone."""
    network = bcdnet_tiny(num_classes, step=1)
    for module in network.modules():
        if isinstance(module, LowBitConv2d):
            module.a_bits = 32
        elif isinstance(getattr(module, "sign", None), RSign):
            module.sign = nn.Identity()
    return network


def _blocks(widths: Sequence[int], step: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for c_in, c_out in pairwise((STEM_WIDTH, *widths)):
        stride = 2 if c_in != c_out else 1
        halves = OrderedDict(spatial=spatial_half(c_in, stride, step), pointwise=pointwise_half(c_in, c_out, step))
        blocks.append(nn.Sequential(halves))
    return blocks
