"""Binary units in groups give the same, narrow ones split, and nothing is left to the slow reference."""

import pytest
import torch
from torch import Tensor, nn

from bcdzoo.graph.fuse import fuse
from bcdzoo.graph.groups import without_groups
from bcdzoo.graph.record import record
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.sign import RSign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.packed.run import PlanRunner
from tests.engine.random_plans import difference, random_plan
from tests.packed.unsettled import unsettle


class Unit(nn.Module):
    """A unit of groups, and a classifier."""

    def __init__(self, channels: int, c_out: int, groups: int, shortcut: bool = True) -> None:
        super().__init__()
        conv = LowBitConv2d(channels, c_out, 3, groups=groups)
        unit = BinaryUnit(RSign(channels), conv, c_out, nn.PReLU(c_out), nn.Conv2d(channels, c_out, 1))
        plain = nn.Sequential(unit.sign, unit.conv, unit.bn, unit.activation)
        self.layers = nn.Sequential(unit if shortcut else plain, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


@pytest.mark.parametrize(
    ("channels", "c_out", "groups", "shortcut", "units"),
    [
        (64, 64, 2, True, 1),  # 32 outputs each: the kernels compute whole groups
        (128, 40, 4, False, 4),
        (96, 6, 3, True, 3),
        (64, 64, 4, True, 4),
        (32, 32, 32, False, 32),
    ],
)
def test_units_in_narrow_groups_are_split_and_give_the_same(
    channels: int, c_out: int, groups: int, shortcut: bool, units: int
) -> None:
    network = unsettle(Unit(channels, c_out, groups, shortcut), 0).eval()
    x = torch.randn(2, channels, 7, 6, generator=torch.Generator().manual_seed(0))
    plan = fuse(record(network, x[:1]))
    assert sum(each.kind == "binary_unit" for each in plan.operations) == units
    runner = PlanRunner(plan)
    assert not any(each.kind == "binary_unit" for each in runner.slow)
    with torch.inference_mode():
        torch.testing.assert_close(runner(x), network(x), rtol=1e-5, atol=1e-5)


def test_random_plans_give_the_same_when_their_narrow_groups_are_split() -> None:
    examples = [random_plan(seed) for seed in range(120)]
    plans = [(each, without_groups(each.plan)) for each in examples]
    split = [(each, plan) for each, plan in plans if len(plan.operations) > len(each.plan.operations)]
    assert len(split) > 5
    for each, plan in split:
        got = PlanRunner(plan)(torch.from_numpy(each.images)).numpy()
        assert not difference(got, each.expected, each.exact)
