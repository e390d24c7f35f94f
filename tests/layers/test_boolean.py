"""Maps of signs: what is computed with them, its gradients, and their slices."""

import itertools

import pytest
import torch
from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.graph.fuse import fuse
from bcdzoo.graph.record import record
from bcdzoo.layers.boolean import Either, Interleave, SignBorder, SliceMean, Xnor, evens_first
from bcdzoo.layers.quantizers.boolnet import GradualSignWeight, SlicedSign
from bcdzoo.packed.run import PlanRunner

PAIRS = list(itertools.product((False, True), repeat=2))


@pytest.mark.parametrize(
    ("layer", "truth", "gradients"),
    [
        (Xnor(), lambda a, b: a == b, [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)]),
        (Either(), lambda a, b: a or b, [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0)]),
    ],
)
def test_a_layer_of_two_maps_is_its_truth_table(layer: nn.Module, truth: object, gradients: list[object]) -> None:
    for (a, b), expected in zip(PAIRS, gradients, strict=True):
        x, y = (torch.tensor(1.0 if bit else -1.0, requires_grad=True) for bit in (a, b))
        out = layer(x, y)
        out.backward()
        assert out.item() == (1 if truth(a, b) else -1)  # type: ignore[operator]
        assert (x.grad, y.grad) == expected


@pytest.mark.parametrize(
    ("slices", "thresholds"), [(1, [0]), (2, [1 / 2, -1 / 2]), (4, [2 / 3, 1 / 3, -1 / 3, -2 / 3])]
)
def test_slices_are_signs_at_even_thresholds_one_behind_the_other(slices: int, thresholds: list[float]) -> None:
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    out = SlicedSign(slices)(x)
    expected = torch.cat([torch.where(x >= threshold, 1.0, -1.0) for threshold in thresholds], 1)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert torch.equal(x.grad, sum(((x - t).abs() < 1).float() for t in thresholds))  # type: ignore[arg-type]


@pytest.mark.parametrize("slices", [0, 3, -2])
def test_an_odd_number_of_slices_is_refused(slices: int) -> None:
    with pytest.raises(BcdzooError, match="slices must be 1 or an even number"):
        SlicedSign(slices)


def test_weights_become_signs_in_the_course_of_training_and_are_signs_in_evaluation() -> None:
    weight = torch.tensor([-2.0, -0.2, 0.1, 3.0]).reshape(2, 2, 1, 1).requires_grad_()
    quantizer = GradualSignWeight(400, order=[1, 0])
    levels, scale = quantizer(weight)
    assert levels.flatten().tolist() == pytest.approx([-0.2, -1, 1, 0.1])  # in the order that is asked for
    assert scale.tolist() == pytest.approx([1.1, 1.55])
    quantizer.set_progress(1)
    assert quantizer(weight)[0].flatten().tolist() == [-1, -1, 1, 1]
    quantizer.set_progress(0)
    levels, scale = quantizer.eval()(weight)
    assert levels.flatten().tolist() == [-1, -1, 1, 1]
    (levels * scale[:, None, None, None]).sum().backward()
    # a level passes the scale on within [-1, 1]; the scale passes the levels' sum, halved, on to each magnitude
    assert weight.grad.flatten().tolist() == pytest.approx([1.0, 1.1 + 1.0, 1.55 + 1.0, 1.0])  # type: ignore[union-attr]


def test_the_border_of_signs_repeats_the_outermost_ones() -> None:
    x = torch.where(torch.randn(2, 3, 4, 5) >= 0, 1.0, -1.0)
    assert torch.equal(SignBorder(2)(x), nn.ReplicationPad2d(2)(x))
    assert SignBorder(0)(x) is x


def test_evens_first_is_taken_back() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    assert evens_first(x).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert torch.equal(Interleave()(evens_first(x)), x)


@pytest.mark.parametrize(
    "layer", [SlicedSign(4), SignBorder(2), SliceMean(2), Interleave(), nn.ReplicationPad2d((1, 2, 0, 3))]
)
def test_layers_of_signs_are_the_same_packed(layer: nn.Module) -> None:
    signs = nn.Sequential(SlicedSign(1), layer, nn.Flatten()).eval()
    x = torch.randn(3, 8, 6, 7)
    assert torch.equal(PlanRunner(fuse(record(signs, x[:1])))(x), signs(x))
