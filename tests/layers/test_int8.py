import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bcdzoo import create_model
from bcdzoo.layers import int8
from bcdzoo.layers.binary_conv import BinaryConv2d

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


def test_a_network_gives_the_same_signs_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    conv = BinaryConv2d(128, 64, 3).eval()  # in training the ordinary way is always taken
    x = torch.randn(2, 128, 14, 14).sign()
    with torch.no_grad():
        inference = conv(x)
    assert torch.equal(inference, conv(x))
    model = create_model("bcdnet-a", num_classes=10).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        inference = model(images)
    torch.testing.assert_close(inference, model(images), atol=1e-4, rtol=1e-4)


def test_what_is_not_float32_on_a_cpu_takes_the_ordinary_way() -> None:
    with torch.inference_mode():
        assert not int8.applies(torch.ones(1, dtype=torch.float64))
        assert not int8.applies(torch.ones(1, device="meta"))
    assert not int8.applies(torch.ones(1))  # a gradient may be wanted
