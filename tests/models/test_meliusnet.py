"""MeliusNet against its authors' own code, and Real-to-Binary Net's unit against its formula."""

import pytest
import torch

from bcdzoo import count_ops, create_model
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import of_step
from bcdzoo.layers.quantizers.sign import ClippedSignWeight
from bcdzoo.models.meliusnet import DenseBlock, ImprovementBlock
from bcdzoo.models.realtobinary import GatedUnit
from bcdzoo.weights.convert import convert_state
from tests.weights import authors


@pytest.mark.parametrize("name", ["meliusnet-22", "meliusnet-42", "meliusnet-59"])
def test_the_authors_own_code_gives_the_same_logits_for_the_same_weights(name: str) -> None:
    record = authors.record(name)
    state = authors.state(record["keys"])
    again = {key.replace("features.DenseBlock_4", "current_dense_block"): t for key, t in state.items()}
    model = create_model(name)
    model.load_state_dict(convert_state(state | again, model, name))  # their files hold the last block twice
    with torch.inference_mode():
        size = record["size"]
        logits = model.double().eval()(authors.images()[:, :, :size, :size].double())
    expected = torch.tensor(record["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-3, rtol=0)
    assert logits.argmax(1).tolist() == record["top1"]


def test_the_counts_are_those_of_larqs_own_summary() -> None:
    for name, bops, macs in (
        ("meliusnet-22", 4_624_220_160, 136_388_608),
        ("real-to-binary-r18", 1_676_279_808, 138_087_936),
    ):
        for padding in ("symmetric", "tensorflow"):
            report = count_ops(name, "dagger", padding=padding)
            assert (report.bops, report.flops) == (bops, macs)


def test_a_dense_block_appends_64_channels_and_an_improvement_block_changes_these_alone() -> None:
    x = torch.randn(2, 128, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        dense = DenseBlock(128, of_step(2, ClippedSignWeight)).eval()(x)
        improved = ImprovementBlock(192, of_step(2, ClippedSignWeight)).eval()(dense)
    assert dense.shape == improved.shape == (2, 192, 8, 8)
    assert torch.equal(dense[:, :128], x)
    assert torch.equal(improved[:, :128], x)
    new = dense[:, 128:]  # sums of 9·128 signs, fewer at the border: integers
    assert torch.equal(new, new.round())
    assert new[:, :, 1:-1, 1:-1].remainder(2).eq(0).all()  # an even number of odd terms
    assert not torch.equal(improved[:, 128:], new)


def test_a_gated_unit_is_its_formula() -> None:
    torch.manual_seed(0)
    unit = GatedUnit(
        16, 32, 2, torch.nn.Conv2d(16, 32, 1, stride=2), of_step(2, ClippedSignWeight), padding="symmetric"
    ).eval()
    x = torch.randn(3, 16, 8, 8)
    with torch.inference_mode():
        out = unit(x)
        a = unit.bn(x)
        scale = (unit.gate.expand.weight @ (unit.gate.reduce.weight @ a.mean((2, 3)).T).clamp(min=0)).sigmoid().T
        signs, weight = (torch.where(t >= 0, 1.0, -1.0) for t in (a, unit.conv.get_parameter("weight")))
        sums = torch.nn.functional.conv2d(signs, weight, stride=2, padding=1)
        scaled = sums * scale[:, :, None, None]
        slopes = torch.where(scaled > 0, 1.0, unit.activation.get_parameter("weight")[:, None, None])
        torch.testing.assert_close(out, scaled * slopes + unit.shortcut(x))
    assert not torch.equal(scale[0], scale[1])


def test_a_wrong_padding_is_one_clear_line() -> None:
    for name in ("birealnet-18", "meliusnet-22", "real-to-binary-r18"):
        with pytest.raises(BcdzooError, match="padding must be one of symmetric, tensorflow, not 'same'"):
            create_model(name, padding="same")
