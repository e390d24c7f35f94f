"""Every network of the registry; adding one needs no new test code here."""

import importlib
import inspect
import re
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import bcdzoo
from bcdzoo.bits import REAL, Bits, bits_label
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.int8 import with_int8
from bcdzoo.layers.metadata import layer_bits
from bcdzoo.layers.quantizers.dorefa import DoReFaActivation
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.models import tiny
from bcdzoo.models.bcdnet import tradeoff_widths
from bcdzoo.ops.conventions import CONVENTIONS
from bcdzoo.registry import REGISTRY, ModelSpec, find, list_models
from bcdzoo.report.counts import counts, derived_forms
from bcdzoo.report.listing import summary
from bcdzoo.report.tables import SHIPPED, rows
from bcdzoo.weights.manifest import load_manifest
from tests.siblings import marked
from tests.weights import authors

NAMES = bcdzoo.list_models()
ARITHMETIC = marked(NAMES, slow="alexnet")  # these are held by larq's own logits (tests/weights/test_larq.py)
OURS = {"bcdnet-tiny", "bcdnet-tiny-real", "reactnet-tiny"}  # in no table
UPDATES = {"rbonn-r18": 2}  # whose u weighs the gradient of the update before
SIZE = 64  # of the images here, for networks of larger ones: nearly all are fully convolutional


def build(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return bcdzoo.create_model(name, num_classes=10, **arguments)


def described(name: str, **arguments: Any) -> nn.Module:
    """The same without values, for what they do not matter to."""
    with torch.device("meta"):
        return bcdzoo.create_model(name, **arguments)


def images(n: int, name: str = "", seed: int = 1) -> torch.Tensor:
    side = min(SIZE, find(name).input_size) if name else SIZE
    side = 224 if "alexnet" in name or "vit" in name else side  # whose classifiers, or positions, are of a whole map
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_a_network_maps_images_to_logits_and_every_parameter_learns(name: str) -> None:
    model = build(name).train()
    for module in model.modules():
        scale = getattr(module, "weight", None)
        if isinstance(module, nn.BatchNorm2d) and scale is not None and not scale.any():
            nn.init.ones_(scale)  # the last one of a block may start at 0, which lets no gradient through
    n = 3 if "alexnet" in name else 2  # two maps of one pixel are normalized to ±1, where a sign has no gradient
    for _ in range(UPDATES.get(name, 1)):
        logits = model(images(n, name))
        assert logits.shape == (n, 10)
        assert logits.dtype == torch.float32
        nn.functional.cross_entropy(logits, torch.arange(n)).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@pytest.mark.parametrize("name", ARITHMETIC)
def test_a_networks_logits_do_not_depend_on_the_batch_nor_on_how_they_are_computed(name: str) -> None:
    model = build(name).eval()
    x = images(3, name, seed=4)  # with 1 a sum of bnext-s is so near 0 that its sign is a matter of rounding
    with torch.inference_mode():
        together = model(x)
        alone = torch.cat([model(image[None]) for image in x])
    size = together.abs().max()  # of the logits, which are sums of terms as large as these
    torch.testing.assert_close(together / size, alone / size, atol=1e-4, rtol=1e-4)
    faster = with_int8(model)
    with torch.inference_mode():
        torch.testing.assert_close(faster(x[:1]) / size, alone[:1] / size, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_a_networks_weights_survive_safetensors(name: str, tmp_path: Path) -> None:
    model = build(name)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.manual_seed(9)
    other = bcdzoo.create_model(name, num_classes=10).eval()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    with torch.inference_mode():
        assert torch.equal(model.eval()(images(1, name)), other(images(1, name)))


# The sums of all networks are in the report's tests as well: here it is each kind of operation, and each form.
COUNTED = [name for name in NAMES if len(counts()[name]["forms"]) > 1 or find(name).dataset != "imagenet"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in COUNTED else pytest.mark.slow) for n in NAMES])
def test_the_shipped_counts_are_those_of_a_new_count(name: str) -> None:
    report = bcdzoo.count_ops(name, "full")
    assert report.unsupported == []
    assert report.params == sum(p.numel() for p in described(name).parameters())
    ace = report.under(CONVENTIONS["ace"])
    macs = sum(layer.counts.get("mac", 0) for layer in report.layers)  # the FLOPs under the other convention
    assert counts()[name] == {
        "params": report.params,
        "kinds": report.counts,
        "full": {"bops": report.bops, "flops": report.flops, "ops": report.ops},
        "dagger": {"bops": report.bops, "flops": macs, "ops": macs + round(report.bops / 64)},
        "ace": {"bops": ace.bops, "flops": ace.flops, "ops": ace.ops},
        "forms": derived_forms(name),
    }


PRINTED = {f"{row['table']}-{row['model']}": row for row in rows(SHIPPED, ()) if row["bops"] is not None}


@pytest.mark.parametrize("row", [row for row in PRINTED if PRINTED[row]["model"] in NAMES])
def test_bops_agree_with_every_printed_digit(row: str) -> None:
    printed: Decimal = PRINTED[row]["bops"]
    bops = Decimal(counts()[PRINTED[row]["model"]]["full"]["bops"]) / 10**9
    assert bops.quantize(printed, ROUND_HALF_UP) == printed


def test_every_shipped_count_is_of_a_network_of_the_zoo() -> None:
    assert sorted(counts()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_networks_bits_are_those_of_its_layers_and_of_the_tables(name: str) -> None:
    spec = find(name)
    assert set(layer_bits(described(name)) or [REAL]) == set(spec.bits) and len(set(spec.bits)) == len(spec.bits)
    printed = {row["wa"] for row in rows(SHIPPED, ()) if row["model"] == name}
    assert printed == ({spec.wa} if name not in OURS else set())


def mixed(num_classes: int = 10) -> nn.Module:
    """A binary convolution, one of 2-bit activations and one of 1-bit weights on real activations."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4, 1), Sign(), LowBitConv2d(8, 8, 3),
        DoReFaActivation(2), LowBitConv2d(8, 8, 3, a_bits=2), nn.BatchNorm2d(8),
        LowBitConv2d(8, 8, 1, a_bits=32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )  # fmt: skip


def test_a_network_may_mix_bits_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = (Bits(1, 1), Bits(1, 2), Bits(1, 32))
    monkeypatch.setattr(tiny, "mixed", mixed, raising=False)
    monkeypatch.setitem(REGISTRY, "mixed", ModelSpec("mixed", "tiny:mixed", "nobody", bits, 28, num_classes=10))
    network = bcdzoo.create_model("mixed")
    assert layer_bits(network) == list(bits)
    report = bcdzoo.count_ops("mixed", "dagger")
    on_map = 8 * 8 * 7 * 7
    assert report.bops == (9 + 2 * 9) * on_map and report.flops == 27 * 8 * 49 + on_map + 80
    assert [(layer.w_bits, layer.a_bits) for layer in report.layers if layer.type == "LowBitConv2d"] == [
        kind[:2] for kind in bits
    ]
    monkeypatch.setitem(counts(), "mixed", {"params": report.params, "full": {"ops": 1}, "dagger": {"ops": 1}})
    facts = summary(load_manifest(), "mixed")
    assert (facts["wa"], facts["w_bits"], facts["a_bits"]) == ("mixed", 1, None)


def test_bits_are_shown_in_one_word() -> None:
    assert [str(kind) for kind in (Bits(), Bits(1, 2), Bits(1, 1, 5, 5), Bits(1, 2, 3, 1))] == [
        "1/1", "1/2", "(1/1)x5", "(1/2)x3x1",
    ]  # fmt: skip
    assert bits_label([Bits(), Bits()]) == "1/1" and bits_label([Bits(), Bits(1, 2)]) == "mixed"


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_says_where_weights_are_or_that_there_are_none(name: str) -> None:
    manifest = load_manifest()
    assert manifest.of(name) or name in {entry.model for entry in manifest.missing}
    for checkpoint in manifest.of(name):
        described(name, **checkpoint.build)  # its arguments exist


def takes_step(name: str) -> bool:
    module, function = find(name).build.split(":")
    builder = getattr(importlib.import_module(f"bcdzoo.models.{module}"), function)
    return "step" in inspect.signature(builder).parameters


STEP1 = [name for name in NAMES if takes_step(name)]


@pytest.mark.parametrize("name", marked(STEP1))
def test_step_1_is_the_same_network_with_ordinary_convolutions(name: str) -> None:
    step1, step2 = build(name, step=1), described(name, num_classes=10)
    shapes = {key: t.shape for key, t in step2.state_dict().items()}
    assert {key: t.shape for key, t in step1.state_dict().items()} == shapes
    real, binary = ([m for m in step.modules() if isinstance(m, LowBitConv2d)] for step in (step1, step2))
    assert {m.w_bits for m in real} == {32} and 1 in {m.a_bits for m in real}
    assert [m.a_bits for m in real] == [m.a_bits for m in binary]
    step1.train()(images(2, name)).sum().backward()
    report = bcdzoo.count_ops(name, "dagger", step=1)
    known = counts()[name]["dagger"]
    assert (report.bops, report.flops) == (0, known["flops"] + known["bops"])  # a MAC with one real operand is a FLOP


def test_the_trade_off_family_keeps_the_bops() -> None:
    blocks = {groups: (1 + len(tradeoff_widths(groups)), 3 * groups) for groups in range(6)}
    assert list(blocks.values()) == [(14, 0), (13, 3), (12, 6), (11, 9), (10, 12), (9, 15)]  # the poster's figure
    for groups in blocks:
        assert bcdzoo.count_ops("bcdnet-a", mlp_groups=groups).bops == 4_816_896_000
    with pytest.raises(BcdzooError, match="mlp_groups must be 0 to 5"):
        bcdzoo.create_model("bcdnet-a", mlp_groups=6)


def test_dynamic_embeddings_in_the_3x3_convolutions_alone_with_r_2_fit_the_printed_flops_too() -> None:
    for convention, printed in (("dagger", 0.14), ("full", 0.34)):
        report = bcdzoo.count_ops("bcdnet-b", convention, reduction=2, dynamic_pointwise=False)
        assert round(report.flops / 1e8, 2) == printed


def test_a_dynamic_threshold_follows_the_image() -> None:
    model = build("bcdnet-b").eval()
    unit: Any = model.get_submodule("blocks.3.spatial.conv.embedding")
    x = torch.randn(2, 128, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        binary, beta = unit(x)
        g = unit.context(x.mean((2, 3)))
        alpha = unit.threshold(g)[:, :, None, None]
        assert torch.equal(binary, torch.where(x >= alpha, 1.0, -1.0))
        torch.testing.assert_close(beta[:, :, 0, 0], unit.offset(g))
    assert not torch.equal(beta[0], beta[1])


def test_two_averaged_classifiers_are_one_linear_map() -> None:
    model = build("bcdnet-a").eval()
    head: Any = model.get_submodule("head")
    features = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(head(features), (head.fc(features) + head.fc_dist(features)) / 2)


def test_bi_reals_activation_can_be_hardtanh() -> None:
    plain, clipped = build("birealnet-18").eval(), build("birealnet-18", activation="hardtanh").eval()
    with torch.inference_mode():
        features = clipped.get_submodule("stages")(clipped.get_submodule("stem")(images(1)))
        assert features.abs().max() == 1
        assert plain.get_submodule("stages")(plain.get_submodule("stem")(images(1))).abs().max() > 1


def test_without_classes_a_network_gives_pooled_features_where_it_can_be_built_so() -> None:
    torch.manual_seed(0)
    for name, features in (("binaryresnete-18", 512), ("dorefanet-alexnet", 256)):
        model: Any = bcdzoo.create_model(name, num_classes=0).eval()
        with torch.inference_mode():
            x = images(1)
            torch.testing.assert_close(model(x), model.features(x).mean((2, 3)))
            assert model(x).shape == (1, features)
    with pytest.raises(BcdzooError, match="num_classes must be at least 0, not -1"):
        bcdzoo.create_model("resnet-18", num_classes=-1)
    with pytest.raises(BcdzooError, match="num_classes must be at least 0, not -1"):
        bcdzoo.create_model("quicknet", num_classes=-1)


@pytest.mark.parametrize(("name", "side", "size"), [("dorefanet-alexnet", 6, 96), ("xnornet-alexnet", 1, 300)])
def test_an_alexnets_classifier_says_what_size_it_takes(name: str, side: int, size: int) -> None:
    with (
        torch.device("meta"),
        pytest.raises(BcdzooError, match=rf"takes a map of {side}×{side}, not \d×\d: use 224×224"),
    ):
        bcdzoo.create_model(name)(torch.zeros(1, 3, size, size))


def test_odd_maps_pass() -> None:
    with torch.inference_mode():
        assert build("reactnet-a").eval()(torch.randn(1, 3, 75, 53)).shape == (1, 10)
        assert build("bcdnet-a-r18").eval()(torch.randn(1, 3, 75, 53)).shape == (1, 10)


def test_counting_leaves_a_network_as_it_was() -> None:
    model = build("bcdnet-a").train()
    bcdzoo.count_ops(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bcdzoo.create_model("bcdnet"), "did you mean bcdnet-"),
        (lambda: bcdzoo.create_model("resnet-18", step=1), "unexpected keyword argument 'step'"),
        (lambda: bcdzoo.create_model("reactnet-a", step=3), "step must be 1"),
        (lambda: bcdzoo.create_model("birealnet-18", activation="relu"), "activation must be one of"),
        (lambda: bcdzoo.create_model("mobilenet-v1", activation="gelu"), "activation must be one of"),
    ],
)
def test_a_wrong_name_or_argument_is_one_clear_line(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(BcdzooError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_listing_and_the_public_names_need_no_torch() -> None:
    code = "import sys, bcdzoo; print(bcdzoo.list_models('bcdnet*')); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip()
        == "['bcdnet-a', 'bcdnet-a-r18', 'bcdnet-b', 'bcdnet-b-r18', 'bcdnet-tiny', 'bcdnet-tiny-real']"
    )
    assert bcdzoo.list_models() == sorted(REGISTRY)
    for name in bcdzoo.__all__:
        assert inspect.isfunction(getattr(bcdzoo, name))


@pytest.mark.parametrize("name", sorted(path.stem for path in authors.FOLDER.glob("*.json")))
def test_the_record_of_an_authors_network_names_its_source(name: str) -> None:
    assert re.match(r"[\w-]+/[\w-]+@[0-9a-f]{7} \S+\.py\b", authors.record(name)["source"])


@pytest.mark.parametrize("name", [None, 5, ["bcdnet-a"], Path("bcdnet-a")])
def test_what_is_no_name_is_refused(name: object) -> None:
    for function in (bcdzoo.create_model, bcdzoo.list_models):
        with pytest.raises(BcdzooError, match="must be a string, not "):
            function(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("BCDNet-A", "bcdnet-a"),
        ("bcdnet_a", "bcdnet-a"),
        ("BCDNet-A (R18)", "bcdnet-a-r18"),
        ("ReActNet-A", "reactnet-a"),
        ("Bi-Real-18", "birealnet-18"),
        ("Bi-Real-34", "birealnet-34"),
        ("Bi-Real", "birealnet-18"),
        ("Real-to-Bin", "real-to-binary-r18"),
        ("FDA-BNN*", "fdabnn-star-r18"),
        ("FDA-BNN", "fdabnn-r18"),
        ("ResNet18", "resnet-18"),
    ],
)
def test_networks_are_found_as_papers_print_them(written: str, name: str) -> None:
    assert find(written).name == name
    assert list_models(written if "*" not in written else name) == [name]


def test_every_printed_name_finds_a_network_that_bears_it() -> None:
    bearers: dict[str, set[str]] = {}
    for row in rows(SHIPPED, ()):
        if row["model"] in REGISTRY:
            bearers.setdefault(row["method"], set()).add(row["model"])
    assert len(bearers) > 25
    for method, models in bearers.items():
        if len(models) == 1:
            assert {find(method).name} == models
        else:
            with pytest.raises(BcdzooError) as error:
                find(method)
            assert all(model in str(error.value) for model in models)


@pytest.mark.parametrize("wrong", ["bcdnet", "ReActNet-D", "Bi-Real-50", "xyz", "", "\x1b[2J", "x" * 9999])
def test_a_name_that_is_none_gets_three_near_ones_at_most(wrong: str) -> None:
    with pytest.raises(BcdzooError) as error:
        find(wrong)
    message = str(error.value)
    assert sum(message.count(f" {name} ") + message.count(f" {name}?") for name in REGISTRY) <= 3
    assert message.isprintable() and len(message) < 300


def test_patterns_match_in_any_case_and_by_a_familys_printed_name() -> None:
    assert list_models("BCDNet-?") == ["bcdnet-a", "bcdnet-b"]
    assert list_models("Bi-Real-*") == ["birealnet-18", "birealnet-34"]
    assert list_models("nothing*") == []
