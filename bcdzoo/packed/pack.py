"""Pack a network: the same modules, with its binary convolutions on 1-bit kernels."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.quantizers.rbnn import CentredSign
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.layers.unit import BinaryUnit, Duplicate, DynamicConv, HalvingPool
from bcdzoo.models.bcdnet import BCDNet, MLPBlock
from bcdzoo.models.meliusnet import BinaryBranch, DenseBlock, ImprovementBlock, MeliusNet, Transition
from bcdzoo.models.reactnet import ReActNet
from bcdzoo.models.realtobinary import GatedUnit
from bcdzoo.models.trunks import BinaryResNet
from bcdzoo.packed import native
from bcdzoo.packed.chain import PackedChain
from bcdzoo.packed.conv import PackedConv2d
from bcdzoo.packed.unit import WORD, FloatLayer, PackedHalving, PackedStem, PackedUnit, Shape
from bcdzoo.text import printable

_COLOURS = 3
_PANEL = 32  # channels that the kernels compute at once
_IMAGES_AT_A_TIME = 32  # so that memory does not grow with the batch
_IMAGES_PER_THREAD = 4  # if the stem runs in torch, because larger maps do not fit into the cache


class Lowered(NamedTuple):
    """A module as a packed unit, and the modules that compute what it needs for each image."""

    unit: PackedUnit
    context: tuple[nn.Module, ...] = ()


def pack(model: nn.Module) -> "PackedNetwork":
    """Pack a network for the 1-bit kernels: same input, same predictions; on the CPU, for inference.

    Known units (those of BCDNet, ReActNet, Bi-Real Net, MeliusNet, Real-to-Binary Net) become one
    pass over their map each, in sequence for each image; elsewhere only the convolutions are packed,
    low-bit ones as sums of bit planes. Real-valued parts stay in torch.

    Args:
        model: Network, which must contain :class:`bcdzoo.layers.binary_conv.LowBitConv2d`; it is not changed.

    Returns:
        A module with the same interface, in evaluation mode. Its ``unpacked`` lists the low-bit layers that are not
        packed, with the reason. Without kernels (no C++ compiler at installation) a copy of the network itself.

    Raises:
        BcdzooError: There is no layer that can be packed, or a parameter is not a number; the message says why.
    """
    if not isinstance(model, nn.Module):
        raise BcdzooError(
            f"only a torch.nn.Module can be packed, not {printable(repr(model), 60)}: create_model builds one"
        )
    packed = pack_in_place(deepcopy(model))
    packed.__dict__.update({key: getattr(model, key, None) for key in ("preprocess", "class_names", "num_classes")})
    return packed


@torch.inference_mode(False)
@torch.no_grad()
def pack_in_place(model: nn.Module) -> "PackedNetwork":
    """Like :func:`pack`, but consumes the model's modules."""
    network = model.float().cpu().eval()
    unpacked: list[str] = []
    is_packed = native.kernels() is not None
    if is_packed:
        if not any(_obstacle(module) == "" for module in network.modules()):
            reasons = sorted({reason for module in network.modules() if (reason := _obstacle(module))})
            raise BcdzooError(f"{type(model).__name__} cannot be packed: {'; '.join(reasons) or 'no low-bit layers'}")
        for name, values in model.state_dict().items():
            if values.is_floating_point() and values.isnan().any():
                raise BcdzooError(f"{type(model).__name__} cannot be packed: {name} has values that are not numbers")
        unpacked = [f"{name}: {reason}" for name, module in network.named_modules() if (reason := _obstacle(module))]
        network = _packed(network, "")
    return PackedNetwork(network, unpacked, is_packed)


class PackedNetwork(nn.Module):
    """A packed network, which splits large batches so that memory does not grow with them.

    Attributes:
        network: Network's modules, packed where possible.
        unpacked: Low-bit layers that are not packed, with the reason.
        is_packed: Whether there are kernels; else ``network`` is the plain one.

    Shape:
        (N, 3, H, W) to (N, classes), float32 on the CPU.
    """

    def __init__(self, network: nn.Module, unpacked: list[str], is_packed: bool) -> None:
        super().__init__()
        self.network = network
        self.unpacked, self.is_packed = unpacked, is_packed
        self._stem_is_packed = any(isinstance(module, PackedStem) for module in network.modules())

    @property
    def alone(self) -> list[str]:
        """Convolutions that are packed individually, not in one pass with their neighbours."""
        return [module.name for module in self.network.modules() if isinstance(module, PackedConv2d)]

    @property
    def fused(self) -> list[str]:
        """Units that are packed as a whole."""
        chains = [module for module in self.network.modules() if isinstance(module, PackedChain)]
        return [name for chain in chains for name in chain.names if name not in self.alone]

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        _require_images(x)
        at_a_time = _IMAGES_AT_A_TIME if self._stem_is_packed else _IMAGES_PER_THREAD * torch.get_num_threads()
        return torch.cat([self.network(images) for images in x.split(at_a_time)])


def _require_images(x: Tensor) -> None:
    """Refuse invalid images, because comparisons would hide a NaN that the plain network shows in its logits.

    Raises:
        BcdzooError: It is not float32 of four dimensions on the CPU, or not finite.
    """
    if not isinstance(x, Tensor):
        raise BcdzooError(f"a packed network takes a torch.Tensor of images, not a {type(x).__name__}")
    if x.dtype != torch.float32 or x.ndim != 4 or x.device.type != "cpu" or x.layout != torch.strided:
        what = f"{x.dtype} of shape {tuple(x.shape)} on {x.device}"
        raise BcdzooError(
            f"a packed network takes images as torch.float32 of shape (N, C, H, W) on the CPU, not {what}"
        )
    if x.numel() and not all(extreme.isfinite() for extreme in x.aminmax()):
        raise BcdzooError("the images have values that are not finite: check their preprocessing")


class _ChannelsLast(nn.Module):
    """The stem's convolution in channels-last order: the same result, several times as fast with three channels."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.contiguous(memory_format=torch.channels_last))
        return out


def _obstacle(module: nn.Module) -> str | None:
    """Return why a low-bit layer cannot be packed, empty if it can; None for other modules."""
    if not isinstance(module, LowBitConv2d):
        return None
    if module.w_bits == 32:
        return "real-valued weights (step 1)"
    if module.a_bits == 32:
        return "real-valued activations"
    if module.groups > 1:
        return "groups"
    keeps_size = module.stride == 1 and module.extent % 2 == 1 and module.padding == module.extent // 2
    if module.dilation > 1 and not (keeps_size and module.kernel_shape[-1] % 2 and not module.pad_value):
        return "dilation of a convolution that is not padded with zeros to its input's size"
    if _border(module) not in ((0, 1, -1) if module.a_bits == module.a_bases == 1 else (0,)):
        return f"padding with {module.pad_value:g}"
    return ""


def _border(conv: LowBitConv2d) -> float:
    """What is beyond the map's edge, 0 where nothing is read there."""
    return conv.pad_value if conv.padding or conv.same_padding else 0


def _packed(module: nn.Module, name: str) -> nn.Module:
    """Pack everything in a module that can be packed."""
    if lowered := lower(module):
        return PackedChain([lowered.unit], [name], lowered.context)
    if isinstance(module, LowBitConv2d) and _obstacle(module) == "":
        return PackedConv2d(module, name)
    if type(module) is nn.Conv2d and module.in_channels == _COLOURS:
        return _ChannelsLast(module)
    if type(module) is nn.Conv2d and module.kernel_size != (1, 1):
        return nn.Sequential(_Contiguous(), module)
    if type(module) is nn.Sequential:
        return nn.Sequential(*_runs(module, name))
    for kind, parts in _TRUNKS.items():
        if isinstance(module, kind):
            return _trunk(module, *parts)
    for child_name, child in module.named_children():
        setattr(module, child_name, _packed(child, f"{name}.{child_name}".lstrip(".")))
    return module


def _trunk(network: nn.Module, *parts: str) -> nn.Module:
    """Pack a network with a stem and sequences of units into as few chains as possible."""
    stem = network.get_submodule("stem")
    sequences = OrderedDict((part, network.get_submodule(part)) for part in parts)
    first, *rest = _runs(nn.Sequential(sequences), "")
    packed_stem = _stem(stem)
    if isinstance(first, PackedChain) and not len(first.context) and packed_stem is not None:
        first.stem = packed_stem
        network.add_module("stem", nn.Identity())
    else:
        network.add_module("stem", _packed(stem, "stem"))
    for part in parts:
        network.add_module(part, nn.Sequential())
    network.add_module(parts[0], nn.Sequential(first, *rest))
    return network


def _stem(stem: nn.Module) -> PackedStem | None:
    """Pack convolutions with batch normalization, optional ReLU, and an optional final pooling; None for others."""
    modules = [module for _, module in _flat(stem, "") if not isinstance(module, nn.Identity)]
    layers: list[FloatLayer] = []
    while (
        len(modules) > 1 and isinstance(conv := modules[0], nn.Conv2d) and isinstance(bn := modules[1], nn.BatchNorm2d)
    ):
        del modules[:2]
        if relu := bool(modules) and type(modules[0]) is nn.ReLU:
            del modules[0]
        layers.append(FloatLayer(conv, *fold(bn), relu))
    match modules:
        case [] if layers:
            return PackedStem(layers)
        case [nn.MaxPool2d(kernel_size=int(kernel), stride=int(stride), padding=int(padding))] if layers:
            return PackedStem(layers, (kernel, stride, padding))
    return None


def _runs(sequence: nn.Sequential, name: str) -> Iterator[nn.Module]:
    """Return the members of a possibly nested sequence, with chains where possible."""
    units: list[PackedUnit] = []
    names: list[str] = []
    context: tuple[nn.Module, ...] = ()

    def chain() -> Iterator[nn.Module]:
        if units:
            yield PackedChain(units, names, context)
            if _adds_to_map(units[-1].shape):
                yield _Contiguous()

    for member_name, member in _flat(sequence, name):
        lowered = lower(member)
        if units and isinstance(member, Transition):
            halved = PackedChain(units, names, context, ending=PackedHalving(*fold(member.bn)))
            yield halved if member.pool.ceil_mode else _Floored(halved)
            yield member.conv
            units, names = [], []
            continue
        if units and (lowered is None or lowered.context or not _joins(units[-1], lowered.unit)):
            yield from chain()
            units, names = [], []
        if lowered is None:
            yield _packed(member, member_name)
            continue
        if not units:
            context = lowered.context
        units.append(lowered.unit)
        names.append(member_name)
    yield from chain()


class _Floored(nn.Module):
    """A chain that halves its map without the last row and column of an odd one."""

    def __init__(self, chain: PackedChain) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]  # a chain of units that append keeps them
        out: Tensor = self.chain(x)[:, :, : height // 2, : width // 2]
        return out.contiguous()


class _Contiguous(nn.Module):
    """Restore the plain network's memory order of a map, because torch's rounding depends on it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous()


def _joins(before: PackedUnit, unit: PackedUnit) -> bool:
    """Whether a unit can follow in the same chain: units that add to their map do not mix with others."""
    shapes = before.shape, unit.shape
    if not any(_adds_to_map(shape) for shape in shapes):
        return True
    return all(_adds_to_map(shape) and _first_written(shape) % _PANEL == 0 for shape in shapes)


def _first_written(shape: Shape) -> int:
    return shape.c_in if shape.append else shape.c_in - shape.c_out


def _adds_to_map(shape: Shape) -> bool:
    return shape.append or (shape.shortcut == "same" and shape.c_out < shape.c_in)


def _flat(sequence: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    for child_name, child in sequence.named_children():
        path = f"{name}.{child_name}".lstrip(".")
        if type(child) is nn.Sequential:
            yield from _flat(child, path)
        else:
            yield path, child


def lower(module: nn.Module) -> Lowered | None:
    """Lower a whole unit to one pass; None if the kernels do not know it."""
    for kind, rule in _RULES.items():
        if type(module) is kind:
            return rule(module)
    return None


def _binary_unit(unit: BinaryUnit) -> Lowered | None:
    context: list[nn.Module] = []
    sign, conv = unit.sign, unit.conv
    dynamic: tuple[str, ...] = ()
    if isinstance(conv, DynamicConv):
        context.append(_PerImage(conv.embedding))
        dynamic, conv = ("threshold", "offset"), conv.conv
    elif isinstance(sign, CentredSign):
        context.append(_ImageMean())
        dynamic = ("threshold",)
    channels = unit.bn.num_features
    inner: dict[str, Tensor] = {}
    if type(unit.inner) is nn.PReLU:
        inner = {"inner_slope": unit.inner.weight.expand(channels)}
    elif type(unit.inner) is nn.ReLU:
        inner = {"inner_slope": torch.zeros(channels)}
    elif not isinstance(unit.inner, nn.Identity):
        return None
    limit = math.inf
    activation: dict[str, Tensor] | None = {}
    if type(unit.activation) is nn.Hardtanh and unit.activation.max_val == -unit.activation.min_val:
        limit = unit.activation.max_val
    else:
        activation = _activation(unit.activation, channels)
    if not _is_binary(conv) or activation is None:
        return None
    threshold = torch.zeros(conv.kernel_shape[1]) if dynamic else _threshold(sign, conv)
    if threshold is None:
        return None
    shortcut = _SHORTCUTS.get(type(unit.shortcut), "given")
    if shortcut == "given":
        context.append(_Given(_packed(unit.shortcut, "")))
    alpha, beta = fold(unit.bn)
    shape = _shape(conv, shortcut, dynamic=dynamic, limit=limit)
    levels, scale = conv.quantizer(conv.weight)
    constants = {"threshold": threshold, "alpha": alpha, "beta": beta, **inner, **activation}
    return Lowered(PackedUnit(shape, [levels], [scale], **constants), tuple(context))


def _mlp_block(block: MLPBlock) -> Lowered | None:
    channels = block.bn.num_features
    branches = [conv for branch in block.branches if _is_binary(conv := block.get_submodule(branch))]
    if len(branches) < len(block.branches) or len(branches) == 2 or channels % (4 * WORD):
        return None  # the kernels know one branch or three; a quarter of the channels must be whole words
    activation = _activation(block.activation, channels)
    threshold = _threshold(block.sign, branches[0])
    if activation is None or threshold is None:
        return None
    quantized = [conv.quantizer(conv.weight) for conv in branches]
    alpha, beta = fold(block.bn)
    samplings = {"local": "none", "short": "short-range", "long": "long-range"}
    shape = Shape(channels, channels, shortcut="same", samplings=tuple(samplings[b] for b in block.branches))
    unit = PackedUnit(
        shape,
        [levels for levels, _ in quantized],
        [scale for _, scale in quantized],
        threshold=threshold,
        alpha=alpha,
        beta=beta,
        **activation,
    )
    return Lowered(unit)


def _melius_branch(branch: BinaryBranch) -> Lowered | None:
    conv = branch.conv
    if not _is_binary(conv):
        return None
    threshold, falls = sign_threshold(*fold(branch.bn))
    levels, scale = conv.quantizer(conv.weight)
    append = isinstance(branch, DenseBlock)
    shape = _shape(conv, "none" if append else "same", append=append)
    return Lowered(PackedUnit(shape, [_turned(levels, falls)], [scale], threshold=threshold))


def _gated_unit(unit: GatedUnit) -> Lowered | None:
    conv = unit.conv
    if not _is_binary(conv) or (activation := _activation(unit.activation, conv.kernel_shape[0])) is None:
        return None
    shortcut = _SHORTCUTS.get(type(unit.shortcut), "given")
    context: list[nn.Module] = [_Gate(unit.bn, unit.gate)]
    if shortcut == "given":
        context.append(_Given(_packed(unit.shortcut, "")))
    threshold, falls = sign_threshold(*fold(unit.bn))
    levels, scale = conv.quantizer(conv.weight)
    shape = _shape(conv, shortcut, activation_first=True, dynamic=("gate",))
    constants = {"threshold": threshold, **activation}
    return Lowered(PackedUnit(shape, [_turned(levels, falls)], [scale], **constants), tuple(context))


_TRUNKS: dict[type[nn.Module], tuple[str, ...]] = {
    ReActNet: ("blocks",),
    BCDNet: ("blocks", "mlp"),
    BinaryResNet: ("stages",),
    MeliusNet: ("stages",),
}

_RULES: dict[type[nn.Module], Callable[..., Lowered | None]] = {
    BinaryUnit: _binary_unit,
    MLPBlock: _mlp_block,
    DenseBlock: _melius_branch,
    ImprovementBlock: _melius_branch,
    GatedUnit: _gated_unit,
}

_SHORTCUTS: dict[type[nn.Module], str] = {
    nn.Identity: "same",
    HalvingPool: "average-pool",
    Duplicate: "duplicate",
}


def _is_binary(conv: Any) -> TypeGuard[LowBitConv2d]:
    """Whether a convolution has ±1 weights and ±1 activations and the kernels can fuse it with its neighbours."""
    return (
        isinstance(conv, LowBitConv2d)
        and _obstacle(conv) == ""
        and _border(conv) == 0
        and conv.dilation == 1
        and conv.w_bits == conv.w_bases == conv.a_bits == conv.a_bases == 1
    )


def _shape(conv: LowBitConv2d, shortcut: str, **more: object) -> Shape:
    c_out, c_in, kernel, _ = conv.kernel_shape
    return Shape(c_in, c_out, kernel, conv.stride, conv.padding, conv.same_padding, shortcut, **more)  # type: ignore[arg-type]


def _threshold(sign: nn.Module, conv: LowBitConv2d) -> Tensor | None:
    """Return the threshold from which a channel's bit is 1; None for an unknown sign."""
    if not isinstance(sign, Sign):
        return None
    if sign.bias is None:
        return torch.zeros(conv.kernel_shape[1])
    return -sign.bias  # x + bias rounds to 0 only where it is 0: the comparison is exact


def _activation(activation: nn.Module, channels: int) -> dict[str, Tensor] | None:
    """Return the constants of an activation of the form ``prelu(x + shift_in) + shift_out``; None for others."""
    if isinstance(activation, nn.Identity):
        return {}
    if type(activation) is RPReLU:
        return {name: getattr(activation, name) for name in ("shift_in", "slope", "shift_out")}
    if type(activation) is nn.PReLU:
        return {"slope": activation.weight.expand(channels)}
    return None


def fold(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold batch normalization into ``x·alpha + beta``, in torch's order of operations.

    Returns:
        alpha and beta, float32 of shape (C,), which reproduce torch's results bit for bit.
    """
    assert bn.running_mean is not None and bn.running_var is not None
    # NumPy divides and takes the root with correct rounding, as the batch normalization itself does and 1 / tensor not
    root = np.sqrt(bn.running_var.numpy() + np.float32(bn.eps))
    alpha = torch.from_numpy(np.float32(1) / root) * bn.weight
    # float64 holds the product exactly: one rounding, as torch's fused operation has
    return alpha, (bn.bias.double() - bn.running_mean.double() * alpha.double()).float()


def sign_threshold(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Fold batch normalization and the sign after it into one comparison, exact for every float.

    Args:
        alpha: Factor, float32, (C,).
        beta: Offset, float32, (C,).

    Returns:
        Thresholds t, float32 of shape (C,), and where the sign falls, bool: ``alpha·x + beta ≥ 0`` is ``x ≥ t``, or
        not ``x ≥ t`` if it falls.
    """
    alpha, beta = alpha.double(), beta.double()
    falls = alpha < 0

    def is_reached(x: Tensor) -> Tensor:
        # the product is exact in float64; to float32 as torch rounds, whose -0 counts as 0
        return ((alpha * x.double() + beta).float() >= 0) ^ falls

    # The floats in order are the integers between those of -inf and +inf: bisection.
    low = torch.full(alpha.shape, -_INFINITY - 1, dtype=torch.int64)  # not reached
    high = torch.full(alpha.shape, _INFINITY, dtype=torch.int64)  # reached
    while (high - low > 1).any():
        middle = (low + high).div(2, rounding_mode="floor")
        reached = is_reached(_ordered_float(middle))
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    constant = torch.where(beta >= 0, -torch.inf, torch.inf).float()
    return torch.where(alpha == 0, constant, _ordered_float(high)), falls


_INFINITY = 0x7F80_0000  # its bits


def _ordered_float(number: Tensor) -> Tensor:
    """Return the float32 at a position in their order, 0 at 0."""
    bits = torch.where(number < 0, -number | 0x8000_0000, number)
    return torch.from_numpy(bits.numpy().astype(np.uint32).view(np.float32))


def _turned(levels: Tensor, falls: Tensor) -> Tensor:
    """Flip the sign of the weights of some input channels, to match flipped bits."""
    return levels * torch.where(falls, -1, 1)[:, None, None]


class _Given(nn.Module):
    """A shortcut that torch computes."""

    def __init__(self, shortcut: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"shortcut": self.shortcut(x)}


class _PerImage(nn.Module):
    """Threshold and offset of a dynamic embedding."""

    def __init__(self, embedding: DynamicEmbedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        threshold, offset = self.embedding.statistics(x)
        return {"threshold": threshold, "offset": offset}


class _ImageMean(nn.Module):
    """The threshold of :class:`CentredSign`, the same for all channels."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        mean = x.mean(dim=(1, 2, 3), dtype=torch.float64).to(x.dtype)
        return {"threshold": mean[:, None].expand(-1, x.shape[1])}


class _Gate(nn.Module):
    """The scale of each output channel, of the normalized input."""

    def __init__(self, bn: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.bn, self.gate = bn, gate

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"gate": self.gate(self.bn(x))}
