"""A tiny network of each method of the zoo, for images of 28×28: the method's own units in a frame that they share.

The frame is that of reactnet-tiny: a stem that halves the map, units on 14×14 and 7×7, global pooling and a classifier,
with batch normalization and ReLU before the pooling. What shares its units and quantizers with another method, such as
BinaryDenseNet with MeliusNet and ResNetE with QuickNet, is not repeated; qonnx-tfc is the zoo's own network.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.attention import PositionEmbedding
from bcdzoo.layers.binary_conv import REAL_VALUED, LowBitConv2d, Quantizers
from bcdzoo.layers.experts import ExpertConv2d
from bcdzoo.layers.gated_precision import GatedPrecisionConv2d
from bcdzoo.layers.quantizers.abbnn import StandardizedSignWeight
from bcdzoo.layers.quantizers.base import Levels, WeightQuantizer
from bcdzoo.layers.quantizers.biper import WaveWeight
from bcdzoo.layers.quantizers.boolnet import SlicedSign
from bcdzoo.layers.quantizers.dorefa import PactActivation
from bcdzoo.layers.quantizers.fixed_point import FixedPointInput
from bcdzoo.layers.quantizers.fracbnn import SymmetricSteps
from bcdzoo.layers.quantizers.irnet import BalancedWeight, DecayingEstimator
from bcdzoo.layers.quantizers.rbnn import CentredSign, RotatedWeight
from bcdzoo.layers.quantizers.rbonn import RecurrentWeight
from bcdzoo.layers.quantizers.recu import RectifiedWeight, ScaledEstimator
from bcdzoo.layers.quantizers.reste import PowerEstimator, PowerSignWeight
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, RSign, Sign, SignWeight, clipped_sign
from bcdzoo.layers.quantizers.siman import MagnitudeWeight
from bcdzoo.layers.quantizers.slb import SearchedWeight
from bcdzoo.layers.quantizers.xnornet import XnorWeight
from bcdzoo.layers.unit import BinaryUnit, Duplicate, HalvingPool
from bcdzoo.models import bcdnet, binaryvit, bnn, boolnet, dorefa, finn, fracbnn, quicknet, xnornet
from bcdzoo.models.abbnn import NormFreeUnit
from bcdzoo.models.abcnet import MultiBaseBlock
from bcdzoo.models.adabin import AdaBinUnit
from bcdzoo.models.bmxnet import PreActivationBlock, counting_conv
from bcdzoo.models.bnas import binary_edge
from bcdzoo.models.bnext import FeedForward, Widen
from bcdzoo.models.dorefa import DoReFaBlock
from bcdzoo.models.expertbnn import ExpertUnit
from bcdzoo.models.fdabnn import fda_residual
from bcdzoo.models.lqnet import LearnedBasisBlock
from bcdzoo.models.meliusnet import GROWTH, THRESHOLD, DenseBlock, ImprovementBlock, Transition
from bcdzoo.models.pokebnn import PokeConv
from bcdzoo.models.reactnet import pointwise_half, react_residual, spatial_half
from bcdzoo.models.realtobinary import GatedUnit
from bcdzoo.models.sabnn import state_aware_residual
from bcdzoo.models.trunks import MobileNetStem, Residual, downsampling_shortcut, linear
from bcdzoo.models.xnornet import BinaryWeightBlock, XnorBlock
from bcdzoo.registry import create_model

WIDTHS = (16, 16, 32, 32)
"""Channels behind the stem and behind each unit; the map is halved where they change."""

CLASSES = 10

Conv = Callable[[int, int, int], nn.Module]
"""Builds a convolution, or a whole block, from input channels, output channels and stride."""

BINARY = Quantizers()


def network(method: str, control: str = "") -> nn.Module:
    """A method's tiny network.

    Args:
        method: One of :data:`METHODS`.
        control: ``frozen``: the low-bit layers stay as they were drawn, and all else can learn; ``blocked``: no
            gradient goes back through the inputs of these layers.
    """
    built = METHODS[method]()
    if control not in ("", "frozen", "blocked"):
        raise BcdzooError(f"control must be frozen or blocked, not {control!r}")
    for layer in low_bit_layers(built):
        if control == "frozen":
            layer.requires_grad_(False)
        elif control == "blocked":
            layer.register_forward_pre_hook(_without_gradient)
    return built


def low_bit_layers(built: nn.Module) -> list[LowBitConv2d | ExpertConv2d]:
    """The layers whose weights or activations are of few bits."""
    return [module for module in built.modules() if isinstance(module, LowBitConv2d | ExpertConv2d)]


def _without_gradient(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    (x,) = inputs
    return (Levels(x.values.detach(), x.scale) if isinstance(x, Levels) else x.detach(),)


def _framed(units: nn.Module, channels: int = WIDTHS[-1], stem: nn.Module | None = None) -> nn.Module:
    head = OrderedDict[str, nn.Module](
        bn=nn.BatchNorm2d(channels),
        activation=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=linear(channels, CLASSES),
    )
    return nn.Sequential(OrderedDict(stem=stem or MobileNetStem(WIDTHS[0]), units=units, head=nn.Sequential(head)))


def _residual(unit: Residual) -> nn.Module:
    """A network of units that are given their shortcut."""
    units = nn.Sequential()
    for c_in, c_out in pairwise(WIDTHS):
        widens = c_in != c_out
        units.append(unit(c_in, c_out, 2 if widens else 1, downsampling_shortcut(c_in, c_out) if widens else None))
    return _framed(units)


def _blocks(block: Conv) -> nn.Module:
    """A network of blocks with shortcuts of their own."""
    return _residual(lambda c_in, c_out, stride, shortcut: block(c_in, c_out, stride))


def _quantized(
    sign: Callable[[], nn.Module],
    conv: Conv,
    activation: Callable[[int], nn.Module] | None = None,
    inner: Callable[[int], nn.Module] | None = None,
) -> nn.Module:
    """A network of Bi-Real's units with other quantizers and activations."""

    def unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        after = activation(c_out) if activation else None
        between = inner(c_out) if inner else None
        return BinaryUnit(sign(), conv(c_in, c_out, stride), c_out, after, shortcut, between)

    return _residual(unit)


def _conv(weight: Callable[[], WeightQuantizer], a_bits: int = 1) -> Conv:
    return lambda c_in, c_out, stride: LowBitConv2d(c_in, c_out, 3, stride, weight(), a_bits)


def _norm_free(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    return NormFreeUnit(StandardizedSignWeight, c_in, c_out, 3, stride, 1.0, shortcut)


def _gated(c_in: int, c_out: int, stride: int) -> nn.Module:
    parts = [SymmetricSteps(4), *([HalvingPool(), Duplicate()] if c_in != c_out else [])]
    return fracbnn.FracUnit(GatedPrecisionConv2d(c_in, c_out, 3, stride), c_out, nn.Sequential(*parts))


def _fracbnn() -> nn.Module:
    units = nn.Sequential(*(_gated(c_in, c_out, 1 if c_in == c_out else 2) for c_in, c_out in pairwise(WIDTHS)))
    return _framed(units, stem=fracbnn._stem(WIDTHS[0], 2, (0.5,) * 3, (0.5,) * 3))  # what the recipe subtracts


def _reconstructed(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    conv = LowBitConv2d(c_in, c_out, 3, stride, RecurrentWeight(c_out))
    return BinaryUnit(RSign(c_in), conv, c_out, RPReLU(c_out), shortcut)


def _of_experts(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    return ExpertUnit(c_in, c_out, 3, stride, 2, shortcut)


def _rectified(c_in: int, c_out: int, stride: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, 3, stride, RectifiedWeight(c_out))


def _rotated(c_in: int, c_out: int, stride: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, 3, stride, RotatedWeight((c_out, c_in, 3, 3)))


def _large(c_in: int, c_out: int, stride: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, 3, stride, MagnitudeWeight((c_out, c_in, 3, 3)))


def _wave(c_in: int, c_out: int, stride: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, 3, stride, WaveWeight(c_out))


def _chain(layer: Callable[[int, int, int], nn.Module], stem: nn.Module | None = None) -> nn.Module:
    """A network without shortcuts: layers of input channels, output channels and kernel size."""
    units = nn.Sequential()
    for c_in, c_out in pairwise(WIDTHS):
        units.append(layer(c_in, c_out, 3))
        if c_in != c_out:
            units.append(nn.MaxPool2d(2))
    return _framed(units, stem=stem)


def _mobile_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    return nn.Sequential(spatial_half(c_in, stride, BINARY), pointwise_half(c_in, c_out, BINARY))


def _bcdnet_a() -> nn.Module:
    c, *_, narrow = WIDTHS
    mixed = bcdnet.mixing_blocks(narrow, BINARY, "mlp", bcdnet.ALL_BRANCHES)
    return _framed(nn.Sequential(_mobile_block(c, c, 1), _mobile_block(c, narrow, 2), *mixed))


def _bcdnet_b() -> nn.Module:
    def unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        return bcdnet._dynamic_unit(c_in, c_out, 3, stride, shortcut, BINARY, reduction=4)

    return _residual(unit)


def _binaryvit() -> nn.Module:
    """A block of one head on 14×14 and one of two on 7×7."""
    c, *_, wide = WIDTHS
    units = nn.Sequential(
        PositionEmbedding(c, 14), binaryvit.Block(c, 4 * c, 1, 2), binaryvit.binary_embedding(c, wide)
    )
    return _framed(units.extend([PositionEmbedding(wide, 7), binaryvit.Block(wide, 2 * wide, 2, 1)]))


def _bnext_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    pointwise = FeedForward(c_in, 1) if c_in == c_out else Widen([FeedForward(c_in, 1), FeedForward(c_in, 1)])
    return nn.Sequential(FeedForward(c_in, 3, stride, element_attention=c_in == c_out), pointwise)


def _meliusnet() -> nn.Module:
    """A transition and a pair of blocks."""
    c, quantizers = WIDTHS[0], Quantizers(lambda: ClippedSignWeight(THRESHOLD))
    pair = DenseBlock(c, quantizers), ImprovementBlock(c + GROWTH, quantizers)
    return _framed(nn.Sequential(Transition(c, c), *pair), c + GROWTH)


def _boolnet() -> nn.Module:
    """Two stages of two blocks, on maps of four slices."""
    c, *_, wide = WIDTHS
    form = boolnet.Form(4, True, 400)
    first, last = boolnet.Stage(form, c, c, is_first=True), boolnet.Stage(form, 2 * c, wide, 2, is_last=True)
    return _framed(nn.Sequential(boolnet.Nudged(c), SlicedSign(form.slices), first, last))


def _bnn() -> nn.Module:
    first = LowBitConv2d(3, WIDTHS[0], 3, 2, ClippedSignWeight(), a_bits=32)
    return _chain(bnn._layer, nn.Sequential(first, nn.BatchNorm2d(WIDTHS[0])))


def _finn() -> nn.Module:
    """CNV's layers with the batch normalization that the zoo's networks, which are hardware's, have in thresholds."""

    def layer(c_in: int, c_out: int, a_bits: int = 1) -> nn.Module:
        return nn.Sequential(finn._sums(c_in, c_out, 3, a_bits), nn.BatchNorm2d(c_out), clipped_sign())

    c, *_, wide = WIDTHS
    units = nn.Sequential(nn.MaxPool2d(2), layer(c, wide), nn.MaxPool2d(2), layer(wide, wide))
    return _framed(units, stem=nn.Sequential(FixedPointInput(8), layer(3, c, a_bits=8)))


def _quicknet() -> nn.Module:
    c, *_, wide = WIDTHS
    return _framed(nn.Sequential(quicknet._unit(c), quicknet._transition(c, wide), quicknet._unit(wide)))


def _hardtanh(channels: int) -> nn.Module:
    return nn.Hardtanh()


METHODS: dict[str, Callable[[], nn.Module]] = {
    "abbnn": lambda: _residual(_norm_free),
    "abcnet": lambda: _framed(MultiBaseBlock(WIDTHS[0], WIDTHS[-1], 2)),
    "adabin": lambda: _residual(AdaBinUnit),
    "bcdnet-a": _bcdnet_a,
    "bcdnet-b": _bcdnet_b,
    "binaryvit": _binaryvit,
    "biper": lambda: _quantized(lambda: Sign(ScaledEstimator()), _wave, _hardtanh),
    "birealnet": lambda: _quantized(Sign, _conv(SignWeight)),
    "bmxnet": lambda: _blocks(
        lambda c_in, c_out, stride: PreActivationBlock(c_in, c_out, stride, clipped_sign, counting_conv, c_in != c_out)
    ),
    "bnas": lambda: _chain(binary_edge),
    "bnext": lambda: _blocks(_bnext_block),
    "bnn": _bnn,
    "boolnet": _boolnet,
    "bwn": lambda: _blocks(BinaryWeightBlock),
    "dorefa-w1a2": lambda: _chain(dorefa._layer),
    "dorefa-w2a2": lambda: _blocks(DoReFaBlock),
    "expert-bnn": lambda: _residual(_of_experts),
    "fdabnn": lambda: _residual(fda_residual),
    "finn": _finn,
    "fracbnn": _fracbnn,
    "irnet": lambda: _quantized(lambda: Sign(DecayingEstimator()), _conv(BalancedWeight), _hardtanh),
    "lqnet": lambda: _blocks(LearnedBasisBlock),
    "meliusnet": _meliusnet,
    "pokebnn": lambda: _blocks(lambda c_in, c_out, stride: PokeConv(c_in, c_out, 3, stride)),
    "qonnx-tfc": lambda: create_model("qonnx-tfc-w1a1"),
    "quicknet": _quicknet,
    "rbnn": lambda: _quantized(CentredSign, _rotated, _hardtanh),
    "rbonn": lambda: _residual(_reconstructed),
    "reactnet": lambda: _residual(partial(react_residual, quantizers=BINARY)),
    "real-to-binary": lambda: _residual(
        partial(GatedUnit, quantizers=Quantizers(ClippedSignWeight), padding="symmetric")
    ),
    "real-valued": lambda: _residual(partial(react_residual, quantizers=REAL_VALUED)),
    "recu": lambda: _quantized(lambda: Sign(ScaledEstimator()), _rectified, _hardtanh),
    "reste": lambda: _quantized(lambda: Sign(PowerEstimator()), _conv(PowerSignWeight), inner=lambda _: nn.ReLU()),
    "sabnn": lambda: _residual(state_aware_residual),
    "siman": lambda: _quantized(lambda: CentredSign(ScaledEstimator), _large, nn.PReLU),
    "slb-w1a1": lambda: _quantized(clipped_sign, _conv(SearchedWeight), inner=nn.PReLU),
    "slb-w1a8": lambda: _quantized(lambda: PactActivation(8), _conv(SearchedWeight, 8), inner=nn.PReLU),
    "xnornet": lambda: _blocks(
        lambda c_in, c_out, stride: XnorBlock(c_in, c_out, stride, Quantizers(XnorWeight), input_scale=True)
    ),
    "xnornet-alexnet": lambda: _chain(xnornet._layer),
}
"""For each pair of quantizers and each unit of the zoo; ``real-valued`` is ReActNet's unit without quantizers."""
