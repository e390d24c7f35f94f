"""Packed units against the plain modules they stand for, over random sizes and with each instruction set."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.folding import fold, sign_threshold
from bcdzoo.layers.unit import BinaryUnit, DynamicConv
from bcdzoo.models.bcdnet import MLPBlock
from bcdzoo.models.meliusnet import DenseBlock, ImprovementBlock, Transition
from bcdzoo.models.reactnet import pointwise_half, spatial_half
from bcdzoo.packed.bench import peak
from bcdzoo.packed.pack import PackedConv2d, pack
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan.operations import PlanError
from bcdzoo.plan.plan import Plan
from tests.packed.instructions import each_instruction_set, forced
from tests.packed.units import unit
from tests.packed.unsettled import unsettle

BINARY = Quantizers()


def same(network: nn.Module, x: Tensor, allowed: float = 0.0) -> None:
    """The packed network gives the same floats, or with real-valued sums such as differ by so much of the largest."""
    with torch.inference_mode():
        expected, got = network(x), pack(network)(x)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= allowed * expected.abs().max()


sizes = st.fixed_dictionaries(
    {
        "c_in": st.integers(1, 200),
        "c_out": st.integers(1, 80),
        "kernel": st.integers(1, 7),
        "stride": st.integers(1, 3),
        "batch": st.integers(1, 5),
        "height": st.integers(1, 14),
        "width": st.integers(1, 14),
        "threads": st.integers(1, 3),
        "seed": st.integers(0, 2**20),
    }
)


def sizes_of(batch: int, side: int, c_in: int = 70, kernel: int = 3, stride: int = 1) -> dict[str, int]:
    sides = {"height": side, "width": side, "threads": 2, "seed": 0}
    return {"c_in": c_in, "c_out": 40, "kernel": kernel, "stride": stride, "batch": batch} | sides


@each_instruction_set
@settings(max_examples=60)
@given(sizes=sizes, padded=st.booleans())
@example(sizes=sizes_of(33, 1), padded=True)
@example(sizes=sizes_of(33, 9, kernel=1), padded=False)
@example(sizes=sizes_of(1, 224, c_in=3), padded=True)
@example(sizes=sizes_of(2, 224, c_in=64, stride=2), padded=True)
def test_sums_of_a_binary_convolution_are_the_integers_of_the_float_one(
    instructions: str, sizes: dict[str, int], padded: bool
) -> None:
    kernel, height, width = sizes["kernel"], sizes["height"], sizes["width"]
    if not padded:
        height, width = max(height, kernel), max(width, kernel)
    draw = torch.Generator().manual_seed(sizes["seed"])
    weights = torch.randint(0, 2, (sizes["c_out"], sizes["c_in"], kernel, kernel), generator=draw) * 2.0 - 1
    x = torch.randint(-2, 3, (sizes["batch"], sizes["c_in"], height, width), generator=draw).float()  # zeros, too
    padding = kernel // 2 if padded else 0
    if min(height, width) + 2 * padding < kernel:
        return
    bits = torch.where(x >= 0, 1.0, -1.0)  # sign(0) = +1
    expected = F.conv2d(bits.double(), weights.double(), stride=sizes["stride"], padding=padding)
    one = unit(weights, stride=(sizes["stride"],) * 2, padding=(padding,) * 4)
    runner = PlanRunner(Plan(tuple(x.shape[1:]), (one,)))
    before = torch.get_num_threads()
    torch.set_num_threads(sizes["threads"])
    try:
        with forced(instructions):
            got = runner(x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(got.double(), expected)


@each_instruction_set
@settings(max_examples=15)
@given(st.integers(1, 2), st.integers(1, 11), st.integers(1, 11), st.integers(0, 99), st.sampled_from([256, 512]))
def test_an_mlp_block_samples_as_the_plain_one_on_every_map(
    instructions: str, batch: int, height: int, width: int, seed: int, channels: int
) -> None:
    torch.manual_seed(seed)
    with forced(instructions):
        same(nn.Sequential(unsettle(MLPBlock(channels, BINARY), seed)), torch.randn(batch, channels, height, width))


@each_instruction_set
@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.sampled_from([32, 64, 70, 160]), st.integers(0, 99))
def test_blocks_that_add_to_their_map_and_a_transition_give_the_plain_floats(
    instructions: str, pairs: int, height: int, width: int, channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    stage = nn.Sequential()
    for i in range(pairs):
        stage += nn.Sequential(DenseBlock(channels + 64 * i, BINARY), ImprovementBlock(channels + 64 * i + 64, BINARY))
    final = channels + 64 * pairs
    x = torch.randn(3, channels, height, width)
    with forced(instructions):
        same(unsettle(stage, seed), x)
        same(unsettle(nn.Sequential(*stage, Transition(final, 8)), seed), x, 2e-6)


@each_instruction_set
@settings(max_examples=15)
@given(st.sampled_from([8, 40, 64, 96]), st.integers(1, 2), st.booleans(), st.integers(1, 12), st.integers(0, 99))
def test_residual_units_in_a_row_give_the_plain_floats(
    instructions: str, channels: int, stride: int, wider: bool, size: int, seed: int
) -> None:
    torch.manual_seed(seed)
    after = 2 * channels if wider else channels
    units = nn.Sequential(
        spatial_half(channels, 1, BINARY),
        spatial_half(channels, stride, BINARY),
        pointwise_half(channels, after, BINARY),
    )
    with forced(instructions):
        same(unsettle(units, seed), torch.randn(3, channels, size, size + 1))


@each_instruction_set
def test_a_dynamic_threshold_is_one_for_each_image(instructions: str) -> None:
    torch.manual_seed(0)
    conv = DynamicConv(LowBitConv2d(48, 48, 3), DynamicEmbedding(48, 48, 4))
    unit = unsettle(BinaryUnit(nn.Identity(), conv, 48, RPReLU(48)), 1)
    with forced(instructions):
        same(nn.Sequential(unit), torch.randn(5, 48, 6, 7).contiguous(memory_format=torch.channels_last))


finite = st.floats(-(2.0**99), 2.0**99, width=32)


@given(finite, finite, st.lists(finite, max_size=5), st.integers(-2, 2))
@example(0.0, -1.0, [0.0], 0)
@example(1e-40, -1e-40, [1.0], 0)
@example(-1.0, 0.0, [0.0, 1e-45, -1e-45], 0)
def test_batch_normalization_and_sign_are_one_comparison(
    alpha: float, beta: float, others: list[float], steps: int
) -> None:
    threshold, falls = sign_threshold(torch.tensor([alpha]), torch.tensor([beta]))
    near = threshold.numpy().copy()
    for _ in range(abs(steps)):
        near = np.nextafter(near, np.float32(np.inf * np.sign(steps)))
    for x in [*others, float(near[0])]:
        if not np.isfinite(x):
            continue
        exact = Fraction(alpha) * Fraction(x) + Fraction(beta)
        # a negative value of less than half of the smallest float rounds to -0, whose sign is +1
        expected = exact >= 0 or exact >= -Fraction(1, 2**150)
        assert (bool(np.float32(x) >= threshold.numpy()[0]) ^ bool(falls)) == expected


@given(st.integers(0, 10**6))
def test_folded_batch_normalization_rounds_as_the_module(seed: int) -> None:
    bn = nn.BatchNorm2d(16)
    unsettle(bn, seed)
    x = torch.randn(2, 16, 3, 3, generator=torch.Generator().manual_seed(seed)) * 50
    alpha, beta = (values.double()[:, None, None] for values in fold(bn))
    with torch.inference_mode():
        assert torch.equal((x.double() * alpha + beta).float(), bn(x))


def test_what_has_not_the_size_of_the_unit_is_refused() -> None:
    runner = PlanRunner(Plan((8, 2, 2), (unit(torch.ones(4, 8, 1, 1)),)))
    with pytest.raises(BcdzooError, match="this plan is for images of 8×2×2, not 9×2×2"):
        runner(torch.zeros(1, 9, 2, 2))
    with pytest.raises(PlanError, match="the window is larger than the map"):
        PlanRunner(Plan((8, 2, 2), (unit(torch.ones(4, 8, 3, 3)),)))


def test_a_batch_of_none_gives_none() -> None:
    conv = PackedConv2d(LowBitConv2d(8, 4, 3).eval())
    assert conv(torch.zeros(0, 8, 5, 5)).shape == (0, 4, 5, 5)


@each_instruction_set
def test_the_peak_of_every_instruction_set_can_be_measured(instructions: str) -> None:
    with forced(instructions):
        assert 0 < peak(1) < math.inf
