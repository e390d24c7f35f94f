"""Every operation of a plan against torch's own functions and the zoo's layers."""

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.adabin import Maxout
from bcdzoo.layers.attention import BinaryAttention
from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.folding import fold, sign_threshold
from bcdzoo.layers.lowering import weight_planes
from bcdzoo.layers.padding import pad_same
from bcdzoo.layers.quantizers.abcnet import MultiBaseActivation, MultiBaseWeight
from bcdzoo.layers.quantizers.base import Levels
from bcdzoo.layers.quantizers.dorefa import DoReFaActivation, DoReFaWeight, PactActivation
from bcdzoo.layers.quantizers.fixed_point import FixedPointInput
from bcdzoo.layers.quantizers.lqnet import LearnedBasisActivation
from bcdzoo.layers.quantizers.rbnn import CentredSign
from bcdzoo.layers.quantizers.sign import RSign, Sign, sign
from bcdzoo.layers.shift import long_range, short_range
from bcdzoo.layers.unit import BinaryUnit, Duplicate, DynamicConv, HalvingPool
from bcdzoo.models.bcdnet import MLPBlock
from bcdzoo.models.meliusnet import DenseBlock, ImprovementBlock
from bcdzoo.models.realtobinary import ChannelGate, GatedUnit
from bcdzoo.plan.operations import END, KINDS, SHORTCUTS, Operation, PlanError, Real, Word, check_operation
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import RUN, fused, run
from tests.packed.unsettled import unsettle

SMALL = settings(max_examples=40, deadline=None)
SLIDING = {"stride": (1, 1), "padding": (0, 0, 0, 0), "same": 0, "pad_value": 0.0, "dilation": (1, 1), "groups": 1}
POOLING = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": 0, "count_padding": 1}
UNIT = SLIDING | {"samplings": ("none",), "activation_first": 0, "append": 0, "limit": math.inf}
sides = st.integers(1, 9)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def result(
    kind: str,
    inputs: Mapping[str, Tensor],
    fields: Mapping[str, Any] | None = None,
    constants: Mapping[str, Tensor | npt.NDArray[Any]] | None = None,
) -> Tensor:
    """What the reference gives: float32 of the shape that the check of the operation says."""
    arrays = {
        name: np.asarray(constant.detach()) if isinstance(constant, Tensor) else constant
        for name, constant in (constants or {}).items()
    }
    operation = Operation(kind, dict.fromkeys(inputs, 0), fields or {}, arrays)
    shape = check_operation(operation, {name: shape_of(value) for name, value in inputs.items()})
    with np.errstate(all="ignore"):
        got = RUN[kind](operation, **{name: value.detach().numpy() for name, value in inputs.items()})
    assert got.dtype == np.float32
    given = torch.from_numpy(np.ascontiguousarray(got))
    assert shape_of(given) == shape
    return given


def shape_of(value: Tensor) -> tuple[int, ...]:
    return (value.shape[0], *value.shape[2:]) if value.ndim == 5 else tuple(value.shape[1:])


def integers(*shape: int, seed: int = 0, most: int = 5) -> Tensor:
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def reals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def equal(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert torch.equal(got, expected), (got - expected).abs().max()


def close(got: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest number, because torch sums in float32."""
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected.detach(), rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_every_kind_has_a_reference() -> None:
    assert RUN.keys() == KINDS.keys()


def test_the_reference_needs_no_torch() -> None:
    code = "import sys, bcdzoo.plan.reference; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# Real-valued


@SMALL
@given(pairs, pairs, pairs, st.integers(1, 3), st.tuples(*[st.integers(0, 2)] * 4), sides, sides, st.booleans())
def test_a_convolution_of_integers_is_that_of_torch_in_every_geometry(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    padding: tuple[int, int, int, int],
    height: int,
    width: int,
    ones: bool,
) -> None:
    top, left, bottom, right = padding
    x, weight = integers(2, 2 * groups, height, width), integers(3 * groups, 2, *kernel, seed=1)
    padded = F.pad(x, (left, right, top, bottom), value=float(ones))
    if any(padded.shape[2 + i] < dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)):
        return
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "pad_value": float(ones)}
    got = result("conv", {"x": x}, SLIDING | geometry | {"relu": 0}, {"weight": weight})
    equal(got, F.conv2d(padded, weight, None, stride, 0, dilation, groups))


@SMALL
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 2), sides, sides)
def test_the_padding_same_is_that_of_tensorflow(
    kernel: int, stride: int, dilation: int, height: int, width: int
) -> None:
    x, weight = integers(2, 3, height, width), integers(4, 3, kernel, kernel, seed=1)
    padded = pad_same(x, dilation * (kernel - 1) + 1, stride, 1.0)
    geometry = {"stride": (stride, stride), "dilation": (dilation, dilation), "same": 1, "pad_value": 1.0, "relu": 0}
    got = result("conv", {"x": x}, SLIDING | geometry, {"weight": weight})
    equal(got, F.conv2d(padded, weight, None, stride, 0, dilation))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("relu", [0, 1])
def test_a_convolution_with_bias_normalization_and_relu_is_close_to_those_of_torch(groups: int, relu: int) -> None:
    conv, bn = nn.Conv2d(8, 12, 3, padding=1, groups=groups), nn.BatchNorm2d(12)
    network = unsettle(nn.Sequential(conv, bn, nn.ReLU() if relu else nn.Identity()), 3)
    x = reals(2, 8, 6, 5)
    alpha, beta = fold(bn)
    fields = SLIDING | {"padding": (1, 1, 1, 1), "groups": groups, "relu": relu}
    assert conv.bias is not None
    constants = {"weight": conv.weight, "bias": conv.bias}
    close(result("conv", {"x": x}, fields, constants | {"alpha": alpha, "beta": beta}), network(x))
    if not relu:
        close(result("conv", {"x": x}, fields, constants), conv(x))


def test_a_linear_layer_is_close_to_that_of_torch() -> None:
    linear = nn.Linear(40, 7)
    x = reals(3, 40)
    close(result("linear", {"x": x}, {}, {"weight": linear.weight, "bias": linear.bias}), linear(x))
    close(result("linear", {"x": x}, {}, {"weight": linear.weight}), F.linear(x, linear.weight))


floats = st.floats(-(2.0**60), 2.0**60, width=32)


def rounded(exact: Fraction) -> np.float32:
    """The nearest float32, of two the even one."""
    near = np.float32(float(exact))
    candidates = [near, *(np.nextafter(near, np.float32(way * np.inf)) for way in (-1, 1))]
    return min(candidates, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


@given(floats, floats, floats)
@example(1 + 2.0**-23, 1 - 2.0**-23, 2.0**24 + 2)  # float64 rounds it to a tie, which is not one
@example(-1 - 2.0**-23, 2.0**-24 - 2.0**-47, 1 + 2.0**-23)
@example(2.0**-24 + 2.0**-47, 1 - 2.0**-23, 1 + 2.0**-23)
@example(1e-30, 1e-14, 1e-45)
def test_a_product_and_a_sum_are_rounded_once(x: float, alpha: float, beta: float) -> None:
    got = fused(*(np.array([value], np.float32) for value in (x, alpha, beta)))
    assert got[0] == rounded(Fraction(x) * Fraction(alpha) + Fraction(beta))


@SMALL
@given(st.integers(0, 2**20))
def test_scale_and_shift_are_the_floats_of_batch_normalization(seed: int) -> None:
    bn = nn.BatchNorm2d(16)
    unsettle(bn, seed)
    alpha, beta = fold(bn)
    x = reals(2, 16, 5, 3, seed=seed) * 50
    equal(result("scale_shift", {"x": x}, {}, {"alpha": alpha, "beta": beta}), bn(x).detach())


def test_scale_and_shift_take_one_number_for_all_and_a_vector() -> None:
    bn = nn.BatchNorm1d(1)
    unsettle(bn, 0)
    alpha, beta = fold(bn)
    x = reals(3, 10)
    equal(result("scale_shift", {"x": x}, {}, {"alpha": alpha, "beta": beta}), bn(x[:, None]).detach()[:, 0])


@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (2, 6)])
def test_prelu_is_that_of_torch_and_of_the_layers(shape: tuple[int, ...]) -> None:
    x = integers(*shape) / 2
    slope = reals(6, seed=1)
    equal(result("prelu", {"x": x}, {}, {"slope": slope}), F.prelu(x, slope))
    equal(result("prelu", {"x": x}, {}, {"slope": slope[:1]}), F.prelu(x, slope[:1]))
    if len(shape) == 4:
        layer, maxout = RPReLU(6), Maxout(6)
        unsettle(nn.Sequential(layer, maxout), 2)
        constants = {name: getattr(layer, name) for name in ("shift_in", "slope", "shift_out")}
        equal(result("prelu", {"x": x}, {}, constants), layer(x).detach())
        constants = {"slope": maxout.negative, "positive": maxout.positive}
        equal(result("prelu", {"x": x}, {}, constants), maxout(x).detach())


def test_what_works_element_by_element_is_that_of_torch() -> None:
    x = torch.cat([integers(2, 3, 4, 5), reals(2, 3, 4, 5) * 30, torch.full((2, 3, 4, 5), -1e30)], dim=1)
    x[0, 0, 0, 0] = math.nan
    for low, high in [(-1.0, 1.0), (0.0, math.inf), (-math.inf, 2.5)]:
        got = result("clip", {"x": x}, {"low": low, "high": high})
        torch.testing.assert_close(got, x.clamp(low, high), rtol=0, atol=0, equal_nan=True)
    for name, tolerance in [("abs", 0), ("sign", 0), ("sigmoid", 1e-6), ("tanh", 1e-6)]:
        got = result("function", {"x": x}, {"name": name})
        torch.testing.assert_close(got, getattr(torch, name)(x), rtol=tolerance, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "shapes", [[(3, 4, 2, 5)] * 2, [(3, 4, 2, 5), (1, 4, 1, 1)], [(1, 1, 2, 5), (3, 4, 1, 1)], [(3, 4), (1, 1)]]
)
def test_two_values_are_broadcast_like_tensors(shapes: list[tuple[int, ...]]) -> None:
    a, b = reals(*shapes[0]), reals(*shapes[1], seed=1)
    equal(result("add", {"a": a, "b": b}), a + b)
    equal(result("subtract", {"a": a, "b": b}), a - b)
    equal(result("multiply", {"a": a, "b": b}), a * b)


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 4), st.integers(1, 4)), pairs, pairs, st.booleans(), st.booleans(), sides, sides)
def test_pooling_is_that_of_torch_also_at_the_edges(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil: bool,
    count: bool,
    height: int,
    width: int,
) -> None:
    padding = (min(padding[0] - 1, kernel[0] // 2), min(padding[1] - 1, kernel[1] // 2))
    if height + 2 * padding[0] < kernel[0] or width + 2 * padding[1] < kernel[1]:
        return
    x = -reals(2, 3, height, width).abs()
    fields = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": int(ceil), "count_padding": int(count)}
    expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
    equal(result("pool", {"x": x}, fields | {"name": "max"}), expected)
    expected = F.avg_pool2d(x, kernel, stride, padding, ceil, count)
    equal(result("pool", {"x": x}, fields | {"name": "average"}), expected)


def test_means_over_channels_and_pixels_are_close_to_those_of_torch() -> None:
    x = reals(2, 30, 7, 9) + 3
    for axes in [(0,), (1, 2), (0, 1, 2), (2,)]:
        dims = tuple(axis + 1 for axis in axes)
        for double in (0, 1):
            close(result("mean", {"x": x}, {"axes": axes, "double": double}), x.mean(dims, keepdim=True))


def test_a_context_is_the_gate_and_the_embedding_of_the_layers() -> None:
    gate, embedding = ChannelGate(16, 24).eval(), DynamicEmbedding(16, 24, 4).eval()
    x = reals(3, 16, 5, 7)
    constants = {"first": gate.reduce.weight, "second": gate.expand.weight}
    got = result("context", {"x": x}, {"hidden": "relu", "output": "sigmoid"}, constants)
    torch.testing.assert_close(got, gate(x).detach(), rtol=1e-6, atol=1e-7)
    for layer, expected in zip((embedding.threshold, embedding.offset), embedding.statistics(x), strict=True):
        constants = {"first": embedding.context.weight, "second": layer.weight}
        got = result("context", {"x": x}, {"hidden": "none", "output": "none"}, constants)
        torch.testing.assert_close(got[:, :, 0, 0], expected.detach(), rtol=1e-6, atol=1e-7)


# Arrangement


def test_maps_and_vectors_are_joined_cut_padded_and_reshaped_like_tensors() -> None:
    x, y, one = reals(2, 3, 4, 5), reals(2, 2, 4, 5, seed=1), reals(1, 1, 4, 5, seed=2)
    equal(result("concat", {"x0": x, "x1": y, "x2": one}), torch.cat([x, y, one.expand(2, -1, -1, -1)], dim=1))
    equal(result("concat", {"x0": x[:, :, 0, 0], "x1": y[:, :, 0, 0]}), torch.cat([x, y], dim=1)[:, :, 0, 0])
    equal(result("slice", {"x": x}, {"axis": 0, "start": 1, "stop": END, "step": 1}), x[:, 1:])
    equal(result("slice", {"x": x}, {"axis": 1, "start": 1, "stop": 4, "step": 2}), x[:, :, 1:4:2])
    equal(result("slice", {"x": x}, {"axis": 2, "start": 0, "stop": END, "step": 3}), x[..., ::3])
    got = result("pad", {"x": x}, {"before": (1, 2, 0), "behind": (4, 0, 3), "value": 0.1})
    equal(got, F.pad(x, (0, 3, 2, 0, 1, 4), value=0.1))
    got = result("replicate", {"x": x}, {"padding": (1, 2, 0, 3)})
    equal(got, F.pad(x, (2, 3, 1, 0), mode="replicate"))
    equal(result("reshape", {"x": x}, {"shape": (0,)}), x.flatten(1))
    equal(result("reshape", {"x": x.flatten(1)}, {"shape": (6, 0, 2)}), x.reshape(2, 6, 5, 2))
    equal(result("permute", {"x": x}, {"axes": (2, 0, 1)}), x.permute(0, 3, 1, 2))
    equal(result("stack", {"x0": x, "x1": x + 1}), torch.stack([x, x + 1]))
    equal(result("stack", {"x0": y, "x1": y[:1]}), torch.stack([y, y[:1].expand(2, -1, -1, -1)]))
    equal(result("fill", {"x": x}, {"value": -1.0}), torch.full((1, 3, 4, 5), -1.0))
    equal(result("upsample", {"x": x}, {"factor": (2, 3)}), F.interpolate(x, size=(8, 15), mode="nearest"))
    equal(result("add_map", {"x": x}, {}, {"map": x[1]}), x + x[1])


def test_attention_of_bits_is_that_of_the_layer() -> None:
    layer = BinaryAttention(24, 3)
    signs = {"query": layer.query, "key": layer.key, "value": layer.value}
    for number, shifted in enumerate(signs.values()):
        nn.init.constant_(shifted.bias, number / 10)
    query, key, value = reals(2, 24, 5, 4), reals(2, 24, 3, 2, seed=1), reals(2, 24, 3, 2, seed=2)
    thresholds = {f"{name}_threshold": -shifted.bias for name, shifted in signs.items()}
    for level in (0.05, 0.2, 0.6):
        nn.init.constant_(layer.level, level)
        got = result(
            "binary_attention",
            {"query": query, "key": key, "value": value},
            {"heads": 3, "divisor": 8**0.5},
            thresholds | {"level": layer.level.flatten()},
        )
        equal(got, layer(query, key, value).detach())
        assert got.unique().numel() > 2


def test_attention_weighs_alike_what_is_alike_and_leaves_out_what_is_less_than_half_a_level() -> None:
    """Of four keys two differ from the query in no channel, one in one and one in both."""
    query = torch.ones(1, 2, 1, 1)
    key = torch.tensor([[[[1.0, 1, 1, -1]], [[1, 1, -1, -1]]]])
    value = torch.tensor([[[[1.0, 1, -1, -1]], [[-1, 1, -1, -1]]]])
    thresholds = {f"{name}_threshold": torch.zeros(2) for name in ("query", "key", "value")}
    inputs = {"query": query, "key": key, "value": value}
    # softmax of 2, 2, 0 and -2 is 0.46, 0.46, 0.06 and 0.01
    for level, seen in ((0.9, 2), (0.1, 3), (0.001, 4), (1.0, 0)):
        got = result(
            "binary_attention", inputs, {"heads": 1, "divisor": 1.0}, thresholds | {"level": torch.tensor([level])}
        )
        equal(got, torch.tensor(level) * value[..., :seen].sum(3, keepdim=True))


@SMALL
@given(st.integers(1, 3), sides, sides)
def test_quarters_are_shifted_as_the_layers_do(quarter: int, height: int, width: int) -> None:
    x = reals(2, 4 * quarter, height, width)
    equal(result("shift_quarters", {"x": x}, {"sampling": "short-range"}), short_range(x))
    equal(result("shift_quarters", {"x": x}, {"sampling": "long-range"}), long_range(x))


# Of few bits


def test_binarized_values_are_the_signs_of_the_zoo() -> None:
    x = integers(2, 4, 3, 5) / 2
    layer = RSign(4)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0, 0.5, -1.0, 0.3]))
    equal(result("binarize", {"x": x}, {}, {"threshold": -layer.bias}), layer(x).detach())
    equal(result("binarize", {"x": x[:, :, 0, 0]}, {}, {"threshold": -layer.bias}), layer(x)[:, :, 0, 0].detach())
    equal(result("binarize", {"x": x}, {}, {"threshold": torch.zeros(1)}), sign(x))
    given = integers(2, 4, 1, 1, seed=1)
    equal(result("binarize", {"x": x, "threshold": given}), sign(x - given))
    equal(result("binarize", {"x": x, "threshold": given[:, :1]}), sign(x - given[:, :1]))
    equal(result("binarize", {"x": x[:, :, 0, 0], "threshold": given}), sign(x - given)[:, :, 0, 0])
    nothing = torch.full((1, 1), math.nan)
    assert result("binarize", {"x": nothing}, {}, {"threshold": torch.zeros(1)}) == -1
    falls = {"threshold": torch.zeros(1), "falls": torch.ones(1)}
    assert result("binarize", {"x": nothing}, {}, falls) == 1


@SMALL
@given(st.integers(0, 2**20))
def test_a_sign_that_falls_is_that_of_batch_normalization_with_a_negative_slope(seed: int) -> None:
    bn = nn.BatchNorm2d(16)
    unsettle(bn, seed)
    x = integers(2, 16, 4, 4, seed=seed)
    threshold, falls = sign_threshold(*fold(bn))
    equal(result("binarize", {"x": x}, {}, {"threshold": threshold, "falls": falls.float()}), sign(bn(x).detach()))


def test_quantized_levels_are_those_of_the_layers() -> None:
    x = torch.cat([reals(2, 3, 16, 16), integers(2, 3, 16, 16) / 6], dim=1)
    for bits in (1, 2, 4):
        steps = 2**bits - 1
        fields = {"low": 0.0, "high": 1.0, "step": float(steps), "divide": 0, "offset": 0, "bits": bits}
        equal(result("quantize", {"x": x}, fields), DoReFaActivation(bits)(x).values)
        pact = PactActivation(bits)
        with torch.no_grad():
            pact.clip.fill_(0.7)
        fields |= {"high": pact.clip.item(), "step": (pact.clip / steps).item(), "divide": 1}
        equal(result("quantize", {"x": x}, fields), pact(x).values.detach())
    fields = {"low": -1.0, "high": 127 / 128, "step": 128.0, "divide": 0, "offset": 128, "bits": 8}
    equal(result("quantize", {"x": x}, fields), FixedPointInput(8)(x).values)


@SMALL
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=4, unique=True), st.integers(0, 2**20))
def test_encoded_bits_add_up_to_the_nearest_sum_of_the_basis(basis: list[float], seed: int) -> None:
    x = reals(2, 3, 4, 4, seed=seed) * 2
    bits = result("encode", {"x": x}, {}, {"basis": torch.tensor(basis)})
    codes = (torch.arange(2 ** len(basis))[:, None] >> torch.arange(len(basis))) & 1
    sums = codes.double() @ torch.tensor(basis).double()
    got = (bits.double() * torch.tensor(basis).double().view(-1, 1, 1, 1, 1)).sum(0)
    best = (x.double()[..., None] - sums).abs().min(-1).values
    torch.testing.assert_close((x - got).abs(), best, rtol=0, atol=1e-6)


def test_the_lower_of_two_sums_of_a_basis_that_are_as_near_is_encoded() -> None:
    x = torch.tensor([0.5, 1.5, 2.5]).view(1, 3, 1, 1)
    bits = result("encode", {"x": x}, {}, {"basis": torch.tensor([1.0, 2.0])})
    assert (bits[0] + 2 * bits[1]).flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_encoded_bits_are_those_of_the_layer(bits: int) -> None:
    layer = LearnedBasisActivation(bits).eval()
    layer.basis.mul_(torch.linspace(0.7, 1.2, bits))
    x = reals(2, 3, 16, 16)
    equal(result("encode", {"x": x}, {}, {"basis": layer.basis}), layer(x).values)


def low_bit(conv: LowBitConv2d, x: Tensor | Levels) -> Tensor:
    """The operation of a convolution."""
    levels, scale = conv.quantizer(conv.weight)
    bits = weight_planes(levels, conv.w_bits)
    kernel = tuple(levels.shape[2:])
    fields = SLIDING | geometry(conv) | {"kernel": kernel, "w_bases": conv.w_bases, "a_bits": conv.a_bits}
    values, a_scale = x if isinstance(x, Levels) else (x, torch.ones(1))
    return result("low_bit_conv", {"x": values}, fields, {"planes": bits, "scale": scale, "a_scale": a_scale})


def geometry(conv: LowBitConv2d) -> dict[str, Any]:
    return {
        "stride": (conv.stride,) * 2,
        "padding": (conv.padding,) * 4,
        "same": int(conv.same_padding),
        "pad_value": conv.pad_value,
        "dilation": (conv.dilation,) * 2,
        "groups": conv.groups,
    }


@SMALL
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 1.0, -1.0]),
    st.sampled_from(["symmetric", "tensorflow"]),
    sides,
)
def test_a_binary_convolution_is_that_of_the_zoo_in_every_geometry(
    kernel: int, stride: int, dilation: int, groups: int, pad_value: float, padding: str, side: int
) -> None:
    conv = LowBitConv2d(
        69, 6, kernel, stride, padding=padding, pad_value=pad_value, dilation=dilation, groups=groups
    ).eval()
    if side + 2 * conv.padding < conv.extent and not conv.same_padding:
        return
    x = sign(reals(2, 69, side, side + 2))
    equal(low_bit(conv, x), conv(x).detach())


@pytest.mark.parametrize("bases", [(1, 2), (2, 1), (3, 3), (5, 5), (4, 7)])
@pytest.mark.parametrize("groups", [1, 2])
def test_bases_are_summed_as_in_the_zoo(bases: tuple[int, int], groups: int) -> None:
    m, n = bases  # from five on, torch's order depends on the memory: it is the sequence where vectors are full
    weight = MultiBaseWeight(m) if m > 1 else None
    conv = LowBitConv2d(70, 64, 3, quantizer=weight, a_bases=n, groups=groups).eval()
    x = reals(2, 70, 8, 8)
    activations = sign(x)
    if n > 1:
        layer = MultiBaseActivation(n)
        with torch.no_grad():
            layer.beta.copy_(reals(n, seed=4))
        activations = layer(x)
    equal(low_bit(conv, activations), conv(activations).detach())


def test_each_image_has_the_weights_of_its_highest_score() -> None:
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, 1.0], [0.0, math.nan, 9.0], [0.0, -1.0, 0.5]])
    x, scale, weight = sign(reals(4, 70, 5, 6)), reals(3, 8), sign(reals(3, 8, 35, 3, 3, seed=2))
    of_images = scores.argmax(1)
    expected = torch.cat(
        [F.conv2d(x[i : i + 1], weight[e], None, 2, 1, 1, 2) * scale[e, :, None, None] for i, e in enumerate(of_images)]
    )
    fields = SLIDING | {"stride": (2, 2), "padding": (1, 1, 1, 1), "groups": 2, "kernel": (3, 3)}
    constants = {"planes": weight_planes(weight.flatten(0, 1), 1), "scale": scale.flatten()}
    of_levels = {"a_scale": torch.ones(1)} | constants
    equal(result("low_bit_conv", {"x": x, "scores": scores}, fields | {"w_bases": 1, "a_bits": 1}, of_levels), expected)
    one = {"threshold": torch.zeros(70)} | constants | {"planes": of_levels["planes"][0]}
    behind = {"samplings": ("none",), "shortcut": "none", "activation_first": 0, "append": 0, "limit": math.inf}
    equal(result("binary_unit", {"x": x, "scores": scores[:, :, None, None]}, fields | behind, one), expected)


@pytest.mark.parametrize("bits", [(2, 2), (4, 4), (2, 1), (1, 3)])
@pytest.mark.parametrize("pad_value", [0.0, 2.0])
def test_weights_and_activations_of_several_bits_are_those_of_the_zoo(bits: tuple[int, int], pad_value: float) -> None:
    w_bits, a_bits = bits
    weight = DoReFaWeight(w_bits) if w_bits > 1 else None
    conv = LowBitConv2d(70, 8, 3, 2, weight, a_bits, pad_value=pad_value).eval()
    x = reals(2, 70, 6, 5)
    activations = sign(x) if a_bits == 1 else DoReFaActivation(a_bits)(x)
    equal(low_bit(conv, activations), conv(activations).detach())


# Units


def convolution(*convs: LowBitConv2d, falls: Tensor | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields and constants of a unit's binary convolutions."""
    quantized = [conv.quantizer(conv.weight) for conv in convs]
    turn = torch.ones(1) if falls is None else torch.where(falls, -1, 1)
    bits = np.concatenate([weight_planes(levels * turn[:, None, None], 1)[0].numpy() for levels, _ in quantized])
    fields = UNIT | geometry(convs[0]) | {"kernel": tuple(convs[0].weight.shape[2:])}
    return fields, {"planes": bits, "scale": torch.cat([scale for _, scale in quantized])}


def normalization(bn: nn.BatchNorm2d) -> dict[str, Tensor]:
    return dict(zip(("alpha", "beta"), fold(bn), strict=True))


def rprelu(activation: RPReLU) -> dict[str, Tensor]:
    return {name: getattr(activation, name) for name in ("shift_in", "slope", "shift_out")}


@pytest.mark.parametrize("side", [1, 6, 7])
@pytest.mark.parametrize(
    ("name", "shortcut", "c_out", "kernel", "stride"),
    [
        ("same", None, 72, 3, 1),
        ("average-pool", HalvingPool(), 72, 3, 2),
        ("duplicate", Duplicate(), 144, 1, 1),
        ("given", nn.Conv2d(72, 40, 1, 2), 40, 5, 2),
    ],
)
@pytest.mark.parametrize("end", ["rprelu", "prelu", "limit", "nothing"])
def test_a_binary_unit_gives_the_floats_of_the_zoo(
    name: str, shortcut: nn.Module | None, c_out: int, kernel: int, stride: int, end: str, side: int
) -> None:
    activations = {"rprelu": RPReLU(c_out), "prelu": nn.PReLU(c_out), "limit": nn.Hardtanh(-1.5, 1.5)}
    activation, inner = activations.get(end), nn.PReLU(c_out) if end == "limit" else None
    conv = LowBitConv2d(72, c_out, kernel, stride)
    rsign = RSign(72)
    unit = BinaryUnit(rsign, conv, c_out, activation, shortcut, inner)
    unsettle(unit, side)
    fields, constants = convolution(conv)
    constants |= normalization(unit.bn) | {"threshold": -rsign.bias}
    if isinstance(activation, RPReLU):
        constants |= rprelu(activation)
    elif isinstance(activation, nn.PReLU):
        constants["slope"] = activation.weight
    elif inner is not None:
        constants["inner_slope"] = inner.weight
        fields["limit"] = 1.5
    x = reals(3, 72, side, side + 1)
    inputs = {"x": x} | ({"shortcut": unit.shortcut(x).detach()} if name == "given" else {})
    equal(result("binary_unit", inputs, fields | {"shortcut": name}, constants), unit(x).detach())


def test_a_unit_of_a_convolution_alone_is_the_convolution() -> None:
    conv = LowBitConv2d(69, 6, 3, 2, groups=3, dilation=2, pad_value=1.0).eval()
    x = reals(2, 69, 8, 7)
    fields, constants = convolution(conv)
    got = result("binary_unit", {"x": x}, fields | {"shortcut": "none"}, constants | {"threshold": torch.zeros(69)})
    equal(got, conv(sign(x)).detach())


@pytest.mark.parametrize("size", [(7, 7), (1, 1), (2, 5)])
def test_an_mlp_block_gives_the_floats_of_the_zoo(size: tuple[int, int]) -> None:
    block: Any = MLPBlock(68, Quantizers())
    assert isinstance(block.sign, RSign)  # whose bias is the threshold
    unsettle(block, 5)
    fields, constants = convolution(block.local, block.short, block.long)
    constants |= normalization(block.bn) | rprelu(block.activation) | {"threshold": -block.sign.bias}
    fields |= {"samplings": ("none", "short-range", "long-range"), "shortcut": "same"}
    x = reals(2, 68, *size)
    equal(result("binary_unit", {"x": x}, fields, constants), block(x).detach())


@pytest.mark.parametrize("kind", [DenseBlock, ImprovementBlock])
def test_a_block_that_adds_to_its_map_gives_the_floats_of_the_zoo(kind: type[DenseBlock | ImprovementBlock]) -> None:
    block = kind(100, Quantizers())
    unsettle(block, 6)
    threshold, falls = sign_threshold(*fold(block.bn))
    assert falls.any()
    fields, constants = convolution(block.conv, falls=falls)
    appends = kind is DenseBlock
    fields |= {"shortcut": "none" if appends else "same", "append": int(appends)}
    x = integers(2, 100, 5, 6) / 2
    got = result("binary_unit", {"x": x}, fields, constants | {"threshold": threshold})
    equal(got, block(x).detach())


@pytest.mark.parametrize(("stride", "shortcut"), [(1, None), (2, HalvingPool())])
def test_a_gated_unit_with_its_gate_is_close_to_that_of_the_zoo(stride: int, shortcut: nn.Module | None) -> None:
    unit = GatedUnit(64, 64, stride, shortcut, Quantizers(), "tensorflow")
    unsettle(unit, 7)
    x = reals(3, 64, 7, 6)
    alpha, beta = fold(unit.bn)
    threshold, falls = sign_threshold(alpha, beta)
    normal = result("scale_shift", {"x": x}, {}, {"alpha": alpha, "beta": beta})
    weights = {"first": unit.gate.reduce.weight, "second": unit.gate.expand.weight}
    gate = result("context", {"x": normal}, {"hidden": "relu", "output": "sigmoid"}, weights)
    fields, constants = convolution(unit.conv, falls=falls)
    fields |= {"shortcut": "same" if shortcut is None else "average-pool", "activation_first": 1}
    constants |= {"threshold": threshold, "slope": unit.activation.weight}
    close(result("binary_unit", {"x": x, "gate": gate}, fields, constants), unit(x))
    with torch.no_grad():  # the unit itself, of torch's gate, to the last bit
        exact = {"x": x, "gate": unit.gate(unit.bn(x))}
        equal(result("binary_unit", exact, fields, constants), unit(x))


def test_thresholds_and_offsets_of_each_image_give_the_floats_of_the_zoo() -> None:
    embedding = DynamicEmbedding(48, 48, 4)
    dynamic = BinaryUnit(nn.Identity(), DynamicConv(LowBitConv2d(48, 48, 3), embedding), 48, RPReLU(48))
    centred = BinaryUnit(CentredSign(), LowBitConv2d(48, 48, 3), 48)
    unsettle(nn.Sequential(dynamic, centred), 8)
    x = reals(3, 48, 6, 7) + 1
    with torch.no_grad():
        threshold, offset = (values[:, :, None, None] for values in embedding.statistics(x))
        fields, constants = convolution(dynamic.conv.conv)  # type: ignore[arg-type]
        constants |= normalization(dynamic.bn) | rprelu(dynamic.activation)  # type: ignore[arg-type]
        inputs = {"x": x, "threshold": threshold, "offset": offset}
        equal(result("binary_unit", inputs, fields | {"shortcut": "same"}, constants), dynamic(x))
        fields, constants = convolution(centred.conv)  # type: ignore[arg-type]
        inputs = {"x": x, "threshold": result("mean", {"x": x}, {"axes": (0, 1, 2), "double": 1})}
        constants |= normalization(centred.bn)
        equal(result("binary_unit", inputs, fields | {"shortcut": "same"}, constants), centred(x))


@pytest.mark.parametrize("first", [0, 1])
def test_what_follows_a_convolution_comes_in_its_order(first: int) -> None:
    conv, activation = LowBitConv2d(70, 8, 3).eval(), RPReLU(8)
    bn, inner = nn.BatchNorm2d(8), nn.PReLU(8)
    unsettle(nn.Sequential(activation, bn, inner), 3)
    x, shortcut = reals(2, 70, 5, 6), reals(2, 8, 5, 6, seed=1)
    gate, offset = reals(2, 8, 1, 1, seed=2), reals(1, 8, 1, 1, seed=3)
    fields, constants = convolution(conv)
    fields |= {"shortcut": "given", "activation_first": first, "limit": 1.25}
    constants |= normalization(bn) | rprelu(activation) | {"inner_slope": inner.weight, "threshold": torch.zeros(70)}
    got = result("binary_unit", {"x": x, "shortcut": shortcut, "gate": gate, "offset": offset}, fields, constants)
    v = bn(inner(conv(sign(x)) * gate + offset))
    v = activation(v) + shortcut if first else activation(v + shortcut)
    equal(got, v.detach().clamp(-1.25, 1.25))


def test_one_image_that_stands_for_all_takes_part_in_a_unit() -> None:
    conv = LowBitConv2d(8, 4, 3).eval()
    fields, constants = convolution(conv)
    one, thresholds = reals(1, 8, 5, 5), reals(3, 8, 1, 1, seed=1)
    fields |= {"shortcut": "none", "append": 1}
    got = result("binary_unit", {"x": one, "threshold": thresholds}, fields, constants)
    equal(got, torch.cat([one.expand(3, -1, -1, -1), conv(sign(one - thresholds)).detach()], dim=1))


# All kinds


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_passes_the_check_runs_and_gives_the_shape_that_the_check_says(kind: str) -> None:
    draw = np.random.default_rng(0)
    passed = 0
    for _ in range(3000):
        inputs, operation = random_operation(kind, draw)
        try:
            check_operation(operation, {name: shape_of(value) for name, value in inputs.items()})
        except PlanError:
            continue
        result(kind, inputs, operation.fields, operation.constants)
        passed += 1
        if passed == 60:
            return
    assert passed >= 10, "the draw hits too little"


def random_operation(kind: str, draw: np.random.Generator) -> tuple[dict[str, Tensor], Operation]:
    """An operation of small random numbers, which may or may not fit together."""
    made = KINDS[kind]
    channels, rank = int(draw.choice([1, 4, 4, 6])), int(draw.choice([1, 3, 3, 4] if kind != "binary_unit" else [3]))
    shape = {1: (2, channels), 3: (2, channels, 6, 7), 4: (3, 2, channels, 6, 7)}[rank]
    names = [f"x{i}" for i in range(draw.integers(1, 4))] if made.inputs == ("*",) else made.inputs
    inputs = {}
    for name in names:
        if name.endswith("?"):
            if draw.random() < 0.5:
                continue
            few = draw.integers(1, 3), draw.choice([1, channels]), 1, 1
            inputs[name[:-1]] = reals(*map(int, few if name != "shortcut?" else shape))
        else:
            inputs[name] = reals(*shape)
    plain: dict[str, Any] = SLIDING if draw.random() < 0.7 else {}
    fields = {name: plain.get(name, random_field(field, draw)) for name, field in made.fields.items()}
    if kind == "binary_unit":  # most of its numbers have to fit together
        fields["shortcut"] = "given" if "shortcut" in inputs else str(draw.choice(SHORTCUTS[:-1]))
        fields["kernel"] = (1, 1) if draw.random() < 0.7 else fields["kernel"]
    taps, branches = math.prod(fields.get("kernel", (1, 1))), len(fields.get("samplings", (1,)))
    c_out = int(draw.choice([1, channels, 2 * channels]))
    rows = c_out * branches
    fitting = {"planes": (rows, taps, 1), "scale": (rows,), "threshold?": (channels,)} if kind == "binary_unit" else {}
    constants = {}
    for name, dimensions in made.constants.items():
        if name.endswith("?") and (draw.random() < 0.5 or name[:-1] in inputs):
            continue
        sizes = [int(draw.choice([1, 2, channels, 2 * channels])) for _ in range(dimensions)]
        if name == "planes":
            sizes[-2:] = [taps, 1]
        if name == "map":
            sizes = [channels, 6, 7]
        if kind == "binary_attention":
            sizes = [1 if name == "level" else channels]
        if kind == "binary_unit":
            sizes = list(fitting.get(name, (c_out,)))
        numbers = draw.integers(0, 2**64, sizes, np.uint64) if name == "planes" else draw.normal(size=sizes)
        constants[name.rstrip("?")] = numbers if name == "planes" else numbers.astype(np.float32)
    return inputs, Operation(kind, dict.fromkeys(inputs, 0), fields, constants)


def random_field(field: Any, draw: np.random.Generator) -> Any:
    def one() -> Any:
        if isinstance(field, Word):
            return str(draw.choice(field.words))
        if isinstance(field, Real):
            return float(draw.choice([-1.0, 0.0, 0.5, 1.0, math.inf]))
        return int(draw.integers(field.least, min(field.most, field.least + 2) + 1))

    count = getattr(field, "count", 0) or -int(getattr(field, "several", False))
    if not count:
        return one()
    return tuple(one() for _ in range(count if count > 0 else int(draw.integers(1, 4))))


# Plans


def small_network() -> tuple[nn.Module, Plan]:
    """Stem with pooling, a unit, another that halves the map, global pooling and a linear classifier."""
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    first = BinaryUnit(Sign(), LowBitConv2d(16, 16, 3), 16, RPReLU(16))
    second = BinaryUnit(Sign(), LowBitConv2d(16, 16, 3, 2), 16, None, HalvingPool())
    head = nn.Linear(16, 5)
    network = nn.Sequential(*stem, first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    unsettle(network, 1)
    zero = {"threshold": torch.zeros(16)}
    parts: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (
            "conv",
            SLIDING | {"stride": (2, 2), "padding": (1, 1, 1, 1), "relu": 1},
            {"weight": stem[0].weight} | normalization(stem[1]),
        ),
        ("pool", POOLING | {"name": "max", "kernel": (3, 3), "padding": (1, 1)}, {}),
    ]
    for unit, shortcut in (first, "same"), (second, "average-pool"):
        fields, constants = convolution(unit.conv)  # type: ignore[arg-type]
        activation = rprelu(unit.activation) if isinstance(unit.activation, RPReLU) else {}
        constants |= normalization(unit.bn) | activation | zero
        parts.append(("binary_unit", fields | {"shortcut": shortcut}, constants))
    parts += [
        ("mean", {"axes": (1, 2), "double": 0}, {}),
        ("reshape", {"shape": (0,)}, {}),
        ("linear", {}, {"weight": head.weight, "bias": head.bias}),
    ]
    operations = tuple(
        Operation(
            kind, {"x": i}, fields, {name: np.asarray(torch.as_tensor(c).detach()) for name, c in constants.items()}
        )
        for i, (kind, fields, constants) in enumerate(parts)
    )
    return network, Plan((3, 32, 32), operations)


@pytest.mark.parametrize("size", [(32, 32), (25, 38)])
def test_a_plan_gives_the_logits_of_its_network_for_images_of_any_size(size: tuple[int, int]) -> None:
    network, plan = small_network()
    images = reals(4, 3, *size)
    logits = run(plan, images.numpy())
    close(torch.from_numpy(logits), network(images))
    for i in range(len(images)):
        one = run(plan, images[i : i + 1].numpy())
        np.testing.assert_allclose(one[0], logits[i], rtol=1e-6)


def test_a_plan_refuses_images_that_do_not_fit() -> None:
    _, plan = small_network()
    images = reals(1, 3, 8, 8).numpy()
    broken = images.copy()
    broken[0, 0, 0, 0] = np.nan
    for wrong in (images.astype(np.float64), images[0], images[:0], broken, broken * np.inf, None):
        with pytest.raises(PlanError, match="finite float32"):
            run(plan, wrong)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="operation 0"):
        run(plan, images[:, :2])


def test_logits_that_no_image_changes_are_those_of_every_image() -> None:
    steps = Operation("fill", {"x": 0}, {"value": 2.0}), Operation("reshape", {"x": 1}, {"shape": (0,)})
    logits = run(Plan((1, 1, 3), steps), reals(4, 1, 1, 3).numpy())
    np.testing.assert_array_equal(logits, np.full((4, 3), 2, np.float32))


def test_values_are_released_after_their_last_use() -> None:
    steps = [Operation("add", {"a": i, "b": i}) for i in range(30)]
    steps += [
        Operation("mean", {"x": 30}, {"axes": (1, 2), "double": 1}),
        Operation("reshape", {"x": 31}, {"shape": (0,)}),
    ]
    images = reals(1, 4, 128, 128).numpy()
    tracemalloc.start()
    try:
        run(Plan((4, 128, 128), tuple(steps)), images)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * images.nbytes
