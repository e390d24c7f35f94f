"""The low-bit convolution against torch's own, on maps that are padded by hand."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import REAL_VALUED, LowBitConv2d, Quantizers, of_step
from bcdzoo.layers.int8 import with_int8
from bcdzoo.layers.quantizers.sign import sign

CASES = [
    dict(zip(("kernel_size", "stride", "padding", "pad_value", "dilation", "groups"), case, strict=True))
    for case in itertools.product(
        (1, 2, 3, 5), (1, 2), ("symmetric", "tensorflow", 2), (0.0, 1.0, -1.0), (1, 2), (1, 4)
    )
]


def by_hand(conv: LowBitConv2d, x: torch.Tensor, padding: int | str) -> torch.Tensor:
    extent = conv.dilation * (conv.kernel_shape[2] - 1) + 1
    sides = []
    for size in reversed(x.shape[-2:]):
        whole = 2 * padding if isinstance(padding, int) else 2 * (extent // 2)
        if padding == "tensorflow":
            whole = max((-(-size // conv.stride) - 1) * conv.stride + extent - size, 0)
        sides += [whole // 2, whole - whole // 2]
    padded = F.pad(x, sides, value=conv.pad_value)
    scale = conv.weight.detach().abs().mean((1, 2, 3))[:, None, None]
    return F.conv2d(padded, sign(conv.weight.detach()), None, conv.stride, 0, conv.dilation, conv.groups) * scale


@pytest.mark.parametrize("size", [(8, 9), (7, 12)])
def test_every_padding_dilation_and_grouping_is_torchs_convolution_of_the_padded_map(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = sign(torch.randn(2, 8, *size))
    for case in CASES:
        arguments: dict[str, Any] = dict(case)
        conv = LowBitConv2d(8, 12, **arguments).eval()
        expected = by_hand(conv, x, arguments["padding"])
        torch.testing.assert_close(conv(x).detach(), expected, msg=str(case))
        with torch.inference_mode():  # in 8-bit integers where the processor has them
            torch.testing.assert_close(with_int8(conv)(x), expected, msg=str(case))
        counted = conv.op_counts((x,), expected)
        assert counted == {"binary_mac": expected.numel() * arguments["kernel_size"] ** 2 * 8 // arguments["groups"]}


@pytest.mark.parametrize("quantizers", [of_step(1), REAL_VALUED])
def test_a_convolution_of_real_valued_weights_is_an_ordinary_one(quantizers: Quantizers) -> None:
    torch.manual_seed(0)
    conv = quantizers.conv(6, 4, 3, 2)
    plain = nn.Conv2d(6, 4, 3, 2, 1, bias=False)
    plain.load_state_dict(conv.state_dict())
    x = sign(torch.randn(2, 6, 9, 9))
    assert torch.equal(conv(x), plain(x))
    gradients = [torch.autograd.grad(layer(x).square().sum(), layer.weight)[0] for layer in (conv, plain)]
    torch.testing.assert_close(*gradients)


def test_an_unknown_padding_or_step_is_refused() -> None:
    with pytest.raises(BcdzooError, match="symmetric, tensorflow"):
        LowBitConv2d(3, 3, 3, padding="valid")
    with pytest.raises(BcdzooError, match="step must be 1"):
        of_step(3)
