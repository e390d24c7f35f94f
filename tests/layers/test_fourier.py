import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bcdzoo import create_model
from bcdzoo.layers.quantizers.base import set_training_progress
from bcdzoo.layers.quantizers.fdabnn import FourierEstimator, FourierSignWeight, fourier_sign, sine_series
from bcdzoo.layers.quantizers.sign import RSign


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("terms", "omega"), [(0, 1.0), (3, 0.5), (9, 1.0), (18, 2.0)])
def test_the_signs_gradient_is_the_slope_of_the_sine_series(terms: int, omega: float) -> None:
    x = noise((200,)).requires_grad_()
    y = fourier_sign(x, terms, omega)
    assert y.unique().tolist() == [-1, 1]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    step = 1e-6
    with torch.no_grad():
        slope = (sine_series(x + step, terms, omega) - sine_series(x - step, terms, omega)) / (2 * step)
    torch.testing.assert_close(gradient, slope, atol=1e-5, rtol=0)


@given(st.floats(-3, 3))
def test_the_gradient_is_dirichlets_kernel(t: float) -> None:
    x = torch.tensor([t], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(fourier_sign(x, terms=9).sum(), x)
    # the closed form of a sum of odd cosines
    expected = 4 / math.pi * (math.sin(20 * t) / (2 * math.sin(t)) if abs(math.sin(t)) > 1e-6 else 10)
    assert gradient.item() == pytest.approx(expected, abs=1e-6)


def test_more_terms_come_nearer_to_the_sign() -> None:
    t = torch.linspace(-3, 3, 1000, dtype=torch.float64)
    errors = [(sine_series(t, n) - t.sign()).square().mean().item() for n in (0, 3, 9, 18, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_in_training_the_gradient_is_that_of_equations_15_to_17() -> None:
    quantizer = FourierEstimator(128).double().train()
    set_training_progress(quantizer, 0.25)
    x = noise((2, 128, 5, 5)).requires_grad_()
    upper = noise((2, 128, 5, 5), 1)
    w1, w2 = quantizer.noise.reduce.weight, quantizer.noise.expand.weight
    quantizer(x).backward(upper)

    t = x.detach().movedim(1, -1).reshape(-1, 128)  # one vector of channels for each position
    grad = upper.movedim(1, -1).reshape(-1, 128)
    first, second = w1.detach().flatten(1).T, w2.detach().flatten(1).T  # W1 (d, d/k), W2 (d/k, d)
    hidden = t @ first
    back = (grad @ second.T) * (hidden >= 0)
    terms = 11  # 9 and a quarter of 9 more
    series = 4 / math.pi * sum(torch.cos((2 * i + 1) * t) for i in range(terms + 1))
    expected = 0.75 * (back @ first.T + grad * 0.1 * torch.cos(t)) + grad * series
    assert x.grad is not None and w1.grad is not None and w2.grad is not None
    torch.testing.assert_close(x.grad.movedim(1, -1).reshape(-1, 128), expected)
    torch.testing.assert_close(w1.grad.flatten(1).T, 0.75 * t.T @ back)
    torch.testing.assert_close(w2.grad.flatten(1).T, 0.75 * hidden.relu().T @ grad)


def test_the_noise_module_never_touches_the_signs() -> None:
    x = noise((2, 64, 4, 4)).float()
    quantizer = RSign(64, FourierEstimator(64))
    assert torch.equal(quantizer.train()(x), torch.where(x >= 0, 1.0, -1.0))
    assert torch.equal(quantizer.eval()(x), torch.where(x >= 0, 1.0, -1.0))


def test_at_the_end_of_training_the_noise_module_is_gone_and_the_terms_have_doubled() -> None:
    quantizer = FourierEstimator(64).double().train()
    set_training_progress(quantizer, 1)
    x = noise((1, 64, 4, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(x).sum(), x)
    (plain,) = torch.autograd.grad(fourier_sign(x, terms=18).sum(), x)
    torch.testing.assert_close(gradient, plain)


def test_weights_are_signs_and_mean_magnitudes() -> None:
    weight = noise((6, 64, 3, 3)).requires_grad_()
    signs, scale = FourierSignWeight(64).double()(weight)
    assert signs.unique().tolist() == [-1, 1]
    torch.testing.assert_close(scale[2], weight[2].detach().abs().sum() / 576)
    assert not scale.requires_grad


@pytest.mark.parametrize(("name", "other"), [("fdabnn-star-r18", "reactnet-r18"), ("fdabnn-r18", "birealnet-18")])
def test_at_inference_the_networks_are_those_they_are_built_on(name: str, other: str) -> None:
    torch.manual_seed(0)
    model, known = create_model(name, num_classes=10), create_model(other, num_classes=10)
    state = {key: value for key, value in model.state_dict().items() if ".noise." not in key and ".inner." not in key}
    known.load_state_dict(state)
    if name == "fdabnn-r18":
        for key, parameter in model.named_parameters():
            if ".inner." in key:
                torch.nn.init.ones_(parameter)  # a PReLU of slope 1 does nothing
    x = noise((2, 3, 64, 64)).float()
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(x), known.eval()(x))
