"""Pack a network: the same interface, run from a plan, with its convolutions of few bits on the 1-bit kernels."""

import hashlib
import threading
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from bcdzoo.custom_model import unwrapped
from bcdzoo.errors import BcdzooError
from bcdzoo.graph.fuse import fuse, low_bit_layers
from bcdzoo.graph.recognise import recognise
from bcdzoo.graph.record import NotLoweredError, Single, record
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.lowering import LevelsValue, Value
from bcdzoo.packed import native
from bcdzoo.packed.module import EngineModule
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import LOW_BIT, MOST_WEIGHT_BITS, Operation
from bcdzoo.plan.plan import Plan
from bcdzoo.text import printable, say

_ONE_AT_A_TIME = threading.Lock()
_USUAL = ((3, 224, 224), (3, 32, 32), (1, 28, 28))
_IMAGES_PER_THREAD = 4  # of what runs module by module, because larger maps do not fit into the cache


def pack(model: nn.Module) -> "PackedNetwork":
    """Pack a network for the 1-bit kernels: same input, same predictions; on the CPU, for inference.

    The network becomes a plan when it meets images of a size for the first time, and the engine runs all of it: binary
    convolutions with all that stands around them as units, other low-bit convolutions as sums of bit planes. What
    computes something that no plan has keeps its own modules, its low-bit convolutions excepted.

    Args:
        model: Network, with convolutions by :class:`bcdzoo.layers.binary_conv.LowBitConv2d`, or binary ones in plain
            torch that :mod:`bcdzoo.graph.recognise` finds; it is not changed.

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
    model = unwrapped(model)
    packed = pack_in_place(deepcopy(model))
    packed.__dict__.update({key: getattr(model, key, None) for key in ("preprocess", "class_names", "num_classes")})
    return packed


@torch.inference_mode(False)
@torch.no_grad()
def pack_in_place(model: nn.Module) -> "PackedNetwork":
    """Like :func:`pack`, but consumes the model."""
    network = unpacked(model, "packing").float().cpu().eval()
    left: list[str] = []
    is_packed = native.kernels() is not None
    if is_packed:
        obstacles = {name: reason for name, module in network.named_modules() if (reason := _obstacle(module))}
        if not any(_obstacle(module) == "" for module in network.modules()):
            reasons = sorted(set(obstacles.values()))
            if reasons:
                raise BcdzooError(f"{type(model).__name__} cannot be packed: {'; '.join(reasons)}")
            _require_recognised(network)
        for name, values in network.state_dict().items():
            if values.is_floating_point() and values.isnan().any():
                raise BcdzooError(f"{type(model).__name__} cannot be packed: {name} has values that are not numbers")
        left = [f"{name}: {reason}" for name, reason in obstacles.items()]
    return PackedNetwork(network, left, is_packed)


def unpacked(network: nn.Module, what: str, name: str | None = None) -> nn.Module:
    """Return the network that a packed one was made from, and any other as it is.

    Args:
        network: Network.
        what: Who needs it, for the message.
        name: Its name; by default its class.

    Raises:
        BcdzooError: It is a plan, or has packed parts.
    """
    network = network.network if isinstance(network, PackedNetwork) else network
    if any(isinstance(module, EngineModule) for module in network.modules()):
        has = "is packed" if isinstance(network, EngineModule) else "has packed parts"
        raise BcdzooError(
            f"{name or type(network).__name__} {has}: {what} needs the network itself and its own weights"
        )
    return network


def _require_recognised(network: nn.Module) -> None:
    """Refuse a network without layers of few bits that has no binary ones in plain torch either.

    Of which size its images are is not known yet: if none of the usual ones fits, the first images will tell.
    """
    for shape in _USUAL:
        try:
            plan = plan_of(network, shape)
        except NotLoweredError:
            return  # the first images will say why
        except Exception:  # whatever a network says to images of another size
            continue
        _require_units(plan, type(network).__name__)
        return


def plan_of(network: nn.Module, input_shape: tuple[int, ...], name: str = "") -> Plan:
    """Turn a network into a plan, fused.

    Args:
        network: Network in evaluation mode, on the CPU in float32.
        input_shape: Channels, height and width of the images that the plan is for.
        name: Name of the network.

    Raises:
        NotLoweredError: It computes something that no plan has.
    """
    return fused(recorded(network, input_shape, name))


def recorded(network: nn.Module, input_shape: tuple[int, ...], name: str = "") -> Plan:
    """The same, not fused yet."""
    draw = torch.Generator().manual_seed(0)  # any image would do: operations do not depend on it
    with _ONE_AT_A_TIME:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # of one image little is won by more, and on a busy machine they wait for each other
        try:
            return record(network, torch.randn(1, *input_shape, generator=draw), name)
        finally:
            torch.set_num_threads(threads)


def fused(plan: Plan) -> Plan:
    """A recorded plan, with its binary layers recognised and fused."""
    return fuse(recognise(plan))


def _require_units(plan: Plan, name: str) -> None:
    """Refuse a plan that the kernels have nothing to do in."""
    if not any(operation.kind in LOW_BIT for operation in plan.operations):
        reasons = sorted({reason for _, reason in low_bit_layers(plan)})
        raise BcdzooError(f"{name} cannot be packed: {'; '.join(reasons) or 'no low-bit layers'}")


class PackedNetwork(EngineModule):
    """A packed network.

    Attributes:
        network: The network itself; what is written into its tensors (but by way of ``.data``) is packed anew.
        unpacked: Low-bit layers that are not packed, with the reason.
        is_packed: Whether there are kernels.

    Shape:
        (N, 3, H, W) to (N, classes), float32 on the CPU.
    """

    def __init__(self, network: nn.Module, unpacked: list[str], is_packed: bool) -> None:
        super().__init__()
        self.network = network
        self.unpacked, self.is_packed = unpacked, is_packed
        self._runners: dict[tuple[int, ...], PlanRunner | nn.Module] = {}
        self._made_of = _versions(network)

    def run(self, x: Tensor) -> Any:
        require_images(x)
        run = self.runner(tuple(x.shape[1:]))
        return run(x) if isinstance(run, PlanRunner) or not self.is_packed else _split(run, x)

    def runner(self, input_shape: tuple[int, ...]) -> PlanRunner | nn.Module:
        """What runs images of a size: a plan, or where there can be none, modules."""
        if not self.is_packed:
            return self.network
        if (now := _versions(self.network)) != self._made_of:  # the weights were written into
            self._runners, self._made_of = {}, now
        if input_shape not in self._runners:
            with torch.inference_mode(False), torch.no_grad():
                self._runners[input_shape] = self._made(input_shape)
        return self._runners[input_shape]

    def plan(self, input_shape: tuple[int, ...]) -> Plan | None:
        """The plan for images of a size, (C, H, W); None if there can be none."""
        run = self.runner(input_shape)
        return run.plan if isinstance(run, PlanRunner) else None

    def layers(self, input_shape: tuple[int, ...]) -> list[tuple[str, str]]:
        """Low-bit layers that are packed, each with "" if it is fused with what is around it, and else why not."""
        plan = self.plan(input_shape)
        if plan is not None:
            return list(low_bit_layers(plan))
        names = [name for name, module in self.network.named_modules() if _obstacle(module) == ""]
        return [(name, "the network is no plan") for name in names]

    def _made(self, input_shape: tuple[int, ...]) -> PlanRunner | nn.Module:
        has_layers = any(_obstacle(module) == "" for module in self.network.modules())
        try:
            plan = plan_of(self.network, input_shape)
            if not has_layers:
                _require_units(plan, type(self.network).__name__)
            return PlanRunner(plan)
        except NotLoweredError as error:
            if not has_layers:
                raise BcdzooError(f"{error}, and none of its layers is of the zoo's: it cannot be packed") from None
            say(f"{error}; packed convolution by convolution")
            network = deepcopy(self.network)
            for module in list(network.modules()):  # not those that are put in
                for name, child in module.named_children():
                    if isinstance(child, LowBitConv2d) and _obstacle(child) == "":
                        setattr(module, name, PackedConv2d(child))
            return network

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_runners": {}}


def _versions(network: nn.Module) -> list[tuple[int, int]]:
    """What changes where a network's tensors are replaced or written into."""
    tensors = (*network.parameters(), *network.buffers())
    return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


class PlanNetwork(EngineModule):
    """A plan as a network of its own, without the modules that it was made from.

    Attributes:
        plan: Plan.

    Shape:
        (N, C, H, W), of the plan's size, to (N, classes), float32 on the CPU.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self._runner: PlanRunner | None = None

    def run(self, x: Tensor) -> Any:
        require_images(x)
        return self.runner(tuple(x.shape[1:]))(x)

    def runner(self, input_shape: tuple[int, ...]) -> PlanRunner:
        """The plan, ready to run."""
        if self._runner is None:
            self._runner = PlanRunner(self.plan)
        return self._runner

    def layers(self, input_shape: tuple[int, ...]) -> list[tuple[str, str]]:
        """As of :class:`PackedNetwork`."""
        return list(low_bit_layers(self.plan))

    def extra_repr(self) -> str:
        """What tells one plan from another."""
        return f"{self.plan.model}, {hashlib.sha256(encode(self.plan)).hexdigest()}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_runner": None}


def _split(run: Any, x: Tensor) -> Any:
    """Run images a few at a time; what gives several maps gives each of them whole.

    Comparisons would hide a NaN that the plain network shows in its logits.
    """
    if x.numel() and not all(extreme.isfinite() for extreme in x.aminmax()):
        raise BcdzooError("the images have values that are not finite: check their preprocessing")
    parts = [run(images) for images in x.split(_IMAGES_PER_THREAD * torch.get_num_threads())]
    if isinstance(parts[0], list | tuple):
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]
    return torch.cat(parts)


def require_images(x: Tensor) -> None:
    """Refuse what is no batch of images.

    Raises:
        BcdzooError: It is not float32 of four dimensions on the CPU.
    """
    if not isinstance(x, Tensor):
        raise BcdzooError(f"a packed network takes a torch.Tensor of images, not a {type(x).__name__}")
    if x.dtype != torch.float32 or x.ndim != 4 or x.device.type != "cpu" or x.layout != torch.strided:
        what = f"{x.dtype} of shape {tuple(x.shape)} on {x.device}"
        raise BcdzooError(
            f"a packed network takes images as torch.float32 of shape (N, C, H, W) on the CPU, not {what}"
        )


def _obstacle(module: nn.Module) -> str | None:
    """Return why a low-bit layer cannot be packed, empty if it can; None for other modules."""
    if not isinstance(module, LowBitConv2d):
        return None
    if module.w_bits == 32:
        return "real-valued weights"
    if module.a_bits == 32:
        return "real-valued activations"
    return f"weights of more than {MOST_WEIGHT_BITS} bits" if module.w_bits > MOST_WEIGHT_BITS else ""


class PackedConv2d(nn.Module):
    """Replaces a :class:`LowBitConv2d` by itself: the same input, bit for bit the same output.

    What is not of the levels that the layer states goes through the layer as it is.
    """

    def __init__(self, conv: LowBitConv2d) -> None:
        super().__init__()
        self.conv = conv
        self._runners: dict[tuple[Any, ...], PlanRunner] = {}

    def forward(self, x: Any) -> Tensor:
        values, scale = x if isinstance(x, tuple) else (x, torch.ones(1))
        quantizer = _levels_of(values, self.conv.a_bits)
        if quantizer is None:
            return cast(Tensor, self.conv(x))
        if values.ndim == 4:
            values = values[None]
        maps = values.transpose(0, 1)  # images before bases
        key = (quantizer.kind, *maps.shape[1:], *scale.flatten().tolist())
        if key not in self._runners:
            self._runners[key] = PlanRunner(_plan(self.conv, tuple(maps.shape[1:]), scale, quantizer))
        return self._runners[key](maps.flatten(1, 2))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_runners": {}}


def _levels_of(values: Tensor, bits: int) -> Operation | None:
    """The operation that leaves levels of so many bits as they are: signs, or whole numbers from 0 on; or none."""
    if bool((values.abs() == 1).all()):
        return Operation("binarize", {"x": 0}, {}, {"threshold": np.zeros(1, np.float32)}, "levels")
    top = float(2**bits - 1)
    if not bool(((values >= 0) & (values <= top) & (values == values.round())).all()):
        return None
    fields = {"low": 0.0, "high": top, "step": 1.0, "divide": 1, "offset": 0, "bits": bits}
    return Operation("quantize", {"x": 0}, fields, {}, "levels")


def _plan(conv: LowBitConv2d, shape: tuple[int, ...], scale: Tensor, quantizer: Operation) -> Plan:
    """A convolution as a plan, on the maps of all bases, (bases, C, H, W), one behind the other."""
    bases, channels, *sides = shape
    single = Single()
    conv.lower(single, LevelsValue(Value(0, shape), scale) if bases > 1 else Value(0, shape[1:]))
    parts = [quantizer]
    if bases > 1:
        parts += [
            Operation(
                "slice",
                {"x": 1},
                {"axis": 0, "start": i * channels, "stop": (i + 1) * channels, "step": 1},
                name="basis",
            )
            for i in range(bases)
        ]
        parts.append(Operation("stack", {f"x{i}": i + 2 for i in range(bases)}, name="bases"))
    convolution = replace(single.operation, inputs={"x": len(parts)})
    return fuse(Plan((bases * channels, *sides), (*parts, convolution)))
