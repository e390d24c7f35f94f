"""What torch does with packed networks: it copies, pickles and compiles around them, and looks into none."""

import copy
import io
import multiprocessing
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.packed.checkpoint import export
from bcdzoo.packed.pack import PackedNetwork

TINY = "bcdnet-tiny"


@pytest.fixture(scope="module", params=["packed", "plan"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    if request.param == "packed":
        return bcdzoo.pack(bcdzoo.load_model(TINY))
    path = tmp_path_factory.mktemp("plan") / "net.bcz"
    export(TINY, path)
    return bcdzoo.load_packed(path)


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def saved(network: nn.Module) -> Any:
    content = io.BytesIO()
    torch.save(network, content)
    content.seek(0)
    return torch.load(content, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network)), saved])
@pytest.mark.parametrize("has_run", [False, True])
def test_a_copy_gives_the_same_logits_and_carries_the_same(
    network: nn.Module, copied: Callable[[nn.Module], Any], has_run: bool
) -> None:
    first = copy.deepcopy(network)
    if has_run:
        first(images())
    again = copied(first)
    assert torch.equal(again(images()), network(images()))
    assert again.preprocess == network.preprocess and again.class_names == network.class_names
    assert not again.training


@pytest.mark.slow
def test_another_process_gets_the_network(network: nn.Module) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (logits,) = pool.map(network, [images()])
    assert torch.equal(logits, network(images()))


def test_compiling_leaves_a_packed_network_as_it_is(network: nn.Module) -> None:
    expected = network(images())
    assert torch.equal(torch.compile(network, backend="eager")(images()), expected)
    around = nn.Sequential(nn.Hardtanh(-9, 9), network, nn.Softmax(1))
    assert torch.equal(torch.compile(around, backend="eager")(images()), expected.softmax(1))


@pytest.mark.filterwarnings("ignore")  # of what torch deprecates
@pytest.mark.parametrize(
    "look",
    [
        lambda network: torch.export.export(network, (images(),)),
        lambda network: torch.export.export(network, (images(),), strict=True),
        lambda network: torch.export.export(nn.Sequential(network, nn.ReLU()), (images(),)),
        lambda network: torch.jit.trace(network, images()),
        lambda network: torch.jit.trace(nn.Sequential(network, nn.ReLU()), images()),
        lambda network: torch.jit.script(network),
        lambda network: torch.jit.script(nn.Sequential(network, nn.ReLU())),
        lambda network: torch.onnx.export(network, (images(),), os.devnull, dynamo=False),
    ],
)
def test_what_looks_inside_is_told_what_to_use_instead(network: nn.Module, look: Callable[[nn.Module], Any]) -> None:
    expected = network(images())
    with pytest.raises(BcdzooError, match="cannot look into a packed network: `bcdzoo export`") as error:
        look(network)
    assert "\n" not in str(error.value)
    assert torch.equal(network(images()), expected)


@pytest.mark.parametrize(
    "move",
    [
        *(lambda network: network.half(), lambda network: network.double(), lambda network: network.bfloat16()),
        *(lambda network: network.to(torch.float64), lambda network: network.type(torch.float16)),
        *(lambda network: network.to("meta"), lambda network: network.to_empty(device="meta")),
        *(lambda network: network.to("cuda:99"), lambda network: network.cuda(99), lambda network: network.to("xpu")),
        lambda network: nn.Sequential(network).half(),
    ],
)
def test_another_device_or_number_format_is_refused_and_changes_nothing(
    network: nn.Module, move: Callable[[nn.Module], Any]
) -> None:
    moved = copy.deepcopy(network)
    with pytest.raises(BcdzooError, match=r"a packed network (runs in float32|stays) on the CPU") as error:
        move(moved)
    assert "\n" not in str(error.value)
    assert torch.equal(moved(images()), network(images()))


def test_what_changes_nothing_is_allowed(network: nn.Module) -> None:
    same = copy.deepcopy(network).to("cpu").float().to(torch.float32).requires_grad_(False).train().train(False)
    same.share_memory()
    assert torch.equal(same(images()), network(images()))
    assert torch.equal(nn.DataParallel(same)(images()), network(images()))
    order = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert torch.allclose(order(images()), network(images()), atol=1e-5)


def test_a_packed_network_has_no_training_mode(network: nn.Module) -> None:
    network.train()
    assert not any(module.training for module in network.modules())
    fresh = copy.deepcopy(network)
    assert torch.equal(nn.Sequential(fresh).train()(images()), network(images()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_of_another_form_are_refused(network: nn.Module, dtype: torch.dtype) -> None:
    for odd in (images().to(dtype), images()[0], images().to("meta"), images().to_sparse(), images().numpy()):
        with pytest.raises(BcdzooError, match="a packed network takes") as error:
            network(odd)
        assert "\n" not in str(error.value)


def test_what_is_packed_is_packed_again_from_its_network_if_it_has_one(network: nn.Module) -> None:
    if isinstance(network, PackedNetwork):
        assert torch.equal(bcdzoo.pack(network)(images()), network(images()))
    else:
        with pytest.raises(BcdzooError, match="PlanNetwork is packed: packing needs the network itself"):
            bcdzoo.pack(network)
    with pytest.raises(BcdzooError, match="Sequential has packed parts: packing needs the network itself"):
        bcdzoo.pack(nn.Sequential(network))


def test_a_compiled_network_is_packed_like_itself() -> None:
    plain = bcdzoo.load_model(TINY)
    expected = bcdzoo.pack(plain)
    for wrapped in (torch.compile(plain, backend="eager"), nn.DataParallel(plain)):
        packed = bcdzoo.pack(wrapped)  # type: ignore[arg-type]
        assert torch.equal(packed(images()), expected(images()))
        assert packed.class_names == plain.class_names
