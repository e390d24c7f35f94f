"""The products that a plan cannot do without."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import bcdzoo
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.base import Levels
from bcdzoo.layers.unit import AveragedHeads
from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.operations import Operation
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.work import Work, work
from bcdzoo.registry import find
from tests.packed.units import unit


def test_a_small_plan_counted_by_hand() -> None:
    """Of a 3×3 kernel on 4×4 pixels a corner has 4 taps inside, an edge 6, what is not at the border 9."""
    taps = 4 * 4 + 8 * 6 + 4 * 9
    assert work(Plan((8, 4, 4), (unit(torch.ones(5, 8, 3, 3), padding=(1, 1, 1, 1)),))) == Work(5 * 8 * taps, 0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    assert work(plan_of(network.eval(), (3, 4, 4))) == Work(0, 8 * 3 * taps + 80)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_as_many_as_ones_count_in_a_convolution_of_zeros_and_ones(data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, kernel, size = draw(1, 2), (draw(1, 4), draw(1, 4)), (draw(4, 9), draw(4, 9))
    stride, dilation = (draw(1, 3), draw(1, 3)), (1, draw(1, 2))
    padding = tuple(draw(0, 3) for _ in range(4))
    c_in, c_out = 2 * groups, 3 * groups
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if any(s + padding[a] + padding[a + 2] < extent[a] for a, s in enumerate(size)):
        return
    fields: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    top, left, bottom, right = padding
    ones = F.pad(torch.ones(1, c_in, *size), (left, right, top, bottom))
    weight = torch.ones(c_out, c_in // groups, *kernel)
    expected = int(F.conv2d(ones, weight, None, stride, 0, dilation, groups).sum())
    levels = unit(weight, {"threshold": torch.zeros(c_in)}, **fields)
    assert work(Plan((c_in, *size), (levels,))) == Work(expected, 0)
    real = Operation("conv", {"x": 0}, fields | {"same": 0, "pad_value": 0.0, "relu": 0}, {"weight": weight.numpy()})
    assert work(Plan((c_in, *size), (real,))) == Work(0, expected)


@pytest.mark.parametrize(
    "name", ["bcdnet-tiny", "dorefa-r18-w2a2", "lqnet-r18-w1a2", "abcnet-r18-5x5", "finn-cnv-w1a1"]
)
def test_of_a_network_each_layer_counts_for_every_pair_of_its_planes(name: str) -> None:
    network, size = bcdzoo.create_model(name).eval(), min(find(name).input_size, 64)
    counted = work(plan_of(network, (3, size, size)))
    found = {"binary": 0, "real": 0}

    def count(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x = inputs[0].values if isinstance(inputs[0], Levels) else inputs[0]
        if isinstance(module, nn.Linear | AveragedHeads):  # whose two heads are one
            found["real"] += (module if isinstance(module, nn.Linear) else module.fc).weight.numel()
            return
        weight, low = torch.ones_like(module.weight), isinstance(module, LowBitConv2d)
        ones = torch.ones(1, *x.shape[-3:])
        padding: Any = module.padding
        taps = int(F.conv2d(ones, weight, None, module.stride, padding, module.dilation, module.groups).double().sum())
        planes = module.w_bits * module.w_bases * module.a_bits * module.a_bases if low else 1
        found["binary" if low and 32 not in (module.w_bits, module.a_bits) else "real"] += taps * planes

    for module in network.modules():
        if isinstance(module, LowBitConv2d | nn.Conv2d | nn.Linear | AveragedHeads):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.randn(1, 3, size, size))
    assert counted == Work(**found)
