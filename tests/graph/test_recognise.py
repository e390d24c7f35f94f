"""Anybody's network: signs and binary convolutions in plain torch become units where that is exact."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.graph.recognise import NEARLY, SIGN_OF_ZERO, recognise
from bcdzoo.graph.record import record
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan import reference
from tests.packed.unsettled import unsettle

Sign = Callable[[Tensor], Tensor]


class Straight(torch.autograd.Function):
    """A sign with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def estimated(sign: Sign, clip: Sign) -> Sign:
    return lambda x: sign(x).detach() - clip(x).detach() + clip(x)


def reached(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


SIGNS: dict[str, Sign] = {
    "where": reached,
    "where of maps": lambda x: torch.where(x > 0, torch.ones_like(x), -torch.ones_like(x)),
    "twice, minus one": lambda x: (x > 0).float() * 2 - 1,
    "one, minus twice": lambda x: 1 - 2 * (x < 0).to(x.dtype),
    "of integers": lambda x: ((x >= 0) * 2 - 1).float(),
    "sign of a shifted sign": lambda x: (x.sign() + 0.5).sign(),
    "estimated by a clip": estimated(reached, lambda x: x.clamp(-1, 1)),
    "estimated by a clip, in another order": lambda x: F.hardtanh(x) + (reached(x) - F.hardtanh(x)).detach(),
    "a function of one's own": Straight.apply,
}
NO_SIGNS: dict[str, tuple[Sign, str]] = {
    "torch.sign": (torch.sign, SIGN_OF_ZERO),
    "x.sign()": (lambda x: x.sign(), SIGN_OF_ZERO),
    "estimated by the map itself": (estimated(reached, lambda x: x), NEARLY),
}


class Block(nn.Module):
    """Sign, binary convolution, normalization and shortcut, by somebody else."""

    def __init__(
        self, c_in: int, c_out: int, sign: Sign, stride: int = 1, bias: bool = False, ones: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.randn(c_out)) if bias else None
        self.bn, self.sign, self.stride, self.ones = nn.BatchNorm2d(c_out), sign, stride, ones

    def forward(self, x: Tensor) -> Tensor:
        y, padding = (F.pad(self.sign(x), (1,) * 4, value=1.0), 0) if self.ones else (self.sign(x), 1)
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        y = self.bn(F.conv2d(y, scale * self.weight.sign(), self.bias, self.stride, padding))
        out: Tensor = y + x if y.shape == x.shape else y
        return out


def own(sign: Sign, **form: bool) -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    blocks = Block(64, 64, sign, **form), nn.PReLU(64), Block(64, 128, sign, 2, **form), nn.PReLU(128)
    network = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    unsettle(network, 0)
    return network


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", [{}, {"bias": True}, {"ones": True}], ids=str)
@pytest.mark.parametrize("name", SIGNS)
def test_a_binary_network_in_plain_torch_is_packed(name: str, form: dict[str, bool]) -> None:
    network = own(SIGNS[name], **form)
    packed = bcdzoo.pack(network)
    x = images()
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), network(x), rtol=1e-5, atol=1e-5)
    assert packed.layers((3, 32, 32)) == [("3", ""), ("5", "")]
    plan = packed.plan((3, 32, 32))
    assert plan is not None
    assert [each.kind for each in plan.operations] == [
        "conv",
        "binary_unit",
        "binary_unit",
        "mean",
        "reshape",
        "linear",
    ]


@pytest.mark.parametrize("name", NO_SIGNS)
def test_what_is_no_sign_is_not_taken_for_one_and_the_reason_is_given(name: str) -> None:
    sign, reason = NO_SIGNS[name]
    with pytest.raises(BcdzooError) as error:
        bcdzoo.pack(own(sign))
    assert str(error.value) == f"Sequential cannot be packed: {reason}"


def test_a_network_that_is_no_plan_and_has_no_layers_of_the_zoo_says_so() -> None:
    packed = bcdzoo.pack(nn.Sequential(own(reached)[:3], nn.GELU(), nn.Flatten(), nn.Linear(64 * 256, 3)).eval())
    with pytest.raises(BcdzooError, match=r"1: nn.functional.gelu is no operation .* it cannot be packed"):
        packed(images())


class Linear(nn.Module):
    """Two binary linear layers, the first scaled by a factor behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(32, 3 * 64)), nn.Parameter(torch.randn(10, 32))
        self.factor, self.bn = nn.Parameter(torch.randn(32)), nn.BatchNorm1d(32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(F.linear(reached(x.flatten(1)), reached(self.first)) * self.factor)
        return F.linear(reached(x), reached(self.second) / 8, torch.ones(10))


def test_binary_linear_layers_are_units_too() -> None:
    torch.manual_seed(0)
    network, x = Linear().eval(), images()[:, :, :8, :8]
    packed = bcdzoo.pack(network)
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), network(x), rtol=1e-5, atol=1e-5)
    assert [reason for _, reason in packed.layers((3, 8, 8))] == ["", ""]


def test_weights_of_zero_or_of_several_sizes_are_not_binary() -> None:
    for change in (0.0, 2.0):
        weight = torch.ones(4, 3, 1, 1)
        weight[0, 0] = change

        class Odd(nn.Module):
            def forward(self, x: Tensor, weight: Tensor = weight) -> Tensor:
                return F.conv2d(reached(x), weight).mean((2, 3))

        plan = recognise(record(Odd(), images(1)))
        assert "low_bit_conv" not in {each.kind for each in plan.operations}
        torch.testing.assert_close(PlanRunner(plan)(images()), Odd()(images()))


edges = st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 0.5, 1 - 2.0**-24, 2.0**-25, 3e38])


@given(st.lists(edges | st.floats(-2, 2, width=32), min_size=12, max_size=12), st.sampled_from(sorted(SIGNS)))
def test_a_recognised_sign_is_torchs_for_every_float(numbers: list[float], name: str) -> None:
    class Signs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return SIGNS[name](x).flatten(1)

    x = torch.tensor(numbers, dtype=torch.float32).reshape(1, 3, 2, 2)
    plan = recognise(record(Signs(), x))
    assert [each.kind for each in plan.operations] == ["binarize", "reshape"]
    assert torch.equal(torch.from_numpy(reference.run(plan, x.numpy())), Signs()(x))
