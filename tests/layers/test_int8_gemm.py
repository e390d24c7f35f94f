"""Products of 8-bit matrices as convolutions: checked on the CPU, where the same code runs as on a GPU."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bcdzoo import create_model, list_models
from bcdzoo.evaluation.mode import STRICT
from bcdzoo.layers import int8_gemm
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.int8 import Int8Conv2d, with_int8
from bcdzoo.layers.quantizers.dorefa import DoReFaWeight


@settings(max_examples=40)
@given(
    n=st.integers(1, 3),
    c_in=st.sampled_from([8, 24, 64]),
    c_out=st.sampled_from([8, 40]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    most=st.sampled_from([1, 3, 127]),
    seed=st.integers(0, 2**31),
)
def test_the_sums_are_those_of_integers(
    n: int,
    c_in: int,
    c_out: int,
    size: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    most: int,
    seed: int,
) -> None:
    if min(size) + 2 * padding < dilation * (kernel - 1) + 1:
        return
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-most, most + 1, (n, c_in, *size), generator=generator)
    levels = torch.randint(-most, most + 1, (c_out, c_in, kernel, kernel), generator=generator)
    scale = torch.rand(c_out, generator=generator)
    ours = int8_gemm.conv2d(x.float(), levels.float(), scale, stride, padding, dilation)
    sums = F.conv2d(x, levels, None, stride, padding, dilation)  # in 64-bit integers
    assert torch.equal(ours, sums.float() * scale[:, None, None])
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_is_divided_where_its_rows_would_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x, levels, scale = torch.randn(5, 16, 6, 6).sign(), torch.randn(8, 16, 3, 3).sign(), torch.rand(8)
    whole = int8_gemm.conv2d(x, levels, scale, 1, 1)
    monkeypatch.setattr(int8_gemm, "_BYTES", 2 * 36 * 144)  # two images
    assert torch.equal(int8_gemm.conv2d(x, levels, scale, 1, 1), whole)


def test_only_float32_on_a_gpu_without_gradients_goes_that_way() -> None:
    levels = torch.ones(8, 8, 1, 1)
    with torch.inference_mode():
        assert not int8_gemm.applies(torch.ones(1, 8, 4, 4), levels)  # on a CPU
    assert not int8_gemm.applies(torch.ones(1, 8, 4, 4), levels)  # a gradient may be wanted
    x = torch.ones(1, 8, 4, 4)
    assert int8_gemm.fits(x, levels) and not int8_gemm.fits(x, levels, groups=2)
    assert not int8_gemm.fits(x[:0], levels) and not int8_gemm.fits(x, torch.ones(8, 3, 1, 1))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take that way on the CPU too; the number of convolutions that do."""
    taken = [0]

    def applies(x: torch.Tensor, levels: torch.Tensor, groups: int = 1) -> bool:
        taken[0] += int8_gemm.fits(x, levels, groups)
        return int8_gemm.fits(x, levels, groups)

    monkeypatch.setattr(int8_gemm, "applies", applies)
    return taken


@torch.inference_mode()
def test_low_bit_convolutions_give_the_bits_of_float32(as_on_a_gpu: list[int]) -> None:
    two_bits = LowBitConv2d(16, 8, 3, quantizer=DoReFaWeight(2), a_bits=2).eval()
    padded = LowBitConv2d(16, 8, 3, 2, pad_value=1.0).eval()
    tensorflow = LowBitConv2d(16, 8, 3, 2, padding="tensorflow").eval()
    levels, signs = torch.randint(0, 4, (2, 16, 6, 6)).float(), torch.randn(2, 16, 6, 6).sign()
    for conv, x in (two_bits, levels), (padded, signs), (tensorflow, signs):
        assert torch.equal(with_int8(conv)(x), conv(x))
    assert as_on_a_gpu == [3]
    with_int8(padded).train()(signs)
    assert as_on_a_gpu == [3]  # not in training, where levels may be relaxed


@pytest.mark.parametrize("name", ["bcdnet-tiny", "reactnet-tiny", "adabin-resnet20"])
@torch.inference_mode()
def test_networks_give_the_logits_of_float32(name: str, as_on_a_gpu: list[int]) -> None:
    torch.manual_seed(0)
    network = create_model(name).eval()
    images = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(STRICT.prepare(network)(images), network(images), atol=1e-4, rtol=1e-4)
    assert as_on_a_gpu[0] >= 6


@pytest.mark.parametrize("name", list_models())
def test_of_no_network_of_the_zoo_a_sum_is_beyond_what_float32_holds(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name)
    for conv in network.modules():
        if isinstance(conv, LowBitConv2d) and max(conv.w_bits, conv.a_bits) <= int8_gemm.MOST_BITS:
            products = math.prod(conv.kernel_shape[1:])
            largest = products * (2**conv.w_bits - 1) * (2**conv.a_bits - 1)
            assert largest <= 2**24  # as an integer it is exact, and so is every sum in float32, in any order


def test_levels_of_so_many_bits_are_8_bit_numbers() -> None:
    levels, _ = DoReFaWeight(int8_gemm.MOST_BITS)(torch.randn(8, 8, 3, 3) * 9)
    assert levels.abs().max() == 127 and torch.equal(levels, levels.to(torch.int8).float())
    assert isinstance(with_int8(LowBitConv2d(8, 8, 1, a_bits=int8_gemm.MOST_BITS)), Int8Conv2d)
    wider = LowBitConv2d(8, 8, 1, a_bits=int8_gemm.MOST_BITS + 1)
    assert with_int8(wider) is wider
