"""Fusing: every order around a binary convolution that occurs becomes one unit, and gives the same numbers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.graph.fuse import fuse, low_bit_layers
from bcdzoo.graph.record import record
from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.quantizers.sign import RSign, Sign
from bcdzoo.layers.unit import BinaryUnit, Duplicate, DynamicConv, HalvingPool
from bcdzoo.models.bcdnet import MLPBlock
from bcdzoo.models.meliusnet import DenseBlock, ImprovementBlock
from bcdzoo.models.realtobinary import GatedUnit
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan import reference
from bcdzoo.plan.operations import Operation
from tests.packed.unsettled import unsettle


class Own(nn.Module):
    """A function of a map and of modules."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(c_in: int = 8, c_out: int = 8, size: int = 3, **more: Any) -> LowBitConv2d:
    return LowBitConv2d(c_in, c_out, size, **more)


def seq(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(*modules)


bn = nn.BatchNorm2d
ORDERS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], set[str]]] = {
    "convolution alone": (lambda: seq(Sign(), conv()), {}, set()),
    "normalization": (lambda: seq(Sign(), conv(), bn(8)), {}, {"alpha", "beta"}),
    "normalization before the sign": (lambda: seq(bn(8), Sign(), conv()), {}, set()),
    "two normalizations before the sign": (lambda: seq(bn(8), bn(8), Sign(), conv()), {}, set()),
    "pooling of signs": (lambda: seq(Sign(), nn.MaxPool2d(2), conv()), {}, set()),
    "groups": (lambda: seq(Sign(), conv(8, 64, groups=2), bn(64)), {"groups": 2}, {"alpha", "beta"}),
    "dilation": (lambda: seq(Sign(), conv(dilation=2), bn(8)), {"dilation": (2, 2)}, {"alpha", "beta"}),
    "a border of ones": (lambda: seq(Sign(), conv(pad_value=1.0), bn(8)), {"pad_value": 1.0}, {"alpha", "beta"}),
    "padding of TensorFlow": (lambda: seq(Sign(), conv(stride=2, padding="tensorflow")), {"same": 1}, set()),
    "PReLU inside": (lambda: seq(Sign(), conv(), nn.PReLU(8), bn(8)), {}, {"inner_slope", "alpha", "beta"}),
    "activation": (lambda: seq(Sign(), conv(), bn(8), nn.PReLU(8)), {}, {"alpha", "beta", "slope"}),
    "ReLU": (lambda: seq(Sign(), conv(), bn(8), nn.ReLU()), {}, {"alpha", "beta", "slope"}),
    "limit": (lambda: seq(Sign(), conv(), bn(8), nn.Hardtanh()), {"limit": 1.0}, {"alpha", "beta"}),
    "shortcut": (lambda: BinaryUnit(Sign(), conv(), 8), {"shortcut": "same"}, {"alpha", "beta"}),
    "shortcut, then activation": (
        lambda: BinaryUnit(RSign(8), conv(), 8, RPReLU(8)),
        {"shortcut": "same", "activation_first": 0},
        {"alpha", "beta", "shift_in", "slope", "shift_out"},
    ),
    "activation, then shortcut": (
        lambda: Own(
            lambda m, x: m.act(m.bn(m.conv(m.sign(x)))) + x, sign=Sign(), conv=conv(), bn=bn(8), act=nn.PReLU(8)
        ),
        {"shortcut": "same", "activation_first": 1},
        {"alpha", "beta", "slope"},
    ),
    "halving": (
        lambda: BinaryUnit(Sign(), conv(stride=2), 8, None, HalvingPool()),
        {"shortcut": "average-pool", "stride": (2, 2)},
        {"alpha", "beta"},
    ),
    "doubling": (
        lambda: BinaryUnit(Sign(), conv(8, 16, 1), 16, None, Duplicate()),
        {"shortcut": "duplicate"},
        {"alpha", "beta"},
    ),
    "a shortcut of its own": (
        lambda: BinaryUnit(Sign(), conv(8, 16), 16, None, seq(nn.Conv2d(8, 16, 1), bn(16))),
        {"shortcut": "given"},
        {"alpha", "beta"},
    ),
    "gate": (lambda: GatedUnit(8, 8, 1, None, Quantizers(), "symmetric"), {}, set()),
    "dynamic": (
        lambda: BinaryUnit(nn.Identity(), DynamicConv(conv(), DynamicEmbedding(8, 8, 4)), 8, RPReLU(8)),
        {"shortcut": "same"},
        {"alpha", "beta", "shift_in", "slope", "shift_out"},
    ),
    "appended": (lambda: DenseBlock(32, Quantizers()), {"append": 1}, set()),
    "newest channels": (lambda: ImprovementBlock(96, Quantizers()), {"shortcut": "same"}, set()),
    "branches": (
        lambda: MLPBlock(8, Quantizers()),
        {"samplings": ("none", "short-range", "long-range")},
        {"alpha", "beta", "shift_in", "slope", "shift_out"},
    ),
}
ALWAYS = {"planes", "scale", "threshold"}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = unsettle(ORDERS[name][0](), 1)
    for module in network.modules():
        if isinstance(module, bn):
            with torch.no_grad():
                module.weight[::3].neg_()  # falling
    return network


def image(network: nn.Module, n: int, side: int = 6) -> Tensor:
    first = next(module for module in network.modules() if isinstance(module, LowBitConv2d))
    channels = first.kernel_shape[1] * first.groups
    return torch.randn(n, channels, side, side + 1, generator=torch.Generator().manual_seed(2)).round(decimals=1)


def the_unit(network: nn.Module, x: Tensor) -> Operation:
    plan = fuse(record(network, x[:1]))
    assert "low_bit_conv" not in {operation.kind for operation in plan.operations}
    (unit,) = [operation for operation in plan.operations if operation.kind == "binary_unit"]
    return unit


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_one_unit_that_gives_the_same(name: str) -> None:
    network = made(name)
    x = image(network, 3)
    unit = the_unit(network, x)
    _, fields, constants = ORDERS[name]
    assert {key: unit.fields[key] for key in fields} == fields
    assert constants <= unit.constants.keys()
    plan = fuse(record(network, x[:1]))
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(PlanRunner(plan)(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(reference.run(plan, x.numpy())), expected, rtol=1e-5, atol=1e-6)


def test_what_comes_from_elsewhere_is_an_input_of_the_unit() -> None:
    for name, wanted in (("gate", "gate"), ("dynamic", "offset"), ("dynamic", "threshold")):
        network = made(name)
        assert wanted in the_unit(network, image(network, 1)).inputs
    network = made("a shortcut of its own")
    assert "shortcut" in the_unit(network, image(network, 1)).inputs


def test_bits_that_fall_are_turned_unless_a_border_of_ones_would_have_to_be() -> None:
    torch.manual_seed(0)
    for border, kinds in ((0.0, ["binary_unit"]), (1.0, ["scale_shift", "binary_unit"])):
        network = unsettle(seq(bn(8), Sign(), conv(pad_value=border)), 0)
        network.get_parameter("0.weight").data[::2] = -0.7
        x = image(network, 2)
        plan = fuse(record(network, x[:1]))
        assert [operation.kind for operation in plan.operations] == kinds
        assert torch.equal(PlanRunner(plan)(x), network(x))


def test_what_somebody_else_reads_too_is_not_taken() -> None:
    torch.manual_seed(0)
    read = Own(lambda m, x: (y := m.conv(m.sign(x))) + m.bn(y), sign=Sign(), conv=conv(), bn=bn(8))
    network = unsettle(read, 0)
    x = image(network, 2)
    plan = fuse(record(network, x[:1]))
    assert "alpha" not in next(each for each in plan.operations if each.kind == "binary_unit").constants
    torch.testing.assert_close(PlanRunner(plan)(x), network(x))


def test_a_convolution_of_what_is_no_sign_stands_alone_and_the_reason_is_given() -> None:
    for network, reason in (
        (seq(nn.ReLU(), conv()), "its input is no sign"),
        (Own(lambda m, x: m.conv(F.avg_pool2d(m.sign(x), 2)), sign=Sign(), conv=conv()), "its input is no sign"),
    ):
        plan = fuse(record(network.eval(), torch.randn(1, 8, 6, 6)))
        assert list(low_bit_layers(plan)) == [("1" if isinstance(network, nn.Sequential) else "conv", reason)]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["bn", "prelu", "relu", "rprelu", "clip", "tanh", "pool", "add"]), max_size=5),
    st.sampled_from([(1, 0.0), (2, 0.0), (1, 1.0)]),
    st.booleans(),
    st.integers(0, 99),
)
def test_whatever_follows_a_convolution_gives_the_same(
    parts: list[str], window: tuple[int, float], falls: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    kinds: dict[str, Callable[[], nn.Module]] = {
        "bn": lambda: bn(8),
        "prelu": lambda: nn.PReLU(8),
        "relu": nn.ReLU,
        "rprelu": lambda: RPReLU(8),
        "clip": nn.Hardtanh,
        "tanh": nn.Tanh,
        "pool": lambda: nn.MaxPool2d(2, 1),
    }
    modules = {f"{part}{i}": kinds[part]() for i, part in enumerate(parts) if part != "add"}
    before = {"first": bn(8)} if falls else {}

    def forward(m: Any, x: Tensor) -> Tensor:
        y: Tensor = m.conv(m.sign(m.first(x) if falls else x))
        for i, part in enumerate(parts):
            if part != "add":
                y = m.get_submodule(f"{part}{i}")(y)
            elif y.shape == x.shape:
                y = y + x
        return y

    binary = conv(stride=window[0], pad_value=window[1])
    network = unsettle(Own(forward, sign=Sign(), conv=binary, **before, **modules), seed)
    x = image(network, 2, 7)
    plan = fuse(record(network, x[:1]))
    assert sum(operation.kind == "binary_unit" for operation in plan.operations) == 1
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(PlanRunner(plan)(x), expected, rtol=1e-5, atol=1e-5)
    got = torch.from_numpy(reference.run(plan, x.numpy()))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert math.isfinite(float(got.sum()))
