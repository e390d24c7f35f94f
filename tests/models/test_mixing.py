"""The three binary operations that the paper compares, as arguments of BCDNet."""

from pathlib import Path
from typing import Any

import pytest
import torch

import bcdzoo
from bcdzoo.audit.audit import audit
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import Quantizers
from bcdzoo.layers.tokens import TokenMixing
from bcdzoo.models.bcdnet import MLPBlock
from bcdzoo.report.counts import counts
from bcdzoo.train.stages import train
from tests.packed.unsettled import unsettle
from tests.train.idx import stripes

FORMS: list[dict[str, Any]] = [
    {},
    {"mixing": "token"},
    {"mixing": "conv"},
    *({"branches": branches} for branches in ("local,short", "long, local", "short", "long")),
]


def drawn(name: str, **arguments: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return unsettle(bcdzoo.create_model(name, num_classes=10, **arguments), 0)


def images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_with_convolutions_bcdnet_has_the_operations_of_the_reactnet_that_it_is_compared_with() -> None:
    for convention in ("full", "dagger"):
        report = bcdzoo.count_ops("bcdnet-a-r18", convention, mixing="conv")
        known = counts()["reactnet-r18"]
        assert (report.bops, report.flops) == (known[convention]["bops"], known[convention]["flops"])
        assert report.params == known["params"]
    assert bcdzoo.count_ops("bcdnet-tiny", mixing="conv").bops == counts()["reactnet-tiny"]["full"]["bops"]
    assert bcdzoo.count_ops("bcdnet-a", mixing="conv").bops == counts()["reactnet-a"]["full"]["bops"]


@pytest.mark.parametrize(("name", "channels"), [("bcdnet-a", 1024), ("bcdnet-b", 1024), ("bcdnet-a-r18", 512)])
def test_each_form_has_the_binary_operations_of_its_formula(name: str, channels: int) -> None:
    pixels = 7 * 7
    usual = counts()[name]["full"]["bops"]
    branch = 9 * channels**2 * pixels  # of all nine blocks
    assert bcdzoo.count_ops(name, branches="local,short").bops == usual - branch
    assert bcdzoo.count_ops(name, branches="long").bops == usual - 2 * branch
    assert bcdzoo.count_ops(name, mixing="token").bops == usual - 3 * branch + 9 * pixels**2 * channels


def test_token_mixing_adds_up_all_positions_with_the_same_weights_in_every_channel() -> None:
    layer = TokenMixing(3, Quantizers())
    x = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0)).sign()
    weight = layer.conv.weight.detach()[:, :, 0, 0]
    scaled = weight.sign() * weight.abs().mean(1, keepdim=True)
    expected = torch.einsum("oi,nci->nco", scaled, x.flatten(2)).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(BcdzooError, match="for maps of 3×3, not of 4×3: use images of the network's own input size"):
        layer(torch.ones(1, 5, 4, 3))


def test_a_branch_that_is_left_out_is_not_added() -> None:
    whole, part = MLPBlock(8, Quantizers()).eval(), MLPBlock(8, Quantizers(), ("local", "long")).eval()
    with torch.no_grad():
        whole.get_parameter("short.weight").zero_()  # its scale, mean(|W|), is 0
    part.load_state_dict({key: value for key, value in whole.state_dict().items() if key in part.state_dict()})
    x = torch.randn(2, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(part(x), whole(x))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_each_form_is_binary_packed_and_learns_in_all_its_parameters(form: dict[str, Any]) -> None:
    network = drawn("bcdnet-tiny", **form)
    found = audit(network, "demo", images=4, preprocess="resize=28,crop=28")
    assert found.failure is None
    packed = bcdzoo.pack(network)
    assert not packed.unpacked
    with torch.inference_mode():
        torch.testing.assert_close(packed(images(28)), network(images(28)), rtol=1e-4, atol=1e-5)
    network.train()(images(28)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(("form", "fused"), [({"branches": "long"}, 22), ({"mixing": "token"}, 13)], ids=str)
def test_wide_blocks_of_one_branch_are_packed_as_a_whole(form: dict[str, Any], fused: int) -> None:
    network = drawn("bcdnet-a-r18", **form)
    packed = bcdzoo.pack(network)
    assert [reason for _, reason in packed.layers((3, 224, 224))].count("") == fused
    with torch.inference_mode():
        torch.testing.assert_close(packed(images(224)), network(images(224)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", [{"mixing": "token"}, {"branches": "local,short"}], ids=str)
def test_a_form_is_trained_in_two_steps_and_its_file_says_it(form: dict[str, Any], tmp_path: Path) -> None:
    quick = {"batch_size": 8, "iterations": 2, "warmup": 0, "step1.warmup": 0, "compile": False}
    _, last = train("bcdnet-tiny", stripes(tmp_path / "data"), tmp_path / "run", settings=quick | form, workers=0)
    network = bcdzoo.load_model("bcdnet-tiny", last.weights)
    assert network.state_dict().keys() == bcdzoo.create_model("bcdnet-tiny", **form).state_dict().keys()
    assert audit(str(last.weights), images=4).failure is None


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"mixing": "mixer"}, "mixing must be one of mlp, token, conv, not 'mixer'"),
        ({"branches": "near"}, "branches must be some of local,short,long, each once, not 'near'"),
        ({"branches": "long,long"}, "branches must be some of local,short,long, each once"),
        ({"branches": ""}, "branches must be some of local,short,long, each once"),
        ({"mixing": "conv", "branches": "long"}, "branches=long is of MLP blocks, which mixing=conv has none of"),
        ({"mlp_groups": 0, "mixing": "token"}, "mlp_groups=0 has no MLP stage"),
    ],
)
def test_what_cannot_be_built_is_one_line_that_names_what_can(form: dict[str, Any], message: str) -> None:
    with pytest.raises(BcdzooError, match=message):
        bcdzoo.create_model("bcdnet-a", **form)


def test_published_weights_of_another_form_are_refused_before_they_are_fetched() -> None:
    with pytest.raises(BcdzooError, match="is of mixing=mlp, not of mixing=token: give weights of this form"):
        bcdzoo.load_model("bcdnet-a", mixing="token")
    bcdzoo.load_model("bcdnet-tiny", branches="long,local,short")  # another spelling of the same
