"""Every method of the zoo learns: forward and backward of its quantizers work together, on tiny networks."""

import importlib
import json
import pkgutil
from typing import Any

import pytest
import torch
from torch import nn

import bcdzoo.layers.quantizers
import bcdzoo.models
from bcdzoo.layers.quantizers.base import WeightQuantizer, set_training_progress
from bcdzoo.layers.quantizers.sign import _WeightSign
from scripts.tiny_methods import METHODS, low_bit_layers, network
from scripts.train_tiny import DATA, FIGURES, top1
from tests.docs.blocks import ROOT

figures: dict[str, dict[str, Any]] = json.loads(FIGURES.read_text(encoding="utf-8"))


def bar(method: str) -> float:
    """Halfway between what a method reached and what it reaches with frozen low-bit layers, in percent."""
    learned, frozen = figures[method]["top1"], figures[method]["frozen"]
    return float(learned + frozen) / 2


def gradients(method: str, control: str = "") -> nn.Module:
    """A method's network in the middle of its training, with the gradients of a batch."""
    torch.manual_seed(0)
    built = network(method, control).train()
    set_training_progress(built, 0.5)
    images, labels = torch.rand(32, 3, 28, 28) * 2 - 1, torch.arange(32) % 10
    nn.functional.cross_entropy(built(images), labels).backward()
    return built


def reached(method: str, control: str = "") -> list[bool]:
    """For each low-bit layer, whether its weights have a gradient."""
    layers = low_bit_layers(gradients(method, control))
    return [layer.weight.grad is not None and bool(layer.weight.grad.any()) for layer in layers]


def before(method: str, control: str = "") -> torch.Tensor:
    """The gradient of the network's first weights; zeros where none gets there."""
    first = next(p for p in gradients(method, control).parameters() if p.ndim == 4)
    return torch.zeros_like(first) if first.grad is None else first.grad


def quantizers() -> set[type[nn.Module]]:
    """Every class of a quantizer: those beside each other in one folder, and what networks have of their own."""
    for folder in (bcdzoo.layers.quantizers, bcdzoo.models):
        for module in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f"{folder.__name__}.{module.name}")
    found, left = set(), [nn.Module]
    while left:
        left += (more := left.pop().__subclasses__())
        found |= {one for one in more if issubclass(one, WeightQuantizer) or "layers.quantizers" in one.__module__}
    return {one for one in found if one.__module__.startswith("bcdzoo") and not one.__name__.startswith("_")}


def test_every_quantizer_of_the_zoo_is_in_a_tiny_network_whose_figures_are_stored() -> None:
    used = {kind for method in METHODS for module in network(method).modules() for kind in type(module).__mro__}
    assert quantizers() <= used and len(used & quantizers()) > 20
    assert METHODS.keys() == figures.keys()


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_of_every_low_bit_layer_have_a_gradient(method: str) -> None:
    assert all(reached(method)) and reached(method)
    assert not any(reached(method, "frozen"))


@pytest.mark.parametrize("method", METHODS)
def test_the_quantizers_of_activations_pass_a_gradient_to_what_is_before_them(method: str) -> None:
    assert not torch.equal(before(method), before(method, "blocked"))


def test_the_stored_figures_are_in_the_documentation() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    table = page.split("## Every method learns")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    cells = [row[i : i + 4] for row in rows[1:] for i in (0, 4) if len(row) > i and row[i]]
    assert {name: tuple(numbers) for name, *numbers in cells if name != ""} == {
        method: (f"{one['top1']:.1f}", f"{one['frozen']:.1f}", f"{bar(method):.1f}") for method, one in figures.items()
    }


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs apt-get install dataset-fashion-mnist")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_through_its_low_bit_layers(method: str) -> None:
    assert figures[method]["top1"] - figures[method]["frozen"] >= 3
    assert top1(method) >= bar(method)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs apt-get install dataset-fashion-mnist")
def test_a_method_whose_weights_get_no_gradient_does_not_reach_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_WeightSign, "backward", lambda ctx, grad: (torch.zeros_like(grad), None))
    assert top1("birealnet") < bar("birealnet")
