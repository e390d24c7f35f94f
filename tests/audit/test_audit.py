"""What an audit finds: in the zoo's networks, whose bits are known, and in networks that are not what they say."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import bcdzoo
from bcdzoo.audit.audit import Audit, audit
from bcdzoo.audit.show import as_json, as_text
from bcdzoo.audit.verdict import AuditedLayer
from bcdzoo.cli import main
from bcdzoo.cli.audit import command
from bcdzoo.cli.options import FILE
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.metadata import layer_bits
from bcdzoo.layers.quantizers.abcnet import MultiBaseWeight
from bcdzoo.layers.quantizers.sign import RSign, sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.dorefa import DoReFaBlock
from bcdzoo.models.lqnet import LearnedBasisBlock
from bcdzoo.models.xnornet import BinaryWeightBlock
from bcdzoo.observe.values import Form, summarize_inputs
from bcdzoo.packed.checkpoint import export
from bcdzoo.weights.load import convert
from tests.audit import networks
from tests.siblings import marked

SMALL = "resize=28,crop=28"


@pytest.fixture(scope="module")
def tiny() -> Audit:
    return audit("bcdnet-tiny", images=8)


def of_own(build: Callable[[], nn.Module]) -> Audit:
    torch.manual_seed(0)
    return audit(build(), "demo", images=8, preprocess=SMALL)


def second(found: Audit) -> AuditedLayer:
    """The layer in question."""
    return next(layer for layer in found.layers if layer.name == "second.conv")


def drawn(name: str, side: int = 32, **build: Any) -> nn.Module:
    """A network with random weights, and the statistics of noise in its batch norms."""
    torch.manual_seed(0)
    network = bcdzoo.create_model(name, **build).train()
    with torch.no_grad():
        network(torch.randn(8, 3, side, side))
    return network


def in_file(name: str, folder: Path, **build: Any) -> str:
    """The same as a file of the zoo."""
    save_file(drawn(name, **build).state_dict(), folder / "state.safetensors")
    convert(folder / "state.safetensors", name, folder / f"{name}.safetensors", **build)
    return str(folder / f"{name}.safetensors")


def test_a_binary_network_is_binary(tiny: Audit) -> None:
    assert tiny.verdict.startswith("binary: 14 layers")
    low = [layer for layer in tiny.layers if not layer.role]
    assert [layer.verdict for layer in low] == ["binary"] * 14
    assert [layer.name for layer in tiny.layers if layer.role] == ["stem.conv", "head"]
    for layer in low:
        assert layer.inputs is not None and list(layer.inputs.levels) == [-1, 1]
        assert layer.weights.binary == layer.weights.channels
        assert layer.stored == "latent"


def test_multiply_accumulates_are_those_that_count_ops_counts(tiny: Audit) -> None:
    counted = bcdzoo.count_ops("bcdnet-tiny", convention="dagger")
    assert sum(layer.macs for layer in tiny.layers if not layer.role) == counted.bops
    assert sum(layer.macs for layer in tiny.layers if layer.role) == counted.flops


def test_the_packed_size_is_that_of_the_exported_file(tiny: Audit, tmp_path: Path) -> None:
    sizes = export("bcdnet-tiny", tmp_path / "packed.bcz")
    assert tiny.size.packed == sizes.file
    planes = sum(layer.weights.numbers for layer in tiny.layers if not layer.role) // 8
    assert planes == sizes.planes
    assert planes < tiny.size.packed < tiny.size.found + 10_000
    assert tiny.size.claimed == tiny.size.found


@pytest.mark.parametrize("ending", [".bcz", ".safetensors"])
def test_a_packed_file_is_no_network_to_look_into(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"packed{ending}"
    export("bcdnet-tiny", path)
    with pytest.raises(BcdzooError, match=r"is packed: an audit needs the network|is a plan, .*: name its network"):
        audit(str(path), images=8)


def test_a_real_valued_network_is_not_binary(tmp_path: Path) -> None:
    found = audit(in_file("bcdnet-tiny-real", tmp_path), images=8)
    assert found.verdict == "not binary: every layer is real-valued"
    assert {layer.verdict for layer in found.layers} == {"real-valued"}


def test_a_network_of_step_1_has_real_weights_on_binary_activations(tmp_path: Path) -> None:
    found = audit(in_file("bcdnet-tiny", tmp_path, step=1), images=8)
    assert found.verdict.startswith("binary activations, real weights: 14 layers")
    assert found.size.claimed is not None and found.size.found > 10 * found.size.claimed
    assert found.size.packed is None and "real-valued weights" in found.size.no_packed


@pytest.mark.parametrize(
    ("block", "verdict"),
    [
        (lambda: DoReFaBlock(32, 32, 1, projects=True), "low-bit (w2a2): 3 layers"),
        (lambda: BinaryWeightBlock(32, 32, 1), "binary weights, real activations: 2 layers"),
        (lambda: LearnedBasisBlock(32, 32, 1), "low-bit (w1a2): 2 layers"),
    ],
)
def test_low_bit_blocks_have_the_bits_of_their_names(block: Callable[[], nn.Module], verdict: str) -> None:
    assert of_own(lambda: networks.around(block())).verdict.startswith(verdict)


def test_a_network_of_mixed_bits_has_the_bits_that_its_layers_declare() -> None:
    blocks = nn.Sequential(BinaryUnit(RSign(32), LowBitConv2d(32, 32, 3), 32), LearnedBasisBlock(32, 32, 1))
    found = of_own(lambda: networks.around(blocks))
    assert found.verdict.startswith("mixed: 2 low-bit (w1a2), 1 binary")
    low = [layer for layer in found.layers if not layer.role]
    assert [(layer.w_bits, layer.a_bits) for layer in low] == [bits[:2] for bits in layer_bits(blocks)]


def test_a_shortcut_that_starts_before_a_sign_has_no_threshold() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.binary, self.real = LowBitConv2d(32, 32, 3), nn.Conv2d(32, 32, 1)

        def forward(self, x: Tensor) -> Tensor:
            levels = x.round()  # what the shortcut takes has few values, which nobody has rounded since
            in_place = levels.clone().sign_().add_(0.5).sign_()
            out: Tensor = self.binary(sign(levels)) + self.binary(in_place) + self.real(levels)
            return out

    layers = {layer.name: layer for layer in of_own(lambda: networks.around(Branches())).layers}
    assert layers["1.real"].threshold is None or layers["1.real"].threshold.by == "round"
    binary = layers["1.binary"].threshold
    assert binary is not None and binary.by == "sign"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dorefa-r18-w2a2", "bwn-r18", "lqnet-r18-w1a2", "slb-r18-w1a8", "birealnet-18"])
def test_networks_have_the_bits_that_the_table_claims(name: str) -> None:
    found = audit(drawn(name), "demo", images=2, preprocess="resize=64,crop=64")
    claimed = {bits[:2] for bits in bcdzoo.registry.find(name).bits}
    assert {(layer.w_bits, layer.a_bits) for layer in found.layers if not layer.role} == claimed


def test_without_images_nothing_is_said_of_the_activations() -> None:
    found = audit(bcdzoo.create_model("bcdnet-tiny"), preprocess=SMALL)
    assert found.images == 0 and all(layer.inputs is None for layer in found.layers)
    assert found.verdict.startswith("binary weights: 14 layers")
    assert "only the weights were examined" in as_text(found)


def test_an_honest_network_of_anybody_is_binary() -> None:
    found = of_own(networks.honest)
    assert found.verdict.startswith("binary: 2 layers")
    layer = second(found)
    assert layer.padding == "0" and layer.weights.has_scale and layer.stored == "latent"
    assert layer.threshold is not None and layer.threshold.count == 8 * networks.WIDTH * 14 * 14


def test_a_sign_that_is_exact_but_for_rounding_is_a_sign() -> None:
    layer = second(of_own(networks.estimator))
    assert layer.verdict == "binary"
    assert layer.inputs is not None and 0 < layer.inputs.inexact < 1e-5
    assert layer.threshold is not None and layer.threshold.zeros == 0  # the masks' edges at ±1 are no thresholds


def test_a_real_valued_convolution_inside_of_a_block_is_found() -> None:
    found = of_own(networks.hidden)
    assert found.verdict.startswith("not binary: real-valued layers between the others: second.hidden")
    hidden, honest = (next(la for la in found.layers if la.name == name) for name in ("second.hidden", "second.conv"))
    assert hidden.macs == honest.macs and hidden.verdict == "real-valued (inside)"
    assert hidden.threshold is None  # the map was compared with one, but for the other layer


def test_a_real_valued_product_that_is_no_module_of_its_own_is_found() -> None:
    assert of_own(networks.hidden_product).verdict.startswith(
        "not binary: real-valued layers between the others: second.hidden"
    )


@pytest.mark.parametrize(
    ("build", "share"),
    # MACs at 14×14: of the stem 27·32, of each binary layer 9·32·32, of the hidden ones 2·128·32; the classifier's 320
    [(networks.hidden_linear, 22.3), (networks.hidden_bottleneck, 11.2), (networks.hidden_on_one_pixel, 0.2)],
)
def test_a_real_valued_layer_between_others_is_not_excused(build: Callable[[], nn.Module], share: float) -> None:
    verdict = of_own(build).verdict
    assert verdict.startswith("not binary: real-valued layers between the others: second.1")
    assert f"{share} % of the multiply-accumulates" in verdict


def test_a_first_convolution_to_more_channels_is_named_and_those_behind_are_not_excused() -> None:
    roles = [layer.role for layer in of_own(networks.hidden_bottleneck).layers]
    assert roles == ["stem", "", "", "1×1 widening", "inside", "", "classifier"]


@pytest.mark.parametrize("build", [networks.honest, networks.of_black_and_white])
def test_an_image_of_two_values_is_an_image(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for folder in map(str, range(10)):
        (tmp_path / "val" / folder).mkdir(parents=True)
        pixels = 255 * generator.integers(0, 2, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).convert("RGB").save(tmp_path / "val" / folder / "0.png")
    torch.manual_seed(0)
    found = audit(build(), str(tmp_path), preprocess=SMALL)
    assert found.verdict.startswith("binary: 2 layers")
    assert found.layers[0].verdict == "real-valued (stem)"


def test_a_network_that_is_run_twice_has_no_bases() -> None:
    found = of_own(networks.Twice)
    assert found.verdict.startswith("binary: 2 layers")
    for layer in found.layers:
        assert layer.bases == 1 and layer.notes == ("called 2 times",)


def test_two_weights_of_one_module_are_two_layers() -> None:
    binary, real = (layer for layer in of_own(networks.two_weights).layers if layer.name == "second.conv")
    assert (binary.verdict, binary.latent) == ("binary", "second.conv.binary")
    assert (real.verdict, real.latent) == ("binary activations, real weights", "second.conv.real")


def test_a_scale_of_each_batch_adds_no_bits() -> None:
    for images in (8, 32):
        torch.manual_seed(0)
        found = audit(networks.scale_of_batch(), "demo", images=images, preprocess=SMALL)
        assert second(found).verdict == "low-bit (w1a2)"


@pytest.mark.parametrize(
    ("values", "form", "number"),
    [
        ([(0, 0.5), (0, 0.7)], Form.BITS, 0),
        ([(-0.5, 0.5), (-0.7, 0.7)], Form.SIGNS, 0),
        ([(-0.5, 0.5), (-0.7, 0.7), (-1, 0, 1)], Form.LEVELS, 3),
        ([(-1, 1), (0,)], Form.LEVELS, 3),
        ([(-1,), (1,)], Form.SIGNS, 2),
        ([(-1, 1), (-1, 0, 1)], Form.LEVELS, 3),
    ],
)
def test_values_of_several_batches(values: list[tuple[float, ...]], form: Form, number: int) -> None:
    first, *others = (
        summarize_inputs(torch.tensor(batch).repeat(8).reshape(1, 1, -1, 1).float())[0] for batch in values
    )
    for other in others:
        first += other
    assert (first.form, len(first.levels)) == (form, number)


def test_a_threshold_of_two_branches_is_counted_once_for_each() -> None:
    torch.manual_seed(0)
    branches = networks.TwoBranches()
    found = audit(networks.Network(branches), "demo", images=8, preprocess=SMALL)
    layers = [layer for layer in found.layers if layer.name.startswith("second.")]
    assert len(layers) == 2 and branches.zeros > 0
    for layer in layers:
        assert layer.threshold is not None and layer.threshold.zeros == branches.zeros


def test_masks_before_a_sign_are_no_thresholds() -> None:
    layer = second(of_own(networks.masks_before_sign))
    assert layer.verdict == "binary"
    assert layer.threshold is not None and layer.threshold.by == "sign" and layer.threshold.zeros == 0


def test_a_linear_layer_with_a_constant_input_is_there() -> None:
    found = of_own(networks.flat)
    assert [(layer.name, layer.w_bits, layer.a_bits) for layer in found.layers[:2]] == [("1", 1, 1), ("3", 1, 1)]
    torch.manual_seed(0)
    blank = audit(networks.flat(), preprocess=SMALL)
    assert [layer.w_bits for layer in blank.layers] == [1, 1, 32]


def test_a_gate_of_pooled_features_is_named() -> None:
    found = of_own(networks.gate)
    assert found.verdict.startswith("binary: 3 layers") and "of pooled features" in found.verdict


@pytest.mark.parametrize(
    "shortcut",
    [
        nn.Conv2d(networks.WIDTH, 2 * networks.WIDTH, 1, stride=2),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(networks.WIDTH, 2 * networks.WIDTH, 1)),
        nn.Sequential(nn.Conv2d(networks.WIDTH, 2 * networks.WIDTH, 1), nn.MaxPool2d(2)),
        # most of its inputs are ±α, but its weights are real
        nn.Sequential(nn.Hardtanh(-1e-3, 1e-3), nn.Conv2d(networks.WIDTH, 2 * networks.WIDTH, 1, stride=2)),
    ],
)
def test_a_downsampling_shortcut_is_named(shortcut: nn.Module) -> None:
    found = of_own(lambda: networks.downsampling(shortcut))
    assert found.verdict.startswith("binary: 4 layers") and "1×1 downsampling" in found.verdict


def test_an_average_that_is_written_as_a_convolution_is_none_of_bits() -> None:
    found = of_own(networks.average)
    assert found.verdict.startswith("binary: 2 layers") and "equal weights" in found.verdict
    assert next(layer for layer in found.layers if layer.name == "second.hidden").w_bits == 32


@pytest.mark.parametrize("learned", [False, True])
def test_a_blur_has_one_filter_for_every_channel_and_other_depthwise_convolutions_are_named(learned: bool) -> None:
    blur = nn.Conv2d(networks.WIDTH, networks.WIDTH, 3, padding=1, groups=networks.WIDTH, bias=False)
    line = torch.tensor([1.0, 2.0, 1.0])
    if not learned:
        blur.weight.data = torch.outer(line, line).expand_as(blur.weight) / 16
    verdict = of_own(lambda: networks.blurred(blur)).verdict
    assert verdict.startswith("not binary: real-valued layers between" if learned else "binary: 3 layers")
    assert ("one filter" in verdict) != learned


@pytest.mark.parametrize("build", [networks.zeros_of_relu, networks.zeros_of_shrinking])
def test_zeros_behind_a_sign_are_counted(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = build()
    seen: list[Tensor] = []
    network.get_submodule("second.conv").register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone())
    )
    layer = second(audit(network, "demo", images=8, preprocess=SMALL))
    maps = torch.cat([maps for maps in seen if len(maps) == 8])  # the others are of blank images and noise
    assert layer.inputs is not None and layer.threshold is not None
    assert layer.inputs.zeros == layer.threshold.zeros == int((maps == 0).sum()) > 0
    assert layer.verdict.startswith("NOT binary: ") and layer.verdict.endswith("of the inputs are 0")


def test_a_bias_behind_the_sum_is_a_note() -> None:
    layer = second(of_own(networks.bias))
    assert layer.verdict == "binary" and layer.notes == ("bias after the sum",)


def test_a_bias_behind_the_sign_is_not_binary() -> None:
    found = of_own(networks.bias_after_sign)
    assert second(found).verdict == "NOT binary: the inputs are -0.75 and 1.25, not ±α: a bias after the sign"
    assert found.verdict.startswith("not binary: 1 of 2 layers")


def test_a_scale_of_each_input_channel_is_not_binary() -> None:
    assert "an α per channel" in second(of_own(networks.scale_of_channels)).verdict


def test_a_channel_whose_weights_were_not_binarized_is_found() -> None:
    verdict = second(of_own(networks.one_real_channel)).verdict
    assert verdict == "NOT binary: the weights of 1 of 32 output channels are not ±α"


def test_a_channel_whose_inputs_were_not_binarized_is_found() -> None:
    assert second(of_own(networks.some_real_inputs)).verdict == "NOT binary: 3.1 % of the inputs are not ±α"  # 1/32


def test_weights_that_are_not_binarized_are_real() -> None:
    found = of_own(networks.no_binarization)
    assert second(found).verdict == "binary activations, real weights"
    assert found.verdict.startswith("mixed: 1 binary, 1 binary activations, real weights")


def test_zeros_of_a_padding_are_no_zeros_of_a_sign() -> None:
    layer = second(of_own(networks.uneven_padding))
    assert layer.verdict == "binary" and layer.padding == "0 outside 0,2,0,2"
    assert layer.inputs is not None and layer.inputs.zeros == 0


def test_a_layer_of_several_bases_has_so_many() -> None:
    conv = LowBitConv2d(networks.WIDTH, networks.WIDTH, 3, quantizer=MultiBaseWeight(2))
    layer = second(of_own(lambda: networks.Network(networks.Block(torch.sign, conv))))
    assert (layer.verdict, layer.bases, layer.latent) == ("binary", 2, "second.conv.weight")


def test_weights_that_are_stored_as_signs_are_told_from_latent_ones() -> None:
    found = of_own(networks.stored)
    assert second(found).stored == "±1"
    assert next(layer for layer in found.layers if layer.name == "first.conv").stored == "latent"


def test_an_audit_leaves_no_hook_and_the_gradients_as_they_were() -> None:
    network = networks.honest().eval()
    before = pickle.dumps(network)
    audit(network, "demo", images=1, preprocess=SMALL)
    assert pickle.dumps(network) == before


def test_the_text_fits_on_a_screen(tiny: Audit) -> None:
    text = as_text(tiny)
    assert max(map(len, text.splitlines())) <= 120, text
    assert tiny.verdict.partition(";")[0] in text


def test_the_command_prints_raw_numbers_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["audit", "bcdnet-tiny", "--images", "2", "--format", "json"])
    record = json.loads(capsys.readouterr().out)
    assert record["claimed"] == "1/1" and record["images"] == 2 and record["data"] == "demo"
    layer = record["layers"][1]
    assert layer["verdict"] == "binary" and layer["inputs"]["form"] == "signs" and layer["inputs"]["zeros"] == 0


def test_json_has_no_infinity_where_all_values_are_on_the_threshold() -> None:
    record = as_json(of_own(networks.always_on_the_threshold))
    before = next(layer["threshold"] for layer in record["layers"] if layer["name"] == "second.conv")
    assert before["zeros"] == before["count"] and before["closest"] is None
    json.dumps(record, allow_nan=False)


def test_one_image_is_one_image() -> None:
    assert "1 image of demo" in as_text(audit(networks.honest(), "demo", images=1, preprocess=SMALL))


def test_the_shell_is_offered_files_for_data() -> None:
    assert next(option.type for option in command.params if option.name == "data") is FILE


def test_a_file_that_names_no_network_says_what_to_do(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(1)}, tmp_path / "theirs.safetensors")
    with pytest.raises(BcdzooError, match=r"does not say which network it holds.*--weights"):
        audit(str(tmp_path / "theirs.safetensors"))


def test_a_real_valued_stage_before_all_low_bit_layers_is_no_stem() -> None:
    torch.manual_seed(0)
    block = networks.Block(networks._sign, networks._plain())
    stage = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 64, 1), nn.Conv2d(64, 32, 1))
    found = audit(networks.around(nn.Sequential(stage, block)), "demo", images=2, preprocess=SMALL)
    assert [layer.role for layer in found.layers[:4]] == ["stem", *["early stage"] * 3]
    assert "early stage" in found.verdict.partition("real-valued: ")[2]
    stem = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=4), nn.Conv2d(32, 64, 1), nn.Conv2d(64, 32, 1, 2))
    found = audit(networks.around(nn.Sequential(stem, block)), "demo", images=2, preprocess=SMALL)
    assert [layer.role for layer in found.layers[:4]] == ["stem"] * 4


def test_channels_of_zeros_are_no_border() -> None:
    class Widened(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.pad(x, (0, 0, 0, 0, 8, 8))

    blocks = nn.Sequential(nn.Conv2d(32, 16, 1), Widened(), RSign(32), LowBitConv2d(32, 32, 3))
    (layer,) = [layer for layer in of_own(lambda: networks.around(blocks)).layers if layer.a_bits == 1]
    assert layer.padding == "0"


def test_the_network_in_a_packed_one_is_audited() -> None:
    torch.manual_seed(0)
    network = networks.around(nn.Sequential(RSign(32), LowBitConv2d(32, 32, 3, pad_value=1))).eval()
    plain, packed = (audit(module, "demo", images=8, preprocess=SMALL) for module in (network, bcdzoo.pack(network)))
    assert as_text(packed).replace("PackedNetwork", "Sequential") == as_text(plain)


def small(name: str) -> str:
    side = bcdzoo.registry.find(name).input_size
    return f"resize={side},crop={side}" if side < 64 else "resize=64,crop=64"


VERDICTS = {
    "adabin-r18-cifar10": "binary: 16 layers",
    "adabin-resnet20": "binary: 18 layers",
    "adabin-vgg-small": "binary: 5 layers",
    "biper-r18-cifar10": "binary: 16 layers",
    "biper-resnet20": "binary: 18 layers",
    "biper-vgg-small": "binary: 5 layers",
    "bmxnet-lenet-mnist": "binary: 2 layers",
    "bmxnet-r18": "binary: 20 layers",
    "bmxnet-r18-cifar10": "binary: 20 layers",
    "bmxnet-r18-first-real": "binary: 15 layers",
    "finn-cnv-w1a1": "mixed: 8 binary, 1 low-bit (w1a8)",
    "finn-lfc-w1a1": "binary: 4 layers",
    "fracbnn-resnet20": "binary: 19 layers",
    "irnet-r18-cifar10": "binary: 16 layers",
    "irnet-resnet20": "binary: 18 layers",
    "irnet-vgg-small": "binary: 5 layers",
    "qonnx-tfc-w1a1": "binary: 4 layers",
    "rbnn-r18-cifar10": "binary: 19 layers",
    "rbnn-resnet20": "binary: 18 layers",
    "rbnn-resnet20-bireal": "binary: 18 layers",
    "rbnn-vgg-small": "binary: 5 layers",
    "reste-resnet20": "binary: 18 layers",
    "reste-resnet20-bireal": "binary: 18 layers",
    "siman-r18-cifar10": "binary: 19 layers",
    "siman-resnet20": "binary: 18 layers",
    "siman-vgg-small": "binary: 5 layers",
}


@pytest.mark.parametrize("name", marked([*VERDICTS], slow="adabin-vgg-small"))
def test_networks_of_small_images_and_of_bmxnet_are_what_they_say_in_torch_and_packed(name: str) -> None:
    network = drawn(name, side=bcdzoo.registry.find(name).input_size if "r18" not in name else 32).eval()
    plain = audit(network, "demo", images=2, preprocess=small(name))
    assert plain.verdict.startswith(VERDICTS[name])
    packed = audit(bcdzoo.pack(network), "demo", images=2, preprocess=small(name))
    assert packed.verdict.startswith(VERDICTS[name]) and packed.macs == plain.macs
    early = [layer.macs for layer in plain.layers if layer.role == "early stage"]
    assert len(early) == (5 if name == "bmxnet-r18-first-real" else 0)
    if name == "finn-cnv-w1a1":
        assert [(layer.w_bits, layer.a_bits) for layer in plain.layers] == [(1, 8), *[(1, 1)] * 8]
