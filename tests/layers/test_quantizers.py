"""The papers' quantizers: levels on their lattice, gradients by their formulas, and peers' own figures.

``peers/*.json`` holds what other people's code gave, forward and backward, for the tensors of :func:`given`.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.abcnet import MultiBaseActivation, MultiBaseWeight, least_squares
from bcdzoo.layers.quantizers.base import Levels, WeightQuantizer, set_training_progress, start_epoch
from bcdzoo.layers.quantizers.biper import WaveWeight
from bcdzoo.layers.quantizers.dorefa import DoReFaActivation, DoReFaSign, DoReFaWeight, PactActivation
from bcdzoo.layers.quantizers.irnet import BalancedWeight, DecayingEstimator, decaying_sign, standardized
from bcdzoo.layers.quantizers.lqnet import LearnedBasisActivation, LearnedBasisWeight, encode
from bcdzoo.layers.quantizers.rbnn import CentredSign, RotatedWeight, triangle_sign
from bcdzoo.layers.quantizers.sign import Sign, SignWeight, sign, sign_straight_through
from bcdzoo.layers.quantizers.siman import MagnitudeWeight
from bcdzoo.layers.quantizers.slb import SearchedWeight
from bcdzoo.layers.quantizers.xnornet import InputScale, XnorWeight
from bcdzoo.models.rbnn import rbnn_r18
from bcdzoo.models.slb import calibrate, slb_r18_w1a1

SHAPE = (8, 6, 3, 3)


def given(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """Tensors that the peers' figures are of: seed 0 a weight, 1 a map, 2 and 3 the gradients from above of both."""
    values = np.random.RandomState(seed).standard_normal(shape) * scale
    return torch.from_numpy(values.astype(np.float32))


WEIGHT, MAP = given(0, SHAPE, 0.3), given(1, (2, 6, 5, 5))
WEIGHT_GRADIENT, MAP_GRADIENT = given(2, SHAPE), given(3, (2, 6, 5, 5))


def peer(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(__file__).parent / "peers" / f"{name}.json").read_text())
    return {key: torch.tensor(value) if isinstance(value, list) else value for key, value in content.items()}


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.flatten(), theirs.to(ours.dtype), atol=2e-6, rtol=2e-6)


def scaled(quantizer: WeightQuantizer, weight: Tensor) -> Tensor:
    """The weight that a convolution multiplies by, levels and scale together."""
    levels, scale = quantizer(weight)
    product: Tensor = levels * scale[:, None, None, None]
    return product


def value(levels: Levels) -> Tensor:
    return torch.einsum("n...,n->...", levels.values, levels.scale)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, from_above: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (result,) = torch.autograd.grad(function(x), x, from_above)
    return result


WEIGHTS: dict[str, tuple[Callable[[], WeightQuantizer], set[float]]] = {
    "sign": (SignWeight, {-1, 1}),
    "XNOR-Net": (XnorWeight, {-1, 1}),
    "IR-Net": (BalancedWeight, {-1, 1}),
    "RBNN": (lambda: RotatedWeight(SHAPE), {-1, 1}),
    "SLB": (SearchedWeight, {-1, 1}),
    "LQ-Net": (lambda: LearnedBasisWeight(SHAPE), {-1, 1}),
    "DoReFa": (lambda: DoReFaWeight(2), {-3, -1, 1, 3}),
    "ABC-Net": (lambda: MultiBaseWeight(5), {-1, 1}),
}
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], set[float], int, int]] = {
    "DoReFa": (lambda: DoReFaActivation(2), {0, 1, 2, 3}, 2, 1),
    "PACT": (lambda: PactActivation(8), set(range(256)), 8, 1),
    "LQ-Net": (lambda: LearnedBasisActivation(2), {0, 1}, 2, 1),
    "ABC-Net": (lambda: MultiBaseActivation(5), {-1, 1}, 1, 5),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_lie_on_their_lattice_and_every_level_is_used(name: str) -> None:
    make, lattice = WEIGHTS[name]
    torch.manual_seed(0)
    quantizer = make().eval()
    levels, scale = quantizer(quantizer.latent(SHAPE))
    assert set(levels.unique().tolist()) == lattice
    assert len(lattice) == 2**quantizer.w_bits
    assert levels.shape == (quantizer.bases * 8, 6, 3, 3)
    assert scale.shape == (quantizer.bases * 8,)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_lie_on_their_lattice(name: str) -> None:
    make, lattice, bits, bases = ACTIVATIONS[name]
    out = make().eval()(3 * MAP)
    seen = set(out.values.unique().tolist())
    assert seen <= lattice and (min(seen), max(seen)) == (min(lattice), max(lattice))
    assert out.values.shape[1:] == MAP.shape
    assert len(value(out).unique()) <= 2 ** (bits * bases)


@pytest.mark.parametrize("name", ["DoReFa", "PACT", "LQ-Net"])
def test_quantizing_an_activation_twice_is_quantizing_it_once(name: str) -> None:
    quantizer = ACTIVATIONS[name][0]().eval()
    once = value(quantizer(MAP))
    torch.testing.assert_close(value(quantizer(once)), once)
    assert len(once.unique()) > 3


@pytest.mark.parametrize("name", ["sign", "LQ-Net"])
def test_quantizing_a_weight_twice_is_quantizing_it_once(name: str) -> None:
    quantizer = WEIGHTS[name][0]().eval()
    once = scaled(quantizer, WEIGHT)
    torch.testing.assert_close(scaled(quantizer, once), once)


@pytest.mark.parametrize("activation", ["real", "1 bit", *ACTIVATIONS])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_one_convolution_serves_every_pair_of_quantizers(weights: str, activation: str) -> None:
    torch.manual_seed(0)
    quantizer = WEIGHTS[weights][0]()
    x: Tensor | Levels = MAP.double()
    a_bits, a_bases = 32, 1
    if activation == "1 bit":
        x, a_bits = sign(MAP.double()), 1
    elif activation != "real":
        make, _, a_bits, a_bases = ACTIVATIONS[activation]
        x = make().double().eval()(MAP.double())
    conv = LowBitConv2d(6, 8, 3, 2, quantizer, a_bits, a_bases).double().eval()
    out = conv(x)
    levels, scale = conv.quantizer(conv.weight)
    weight = (levels * scale[:, None, None, None]).unflatten(0, (quantizer.bases, 8)).sum(0)
    expected = F.conv2d(value(x) if isinstance(x, Levels) else x, weight, stride=2, padding=1)
    torch.testing.assert_close(out, expected)
    macs = 54 * 2 * 8 * 9
    kinds = (
        {"mac": macs * quantizer.bases}
        if a_bits == 32
        else {"binary_mac": macs * quantizer.w_bits * quantizer.bases * a_bits * a_bases}
    )
    assert conv.op_counts((), out) == kinds


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_low_bit_sums_are_exact_so_that_a_batch_changes_no_bit(name: str) -> None:
    make, _, a_bits, a_bases = ACTIVATIONS[name]
    torch.manual_seed(0)
    conv = LowBitConv2d(64, 64, 3, 1, MultiBaseWeight(5) if a_bases > 1 else SignWeight(), a_bits, a_bases)
    quantizer = make().eval()
    x = torch.randn(6, 64, 14, 14)
    with torch.inference_mode():
        together = conv(quantizer(x))
        assert torch.equal(conv(quantizer(x[:1])), together[:1])


def derivative(surrogate: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-6) -> Tensor:
    """By finite differences."""
    return ((surrogate(x + step) - surrogate(x - step)) / (2 * step)).detach()


def triangle(x: Tensor, k: float, t: float) -> Tensor:
    """RBNN's F (section 3.4), whose derivative is the gradient: a quadratic up to |x| = √2/t, constant beyond."""
    end = math.sqrt(2) / t
    inside = k * (math.sqrt(2) * t * x - sign(x) * t**2 * x**2 / 2)
    return torch.where(x.abs() < end, inside, k * sign(x))


@pytest.mark.parametrize(
    ("quantized", "surrogate"),
    [
        (sign_straight_through, lambda x: x.clamp(-1, 1)),
        (lambda x: decaying_sign(x, 0.1), lambda x: 10 * torch.tanh(0.1 * x)),
        (lambda x: decaying_sign(x, 3.0), lambda x: torch.tanh(3 * x)),
        (lambda x: triangle_sign(x, 1.0, 1.5), lambda x: triangle(x, 1.0, 1.5)),
        (lambda x: triangle_sign(x, 4.0, 0.25), lambda x: triangle(x, 4.0, 0.25)),
        (lambda x: value(DoReFaActivation(2)(x)), lambda x: x.clamp(0, 1)),
        (lambda x: value(PactActivation(8)(x)), lambda x: x.clamp(0, 1)),
        (lambda x: value(LearnedBasisActivation(2).double()(x)), lambda x: x.clamp(max=3 * 2 * 0.6745 / 3)),
        (
            lambda x: MultiBaseActivation(5).double()(x[:, None, None, None]).values.sum(0).flatten(),
            lambda x: sum(((x + 0.5 - u).clamp(0, 1) for u in (-1, -0.5, 0, 0.5, 1)), torch.zeros_like(x)),
        ),
    ],
    ids=["XNOR-Net", "IR-Net early", "IR-Net late", "RBNN", "RBNN early", "DoReFa", "PACT", "LQ-Net", "ABC-Net"],
)
def test_an_activations_gradient_is_its_surrogates_by_finite_differences(
    quantized: Callable[[Tensor], Tensor], surrogate: Callable[[Tensor], Tensor]
) -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64) + 0.013  # away from the kinks
    torch.testing.assert_close(gradient(quantized, x, torch.ones_like(x)), derivative(surrogate, x), atol=1e-6, rtol=0)


def test_pacts_clip_learns_from_what_reaches_it() -> None:
    quantizer = PactActivation(8)
    x = torch.tensor([-1.0, 0.3, 0.9, 1.5, 2.0])
    (of_clip,) = torch.autograd.grad((value(quantizer(x)) * torch.arange(5)).sum(), quantizer.clip)
    assert of_clip.item() == 3 + 4


def test_ir_nets_weights_are_balanced_and_scaled_by_a_power_of_two() -> None:
    levels, scale = BalancedWeight()(WEIGHT + 0.5)  # an offset that plain signs would follow
    assert levels.mean(dim=(1, 2, 3)).abs().max() < 0.3
    assert torch.equal(scale.log2(), scale.log2().round())
    mean = standardized(WEIGHT + 0.5).abs().mean(dim=(1, 2, 3))
    assert ((scale / mean).log2().abs() <= 0.5).all()


@pytest.mark.parametrize(("progress", "t"), [(0.0, 0.1), (0.5, 1.0), (1.0, 10.0)], ids=["start", "half", "end"])
def test_the_error_decay_estimator_follows_training(progress: float, t: float) -> None:
    weights = BalancedWeight()
    block = nn.Sequential(Sign(DecayingEstimator()), LowBitConv2d(6, 8, 3, 1, weights))
    set_training_progress(block, progress)
    x = MAP.double()
    k = max(1 / t, 1)
    expected = derivative(lambda v: k * torch.tanh(t * v), x)
    torch.testing.assert_close(gradient(block[0], x, torch.ones_like(x)), expected, atol=1e-6, rtol=1e-6)
    assert math.isclose(weights.t, t)


def test_a_rotation_stays_orthogonal_and_brings_the_weights_closer_to_their_signs() -> None:
    torch.manual_seed(0)
    conv = LowBitConv2d(16, 16, 3, 1, RotatedWeight((16, 16, 3, 3)))
    quantizer: Any = conv.quantizer

    def cosine() -> float:
        rotated = quantizer.R1.t() @ standardized(conv.weight).view(16, 12, 12) @ quantizer.R2
        return F.cosine_similarity(rotated.flatten(1), sign(rotated).flatten(1)).mean().item()

    before = cosine()
    quantizer.update_rotation(conv.weight)
    assert cosine() > before + 0.005
    for rotation in (quantizer.R1, quantizer.R2):
        torch.testing.assert_close(rotation @ rotation.t(), torch.eye(12), atol=1e-5, rtol=0)
    assert quantizer.update_rotation(conv.weight, rounds=20) is None
    assert torch.equal(sign(quantizer(conv.weight)[0]), quantizer(conv.weight)[0])


def test_a_networks_rotations_update_together() -> None:
    torch.manual_seed(0)
    net = rbnn_r18(10)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items() if key.endswith(("R1", "R2"))}
    start_epoch(net)
    after = net.state_dict()
    assert len(before) == 32
    assert not any(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_rbnns_sign_does_not_see_an_offset_or_a_factor_of_the_whole_map() -> None:
    centred = CentredSign()(MAP)
    assert torch.equal(CentredSign()(3 * MAP + 7), centred)
    with torch.no_grad():
        assert torch.equal(CentredSign()(MAP), centred)
    assert torch.equal(CentredSign()(MAP[1:]), centred[1:])


def test_slbs_relaxed_weights_approach_the_discrete_ones_as_the_temperature_rises() -> None:
    torch.manual_seed(0)
    quantizer = SearchedWeight()
    logits = quantizer.latent(SHAPE)
    discrete = quantizer.eval()(logits)[0]
    assert torch.equal(discrete, 2.0 * logits.argmax(-1) - 1)
    quantizer.train()
    gaps = []
    for progress in (0.0, 0.4, 0.65, 0.9, 1.0):
        quantizer.set_progress(progress)
        gaps.append((quantizer(logits)[0] - discrete).abs().mean().item())
    assert gaps[0] == gaps[1] > gaps[2] > gaps[3] == gaps[4]
    assert gaps[0] > 0.5
    assert gaps[4] < 0.05
    assert math.isclose(quantizer.temperature, 1.05**120)


def test_slbs_relaxed_weights_need_no_estimator() -> None:
    logits = torch.randn(2, 3, 3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: SearchedWeight()(x)[0], logits.requires_grad_())


def test_relaxed_weights_stay_relaxed_where_no_gradient_is_wanted() -> None:
    torch.manual_seed(0)
    conv = LowBitConv2d(6, 8, 3, 1, SearchedWeight()).train()
    x = sign(MAP)
    with torch.no_grad():
        without = conv(x)
    torch.testing.assert_close(without, conv(x).detach())


def test_calibration_makes_batch_norms_those_of_the_discrete_weights() -> None:
    torch.manual_seed(0)
    net: Any = slb_r18_w1a1(10).train()
    images = torch.randn(4, 3, 64, 64)
    for _ in range(3):
        net(images)
    unit = net.stages[0][0]
    calibrate(net, [images, images])
    assert not any(module.training for module in net.modules())
    assert unit.bn.momentum == 0.1
    with torch.no_grad():
        discrete = unit.inner(unit.conv(unit.sign(net.stem(images))))
    torch.testing.assert_close(unit.bn.running_mean, discrete.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-4)


def test_lq_nets_functions_are_its_authors() -> None:
    theirs = peer("lqnet")
    weights, activations = LearnedBasisWeight(SHAPE), LearnedBasisActivation(2)
    close(weights.basis, theirs["weight_basis"])
    close(activations.basis, theirs["activation_basis"])
    x = (2 * MAP).clamp(min=0)
    close(scaled(weights.eval(), WEIGHT), theirs["weight"])
    close(value(activations.eval()(x)), theirs["activation"])
    close(gradient(lambda w: scaled(weights, w), WEIGHT, WEIGHT_GRADIENT), theirs["weight_gradient"])
    close(gradient(lambda a: value(activations(a)), x, MAP_GRADIENT), theirs["activation_gradient"])
    weights.train()(WEIGHT)
    activations.train()(x)
    close(weights.basis, theirs["weight_basis_after"])
    close(activations.basis, theirs["activation_basis_after"])


def test_lq_nets_basis_converges_to_levels_that_fit_better() -> None:
    x = MAP.abs()
    quantizer = LearnedBasisActivation(2)
    before = (value(quantizer.eval()(x)) - x).square().mean()
    for _ in range(50):
        quantizer.train()(x)
    assert (value(quantizer.eval()(x)) - x).square().mean() < 0.9 * before
    assert LearnedBasisActivation(2).train()(torch.zeros(1, 2, 3, 3)).values.abs().sum() == 0  # no bit used


def test_levels_of_a_basis_are_the_nearest_ones_in_whatever_order_the_basis_is() -> None:
    basis = torch.tensor([0.9, 0.25])
    x = torch.linspace(-0.5, 2, 101)
    all_levels = torch.tensor([0.0, 0.25, 0.9, 1.15])
    nearest = all_levels[(x[:, None] - all_levels).abs().argmin(1)]
    torch.testing.assert_close(torch.einsum("b...,b->...", encode(x, basis), basis), nearest)


def test_dorefas_functions_are_its_authors() -> None:
    theirs = peer("dorefa")
    close(scaled(DoReFaWeight(2), WEIGHT), theirs["weight"])
    close(gradient(lambda w: scaled(DoReFaWeight(2), w), WEIGHT, WEIGHT_GRADIENT), theirs["weight_gradient"])
    close(value(DoReFaActivation(2)(MAP)), theirs["activation"])
    close(gradient(lambda a: value(DoReFaActivation(2)(a)), MAP, MAP_GRADIENT), theirs["activation_gradient"])


def test_abc_nets_bases_and_alphas_are_a_peers() -> None:
    theirs = peer("abcnet")
    levels, alphas = MultiBaseWeight(5)(WEIGHT)
    close(levels, theirs["bases"])
    torch.testing.assert_close(alphas, theirs["alphas"], atol=1e-5, rtol=1e-4)
    close(MultiBaseActivation(5)(MAP).values, theirs["activation"])


def test_more_bases_approximate_weights_better_and_equal_bases_do_no_harm() -> None:
    errors = []
    for bases in (2, 3, 5):
        levels, alphas = MultiBaseWeight(bases)(WEIGHT)
        approximation = (levels * alphas[:, None, None, None]).unflatten(0, (bases, 8)).sum(0)
        errors.append((approximation - WEIGHT).square().mean().item())
    assert errors[0] > errors[1] > errors[2]
    same = torch.ones(2, 1, 9)
    torch.testing.assert_close(least_squares(same, torch.full((1, 9), 4.0)), torch.full((2, 1), 2.0))


def test_a_multi_base_weights_gradient_is_the_sum_of_its_bases() -> None:
    conv = LowBitConv2d(6, 8, 3, 1, MultiBaseWeight(5)).double()
    x = sign(MAP).double()
    from_above = given(4, (2, 8, 5, 5)).double()
    (ours,) = torch.autograd.grad(conv(x), conv.weight, from_above)
    levels, alphas = conv.quantizer(conv.weight.detach())
    levels.requires_grad_()
    each = F.conv2d(x, levels, padding=1) * alphas[:, None, None]
    (of_levels,) = torch.autograd.grad(each.unflatten(1, (5, 8)).sum(1), levels, from_above)
    torch.testing.assert_close(ours, of_levels.unflatten(0, (5, 8)).sum(0))


def test_xnor_nets_weights_are_a_peers_and_their_gradient_is_the_papers() -> None:
    theirs = peer("xnornet")
    close(scaled(XnorWeight(), WEIGHT), theirs["weight"])
    conv = LowBitConv2d(6, 8, 3, 1, XnorWeight())
    conv.weight.data.copy_(WEIGHT)
    close(conv(sign(MAP)), theirs["convolution"])

    # The gradient of the scaled weight, times 1/n + scale inside of (-1, 1), then that of the centring.
    weight = 3 * WEIGHT
    centred = weight - weight.mean(1, keepdim=True)
    alpha = centred.clamp(-1, 1).abs().mean(dim=(1, 2, 3), keepdim=True)
    of_centred = WEIGHT_GRADIENT * (1 / 54 + alpha * (centred.abs() < 1))
    expected = of_centred - of_centred.mean(1, keepdim=True)
    torch.testing.assert_close(gradient(lambda w: scaled(XnorWeight(), w), weight, WEIGHT_GRADIENT), expected)
    assert (centred.abs() >= 1).any()


@pytest.mark.parametrize("stride", [1, 2])
def test_xnor_nets_input_scale_is_the_mean_magnitude_under_the_kernel(stride: int) -> None:
    k = InputScale(3, stride)(MAP)
    box = torch.full((1, 6, 3, 3), 1 / 54)
    torch.testing.assert_close(k, F.conv2d(MAP.abs(), box, stride=stride, padding=1))


def test_dorefas_one_bit_weights_have_one_scale_for_the_layer_and_the_gradient_of_the_scaled_weight() -> None:
    weight = torch.tensor([[0.5, -1.5], [0.0, -2.0]])[:, :, None, None].requires_grad_()
    levels, scale = DoReFaSign()(weight)
    assert levels.flatten().tolist() == [1, -1, 1, -1] and scale.tolist() == [1, 1]
    conv = LowBitConv2d(2, 2, 1, quantizer=DoReFaSign())
    conv.weight.data = 3 * weight.detach()
    x = torch.tensor([2.0, 5.0])[None, :, None, None]
    conv(x).sum().backward()
    assert conv.weight.grad is not None
    torch.testing.assert_close(conv.weight.grad[:, :, 0, 0], torch.tensor([[2.0, 5.0], [2.0, 5.0]]))


def test_larqs_xnor_weights_are_clipped_and_not_centred() -> None:
    weight = torch.tensor([[3.0, 0.5], [0.25, 0.25]])[:, :, None, None]
    levels, scale = XnorWeight(centre=False)(weight)
    assert levels.flatten().tolist() == [1, 1, 1, 1] and scale.tolist() == [0.75, 0.25]


def test_simans_weights_are_large_or_small_and_stay_as_the_last_batch_found_them() -> None:
    quantizer = MagnitudeWeight((4, 2, 3, 3))
    weight = nn.Parameter(quantizer.latent((4, 2, 3, 3)).double())
    quantizer.double().train()
    before = weight.detach().numpy().reshape(4, -1)
    before = before - before.mean(1, keepdims=True)
    levels, _ = quantizer(weight)
    bounds = np.percentile(np.abs(before), [15, 85])
    assert np.allclose(weight.detach().numpy().reshape(4, -1), np.clip(np.abs(before), *bounds) * np.sign(before))
    assert levels.detach().flatten(1).sum(1).tolist() == [0] * 4  # half of each channel
    kept = weight.detach().clone()
    weight.data.neg_().add_(torch.arange(18.0).view(2, 3, 3))  # as a step of the optimizer moves them
    quantizer.eval()
    assert torch.equal(quantizer(weight)[0], levels) and not torch.equal(weight, kept)


@pytest.mark.parametrize("frequency", [0, -1.0, float("nan"), float("inf")])
def test_a_wave_without_a_frequency_is_refused(frequency: float) -> None:
    with pytest.raises(BcdzooError, match="freq must be a positive number"):
        WaveWeight(4, frequency)


def test_bipers_weights_are_a_square_wave_with_the_gradient_of_a_sine() -> None:
    weight = torch.tensor([0.1, 0.2, 0.33, -0.1], dtype=torch.float64).view(4, 1, 1, 1).requires_grad_()
    levels, _ = WaveWeight(4, 20)(weight)
    levels.sum().backward()
    assert levels.flatten().tolist() == [1, -1, 1, -1]
    assert weight.grad is not None
    assert torch.allclose(weight.grad, 20 * torch.cos(20 * weight.detach()))
