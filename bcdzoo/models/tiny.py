"""BCDNet and ReActNet small enough to train on a CPU in minutes: the same blocks, for images of 28×28.

The stem and the first block halve the map to 7×7, like the MLP stage of the large networks. As there, a group
of the MLP stage replaces a convolutional block of the same binary operations.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from bcdzoo.layers.binary_conv import REAL_VALUED, Quantizers, of_step
from bcdzoo.models.bcdnet import ALL_BRANCHES, BCDNet, mlp_group
from bcdzoo.models.reactnet import ReActNet, pointwise_half, spatial_half

STEM_WIDTH = 64
WIDTHS = (128, 128)
"""Output channels of the blocks that the networks share; the first halves the map."""

GROUPS = 1
"""Groups of the MLP stage, or blocks in their place."""


def bcdnet_tiny(num_classes: int = 10, step: int = 2, mixing: str = "mlp", branches: str = ALL_BRANCHES) -> nn.Module:
    """A BCDNet-A of three convolutional blocks, counting the stem, and one group of the MLP stage.

    The arguments are those of :func:`bcdzoo.models.bcdnet.bcdnet_a`.
    """
    return _bcdnet(num_classes, of_step(step), mixing, branches)


def reactnet_tiny(num_classes: int = 10, step: int = 2) -> nn.Module:
    """A ReActNet-A of the same operations as :func:`bcdnet_tiny`."""
    blocks = _blocks((*WIDTHS, *WIDTHS[-1:] * GROUPS), of_step(step))
    return ReActNet(blocks, num_classes, WIDTHS[-1], STEM_WIDTH)


def bcdnet_tiny_real(num_classes: int = 10, mixing: str = "mlp", branches: str = ALL_BRANCHES) -> nn.Module:
    """:func:`bcdnet_tiny` with real-valued weights and activations: its only nonlinearities are RPReLU."""
    return _bcdnet(num_classes, REAL_VALUED, mixing, branches)


def _bcdnet(num_classes: int, quantizers: Quantizers, mixing: str, branches: str) -> nn.Module:
    mlp = nn.Sequential(*(mlp_group(WIDTHS[-1], quantizers, mixing, branches) for _ in range(GROUPS)))
    return BCDNet(_blocks(WIDTHS, quantizers), mlp, num_classes, WIDTHS[-1], STEM_WIDTH)


def _blocks(widths: Sequence[int], quantizers: Quantizers) -> nn.Sequential:
    blocks = nn.Sequential()
    for c_in, c_out in pairwise((STEM_WIDTH, *widths)):
        stride = 2 if c_in != c_out else 1
        spatial, pointwise = spatial_half(c_in, stride, quantizers), pointwise_half(c_in, c_out, quantizers)
        blocks.append(nn.Sequential(OrderedDict(spatial=spatial, pointwise=pointwise)))
    return blocks
