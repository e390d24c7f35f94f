"""Recording: what torch computes is what the plan says, and what a plan cannot say is named, never silently wrong."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.graph.fuse import fuse
from bcdzoo.graph.recognise import recognise
from bcdzoo.graph.record import NotLoweredError, record
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan import reference

WEIGHT = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A function with a few modules at hand."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv, self.bn, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)
        assert self.bn.running_mean is not None
        self.bn.running_mean.normal_()

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def head(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def images(n: int) -> Tensor:
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(n))


def into(y: Tensor, change: Callable[[Tensor], Any]) -> Tensor:
    """A tensor after something was done to it."""
    change(y)
    return y


def with_view(y: Tensor, change: Callable[[Tensor], Any], view: Callable[[Tensor], Tensor]) -> Tensor:
    """A view that was taken before something was done to what it shows."""
    seen = view(y)
    change(y)
    return seen


SAME: dict[str, Callable[[Any, Tensor], Any]] = {
    "a module twice": lambda m, x: head(m.conv(m.conv(x))),
    "a number from the shape": lambda m, x: head(x * x.shape[2] / 4),
    "a number for each channel": lambda m, x: head(x * m.conv.weight.mean((1, 2, 3)).reshape(1, 4, 1, 1)),
    "a map of one number": lambda m, x: head(x + torch.full_like(x, 3.0)),
    "the batch's size": lambda m, x: x.reshape(x.size(0), -1),
    "a copy that is changed": lambda m, x: head(into(x.clone(), lambda y: y.mul_(2)) + x),
    "a detached result": lambda m, x: head(into(m.conv(x).detach(), lambda y: y.add_(1))),
    "a changed result": lambda m, x: head(into(m.conv(x), lambda y: F.relu(y, inplace=True))),
    "an alias that is itself": lambda m, x: head(with_view(m.conv(x), lambda y: y.add_(1), lambda y: y.contiguous())),
    "a given result": lambda m, x: head(into(m.conv(x), lambda y: torch.add(x, 1, out=y))),
    "a sum that begins with zeros": lambda m, x: head(into(torch.zeros(1, 4, 1, 1), lambda y: y.add_(1)) + x),
    "one minus": lambda m, x: head(1 - x),
    "dropout in evaluation": lambda m, x: head(m.drop(x)),
    "parts": lambda m, x: head(x.chunk(2, 1)[0] * x[:, 2:]),
    "negative": lambda m, x: head(-x),
    "even windows": lambda m, x: head(F.adaptive_avg_pool2d(x, 2)),
    "a half": lambda m, x: head(x / 2),
    "weights of weights": lambda m, x: head(F.conv2d(x, m.conv.weight.abs() * 2)),
    "comparisons": lambda m, x: head((x > 0.1).float() + (x <= 0.3).float() + (x < 0).to(x.dtype) + (x >= 1) * 2),
    "a choice of numbers": lambda m, x: head(torch.where(x > 0, 2.0, torch.full_like(x, -1.0))),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_recorded_is_what_torch_computes(name: str) -> None:
    network = Net(SAME[name]).eval()
    plan = record(network, images(1))
    x = images(3)
    with torch.inference_mode():
        expected = network(x)
        for each in plan, fuse(recognise(plan)):
            torch.testing.assert_close(PlanRunner(each)(x), expected)
            torch.testing.assert_close(torch.from_numpy(reference.run(each, x.numpy())), expected)


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "a write into a part": (lambda m, x: head(into(m.conv(x), lambda y: y[:, :3].mul_(2))), "writes into a part"),
    "an assignment": (lambda m, x: head(into(m.conv(x), lambda y: y.__setitem__((0, 0), 0))), "__setitem__"),
    "a write through an alias": (lambda m, x: head(into(x * 1, lambda y: y.detach().add_(1))), "another view"),
    "a view of what is changed": (
        lambda m, x: head(with_view(m.conv(x), lambda y: y.mul_(3), lambda y: y[:, :2])),
        "another view of it",
    ),
    "a view of a constant that is written into": (
        lambda m, x: (
            head(x)
            + with_view(torch.zeros(1, 4, 1, 1), lambda y: y.add_(x.mean((2, 3), keepdim=True)), lambda y: y.view(4))
        ),
        "another view of it",
    ),
    "its data": (lambda m, x: head(into(m.conv(x), lambda y: y.data.add_(1))), "data.__get__"),
    "its data set": (lambda m, x: head(into(m.conv(x), lambda y: setattr(y, "data", x))), "data.__set__"),
    "a copy into a constant": (lambda m, x: head(into(torch.zeros(1, 4, 8, 8), lambda y: y.copy_(x))), "copy_"),
    "an item": (lambda m, x: head(x * head(x)[:, :1].item()), "item: what follows depends on the image's numbers"),
    "a branch": (lambda m, x: head(x) if head(x)[:, :1] > 0 else head(x * 2), "__bool__"),
    "a float": (lambda m, x: head(x * float(head(x)[:, :1])), "__float__"),
    "a comparison of all": (lambda m, x: head(x) if torch.equal(x, x) else x, "equal"),
    "weights from the image": (lambda m, x: head(F.conv2d(x, x[:, :, :3, :3])), "weights depend on the image"),
    "einsum": (lambda m, x: head(torch.einsum("nchw,oc->nohw", x, WEIGHT[:, :, 0, 0])), "einsum"),
    "images that are mixed": (lambda m, x: x.view(2, -1), "mixes images"),
    "images that are averaged": (lambda m, x: head(x - x.mean(0, keepdim=True)), "a mean over images"),
    "a mean of all": (lambda m, x: head(x - x.mean()), "a mean over images"),
    "images behind each other": (lambda m, x: head(torch.cat([x, x])), "not of channels"),
    "normalization in training": (lambda m, x: head(m.bn.train()(x)), "bn: a normalization by the statistics"),
    "dropout in training": (lambda m, x: head(m.drop.train()(x)), "drop: dropout, which is random"),
    "chance": (lambda m, x: head(x + torch.rand(1, 4, 1, 1)), "draws random numbers"),
    "chance of its shape": (lambda m, x: head(x + torch.rand_like(x)), "rand_like"),
    "double": (lambda m, x: head(x.to(torch.float64)).float(), "numbers of type torch.float64"),
    "double by the way": (lambda m, x: head(x + torch.ones(1, 4, 1, 1).double()).float(), "torch.float64"),
    "half": (lambda m, x: head(x.to(torch.float16)).float(), "numbers of type torch.float16"),
    "one or the other": (lambda m, x: head(((x > 0) + (x > 1)).float()), "numbers of type torch.bool"),
    "a choice of maps": (lambda m, x: head(torch.where(x > 0, x, x * 2)), "a choice between maps"),
    "two results": (lambda m, x: (head(x), head(x)), "no tensor that depends on the image"),
    "a table": (lambda m, x: {"logits": head(x)}, "no tensor that depends on the image"),
    "no image": (lambda m, x: torch.ones(1, 3), "no tensor that depends on the image"),
    "a third": (lambda m, x: head(x / 3), "no power of two"),
    "a constant of another place": (lambda m, x: head(x + torch.arange(8.0)), "differs along rows or columns"),
    "arguments that nobody knows": (lambda m, x: head(F.max_pool2d(x, 2, dilation=2)), "dilation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_plan_cannot_say_is_named(name: str) -> None:
    function, reason = REFUSED[name]
    with pytest.raises(NotLoweredError) as error:
        record(Net(function).eval(), images(1), "own")
    assert reason in str(error.value) and str(error.value).startswith("own is no plan: ")
    assert isinstance(error.value, BcdzooError) and "\n" not in str(error.value)


def test_the_place_is_the_module_that_does_it() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.ReLU(), nn.GELU()))
    with pytest.raises(NotLoweredError, match=r"1\.1: nn.functional.gelu is no operation of a plan"):
        record(network, images(1))


def test_many_tensors_that_are_freed_are_not_mistaken_for_one_another() -> None:
    def many(m: Any, x: Tensor) -> Tensor:
        for number in range(200):
            x = x + torch.full((1, 4, 1, 1), float(number % 3))  # of an id and memory that may have been another's
        return head(x)

    network, x = Net(many).eval(), images(2)
    torch.testing.assert_close(PlanRunner(record(network, images(1)))(x), network(x))


def test_a_network_that_runs_in_other_threads_meanwhile_is_recorded_all_the_same() -> None:
    torch.manual_seed(0)
    network = bcdzoo.create_model("bcdnet-tiny").eval()
    image = torch.rand(1, 3, 28, 28)
    expected, stop = record(network, image), threading.Event()

    def busy() -> None:
        with torch.no_grad():
            while not stop.is_set():
                network(image)

    others = [threading.Thread(target=busy) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for _ in range(5):
            found = record(network, image)
            assert [(each.kind, each.inputs, each.name) for each in found.operations] == [
                (each.kind, each.inputs, each.name) for each in expected.operations
            ]
    finally:
        stop.set()
        for other in others:
            other.join()
