"""What BNext's own layers compute."""

import pytest
import torch

from bcdzoo import create_model
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.base import set_training_progress
from bcdzoo.layers.quantizers.sign import RSign
from bcdzoo.models.bnext import Mix, ProgressiveSignWeight, limited_sign


def noise(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_an_activations_gradient_is_that_of_a_clip_at_one_and_a_half() -> None:
    sign = RSign(4, limited_sign)
    with torch.no_grad():
        sign.bias.copy_(torch.tensor([0.0, 0.5, -0.5, 1.0]))
    x = noise(2, 4, 5, 5).requires_grad_()
    y = sign(x)
    shifted = x.detach() + sign.bias.detach()[:, None, None]
    assert torch.equal(y, torch.where(shifted >= 0, 1.0, -1.0))
    upper = torch.arange(200.0).reshape(2, 4, 5, 5)
    (gradient,) = torch.autograd.grad(y, x, upper)
    assert torch.equal(gradient, upper * (shifted.abs() <= 1.5))


@pytest.mark.parametrize("epoch", [0, 20, 152, 153, 512])
def test_weights_become_signs_as_the_temperature_falls(epoch: int) -> None:
    quantizer = ProgressiveSignWeight().train()
    set_training_progress(quantizer, epoch / 512)
    weight = noise(3, 4, 3, 3).requires_grad_()
    levels, scale = quantizer(weight)
    assert weight.abs().max() == 1.5
    temperature = 0.9**epoch
    soft = (weight.detach() / temperature).clamp(-1, 1)
    torch.testing.assert_close(levels.detach(), soft if temperature >= 1e-7 else soft.sign())
    assert torch.equal(scale, torch.ones(3))
    (gradient,) = torch.autograd.grad(levels.sum(), weight)
    assert torch.equal(gradient, torch.ones_like(weight))


def test_in_evaluation_weights_are_signs_at_any_time() -> None:
    conv = LowBitConv2d(4, 3, 3, quantizer=ProgressiveSignWeight()).eval()
    x = torch.where(noise(2, 4, 6, 6) >= 0, 1.0, -1.0)
    sums = conv(x)
    assert torch.equal(sums, sums.round())  # integers: no scale
    assert sums.abs().max() <= 36


def test_a_mix_is_kept_between_its_two_maps_in_training_and_behind_1x1_convolutions_always() -> None:
    x, y = noise(1, 2, 3, 3), noise(1, 2, 3, 3).flip(0) + 1
    for clamped in (False, True):
        mix = Mix(2, clamped)
        with torch.no_grad():
            mix.weight.copy_(torch.tensor([1.3, 0.25]).reshape(1, 2, 1, 1))
        first = mix.eval()(x, y)[:, 0]
        torch.testing.assert_close(first, x[:, 0] if clamped else 1.3 * x[:, 0] - 0.3 * y[:, 0])
        torch.testing.assert_close(mix.train()(x, y)[:, 0], x[:, 0])
        assert mix.weight.flatten().tolist() == [1.0, 0.25]


def test_every_second_block_has_element_attention() -> None:
    with torch.device("meta"):
        model = create_model("bnext-l")
    attentive = [i for i in range(29) if model.get_submodule(f"blocks.{i}.spatial").shortcut_activation is not None]
    assert attentive == list(range(1, 29, 2))
