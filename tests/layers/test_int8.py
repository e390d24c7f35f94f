import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bcdzoo import create_model
from bcdzoo.audit.audit import watched
from bcdzoo.bench.backends import Wanted, variants
from bcdzoo.evaluation.mode import STRICT
from bcdzoo.layers import int8
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.int8 import with_int8
from bcdzoo.layers.quantizers.sign import Sign

pytestmark = pytest.mark.skipif(not int8._available(), reason="this CPU or build of torch lacks the operation")


@settings(max_examples=60)
@given(
    n=st.integers(1, 5),
    c_in=st.integers(1, 70),
    c_out=st.integers(1, 40),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**31),
)
def test_integer_and_float_convolutions_give_the_same_bits(
    n: int, c_in: int, c_out: int, size: tuple[int, int], kernel: int, stride: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, (n, c_in, *size), generator=generator).float()  # a 0 is a position padded before
    signs = torch.randint(0, 2, (c_out, c_in, kernel, kernel), generator=generator).float() * 2 - 1
    scale = torch.rand(c_out, generator=generator)
    with torch.inference_mode():
        assert int8.applies(x)
        ours = int8.conv2d(x, signs, scale, stride, kernel // 2)
    assert torch.equal(ours, F.conv2d(x, signs, stride=stride, padding=kernel // 2) * scale[:, None, None])


def operations(network: nn.Module, x: torch.Tensor) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        network(x)
    return {event.key for event in profile.key_averages()}


INTEGERS = "onednn::qconv2d_pointwise"


@pytest.mark.parametrize(
    ("before", "pad_value"), [(nn.BatchNorm2d(8), 0.0), (nn.ReLU(), 0.0), (nn.Hardtanh(), 0.0), (Sign(), 0.5)]
)
@torch.inference_mode()
def test_what_is_not_of_whole_numbers_is_multiplied_as_it_is(before: nn.Module, pad_value: float) -> None:
    network = nn.Sequential(before, LowBitConv2d(8, 16, 3, pad_value=pad_value)).eval()
    images, faster = torch.randn(2, 8, 9, 9), with_int8(network)
    faster(torch.zeros_like(images))  # of which ReLU makes whole numbers
    assert torch.equal(faster(images), network(images))


@torch.inference_mode()
def test_a_network_computes_in_8_bits_where_it_is_asked_to_and_gives_the_same() -> None:
    torch.manual_seed(0)
    network = create_model("bcdnet-tiny").eval()
    before = {path: type(module) for path, module in network.named_modules()}
    images = torch.randn(2, 3, 28, 28)
    faster = with_int8(network)
    torch.testing.assert_close(faster(images), network(images), atol=1e-4, rtol=1e-4)
    assert INTEGERS in operations(faster, images) and INTEGERS not in operations(network, images)
    assert {path: type(module) for path, module in network.named_modules()} == before
    shared = dict(faster.named_parameters())
    assert all(shared[name] is parameter for name, parameter in network.named_parameters())


@torch.inference_mode()
def test_one_convolution_gives_the_same_bits_in_both() -> None:
    conv = LowBitConv2d(128, 64, 3).eval()
    x = torch.randn(2, 128, 14, 14).sign()
    assert torch.equal(with_int8(conv)(x), conv(x))


@torch.inference_mode()
def test_evaluation_and_benchmarks_ask_for_it_and_an_audit_does_not() -> None:
    network = create_model("bcdnet-tiny").eval()
    images = torch.randn(2, 3, 28, 28)
    assert INTEGERS in operations(STRICT.prepare(network), images)
    ((timed,), _) = variants(network, Wanted(("torch",), (), (2, 3, 28, 28)))
    assert isinstance(timed.run, nn.Module) and INTEGERS in operations(timed.run, images)
    assert not watched(network, [images], "it").unknown


def test_what_has_no_low_bit_convolution_stays_itself() -> None:
    for other in (nn.Linear(2, 2), LowBitConv2d(2, 2, 1, a_bits=32), create_model("bcdnet-tiny", step=1)):
        assert with_int8(other) is other


@torch.inference_mode()
def test_shared_cyclic_and_training_networks_are_taken_as_they_are() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = LowBitConv2d(4, 4, 3)
            self.missing = None
            self.register_module("nothing", None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.second(self.first(x).sign())
            return out

    network, x = Twice().eval(), torch.randn(1, 4, 5, 5).sign()
    network.first.register_module("owner", network)
    faster = with_int8(network)
    assert faster.first is faster.second and torch.equal(faster(x), network(x))
    assert INTEGERS not in operations(with_int8(LowBitConv2d(4, 4, 3).train()), x)


def test_what_is_not_float32_on_a_cpu_takes_the_ordinary_way() -> None:
    with torch.inference_mode():
        assert not int8.applies(torch.ones(1, dtype=torch.float64))
        assert not int8.applies(torch.ones(1, device="meta"))
    assert not int8.applies(torch.ones(1))  # a gradient may be wanted


@torch.inference_mode()
def test_weights_and_sizes_may_change_between_two_images() -> None:
    conv = LowBitConv2d(64, 64, 3).eval()
    faster = with_int8(conv)
    for n, size in (2, 14), (2, 14), (1, 14), (1, 7):
        x = torch.randn(n, 64, size, size).sign()
        assert torch.equal(faster(x), conv(x))
        conv.weight.data[0].neg_()  # behind autograd's back, which counts no version of it
        assert torch.equal(faster(x), conv(x))
