"""Sees every multiplication of a running network: below its modules, where the numbers are what they are.

A module's name and its stored weights say little: many codes binarize on the fly, some forget to. So each convolution
and matrix product is looked at as torch's own operation, with the operands that it is given, and belongs to the
innermost module that it happens in.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bcdzoo.audit.chains import look_at_chain
from bcdzoo.audit.seen import Seen
from bcdzoo.audit.values import (
    Threshold,
    is_coarse,
    look_at_inputs,
    look_at_threshold,
    look_at_weights,
)
from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.packed.chain import PackedChain

aten = torch.ops.aten


class Multiplication(NamedTuple):
    """One operation with two operands.

    Attributes:
        kind: ``conv``, ``linear``, or ``product`` of two maps.
        inputs: (N, C, …).
        weights: (c_out, n): a row for each output channel.
        kernel: Sides of the kernel.
        stride: Its steps.
        padding: Zeros that the operation puts around the inputs, in pixels.
        has_bias: Whether it adds one to its sums.
    """

    kind: str
    inputs: Tensor
    weights: Tensor
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    has_bias: bool = False


class _Quantized(NamedTuple):
    """The latest map of a size that was compared with thresholds."""

    threshold: Threshold
    source: Tensor
    values: tuple[Any, ...]  # that it was compared with


class Watch(TorchDispatchMode):
    """Inside it, ``network(images)`` is looked at.

    Args:
        network: In evaluation mode.

    Attributes:
        layers: In the order of their first calls.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        self.layers: dict[tuple[str, tuple[int, ...], int], Seen] = {}
        self._quantized: dict[tuple[int, int], _Quantized] = {}
        self._padded: dict[tuple[int, int], tuple[int, ...]] = {}
        self._modules = dict(network.named_modules())
        self._inside = [""]
        self._images = 0  # of the batch
        self._image: list[Tensor] = []  # the batch itself, and what is still an image
        self._constants: list[Tensor] = []
        self._weights: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}  # of this batch
        self._hooks = [hook for path, module in self._modules.items() for hook in self._watch(path, module)]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def _watch(self, path: str, module: nn.Module) -> list[Any]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._inside.append(path)
            if not path:
                self._images, self._image = len(inputs[0]), [inputs[0]]
                self._constants, self._weights = [], {}

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self._inside.pop()
            if isinstance(module, PackedChain):
                for part in look_at_chain(module, self._images):
                    known = self.layers.setdefault((part.name, part.kernel, 0), part)
                    if known is not part:
                        known.macs, known.calls = known.macs + part.macs, known.calls + part.calls

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet in _THRESHOLDS:
            self._see_threshold(packet, args)
        out = func(*args, **kwargs)
        if packet in _CONSTANTS:
            self._constants.append(out)
        if packet in _STILL_IMAGE and _is_any(args[0], self._image):
            self._image.append(out)
        if packet is aten.constant_pad_nd and out.ndim == 4:
            left, right, top, bottom = (*args[1], 0, 0)[:4]
            self._padded[_key(out)] = (top, bottom, left, right)
        if packet in flop_registry and not isinstance(self._modules[self._inside[-1]], WeightQuantizer):
            macs = flop_registry[packet](*args, **kwargs, out_val=out) // 2
            self._see(_OPERANDS.get(packet, _two_maps)(args), macs)
        return out

    def _see(self, operation: Multiplication, macs: int) -> None:
        if any(_is_any(side, self._constants) and _is_constant(side) for side in (operation.inputs, operation.weights)):
            return  # a sum written as a product with ones
        path, x = self._inside[-1], operation.inputs
        key = path, tuple(operation.weights.shape), self._place(path, operation.weights)
        layer = self.layers.get(key)
        if layer is None:
            layer = self.layers[key] = Seen(
                path, self._modules[path], operation.kind, x.shape[1], tuple(x.shape[2:]), *operation[3:]
            )
            layer.rows = max(len(x) // self._images, 1)
            layer.of_image = _is_any(x, self._image)
        layer.macs += macs
        layer.calls += self._images
        if layer.first is None or not torch.equal(layer.first, operation.weights):
            layer.weights = _sum(layer.weights, look_at_weights(operation.weights))
            layer.first = operation.weights if layer.first is None else layer.first
        inputs, inner = look_at_inputs(x, self._padded.get(_key(x), ()))
        layer.inputs = _sum(layer.inputs, inputs)
        if quantized := self._quantized.get(_key(inner)):
            layer.threshold = _sum(layer.threshold, quantized.threshold)

    def _place(self, path: str, weights: Tensor) -> int:
        """Which of a module's weights of one shape these are; each batch may have new ones, in the same order."""
        known = self._weights.setdefault((path, tuple(weights.shape)), [])
        place = next((i for i, others in enumerate(known) if torch.equal(others, weights)), len(known))
        if place == len(known):
            known.append(weights)
        return place

    def _see_threshold(self, packet: Any, args: tuple[Any, ...]) -> None:
        x = args[0]
        if not x.is_floating_point() or x.ndim < 2 or not (distance := _THRESHOLDS[packet](*args)).numel():
            return
        before = self._quantized.get(_key(x))
        same = before is not None and before.source.data_ptr() == x.data_ptr()
        by = _NAMES.get(packet, "comparison")
        if (by == "sign" and is_coarse(x)) or (before is not None and same and before.threshold.by != "comparison"):
            return  # of what is ±1 already, or the mask of an estimator's derivative beside its sign
        values = args[1:]
        found = look_at_threshold(distance, x.std(correction=0), by)
        if before is not None and same and by == "comparison":
            if any(_is_same(values[0], value) for value in before.values):
                return  # another layer that starts from the same map
            values += before.values
            found = Threshold(  # the next threshold of the same map
                before.threshold.count,
                before.threshold.zeros + found.zeros,
                before.threshold.near + found.near,
                min(before.threshold.closest, found.closest),
                by,
            )
        entry = _Quantized(found, x, values)
        self._quantized[_key(x)] = entry
        if x.ndim == 5:  # several bases of one map, each of which is convolved
            self._quantized[_key(x[0])] = entry._replace(threshold=_share(found, len(x)))


def _sum(before: Any, found: Any) -> Any:
    return found if before is None else before + found


def _is_same(value: Any, other: Any) -> bool:
    """Of two values that a map is compared with, numbers or tensors."""
    first, second = (torch.as_tensor(given, dtype=torch.float64) for given in (value, other))
    return torch.equal(first, second)


def _share(threshold: Threshold, parts: int) -> Threshold:
    """Of each of several parts, on average."""
    count, zeros, near = (number // parts for number in (threshold.count, threshold.zeros, threshold.near))
    return Threshold(count, zeros, near, threshold.closest, threshold.by)


def _key(x: Tensor) -> tuple[int, int]:
    """What a map keeps when it is reshaped on its way to a layer."""
    return len(x), x.numel()


def _is_constant(x: Tensor) -> bool:
    return x.numel() > 1 and bool((x == x.flatten()[0]).all())


def _is_any(x: Tensor, others: Sequence[Tensor]) -> bool:
    """Whether a tensor is one of these, or a view of one."""
    at = x.untyped_storage().data_ptr()
    return any(at == other.untyped_storage().data_ptr() for other in others)


_CONSTANTS = {aten.ones, aten.ones_like, aten.new_ones, aten.full, aten.full_like, aten.new_full}
_STILL_IMAGE = {aten.add, aten.sub, aten.mul, aten.div, aten.flip, aten.clone, aten._to_copy, aten.constant_pad_nd}


def _convolution(args: tuple[Any, ...]) -> Multiplication:
    x, weight, bias, stride, padding, _, is_transposed, *_ = args
    rows = weight.transpose(0, 1) if is_transposed else weight
    return Multiplication(
        "conv", x, rows.flatten(1), tuple(weight.shape[2:]), tuple(stride), tuple(padding), bias is not None
    )


def _matrix(args: tuple[Any, ...]) -> Multiplication:
    return Multiplication("linear", args[0], args[1].t())


def _matrix_and_bias(args: tuple[Any, ...]) -> Multiplication:
    return Multiplication("linear", args[1], args[2].t(), has_bias=True)


def _two_maps(args: tuple[Any, ...]) -> Multiplication:
    first, second = [arg for arg in args if isinstance(arg, Tensor)][-2:]
    return Multiplication("product", first, second.transpose(-1, -2).flatten(0, -2))


_OPERANDS: dict[Any, Callable[[tuple[Any, ...]], Multiplication]] = {
    aten.convolution: _convolution,
    aten.mm: _matrix,
    aten.addmm: _matrix_and_bias,
}


def _to_value(x: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.ndim == x.ndim and value.shape[-1:] == x.shape[-1:] and x.ndim > 2:
        return x.new_empty(0)  # two maps: neither is a threshold
    distance: Tensor = (x - value).abs()
    return distance


def _to_half(x: Tensor, *_: Any) -> Tensor:
    return (x - x.floor() - 0.5).abs()


def _to_zero(x: Tensor) -> Tensor:
    return x.abs()


_NAMES = {aten.sign: "sign", aten.sign_: "sign", aten.round: "round", aten.round_: "round"}
_THRESHOLDS: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((aten.sign, aten.sign_), _to_zero),
    **dict.fromkeys((aten.round, aten.round_), _to_half),
    **dict.fromkeys((aten.gt, aten.ge, aten.lt, aten.le), _to_value),
}
"""Operation -> distance of each value of its first argument to the nearest threshold, from its arguments."""
