"""What packed networks and the engine are given, and refuse: nothing is converted in silence, nothing crashes."""

import random
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
from bcdzoo.packed.pack import PackedNetwork, pack
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import Array, Operation
from bcdzoo.plan.plan import Plan
from scripts.fuzz_plan import changed_bytes, changed_plan
from tests.packed.units import unit
from tests.packed.unsettled import unsettle
from tests.plan.examples import GEOMETRY, LOW_BIT, POOL, QUANTIZE, bits, real

NETWORKS = ("bcdnet-tiny", "dorefa-r18-w2a2", "real-to-binary-r18")  # one bit, several, gates


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


# --- the engine


@pytest.fixture(scope="module")
def engine() -> Any:
    return native.kernels()


ODD_THREADS = [-1, 0, 1025, 1 << 20, 1 << 40, 1 << 70, 1.5, "1", None]


@pytest.mark.parametrize("rate", ["peak", "float_peak"])
def test_a_rate_is_measured_with_what_makes_sense_alone(engine: Any, rate: str) -> None:
    measure = getattr(engine, rate)
    for threads in ODD_THREADS:
        with pytest.raises((ValueError, TypeError)):
            measure(threads, "portable")
    for instructions in ("", "mmx", "portable\0", "PORTABLE", None, b"portable"):
        with pytest.raises((ValueError, TypeError)):
            measure(1, instructions)
    assert measure(3, "portable") > 0


def small_plan() -> Plan:
    """A stem, pooling, a unit and a map of few bits."""
    window = GEOMETRY | {"pad_value": 0.0}
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    levels = torch.randint(0, 2, (8, 4, 3, 3), generator=torch.Generator().manual_seed(0)) * 2 - 1
    one = unit(levels, {"inner_slope": torch.ones(8)}, padding=(1, 1, 1, 1))
    return Plan(
        (3, 8, 8),
        (
            Operation("conv", {"x": 0}, window | {"relu": 1}, {"weight": weight}),
            Operation("pool", {"x": 1}, POOL | {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}),
            Operation(one.kind, {"x": 2}, one.fields, one.constants),
            Operation("quantize", {"x": 3}, QUANTIZE),
            Operation(
                "low_bit_conv",
                {"x": 4},
                LOW_BIT | {"pad_value": 0.0},
                {"planes": bits(1, 2, 9, 1), "scale": real(2), "a_scale": real(1)},
            ),
        ),
    )


CONTENT = np.frombuffer(encode(small_plan()), np.uint8)
IMAGES = np.ones((2, 3, 8, 8), np.float32)
OUT = np.zeros((2, 32), np.float32)


@pytest.mark.parametrize(
    "content",
    [
        *(None, "x", b"x", 1, [], {}, CONTENT.tolist()),
        *(
            CONTENT.astype(np.int8),
            CONTENT.astype(np.float32),
            CONTENT[None],
            CONTENT[:, None],
            CONTENT[::2],
            CONTENT[::-1],
        ),
        *(CONTENT[:0], CONTENT[:1], CONTENT[:63], CONTENT[:64], CONTENT[:-1], np.zeros(1000, np.uint8)),
        np.concatenate([CONTENT, CONTENT[:64]]),
        np.broadcast_to(np.uint8(0), (1 << 16,)),
    ],
)
def test_what_is_no_plan_is_refused(engine: Any, content: Any) -> None:
    for hashed in (False, True):
        with pytest.raises((ValueError, TypeError)):
            engine.Network(content, hashed, True)


def test_a_hash_that_is_not_the_contents_is_refused_if_it_is_asked_for(engine: Any) -> None:
    changed = CONTENT.copy()
    changed[-70] ^= 1  # a bit of a constant
    engine.Network(changed, hashed=False, map=True)
    with pytest.raises(ValueError, match="hash"):
        engine.Network(changed, hashed=True, map=True)
    with pytest.raises(ValueError, match="logits"):
        engine.Network(CONTENT, hashed=True)  # gives a map


def test_content_may_lie_anywhere_and_be_changed_afterwards(engine: Any) -> None:
    images, results = np.ones((2, 3, 8, 8), np.float32), []
    for offset in (0, 1, 7):
        spread = np.zeros(len(CONTENT) + offset, np.uint8)
        spread[offset:] = CONTENT
        network = engine.Network(spread[offset:], True, True)
        spread[:] = 255
        results.append(np.zeros((2, 32), np.float32))
        network.run(images, results[-1], 1, "portable")
    assert results[0].any() and all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("operations", [1, 3000])
def test_a_small_plan_that_needs_gigabytes_is_refused(engine: Any, operations: int) -> None:
    side = 1 << 10 if operations > 1 else 1 << 13  # a map of one channel is kept as one of 16
    weight = {"weight": np.ones((1, 1, 3, 3), np.float32)}
    convs = (Operation("conv", {"x": i}, GEOMETRY | {"relu": 0}, weight) for i in range(operations))
    content = np.frombuffer(encode(Plan((1, side, side), tuple(convs))), np.uint8)
    with pytest.raises(ValueError, match="would need too much memory"):
        engine.Network(content, False, True)


@given(st.data())
def test_a_damaged_plan_is_refused_or_runs_and_never_crashes(data: st.DataObject) -> None:
    module = native.kernels()
    assert module is not None
    dice = random.Random(data.draw(st.integers(0, 1 << 32)))
    content = encode(changed_plan(small_plan(), dice))
    if dice.random() < 0.5:
        content = changed_bytes(content, dice)
    try:
        network = module.Network(np.frombuffer(content, np.uint8), hashed=False, map=True)
        if network.arena_bytes < 1 << 22:
            network.run(IMAGES, np.zeros((2, int(np.prod(network.output))), np.float32), 2, native.chosen())
    except (ValueError, MemoryError):
        pass


@pytest.mark.parametrize(
    "changed",
    [
        *({"images": odd} for odd in (None, 1.0, [], [[[[1.0]]]], "x", IMAGES.tolist())),
        *({"images": IMAGES.astype(dtype)} for dtype in (np.float64, np.float16, np.int32, np.uint8, np.complex64)),
        *({"images": IMAGES.astype(dtype)} for dtype in (">f4",)),
        *({"images": odd} for odd in (IMAGES[0], IMAGES[None], IMAGES[:1], IMAGES[:0], IMAGES[:, :2], IMAGES[..., :7])),
        {"images": IMAGES.transpose(0, 2, 3, 1)},
        {"images": np.zeros((2, 3, 0, 8), np.float32)},
        {"images": np.broadcast_to(np.float32(0), (1 << 21, 3, 8, 8))},
        *(
            {"out": odd}
            for odd in (None, OUT.tolist(), OUT[0], OUT[:1], OUT[:, :31], OUT[None], OUT.astype(np.float64))
        ),
        {"out": np.asfortranarray(OUT)},
        {"out": np.zeros((2, 64), np.float32)[:, ::2]},
        {"out": OUT[::-1]},
        {"out": np.broadcast_to(np.float32(0), (2, 32))},
        {"out": np.frombuffer(bytes(256), np.float32).reshape(2, 32)},  # cannot be written to
        *({"threads": odd} for odd in ODD_THREADS),
        *({"instructions": odd} for odd in ("", "mmx", "x" * 10_000, None, 1)),
        *({"nanoseconds": np.zeros(count, np.int64)} for count in (0, 4, 6)),
        *(
            {"nanoseconds": odd}
            for odd in (1, "x", np.zeros(5), np.zeros((5, 1), np.int64), np.zeros(10, np.int64)[::2])
        ),
        {"nanoseconds": np.frombuffer(bytes(40), np.int64)},
    ],
)
def test_a_run_with_something_odd_is_refused(engine: Any, changed: dict[str, Any]) -> None:
    network = engine.Network(CONTENT, True, True)
    spent = np.zeros(5, np.int64)
    arguments = {"images": IMAGES, "out": OUT, "threads": 1, "instructions": "portable", "nanoseconds": spent}
    network.run(**arguments)
    assert spent[[0, 1, 2, 4]].all()  # 3 is part of 4
    with pytest.raises((ValueError, TypeError)):
        network.run(**arguments | changed)


def test_a_run_takes_images_in_any_order_of_memory(engine: Any) -> None:
    network = engine.Network(CONTENT, True, True)
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    twice = np.repeat(np.repeat(images, 2, axis=3), 3, axis=1)
    mapped = np.frombuffer(images.tobytes(), np.float32).reshape(images.shape)  # cannot be written to
    off = np.zeros(images.nbytes + 4, np.uint8)[4:].view(np.float32).reshape(images.shape)
    off[:] = images

    def run(given: Array, threads: int = 1) -> Array:
        out = np.zeros((len(given), 32), np.float32)
        network.run(given, out, threads, native.chosen())
        return out

    expected = run(images)
    views = (
        *(images[::-1][::-1], images.copy()[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1]),
        *(np.asfortranarray(images), images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)),
        *(twice[:, ::3, :, ::2], mapped, off),
    )
    for view in views:
        assert np.array_equal(run(view), expected)
    assert np.array_equal(run(np.broadcast_to(images[0], images.shape)), expected[[0, 0, 0]])
    assert run(images[:0]).shape == (0, 32)
    assert np.array_equal(run(images, 64), expected)


def test_a_plan_says_what_the_engine_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = PlanRunner(small_plan())
    monkeypatch.setattr("bcdzoo.packed.run.encode", lambda _: bytes(CONTENT[:-64]))
    with pytest.raises(BcdzooError, match="this network cannot be packed: ") as error:
        runner(torch.zeros(1, 3, 8, 8))
    assert "\n" not in str(error.value)
    with pytest.raises(BcdzooError, match="this plan is for images of 3×8×8, not 3×8×0"):
        runner(torch.zeros(1, 3, 8, 0))
