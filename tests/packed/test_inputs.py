"""What packed networks and the kernels are given, and refuse: nothing is converted in silence, nothing crashes."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native
from bcdzoo.packed.chain import Chain, describe, describe_stem
from bcdzoo.packed.pack import PackedNetwork, pack
from bcdzoo.plan.operations import Operation
from tests.packed.test_kernels import unsettle
from tests.packed.units import unit

NETWORKS = ("bcdnet-tiny", "dorefa-r18-w2a2", "real-to-binary-r18")  # stem packed, several bits, stem in torch


@pytest.fixture(scope="module", params=NETWORKS)
def both(request: pytest.FixtureRequest) -> tuple[nn.Module, PackedNetwork]:
    torch.manual_seed(0)
    plain = unsettle(bcdzoo.create_model(request.param), 0)
    return plain, pack(plain)


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64])
def test_another_number_format_is_refused_as_the_plain_network_refuses_it(
    both: tuple[nn.Module, PackedNetwork], dtype: torch.dtype
) -> None:
    plain, packed = both
    x = images().to(dtype)
    with pytest.raises(RuntimeError), torch.inference_mode():
        plain(x)
    with pytest.raises(BcdzooError, match=rf"takes images as torch.float32 .*, not {dtype}"):
        packed(x)


@pytest.mark.parametrize("x", [images()[0], images()[None], images().reshape(-1), images().numpy(), [1.0], None])
def test_what_is_no_batch_of_images_is_refused(both: tuple[nn.Module, PackedNetwork], x: Any) -> None:
    with pytest.raises(BcdzooError, match="takes"):
        both[1](x)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_another_number_of_channels_is_refused(both: tuple[nn.Module, PackedNetwork], channels: int) -> None:
    with pytest.raises((BcdzooError, RuntimeError), match="channels"):
        both[1](torch.zeros(1, channels, 32, 32))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_images_that_are_not_finite_are_refused(both: tuple[nn.Module, PackedNetwork], value: float) -> None:
    x = images()
    x[1, 2, 3, 4] = value
    with pytest.raises(BcdzooError, match="not finite"):
        both[1](x)


def test_no_image_gives_no_logits(both: tuple[nn.Module, PackedNetwork]) -> None:
    plain, packed = both
    with torch.inference_mode():
        expected = plain(images()[:0])
    assert packed(images()[:0]).shape == expected.shape


def test_a_view_in_any_order_of_memory_gives_the_same_logits(both: tuple[nn.Module, PackedNetwork]) -> None:
    x = images(4)
    expected = both[1](x)
    for view in (
        x.contiguous(memory_format=torch.channels_last),
        x.repeat_interleave(2, dim=3)[..., ::2],
        x.flip(0).flip(0),
        torch.cat([torch.zeros(1, 3, 32, 32), x])[1:],
    ):
        assert torch.equal(both[1](view), expected)
    one = x[:1].expand(3, -1, -1, -1)
    assert torch.equal(both[1](one), both[1](one.contiguous()))


def test_a_network_with_a_parameter_that_is_no_number_is_refused() -> None:
    network = unsettle(bcdzoo.create_model("bcdnet-tiny"), 0)
    keys = [key for key, values in network.state_dict().items() if values.is_floating_point() and values.numel() > 1]
    for key in keys[:: len(keys) // 6]:
        wrong = deepcopy(network)
        wrong.state_dict()[key].view(-1)[1] = torch.nan
        with pytest.raises(BcdzooError, match=f"{key} has values that are not numbers"):
            pack(wrong)


# --- the kernels


@pytest.fixture(scope="module")
def kernels() -> Any:
    return native.kernels()


@pytest.mark.parametrize("words", [-1, 0, 1 << 20, 1 << 40, 1.5, "1", None])
def test_a_peak_of_no_sensible_number_of_words_is_refused(kernels: Any, words: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        kernels.peak(words, 1, "")


@pytest.mark.parametrize("threads", [-1, 0, 1 << 20, 1 << 40, None])
def test_a_peak_of_no_sensible_number_of_threads_is_refused(kernels: Any, threads: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        kernels.peak(1, threads, "")


def test_unknown_instructions_are_refused(kernels: Any) -> None:
    with pytest.raises(ValueError, match="no kernels named"):
        kernels.peak(1, 1, "mmx")
    assert kernels.peak(1, 1, "") > 0
    assert kernels.peak(1 << 12, 1, "portable") > 0


def described() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A unit, a stem and an ending as the kernels take them."""
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 2, (8, 4, 3, 3), generator=draw) * 2 - 1
    one = unit(levels, {"inner_slope": torch.ones(8)}, padding=(1, 1, 1, 1))
    window: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "groups": 1, "relu": 1}
    arrays = {"weight": draw_of(4, 3, 3, 3), "alpha": np.ones(4, np.float32), "beta": np.zeros(4, np.float32)}
    pool = Operation("pool", {"x": 1}, {"name": "max", "kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)})
    stem = describe_stem([Operation("conv", {"x": 0}, window, arrays), pool])
    return describe(one, 4), stem, {"alpha": np.ones(8, np.float32), "beta": np.zeros(8, np.float32)}


def draw_of(*shape: int) -> np.ndarray:
    """Weights."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_description_as_it_is_makes_a_chain(kernels: Any) -> None:
    one, stem, ending = described()
    assert kernels.Chain([one], stem, ending).output(8, 8) == (2, 2, 8)


ODD: list[Any] = [
    *(None, -1, 0, 3, 99, 1 << 40, 1 << 70, 0.5, float("nan"), "x", b"x", [], {}, True, object()),
    *(np.zeros(8), np.zeros(8, np.float32), np.zeros((8, 8), np.float32), np.zeros(0, np.float32)),
    *(np.zeros((8, 9, 1), np.int64), np.zeros((8, 9, 0), np.uint64), np.zeros((1, 9, 1), np.uint64)),
    *(np.zeros((4, 3, 3, 3)), np.zeros((4, 3, 3, 3), np.float32), np.zeros((0, 3, 3, 3), np.float32)),
    *(np.zeros((4, 3, 0, 0), np.float32), np.zeros((4, 3, 99, 99), np.float32)),
]


@given(st.data())
def test_a_description_with_something_odd_in_it_is_refused_or_runs_and_never_crashes(data: st.DataObject) -> None:
    module = native.kernels()
    assert module is not None
    one, stem, ending = described()
    tables = [one, one["branches"][0], stem, stem["layers"][0], ending]
    for _ in range(data.draw(st.integers(1, 2))):
        table = data.draw(st.sampled_from(tables))
        key = data.draw(st.sampled_from(sorted(table)))
        if data.draw(st.integers(0, 9)):
            table[key] = data.draw(st.sampled_from(ODD))
        elif len(table) > 1:
            del table[key]
    try:
        chain = module.Chain([one], stem, ending)
        height, width, channels = chain.output(8, 8)
        out = np.zeros((1, height, width, channels), np.float32)
        of_image: dict[str, Any] = dict.fromkeys(("shortcut", "threshold", "gate", "offset"))
        x = np.zeros((1, 8, 8, 3), np.float32)
        chain.run(x, out, **of_image, threads=2, instructions="", nanoseconds=None)
    except (ValueError, TypeError):
        pass


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.zeros((1, 8, 8, 3))},
        {"x": np.zeros((1, 8, 8, 3), np.float16)},
        {"x": np.zeros((1, 8, 8, 3), np.int32)},
        {"x": np.zeros((8, 8, 3), np.float32)},
        {"x": np.zeros((1, 8, 8, 4), np.float32)},
        {"x": np.zeros((1, 0, 8, 3), np.float32)},
        {"x": np.zeros((2, 8, 8, 3), np.float32)},
        {"x": np.broadcast_to(np.float32(0), (1, 1 << 15, 1, 3))},
        {"x": None},
        {"out": np.zeros((1, 2, 2, 8))},
        {"out": np.zeros((1, 2, 2, 7), np.float32)},
        {"out": np.zeros((1, 2, 8, 2), np.float32).transpose(0, 1, 3, 2)},
        {"out": np.broadcast_to(np.float32(0), (1, 2, 2, 8))},
        {"gate": np.zeros((1, 8), np.float32)},
        {"shortcut": np.zeros((1, 4, 4, 8), np.float32)},
        {"threads": 0},
        {"threads": -5},
        {"threads": 1 << 20},
        {"instructions": "x"},
        {"instructions": None},
        {"nanoseconds": np.zeros(2, np.int64)},
        {"nanoseconds": np.zeros(1)},
    ],
)
def test_a_run_with_something_odd_is_refused(kernels: Any, changed: dict[str, Any]) -> None:
    one, stem, ending = described()
    chain = kernels.Chain([one], stem, ending)
    arguments: dict[str, Any] = {
        "x": np.zeros((1, 8, 8, 3), np.float32),
        "out": np.zeros((1, 2, 2, 8), np.float32),
        **dict.fromkeys(("shortcut", "threshold", "gate", "offset", "nanoseconds")),
        "threads": 1,
        "instructions": "",
    }
    chain.run(**arguments)
    with pytest.raises((ValueError, TypeError)):
        chain.run(**arguments | changed)


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (1 << 20, 8), (1 << 40, 8), (1, 1)])
def test_maps_of_sizes_that_cannot_be_are_refused(kernels: Any, size: tuple[int, int]) -> None:
    one, stem, ending = described()
    with pytest.raises((ValueError, TypeError)):
        kernels.Chain([one], stem, ending).output(*size)


@pytest.mark.parametrize("arguments", [([], None, None), ([None], None, None), ([{}], None, None), (None, None, None)])
def test_a_chain_of_nothing_is_refused(kernels: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, TypeError)):
        kernels.Chain(*arguments)
    one, stem, ending = described()
    with pytest.raises((ValueError, TypeError)):
        kernels.Chain([one], {}, ending)
    with pytest.raises((ValueError, TypeError)):
        kernels.Chain([one], stem, {})


def test_a_chain_says_what_the_kernels_refuse_in_one_line() -> None:
    chain = Chain([unit(torch.ones(8, 4, 1, 1), name="blocks.0")], (4, 2, 2))
    for x in (torch.zeros(1, 5, 2, 2), torch.zeros(1, 4, 2, 2).double(), torch.zeros(1, 4, 0, 2)):
        with pytest.raises(BcdzooError) as error:
            chain(x)
        assert str(error.value).startswith("blocks.0: ") and "\n" not in str(error.value)
