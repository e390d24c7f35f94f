"""Counts against the published figures, larq's, fvcore's and torch's own counter."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import distributed, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bcdzoo import count_ops, create_model
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.ops.conventions import CONVENTIONS, KINDS
from bcdzoo.ops.count import HANDLERS
from bcdzoo.ops.show import show
from tests.ops.strangers import REAL, WIDTH, Net

# architectures: BOPs, then FLOPs and OPs (1e8) under the dagger and the full convention
RECONSTRUCTED = {
    "reactnet-a": (4_816_896_000, 11_862_016, "0.8713", 30_828_544, "1.0609"),
    "reactnet-b": (4_688_445_440, 43_974_656, "1.1723", 60_608_000, "1.3386"),
    "reactnet-c": (4_688_445_440, 140_312_576, "2.1357", 156_945_920, "2.3020"),
    "bcdnet-a": (4_816_896_000, 11_862_016, "0.8713", 32_253_952, "1.0752"),
    "bcdnet-b": (4_816_896_000, 13_775_616, "0.8904", 34_167_552, "1.0943"),
}

# BOPs, FLOPs full, FLOPs dagger, OPs full, OPs dagger as table 1 prints them: 20 digits after the point and 5 before
PRINTED = {
    "reactnet-a": ("4.82", "0.31", "0.12", "1.06", "0.87"),
    "reactnet-b": ("4.69", "0.61", "0.44", "1.34", "1.17"),
    "reactnet-c": ("4.69", "1.57", "1.40", "2.30", "2.14"),
    "bcdnet-a": ("4.82", "0.32", "0.12", "1.08", "0.87"),
    "bcdnet-b": ("4.82", "0.34", "0.14", "1.09", "0.89"),
}


@pytest.mark.parametrize("name", RECONSTRUCTED)
def test_both_conventions_give_the_reconstructed_integers(name: str) -> None:
    bops, dagger_flops, dagger_ops, full_flops, full_ops = RECONSTRUCTED[name]
    dagger, full = count_ops(name, "dagger"), count_ops(name, "full")
    assert (dagger.bops, dagger.flops, f"{dagger.ops / 1e8:.4f}") == (bops, dagger_flops, dagger_ops)
    assert (full.bops, full.flops, f"{full.ops / 1e8:.4f}") == (bops, full_flops, full_ops)


@pytest.mark.parametrize("name", PRINTED)
def test_every_digit_that_the_paper_prints_comes_out(name: str) -> None:
    dagger, full = count_ops(name, "dagger"), count_ops(name, "full")
    counted = [full.bops / 10, full.flops, dagger.flops, full.ops, dagger.ops]
    assert tuple(str(round(Decimal(count) / 10**8, 2)) for count in counted) == PRINTED[name]


def test_larqs_own_summary_gives_the_same_for_bi_real_net() -> None:
    report = count_ops("birealnet-18", "dagger")  # larq 0.13's summary of larq_zoo's BiRealNet
    assert (report.bops, report.flops) == (1_676_279_808, 137_793_536)


def test_bi_real_34_prints_as_published() -> None:
    report = count_ops("birealnet-34", "dagger")
    assert round(report.bops / 1e9, 2) == 3.53
    assert round(report.ops / 1e8, 2) == 1.93


def test_the_r18_variants_keep_bi_real_nets_bops() -> None:
    for name in ("reactnet-r18", "bcdnet-a-r18", "bcdnet-b-r18"):
        assert count_ops(name).bops == 1_676_279_808


@pytest.mark.parametrize("name", ["resnet-18", "mobilenet-v1", "mobilenet-v2"])
def test_fvcore_and_torch_count_the_same_flops_in_convolutions_and_linear_layers(name: str) -> None:
    ours = count_ops(name, "dagger").flops
    model = create_model(name).eval()
    image = torch.zeros(1, 3, 224, 224)
    analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = analysis.by_operator()
    assert by_operator["conv"] + by_operator["linear"] == ours
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    assert counter.get_total_flops() == 2 * ours


def test_layers_add_up_to_the_totals() -> None:
    report = count_ops("bcdnet-a")
    assert sum(layer.params for layer in report.layers) == 46_146_384
    by_name = {layer.name: layer for layer in report.layers}
    long = by_name["mlp.1.2.long"]
    assert (long.type, long.w_bits, long.a_bits, long.output_shape) == ("LowBitConv2d", 1, 1, (1024, 7, 7))
    assert long.bops == 1024 * 1024 * 49
    assert long.flops == 0
    assert by_name["stem.conv"].flops == 27 * 32 * 112 * 112
    assert by_name["mlp.0.0"].counts == {"add": 1024 * 49}  # the shortcut; the branches' sum is free


def test_a_network_with_weights_is_counted_without_touching_them() -> None:
    model = create_model("reactnet-r18", num_classes=7)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    report = count_ops(model)
    assert report.model == "BinaryResNet"
    assert report.flops == count_ops("reactnet-r18", num_classes=7).flops
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert {p.device.type for p in model.parameters()} == {"cpu"}


class Own(nn.Module):
    """Somebody's network: functional calls, in-place operations, a gate, an operation nobody taught the counter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, groups=1, bias=True)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.conv(x))
        x = x + x.flip(3)
        x = self.depthwise(x) * torch.sigmoid(x.mean((2, 3), keepdim=True))
        logits: torch.Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits.cumsum(1)


def test_anybodys_operations_are_counted_by_kind_and_unknown_ones_are_named() -> None:
    report = count_ops(Own(), "full", input_size=16)
    total: dict[str, int] = {}
    for layer in report.layers:
        for kind, number in layer.counts.items():
            total[kind] = total.get(kind, 0) + number
    assert total.pop("mac_bits") == 32 * 32 * total["mac"] and total.pop("mac_bits16") == 16 * 16 * total["mac"]
    assert total == {
        "mac": 27 * 8 * 256 + 9 * 8 * 64 + 8 * 5,
        "activation": 8 * 256 + 8,
        "add": 8 * 256,
        "gate": 8 * 64,
        "global_pool": 8 * 256 + 8 * 64,
    }
    assert report.flops == sum(total.values())
    assert report.unsupported == ["aten.cumsum ×1, first in the network"]
    assert count_ops(Own(), "dagger", input_size=16).flops == total["mac"]


def test_a_size_a_network_cannot_take_is_one_clear_line() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    assert count_ops(flat, input_size=8).flops == 384
    with pytest.raises(BcdzooError, match="cannot count at input size 9: 1 fails"):
        count_ops(flat, input_size=9)
    with pytest.raises(BcdzooError, match="no convention named 'half'"):
        count_ops("resnet-18", "half")


def test_every_kind_and_cost_is_a_documented_one() -> None:
    assert {cost for convention in CONVENTIONS.values() for cost in convention.cost} <= KINDS.keys()
    x = torch.zeros(1, 1, 2, 2)
    assert {handler((x,), x)[0] for handler in HANDLERS.values()} <= KINDS.keys()


def test_the_json_has_the_interfaces_keys_and_raw_integers() -> None:
    content = json.loads(show(count_ops("resnet-18", input_size=64), "json", per_layer=True))
    assert list(content) == [
        "model", "convention", "input_size", "bops", "flops", "ops", "params", "unsupported", "observed",
        "warnings", "layers",
    ]  # fmt: skip
    assert set(content["layers"][0]) == {
        "name", "type", "w_bits", "a_bits", "output_shape", "bops", "flops", "params", "observed", "counts",
    }  # fmt: skip
    assert sum(layer["flops"] for layer in content["layers"]) == content["flops"]


SMALL = 32
STEM, BINARY_CONV, HEAD = 27 * WIDTH * 16, 9 * WIDTH * WIDTH * 16, 10 * WIDTH


def test_binary_layers_in_plain_torch_are_counted_by_the_bits_that_they_are_seen_to_have() -> None:
    report = count_ops(Net(), "dagger", input_size=SMALL)
    assert (report.bops, report.flops) == (2 * BINARY_CONV, STEM + HEAD)
    assert [layer.name for layer in report.layers if layer.observed] == ["first", "second"]
    assert report.observed == "1 random image" and "not stated but observed" in report.warnings[0]
    text = show(report, "markdown", per_layer=True)
    assert "|  1* |" in text and "not stated but observed" in text
    content = json.loads(show(report, "json", per_layer=True))
    assert content["observed"] == "1 random image" and content["warnings"] == report.warnings
    full = count_ops(Net(), "full", input_size=SMALL)  # signs of weights are computed once and for all
    assert sum(layer.counts.get("sign", 0) for layer in full.layers) == 2 * WIDTH * 16


def test_bits_are_observed_on_images_that_are_given() -> None:
    report = count_ops(Net(), "dagger", data="demo", preprocess="resize=32,crop=32,mean=0,std=1")
    assert report.observed == "32 images of demo" and report.bops == 2 * BINARY_CONV and report.input_size == SMALL
    with pytest.raises(BcdzooError, match="input size 64 is not the crop"):
        count_ops(Net(), input_size=64, data="demo", preprocess="resize=32,crop=32")


def test_layers_of_the_zoo_in_ones_own_network_count_what_they_declare() -> None:
    net = nn.Sequential(nn.Conv2d(3, WIDTH, 3, 8, 1), LowBitConv2d(WIDTH, WIDTH, 3), nn.Flatten(), nn.Linear(512, 10))
    report = count_ops(net, "dagger", input_size=SMALL)  # its inputs are real, but the layer says 1/1
    assert (report.bops, report.flops) == (BINARY_CONV, STEM + 5120)
    assert not report.observed or not any(layer.observed for layer in report.layers)


def test_a_real_network_has_no_observed_bits() -> None:
    report = count_ops(Own(), "dagger", input_size=16)
    assert report.bops == 0 and not report.warnings


class Tied(nn.Module):
    def __init__(self, tie: Callable[["Tied"], None]) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 10)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        tie(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.b(self.a(self.stem(x).mean((2, 3)))))
        return logits


def same_parameter(net: Tied) -> None:
    net.b.weight = net.a.weight


def same_storage(net: Tied) -> None:
    net.b.weight = nn.Parameter(net.a.weight.data)


def same_module(net: Tied) -> None:
    net.b = net.a


@pytest.mark.parametrize(("tie", "params"), [(same_parameter, 906), (same_storage, 906), (same_module, 890)])
def test_tied_parameters_are_counted_once_and_their_operations_as_often_as_they_run(
    tie: Callable[[Tied], None], params: int
) -> None:
    report = count_ops(Tied(tie), "dagger", input_size=SMALL)
    assert report.params == params
    assert report.flops == 27 * 16 * 256 + 2 * 16 * 16 + 160


class ReadsNumbers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)] + torch.zeros(2).tolist()
        self.width = int(torch.tensor(3)) + int(np.asarray(torch.ones(2)).sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if float(x.mean()) < 9 else x


def test_a_network_that_reads_numbers_is_counted() -> None:
    report = count_ops("tests.ops.test_count:ReadsNumbers", "dagger", input_size=SMALL)
    assert (report.bops, report.flops) == (2 * BINARY_CONV, STEM + HEAD)


def traced(network: nn.Module) -> nn.Module:
    return torch.jit.trace(network.eval(), torch.zeros(1, 3, 32, 32))  # type: ignore[no-any-return]


def normed(network: Net) -> Net:
    nn.utils.parametrizations.spectral_norm(network.stem)
    network.first = torch.compile(nn.DataParallel(network.first))  # type: ignore[assignment]
    return network


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, traced, normed, nn.Module.half, nn.Module.double])
def test_wrapped_networks_count_what_is_inside(wrap: Callable[[nn.Module], nn.Module]) -> None:
    report = count_ops(wrap(Net()), "dagger", input_size=SMALL)
    assert (report.bops, report.flops) == (2 * BINARY_CONV, STEM + HEAD)
    assert report.params == sum(p.numel() for p in Net().parameters()) and not report.unsupported


def test_lazy_and_fake_quantized_networks_are_counted() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(8, 3, 2, 1), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10))
    report = count_ops(lazy, "dagger", input_size=SMALL)
    assert report.flops == 27 * 8 * 256 + 20480 and report.params == 224 + 16 + 20490
    ao = torch.ao.quantization
    quantized = nn.Sequential(ao.QuantStub(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten())
    quantized.qconfig = ao.get_default_qat_qconfig("fbgemm")
    network = ao.prepare_qat(quantized.train())
    report = count_ops(network, "dagger", input_size=SMALL)
    weights, inputs = 8, 7  # fbgemm's activations have 7 bits
    assert report.bops == weights * inputs * (27 * 8 * 30 * 30 + 72 * 8 * 28 * 28) and report.flops == 0


def test_counting_changes_nothing_of_ones_own_network() -> None:
    class Counts(Net):
        def __init__(self) -> None:
            super().__init__()
            self.calls: torch.Tensor
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(x)

    net = Counts().train()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    state = torch.random.get_rng_state()
    count_ops(net, input_size=SMALL)
    assert net.training and torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", ["attention", "lstm", "multiply and sum", "shifts"])
def test_products_are_multiply_accumulates_however_they_are_written(name: str) -> None:
    build, macs = REAL[name]
    report = count_ops(Net(build()), "dagger", input_size=SMALL)
    assert (report.bops, report.flops) == (2 * BINARY_CONV, STEM + HEAD + macs)


def test_torchs_own_counter_agrees_on_an_encoder() -> None:
    network = Net(REAL["encoder"][0]()).eval()
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        network(torch.zeros(1, 3, SMALL, SMALL))
    report = count_ops(network, "dagger", input_size=SMALL)
    assert counter.get_total_flops() == 2 * (report.flops + report.bops)


def test_what_cannot_be_counted_is_one_clear_line() -> None:
    with pytest.raises(BcdzooError, match=r"cannot count at input size 32: 0 fails: .* to have 1 channels"):
        count_ops(nn.Sequential(nn.Conv2d(1, 4, 3)), input_size=SMALL)
    with torch.device("meta"):
        without_values = Net()
    report = count_ops(without_values, "dagger", input_size=SMALL)
    assert report.bops == 0 and "no bits could be observed" in report.warnings[0]
    frozen = count_ops(torch.jit.freeze(traced(Net())), input_size=SMALL)
    assert any("frozen TorchScript" in warning for warning in frozen.warnings)


@pytest.mark.parametrize("size", [-1, 0, 1.5, (224, 224), "224", True])
def test_a_size_that_no_image_has_is_refused(size: object) -> None:
    with pytest.raises(BcdzooError, match="input_size: must be a whole number of pixels"):
        count_ops("bcdnet-tiny", input_size=size)  # type: ignore[arg-type]


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(BcdzooError, match=r"a torch.nn.Module or a name, not None"):
        count_ops(None)  # type: ignore[arg-type]
    with pytest.raises(BcdzooError, match="no convention named None"):
        count_ops("bcdnet-tiny", None)  # type: ignore[arg-type]


def test_a_report_is_short_where_python_and_notebooks_show_it() -> None:
    report = count_ops(create_model("bcdnet-tiny"), input_size=28)
    report.model = "<img src=x>\n"
    assert repr(report).startswith("OpsReport(model <img src=x>\\n, image 3×28×28, convention full, BOPs ")
    assert f"OPs {report.ops / 1e8:.4f}e8" in repr(report)
    assert f"layers {len(report.layers)})" in repr(report) and len(repr(report)) < 200
    page = report._repr_html_()
    assert "<td>&lt;img src=x&gt;\\n</td>" in page and f"<td>{len(report.layers)}</td>" in page


def test_a_network_that_is_trained_by_several_processes_counts_what_is_inside(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        network = nn.parallel.DistributedDataParallel(Net())
        report = count_ops(network, "dagger", input_size=SMALL)
    finally:
        distributed.destroy_process_group()
    assert report.model == "Net" and (report.bops, report.flops) == (2 * BINARY_CONV, STEM + HEAD)
    assert not report.unsupported and not any(layer.name.startswith("module") for layer in report.layers)


def test_a_network_of_the_zoo_is_counted_without_a_word_about_its_values() -> None:
    assert not count_ops("resnet-18", input_size=64).warnings  # torchvision's class, without values


def test_the_operations_of_cifar10s_frames_are_those_of_the_formulas() -> None:
    def conv(c_in: int, c_out: int, side: int, kernel: int = 3) -> int:
        return c_in * c_out * kernel**2 * side**2

    resnet20 = 6 * conv(16, 16, 32) + conv(16, 32, 16) + 5 * conv(32, 32, 16) + conv(32, 64, 8) + 5 * conv(64, 64, 8)
    for name in ("irnet-resnet20", "rbnn-resnet20", "rbnn-resnet20-bireal", "reste-resnet20", "reste-resnet20-bireal"):
        report = count_ops(name, "dagger")
        assert (report.bops, report.flops) == (resnet20, conv(3, 16, 32) + 64 * 10)
    vgg = conv(128, 128, 32) + conv(128, 256, 16) + conv(256, 256, 16) + conv(256, 512, 8) + conv(512, 512, 8)
    for name in ("irnet-vgg-small", "rbnn-vgg-small"):
        report = count_ops(name, "dagger")
        assert (report.bops, report.flops) == (vgg, conv(3, 128, 32) + 512 * 4 * 4 * 10)
    sides = ((64, 128, 16), (128, 256, 8), (256, 512, 4))
    resnet18 = 4 * conv(64, 64, 32) + sum(conv(a, b, side) + 3 * conv(b, b, side) for a, b, side in sides)
    shortcuts, ends = sum(conv(a, b, side, 1) for a, b, side in sides), conv(3, 64, 32) + 512 * 10
    report = count_ops("irnet-r18-cifar10", "dagger")
    assert (report.bops, report.flops) == (resnet18, ends + shortcuts)
    report = count_ops("rbnn-r18-cifar10", "dagger")
    assert (report.bops, report.flops) == (resnet18 + shortcuts, ends)
