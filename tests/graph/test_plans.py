"""Every network of the zoo as a plan: it gives the network's logits, and nothing of what is fused gets lost.

``python -m tests.graph.test_plans`` writes the table of what is fused anew: look at its difference before committing.
"""

import csv
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcdzoo
from bcdzoo.graph.fuse import fuse, low_bit_layers
from bcdzoo.graph.recognise import recognise
from bcdzoo.graph.record import record
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan import reference
from bcdzoo.plan.plan import Plan
from bcdzoo.registry import find
from tests.packed.unsettled import unsettle
from tests.siblings import marked

TABLE = Path(__file__).with_name("fused.csv")
COLUMNS = ("network", "operations", "fused", "units", "alone", "why", "slow")
SEEDS = {"meliusnet-42": 2}  # of 1 a value is within one rounding of its threshold: its sign is a matter of order
# one for each kind of operation and order
IN_NUMPY = (
    *("bcdnet-tiny", "bcdnet-tiny-real", "birealnet-18", "abcnet-r18-5x5", "lqnet-r18-w1a2", "real-to-binary-r18"),
    *("meliusnet-22", "adabin-resnet20", "finn-cnv-w1a1", "sabnn-18", "bmxnet-lenet-mnist", "xnornet-r18"),
)


def side_of(name: str) -> int:
    """Small maps, but none of a single pixel in a unit; AlexNets and transformers take one size alone."""
    return find(name).input_size if "alexnet" in name or "vit" in name else min(find(name).input_size, 64)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return unsettle(bcdzoo.create_model(name), 0)


def images(name: str, n: int = 2) -> Tensor:
    side, seed = side_of(name), SEEDS.get(name, 1)
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def recorded(plain: nn.Module, name: str) -> tuple[Plan, Plan]:
    """The plan as it is recorded, and fused."""
    plan = record(plain, images(name, 1), name)
    return plan, fuse(recognise(plan))


def row(plan: Plan, fused: Plan) -> dict[str, Any]:
    """What the table says of a network."""
    reasons = [reason for _, reason in low_bit_layers(fused)]
    why = Counter(reason for reason in reasons if reason)
    slow = Counter(operation.kind for operation in PlanRunner(fused).slow)
    values = (
        plan.model,
        len(plan.operations),
        len(fused.operations),
        reasons.count(""),
        sum(why.values()),
        "; ".join(sorted(why)),
        "; ".join(f"{kind} ×{count}" for kind, count in sorted(slow.items())),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def table() -> dict[str, dict[str, str]]:
    with TABLE.open(newline="") as file:
        return {line["network"]: line for line in csv.DictReader(file)}


def close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", marked(bcdzoo.list_models()))
def test_a_network_is_fused_as_the_table_says_and_gives_its_logits(name: str) -> None:
    plain = network(name)
    plan, fused = recorded(plain, name)
    assert row(plan, fused) == table()[name]
    x = images(name)
    with torch.inference_mode():
        expected, got = plain(x), PlanRunner(fused)(x)
    close(got, expected, 1e-5)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_a_plan_gives_the_logits_of_its_network_in_plain_numpy(name: str) -> None:
    plain = network(name)
    plan, fused = recorded(plain, name)
    x = images(name, 1)
    with torch.inference_mode():
        expected = plain(x)
    for one in (plan, fused) if name in IN_NUMPY[:3] else (fused,):
        close(torch.from_numpy(reference.run(one, x.numpy())), expected, 1e-5)


def test_the_table_has_a_line_for_each_network() -> None:
    assert list(table()) == bcdzoo.list_models()


if __name__ == "__main__":
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for each in bcdzoo.list_models():
            line = row(*recorded(network(each), each))
            writer.writerow(line)
            sys.stderr.write(f"{line}\n")
