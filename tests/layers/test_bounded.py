"""PokeBNN's quantizers: what is rounded to what, and when bounds are taken."""

import pytest
import torch
from torch import Tensor, nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.bounded import BoundedConv2d
from bcdzoo.layers.quantizers.base import set_training_progress
from bcdzoo.layers.quantizers.pokebnn import BOUNDS_FROM, WEIGHTS_FROM, BoundedActivation, BoundedWeight, bounded_sign
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.models.pokebnn import PokeBNN


def of_bounds(bits: int, positive: bool) -> BoundedActivation:
    steps = BoundedActivation(3, bits, positive).eval()
    steps.bound.copy_(torch.tensor([1.0, 0.5, 2.0]))
    return steps


def maps() -> Tensor:
    """Numbers on and between levels, far outside, and next to 0."""
    x = torch.randn(2, 3, 8, 256, generator=torch.Generator().manual_seed(0))
    for row, steps in enumerate((127, 16, 7)):
        x[0, :, 2 * row] = (torch.arange(256) - 128) / steps
        x[0, :, 2 * row + 1] = (torch.arange(256) - 127.5) / steps
    x[1, :, 0, :6] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30])
    return x


@pytest.mark.parametrize(("bits", "positive"), [(8, False), (4, False), (4, True)])
def test_activations_are_the_steps_of_their_channel(bits: int, positive: bool) -> None:
    x, steps = maps().double(), of_bounds(bits, positive).double()
    for channel, bound in enumerate((1.0, 0.5, 2.0)):
        size = (bound + 2**-23) / (2**bits if positive else 2 ** (bits - 1) - 1)
        rounded = torch.floor(x[:, channel] / size + (0 if positive else 0.5))
        low, high = (0, 2**bits - 1) if positive else (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
        expected = rounded.clamp(low, high) * size
        torch.testing.assert_close(steps(x)[:, channel], expected, rtol=0, atol=1e-9)


class Both(nn.Module):
    """A quantizer beside a binary convolution, without which nothing can be packed."""

    def __init__(self, steps: nn.Module) -> None:
        super().__init__()
        self.steps, self.sign, self.conv = steps, Sign(bounded_sign), LowBitConv2d(3, 4, 1, quantizer=BoundedWeight())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.steps(x).flatten(1), self.conv(self.sign(x)).flatten(1)], dim=1)


@pytest.mark.parametrize(("bits", "positive"), [(8, False), (4, False), (4, True)])
def test_the_engine_rounds_to_the_same_numbers_bit_for_bit(bits: int, positive: bool) -> None:
    network, x = Both(of_bounds(bits, positive)).eval(), maps()
    with torch.inference_mode():
        assert torch.equal(bcdzoo.pack(network)(x), network(x))


def test_the_largest_of_a_channel_is_clipped_and_has_no_gradient() -> None:
    weight = torch.tensor([[0.5, -2.0, 0.0, 1.99], [0.1, 0.2, -0.4, 0.3]])[:, :, None, None].requires_grad_()
    levels, scale = BoundedWeight()(weight)
    assert levels.flatten(1).tolist() == [[1, -1, 1, 1], [1, 1, -1, 1]]
    torch.testing.assert_close(scale / 1.5, torch.tensor([1.0, 0.2]))  # half of the largest; 1.5 is the activations'
    (levels * scale[:, None, None, None]).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.flatten(1) / 1.5, torch.tensor([[1.0, 0, 1, 0], [1, 1, 0, 1]]))


def test_the_gradient_of_a_1_bit_activation_ends_at_the_bound() -> None:
    x = torch.tensor([-3.0, -2.9, 0.0, 2.9, 3.0], requires_grad=True)
    (bounded_sign(x) * 1.5).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 1, 1, 1, 0]))


def test_bounds_are_taken_once_from_averages_that_zeros_have_no_part_in() -> None:
    steps = BoundedActivation(2, 4).train()
    x = torch.tensor([[-1.0, 0.0, 3.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    assert torch.equal(steps(x), x)
    assert steps.bound.tolist() == [-1, -1]
    set_training_progress(steps, BOUNDS_FROM)
    steps(x)
    # 1 - 0.9² of the largest number; the other channel has none that is not 0
    torch.testing.assert_close(steps.bound, torch.tensor([0.19 * 3, 0.0]))
    steps(10 * x)
    torch.testing.assert_close(steps.bound, torch.tensor([0.19 * 3, 0.0]))
    assert float(steps.largest[0]) > 3 and float(steps.smallest[0]) < -1


def test_weights_are_real_before_their_time_and_in_evaluation_never() -> None:
    conv = BoundedConv2d(2, 3, 1, bits=4)
    set_training_progress(conv, WEIGHTS_FROM / 2)
    assert torch.equal(conv.train().quantizer(conv.weight)[0], conv.weight)
    for is_training in (False, True):
        levels, _ = conv.train(is_training).quantizer(conv.weight)
        assert torch.equal(levels, levels.round()) and levels.abs().amax((1, 2, 3)).tolist() == [7, 7, 7]
        set_training_progress(conv, WEIGHTS_FROM)


def test_a_width_whose_channels_cannot_be_repeated_is_refused() -> None:
    with pytest.raises(BcdzooError, match=r"multiple of 1/4, not 1\.4"):
        PokeBNN(1.4, 10)
