"""Whole networks: packed they say what they say plain."""

import copy
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.int8 import with_int8
from bcdzoo.layers.quantizers.dorefa import DoReFaWeight
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.packed import native
from bcdzoo.packed.pack import PackedConv2d
from bcdzoo.packed.run import PlanRunner, say_once
from bcdzoo.registry import REGISTRY, find
from bcdzoo.report.counts import counts
from tests.graph.test_plans import SEEDS
from tests.packed.instructions import each_instruction_set, forced
from tests.packed.unsettled import unsettle
from tests.siblings import marked

LOW_BIT = [name for name in bcdzoo.list_models() if any(bits.a_bits < 32 for bits in REGISTRY[name].bits)]
LARGE = {name for name in LOW_BIT if counts().get(name, {"params": 0})["params"] > 10**8}
_SHORTCUTS = [f"stages.{stage}.0.shortcut.conv: real-valued activations" for stage in (1, 2, 3)]
UNPACKED = {
    "binaryalexnet": ["convolutions.0.conv: real-valued activations"],
    "abbnn-r18": _SHORTCUTS,
    "abbnn-r34": _SHORTCUTS,
    **{
        f"bnas-{size}": [f"cells.{cells - 1}.nodes.3.{term}.conv: real-valued weights" for term in range(2)]
        for size, cells in zip("defgh", (12, 12, 15, 11, 16), strict=True)
    },
}
SMALLER = [name for name in LOW_BIT if name not in LARGE]


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return unsettle(bcdzoo.create_model(name, num_classes=10), 0)


def images(n: int, height: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def agree(plain: nn.Module, packed: nn.Module, x: Tensor, chaotic: bool = False) -> None:
    with torch.inference_mode():
        if chaotic:
            plain = with_int8(plain)  # in the arithmetic of an evaluation
        expected, got = plain(x), packed(x)
        allowed = 1e-4 * expected.abs().max()
        if chaotic:  # the plain network's own logits change with the batch that an image is in
            allowed = max(allowed, 2 * (torch.cat([plain(image) for image in x.split(1)]) - expected).abs().max())
    assert (got - expected).abs().max() <= allowed
    assert chaotic or torch.equal(got.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("name", marked(LOW_BIT, slow="alexnet"))
def test_a_packed_network_gives_the_logits_of_the_plain_one(name: str) -> None:
    plain = network(name)
    before = copy.deepcopy(plain.state_dict())
    packed = bcdzoo.pack(plain)
    assert packed.unpacked == UNPACKED.get(name, [])
    side = find(name).input_size
    is_fixed = find(name).dataset in ("mnist", "cifar10") or "alexnet" in name or "vit" in name
    odd = (96, 64) if name.startswith("bnas-") else (95, 70)  # BNAS halves even maps alone
    sides = (side, side) if is_fixed else odd
    agree(plain, packed, images(3, *sides, seed=SEEDS.get(name, 1)), chaotic=name in LARGE)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize(("name", "alone"), [("binaryalexnet", 4), ("dorefanet-alexnet", 4)])
def test_an_alexnets_convolutions_are_packed(name: str, alone: int) -> None:
    torch.manual_seed(0)
    plain = unsettle(bcdzoo.create_model(name, num_classes=0), 0)
    packed = bcdzoo.pack(plain)
    assert len(packed.layers((3, 64, 95))) == alone
    with torch.inference_mode():
        torch.testing.assert_close(packed(images(2, 64, 95)), plain(images(2, 64, 95)))


def test_dilated_convolutions_are_packed_bit_for_bit() -> None:
    torch.manual_seed(0)
    conv = LowBitConv2d(70, 20, 3, dilation=2)
    network = nn.Sequential(Sign(), conv).eval()
    for size in ((2, 13, 8), (1, 3, 1), (1, 4, 4)):
        x = torch.randn(size[0], 70, *size[1:])
        with torch.inference_mode():
            assert torch.equal(bcdzoo.pack(network)(x), network(x))


@pytest.mark.parametrize(
    ("other", "is_slow"),
    [
        ({"dilation": 2, "stride": 2}, False),
        ({"dilation": 2, "padding": 0}, False),
        ({"dilation": 3, "pad_value": 1.0}, False),
        ({"dilation": 2, "padding": "tensorflow", "kernel_size": 2}, False),
        ({"padding": 5, "pad_value": -1.0}, False),
        ({"pad_value": 0.5}, True),
        ({"pad_value": 0.5, "padding": 0}, False),
        ({"kernel_size": 1, "padding": 1, "pad_value": 2.0}, True),
        ({"kernel_size": 17, "dilation": 2, "padding": 16}, False),
        ({"groups": 2}, False),
        ({"groups": 2, "c_in": 64, "c_out": 64}, False),
        ({"groups": 3, "c_in": 288, "c_out": 96, "kernel_size": 1}, False),
        ({"groups": 2, "c_in": 70, "c_out": 128, "dilation": 2, "pad_value": 1.0}, False),
        ({"quantizer": DoReFaWeight(2), "groups": 2, "c_in": 24, "c_out": 64, "pad_value": -1.0}, False),
        ({"groups": 16, "stride": 2, "padding": "tensorflow"}, False),
        ({"groups": 4, "dilation": 2, "pad_value": 1.0, "c_out": 4}, False),
        ({"groups": 160, "c_in": 160, "c_out": 160}, False),
        ({"groups": 1040, "c_in": 1040, "c_out": 1040}, True),
        ({"quantizer": DoReFaWeight(2), "groups": 4}, True),
        ({"quantizer": DoReFaWeight(3), "dilation": 2, "stride": 2, "pad_value": 1.0}, False),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_any_window_is_packed_bit_for_bit_and_slow_ones_are_named(
    other: dict[str, Any], is_slow: bool, alone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    say_once.cache_clear()
    chosen = {"c_in": 16, "c_out": 32, "kernel_size": 3} | other
    conv = LowBitConv2d(**chosen).eval()
    packed = PackedConv2d(conv) if alone else bcdzoo.pack(nn.Sequential(Sign(), conv))
    for size in ((2, 13, 8), (1, 7, 7)):
        x = Sign()(torch.randn(size[0], chosen["c_in"], *size[1:])).detach()
        with torch.inference_mode():
            assert torch.equal(packed(x), conv(x))
    runner = next(iter(packed._runners.values()))
    assert isinstance(runner, PlanRunner)
    assert any(each.kind in ("binary_unit", "low_bit_conv") for each in runner.slow) == is_slow
    assert capsys.readouterr().err.count("1 of its low-bit operations runs by the engine's slow reference") == is_slow


def test_weights_of_more_bits_than_a_plan_holds_are_refused() -> None:
    with pytest.raises(BcdzooError, match="weights of more than 8 bits"):
        bcdzoo.pack(nn.Sequential(Sign(), LowBitConv2d(8, 8, 3, quantizer=DoReFaWeight(9))))
    with torch.inference_mode():
        bcdzoo.pack(nn.Sequential(Sign(), LowBitConv2d(8, 8, 3, quantizer=DoReFaWeight(8))))(torch.randn(1, 8, 5, 5))


@each_instruction_set
@pytest.mark.parametrize("name", ["bcdnet-b", "meliusnet-22", "real-to-binary-r18", "lqnet-r18-w1a2"])
def test_every_instruction_set_gives_the_same_logits(name: str, instructions: str) -> None:
    plain = network(name)
    with forced(instructions):
        agree(plain, bcdzoo.pack(plain), images(2, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bcdnet-a", "bcdnet-b", "meliusnet-22", "birealnet-18"])
def test_full_sized_images_get_the_same_logits(name: str) -> None:
    plain = network(name)
    agree(plain, bcdzoo.pack(plain), images(33, 224, 224))


@pytest.mark.parametrize(
    ("name", "build", "reason"),
    [
        ("bwn-r18", {}, "real-valued activations"),
        ("bcdnet-a", {"step": 1}, "real-valued weights"),
        ("resnet-18", {}, "no low-bit layers"),
    ],
)
def test_what_cannot_be_packed_says_why(name: str, build: dict[str, Any], reason: str) -> None:
    with pytest.raises(BcdzooError, match=reason):
        bcdzoo.pack(bcdzoo.create_model(name, **build))


def test_layers_that_stay_plain_are_named() -> None:
    mixed = nn.Sequential(
        bcdzoo.create_model("bwn-r18").get_submodule("stages.0"),
        bcdzoo.create_model("birealnet-18").get_submodule("stages.0"),
    )
    unpacked = bcdzoo.pack(mixed).unpacked
    assert unpacked
    assert all(line.startswith("0.") and line.endswith("real-valued activations") for line in unpacked)


def test_a_copy_of_a_packed_network_is_its_own() -> None:
    packed = bcdzoo.pack(network("birealnet-18"))
    x = images(1, 64, 64)
    expected = packed(x)
    twin = copy.deepcopy(packed)
    packed.load_state_dict({key: torch.zeros_like(values) for key, values in packed.state_dict().items()})
    assert torch.equal(twin(x), expected)
    assert not packed(x).any()


class Doubling(nn.Module):
    """Something that no plan has."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def test_a_network_that_is_no_plan_is_packed_convolution_by_convolution(capsys: pytest.CaptureFixture[str]) -> None:
    plain = nn.Sequential(network("birealnet-18").get_submodule("stages.0"), Doubling()).eval()
    packed = bcdzoo.pack(plain)
    x = torch.randn(2, 64, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(packed(x), plain(x))
    assert "1: Tensor.cumsum is no operation of a plan; packed convolution by convolution" in capsys.readouterr().err
    assert {reason for _, reason in packed.layers((64, 9, 9))} == {"the network is no plan"}


def test_part_of_a_network_that_gives_a_map_is_packed_too() -> None:
    plain = network("birealnet-18").get_submodule("stages.0")
    packed = bcdzoo.pack(plain)
    x = torch.randn(3, 64, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(packed(x), plain(x))
    runner = packed.runner((64, 9, 9))
    assert isinstance(runner, PlanRunner) and [each.kind for each in runner.plan.operations] == ["binary_unit"] * 4


def test_threads_may_share_a_packed_network() -> None:
    packed = bcdzoo.pack(network("birealnet-18"))
    inputs = [images(3, 40 + i, 64) for i in range(4)]
    expected = [packed(x) for x in inputs]
    got: dict[int, Tensor] = {}

    def work(number: int) -> None:
        for _ in range(5):
            got[number] = packed(inputs[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[number], expected[number]) for number in range(4))


FORKED = """
import os, torch, bcdzoo
torch.manual_seed(0)
packed = bcdzoo.pack(bcdzoo.create_model("birealnet-18", num_classes=10))
x = torch.randn(4, 3, 64, 64)
before = packed(x)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(packed.runner((3, 64, 64))(x), before) else 1)
assert os.waitpid(child, 0)[1] == 0
assert torch.equal(packed(x), before)
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)


def test_a_forked_process_has_threads_of_its_own() -> None:
    done = run(FORKED)
    assert done.returncode == 0, done.stderr


WITHOUT = """
import sys
sys.modules["bcdzoo.packed._engine"] = None  # as where there was no compiler
import torch, bcdzoo
plain = bcdzoo.create_model("birealnet-18").eval()
packed, again = bcdzoo.pack(plain), bcdzoo.pack(plain)
x = torch.randn(1, 3, 64, 64)
with torch.inference_mode():
    assert torch.equal(packed(x), plain(x))
assert not packed.is_packed
"""


def test_without_kernels_everything_works_in_torch_with_one_notice() -> None:
    done = run(WITHOUT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the 1-bit kernels are missing") == 1


def test_an_instruction_set_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "mmx")
    with pytest.raises(BcdzooError, match="mmx: this processor has "):
        native.chosen()


def test_the_kernels_are_built_for_this_machine() -> None:
    assert native.instruction_sets()[-1] == "portable"


def test_a_name_is_not_packed() -> None:
    with pytest.raises(BcdzooError, match=r"only a torch.nn.Module can be packed, not 'bcdnet-tiny'"):
        bcdzoo.pack("bcdnet-tiny")  # type: ignore[arg-type]


def test_weights_that_are_written_into_after_packing_are_those_that_are_run() -> None:
    torch.manual_seed(0)
    packed, x = bcdzoo.pack(bcdzoo.create_model("bcdnet-tiny")), torch.randn(2, 3, 28, 28)
    for change in (
        lambda: packed.network.get_parameter("blocks.0.spatial.conv.weight").neg_(),
        lambda: packed.network.get_buffer("stem.bn.running_mean").add_(1),
        lambda: packed.load_state_dict(bcdzoo.pack(bcdzoo.create_model("bcdnet-tiny")).state_dict()),
    ):
        before = packed(x)
        with torch.no_grad():
            change()
        assert not torch.allclose(packed(x), before)
        agree(packed.network, packed, x)
