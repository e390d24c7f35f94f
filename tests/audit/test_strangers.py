"""Audits of networks that are not the zoo's: what multiplies is seen, or named; what is ordinary raises no alarm."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo import count_ops
from bcdzoo.audit.audit import Audit, audit
from bcdzoo.audit.show import as_text
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from tests.ops.strangers import HARMLESS, NO_PRODUCTS, PADDED, REAL, UNKNOWN, WIDTH, Between, Net, Padded, tokens

OWN = 27 * WIDTH * 16 + 2 * 9 * WIDTH * WIDTH * 16 + 10 * WIDTH  # multiply-accumulates of what is always there


@torch.library.custom_op("strangers::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


def audited(network: nn.Module, images: int = 2) -> Audit:
    return audit(network, "demo", images=images, preprocess="resize=32,crop=32,mean=0,std=1")


@pytest.mark.parametrize("name", REAL)
def test_a_real_product_between_binary_layers_is_seen_however_it_is_computed(name: str) -> None:
    build, macs = REAL[name]
    found = audited(Net(build()))
    assert found.verdict.startswith("not binary: real-valued layers between the others: between")
    assert found.macs == OWN + macs
    assert found.counted == found.macs and "count-ops" not in as_text(found)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_looked_at_is_named_and_forbids_the_verdict(name: str) -> None:
    build, operation = UNKNOWN[name]
    found = audited(Net(build()))
    assert found.verdict.startswith("not known: ") and operation in found.verdict and "in between" in found.verdict
    assert any(operation in line for line in found.unknown)


@pytest.mark.parametrize("name", NO_PRODUCTS)
def test_a_real_layer_that_is_no_product_is_named_and_forbids_the_verdict(name: str) -> None:
    build, operations = NO_PRODUCTS[name]
    found = audited(Net(build()))
    assert found.verdict.startswith("not known: ") and operations in found.verdict and "in between" in found.verdict
    assert any(operations in line for line in count_ops(Net(build()), input_size=32).unsupported)


@pytest.mark.parametrize("name", HARMLESS)
def test_element_wise_products_raise_no_alarm_and_are_counted(name: str) -> None:
    found = audited(Net(HARMLESS[name]()))
    assert found.verdict.startswith("binary: 2 layers, 95.4 %") and not found.unknown
    assert found.elementwise in range(0, 5 * WIDTH * 16 + 1) and "elements" not in as_text(found)


def test_many_element_wise_products_are_said() -> None:
    def often(self: Between, x: Tensor) -> Tensor:
        for _ in range(40):
            x = x * self.w
        return x

    found = audited(Net(Between(often, (WIDTH, 1, 1))))
    assert found.elementwise == 40 * WIDTH * 16
    assert f"{found.elementwise:,} element-wise products" in as_text(found)


def test_a_binary_layer_in_plain_torch_is_what_it_is_in_a_layer_of_the_zoo() -> None:
    def network(first: nn.Module) -> Net:
        net = Net()
        net.first = first  # type: ignore[assignment]
        return net

    class Plain(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            scale = self.weight.abs().mean((1, 2, 3))
            signs = torch.where(self.weight >= 0, 1.0, -1.0)
            out: Tensor = F.conv2d(x, signs, padding=1) * scale[:, None, None]
            return out

    plain, zoo = Plain(WIDTH, WIDTH, 3, padding=1, bias=False), LowBitConv2d(WIDTH, WIDTH, 3)
    with torch.no_grad():
        zoo.weight.copy_(plain.weight)
    for before in (nn.Identity(), nn.ReLU()):  # behind a ReLU every sign is +1
        sign = Between(lambda self, x: torch.where(x >= 0, 1.0, -1.0))
        found = [audited(network(nn.Sequential(before, sign, layer))) for layer in (plain, zoo)]
        assert found[0].verdict == found[1].verdict
        assert found[0].verdict.startswith("binary: 2 layers")


def with_first(function: Callable[[nn.Conv2d, Tensor], Tensor]) -> Net:
    net = Net()
    weight = net.first.weight
    net.first = Padded(function)  # type: ignore[assignment]
    net.first.weight = weight
    return net


@pytest.mark.parametrize("name", PADDED)
def test_zeros_of_a_padding_are_no_third_value_however_they_are_put_there(name: str) -> None:
    """Counted by hand: 9·32·32 products at 16 places, of one bit each, as by conv2d; three values would be two bits."""
    net, images = with_first(PADDED[name]).eval(), torch.randn(2, 3, 32, 32)
    if name != "scaled":
        torch.testing.assert_close(net(images), Net().eval()(images))
    found = audited(net)
    first = next(layer for layer in found.layers if layer.name == "first")
    assert first.verdict == "binary" and first.padding == "0 outside"
    assert first.inputs is not None and first.inputs.zeros == 0
    assert found.verdict.startswith("binary: 2 layers")
    assert count_ops(with_first(PADDED[name]), input_size=32).bops == 2 * 9 * WIDTH * WIDTH * 16


def test_zeros_of_a_map_are_a_third_value_beside_a_padding() -> None:
    def ternary(self: nn.Conv2d, x: Tensor) -> Tensor:
        signs = x.sign() * (x.abs() > 0.1)
        out: Tensor = (self.weight.sign().flatten(1) @ F.unfold(signs, 3, padding=1)).reshape(x.shape)
        return out

    found = audited(with_first(ternary))
    first = next(layer for layer in found.layers if layer.name == "first")
    assert first.verdict.startswith("NOT binary: ") and first.verdict.endswith("of the inputs are 0")
    assert first.inputs is not None and first.inputs.count == 2 * WIDTH * 100  # 10×10 of 12×12 places, in 4×4 patches


@pytest.mark.parametrize(("images", "said"), [(16, True), (8, False), (4, False)])
def test_channels_that_never_change_are_counted_where_enough_was_seen(images: int, said: bool) -> None:
    class Half(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.bn(self.stem(x))
            x = self.first(torch.cat([x[:, :16].sign(), x[:, 16:].abs().sign()], 1))
            logits: Tensor = self.fc(self.second(x).mean((2, 3)))
            return logits

    notes = "; ".join(note for layer in audited(Half(), images=images).layers for note in layer.notes)
    assert said == ("16 of 32 input channels are constant on these images" in notes)


@pytest.mark.parametrize(
    ("forward", "note"),
    [
        (lambda self, x: Net.forward(self, F.dropout(x, 0.5)), "two passes of one image give different logits"),
        (lambda self, x: Net.forward(self.train(), x), "depend on the rest of its batch"),
        (lambda self, x: Net.forward(self, x), ""),
    ],
)
def test_an_answer_that_depends_on_chance_or_the_batch_is_noted(
    forward: Callable[[Net, Tensor], Tensor], note: str
) -> None:
    network = type("Odd", (Net,), {"forward": forward})()
    found = audited(network)
    assert found.verdict.startswith("binary: 2 layers")
    assert any(note in line for line in found.notes) if note else not found.notes
    assert not note or note in " ".join(as_text(found).split())


@pytest.mark.parametrize("value", [1, -1, 0])
def test_a_layer_whose_input_is_constant_is_named(value: int) -> None:
    class Dead(Net):
        def forward(self, x: Tensor) -> Tensor:
            alive = super().forward(x)
            dead = self.first((self.bn(self.stem(x)).relu() + 1e-3) * value)
            logits: Tensor = alive + self.fc(dead.mean((2, 3)))
            return logits

    found = audited(Dead(), images=16)  # two batches
    assert "constant input, which has no information: first" in found.verdict
    first = next(layer for layer in found.layers if layer.name == "first")
    assert first.constant == value and any("1 of 2 calls is constant" in note for note in first.notes)
    assert all(layer.constant is None for layer in found.layers if layer.name not in ("first", "fc"))


def test_what_is_computed_from_the_weights_alone_is_no_layer() -> None:
    class Rotated(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            mixed = (self.weight.flatten(1) @ torch.eye(9 * WIDTH).roll(1, 0)).reshape(self.weight.shape)
            out: Tensor = F.conv2d(x.sign(), mixed.sign(), padding=1)
            return out

    net = Net()
    net.second = Rotated(WIDTH, WIDTH, 3, padding=1, bias=False)  # type: ignore[assignment]
    assert audited(net).verdict == audited(Net()).verdict
    nn.utils.parametrizations.spectral_norm(net.stem)
    assert audited(net).macs == OWN


def _scripted() -> nn.Module:
    return torch.jit.trace(Net().eval(), torch.zeros(1, 3, 32, 32))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: nn.DataParallel(Net()),
        lambda: torch.compile(Net()),
        lambda: torch.compile(nn.DataParallel(Net())),
        _scripted,
        lambda: torch.jit.freeze(_scripted()),
        lambda: Net().half(),
    ],
)
def test_wrapped_and_scripted_networks_are_what_is_inside(wrap: Callable[[], nn.Module]) -> None:
    found = audited(wrap())
    assert found.verdict.startswith("binary: 2 layers") and found.macs == found.counted == OWN


def test_a_network_that_fails_under_eight_images_says_so_in_one_line() -> None:
    class One(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(1, 3, 32, 32))

    with pytest.raises(BcdzooError, match="One fails on 2 images of 3×32×32"):
        audited(One())
    with torch.device("meta"), pytest.raises(BcdzooError, match="cannot be moved to the CPU"):
        audit(Net())


def test_names_of_layers_cannot_command_the_terminal() -> None:
    class Evil(Net):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("a\x1b[31m\nFORGED", nn.Linear(WIDTH, WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            extra = self.get_submodule("a\x1b[31m\nFORGED")(tokens(self.bn(self.stem(x)).sign()))
            logits: Tensor = super().forward(x) + extra.mean()
            return logits

    text = as_text(audited(Evil()))
    assert "\x1b" not in text and "\\x1b[31m\\nFORGED" in text


def test_tied_weights_take_their_bytes_once() -> None:
    net = Net()
    alone = audited(net).size.float32
    assert alone is not None
    net.second.weight = net.first.weight
    assert audited(net).size.float32 == alone - 4 * 9 * WIDTH * WIDTH
