import torch

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.sabnn import StateAwareSignWeight
from bcdzoo.layers.quantizers.sign import sign_weight


def weights() -> torch.Tensor:
    return 0.8 * torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def upstream() -> torch.Tensor:
    return torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_forward_pass_is_the_sign_and_the_mean_magnitude_whatever_the_coefficients() -> None:
    quantizer = StateAwareSignWeight().double()
    with torch.no_grad():
        quantizer.tau_plus.fill_(3.7)
    weight = weights()
    signs, scale = quantizer(weight)
    expected, mean = sign_weight(weight)
    assert torch.equal(signs, expected)
    assert torch.equal(scale, mean.flatten())


def test_with_equal_coefficients_the_gradient_is_bi_reals() -> None:
    weight = weights().requires_grad_()
    signs, _ = StateAwareSignWeight().double()(weight)
    plain, _ = sign_weight(weight)
    torch.testing.assert_close(
        torch.autograd.grad(signs, weight, upstream()), torch.autograd.grad(plain, weight, upstream())
    )


def test_each_state_has_its_own_coefficient_by_finite_differences() -> None:
    quantizer = StateAwareSignWeight().double()
    with torch.no_grad():
        quantizer.tau_plus.fill_(0.5)
        quantizer.tau_minus.fill_(2.0)
    weight = weights().requires_grad_()
    signs, scale = quantizer(weight)
    scaled = signs * scale[:, None, None, None]
    gradient, plus, minus = torch.autograd.grad(scaled, (weight, quantizer.tau_plus, quantizer.tau_minus), upstream())

    def q(w: torch.Tensor, tau_plus: float, tau_minus: float) -> torch.Tensor:
        """The function whose derivative the backward pass takes."""
        return torch.where(w >= 0, tau_plus, tau_minus) * w.clamp(-1, 1)

    step, w = 1e-6, weight.detach()
    slope = (q(w + step, 0.5, 2) - q(w - step, 0.5, 2)) / (2 * step)
    torch.testing.assert_close(gradient, upstream() * slope, atol=1e-8, rtol=1e-8)
    assert set(slope.round(decimals=6).unique().tolist()) == {0.0, 0.5, 2.0}
    by_plus = (q(w, 0.75, 2) - q(w, 0.25, 2)) / 0.5  # q is linear in the coefficients
    by_minus = (q(w, 0.5, 2.25) - q(w, 0.5, 1.75)) / 0.5
    torch.testing.assert_close(plus, (upstream() * by_plus).sum())
    torch.testing.assert_close(minus, (upstream() * by_minus).sum())


def test_a_channel_of_zeros_has_finite_gradients() -> None:
    conv = LowBitConv2d(3, 4, 3, quantizer=StateAwareSignWeight())
    with torch.no_grad():
        conv.weight[1] = 0
    conv(torch.ones(1, 3, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())
