import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.sign import sign, sign_activation, sign_weight

floats = st.floats(-3, 3, width=32)


def polynomial(x: torch.Tensor) -> torch.Tensor:
    """Q_b of the paper, whose derivative the backward pass uses."""
    inner = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
    return torch.where(x < -1, -1.0, torch.where(x >= 1, 1.0, inner))


def test_the_sign_of_either_zero_is_plus_one() -> None:
    assert sign(torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3.0, -3.0])).tolist() == [1, 1, 1, -1, 1, -1]


@given(st.lists(floats, min_size=1, max_size=20))
def test_an_activation_becomes_one_of_two_values_and_its_gradient_is_the_polynomials(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    y = sign_activation(x)
    assert y.tolist() == [1 if value >= 0 else -1 for value in values]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    reference = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(polynomial(reference).sum(), reference)
    torch.testing.assert_close(gradient, expected)


def test_in_inference_a_sign_takes_the_memory_of_its_result_and_no_surrogate() -> None:
    x = torch.randn(1, 8, 64, 64)
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        sign_activation(x)
    assert x.nbytes <= sum(max(event.self_cpu_memory_usage, 0) for event in profile.events()) < 1.1 * x.nbytes


def test_the_activation_gradient_is_the_polynomials_by_finite_differences() -> None:
    x = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64) + 0.003  # away from the kinks
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(sign_activation(x).sum(), x)
    step = 1e-6
    difference = (polynomial(x + step) - polynomial(x - step)) / (2 * step)
    torch.testing.assert_close(gradient, difference.detach(), atol=1e-6, rtol=0)


def test_a_weights_scale_is_the_mean_magnitude_of_its_output_channel() -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    signs, scale = sign_weight(weight)
    assert scale.shape == (5, 1, 1, 1)
    torch.testing.assert_close(scale[2, 0, 0, 0], weight[2].abs().sum() / 27)
    assert signs.unique().tolist() == [-1, 1]


def test_a_weights_gradient_is_straight_through_inside_one_and_ignores_the_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    conv = LowBitConv2d(3, 4, 3).double()
    with torch.no_grad():
        conv.weight.copy_(1.2 * torch.randn(conv.weight.shape, generator=generator))
    x = sign(torch.randn(2, 3, 6, 6, generator=generator)).double()
    out_gradient = torch.randn(2, 4, 6, 6, generator=generator).double()
    (gradient,) = torch.autograd.grad(conv(x), conv.weight, out_gradient)
    # by definition: the gradient of an ordinary convolution with the scaled weight, where |w| <= 1
    scaled = (conv.weight.detach().abs().mean((1, 2, 3), keepdim=True) * sign(conv.weight.detach())).requires_grad_()
    (expected,) = torch.autograd.grad(F.conv2d(x, scaled, padding=1), scaled, out_gradient)
    torch.testing.assert_close(gradient, expected * (conv.weight.detach().abs() <= 1))
    assert (gradient == 0).any()


def test_an_all_zero_channel_gives_zeros_and_no_nan_gradient() -> None:
    conv = LowBitConv2d(2, 1, 1)
    torch.nn.init.zeros_(conv.weight)
    out = conv(torch.ones(1, 2, 2, 2))
    out.sum().backward()
    assert out.abs().sum() == 0
    assert conv.weight.grad is not None
    assert conv.weight.grad.isfinite().all()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_binary_convolution_lies_on_its_lattice_and_padding_adds_nothing(kernel_size: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = LowBitConv2d(7, 5, kernel_size, stride)
    x = sign(torch.randn(2, 7, 9, 9))
    scale = conv.weight.abs().mean((1, 2, 3))
    sums = conv(x) / scale[:, None, None]
    torch.testing.assert_close(sums, sums.round(), atol=1e-4, rtol=0)
    # a corner of a 3×3 window has 4 valid positions of 7 channels: an even number of ±1 terms
    valid = F.conv2d(torch.ones(1, 1, 9, 9), torch.ones(1, 1, kernel_size, kernel_size), None, stride, kernel_size // 2)
    parity = (sums.round() - 7 * valid) % 2
    assert parity.abs().max() == 0
    assert (sums.round().abs() <= 7 * valid).all()


def test_the_same_image_gives_the_same_bits_in_any_batch() -> None:
    torch.manual_seed(0)
    conv = LowBitConv2d(64, 64, 3)
    x = sign(torch.randn(16, 64, 14, 14))
    with torch.inference_mode():
        together = conv(x)
        for n in (1, 3, 5):
            assert torch.equal(conv(x[:n]), together[:n])
