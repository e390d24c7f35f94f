"""BNAS: what is not binary, and which images it takes."""

import pytest
import torch

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d


def test_the_last_two_convolutions_have_real_valued_weights() -> None:
    with torch.device("meta"):
        network = bcdzoo.create_model("bnas-d")
    real = [name for name, layer in network.named_modules() if isinstance(layer, LowBitConv2d) and layer.w_bits == 32]
    assert real == ["cells.11.nodes.3.0.conv", "cells.11.nodes.3.1.conv"]


@pytest.mark.parametrize("sides", [(70, 64), (64, 70)])
def test_maps_that_cannot_be_halved_are_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(BcdzooError, match="use images of multiples of 32 pixels"):
        bcdzoo.create_model("bnas-d").eval()(torch.zeros(1, 3, *sides))
