"""Observe every multiplication of a running network, below its modules.

A module's name and its stored weights say little: many networks binarize on the fly, some forget to. So each
convolution and matrix product is observed as torch's own operation, with its actual operands, and belongs to the
innermost module in which it runs.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bcdzoo.observe.observed_layer import ObservedLayer
from bcdzoo.observe.values import (
    Threshold,
    is_coarse,
    summarize_inputs,
    summarize_threshold,
    summarize_weights,
)
from bcdzoo.observe.zeros import Zeros
from bcdzoo.trace.known import is_recognised
from bcdzoo.trace.products import Multiplication
from bcdzoo.trace.running import Running

aten = torch.ops.aten


class _Quantized(NamedTuple):
    """The latest map of a size that was compared with thresholds."""

    threshold: Threshold
    source: Tensor
    values: tuple[Any, ...]  # thresholds
    version: int  # of the source, which may be overwritten with its quantized values


class Watch(Running):
    """``watch.run(images)`` runs a network and observes it.

    Args:
        network: Network in evaluation mode.

    Attributes:
        layers: Observed layers in the order of their first calls.
        images: Number of images that were run.
        runs: Number of batches.
        unknown: Operations that are not recognized and may multiply, with the paths of their modules.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(dict(network.named_modules()))
        self.layers: dict[tuple[str, tuple[int, ...], int], ObservedLayer] = {}
        self.images = self.runs = 0
        self.unknown: dict[str, list[str]] = {}
        self._quantized: dict[tuple[int, int], _Quantized] = {}
        self._padded: dict[tuple[int, int], tuple[int, ...]] = {}
        self._zeros = Zeros()
        self._image: list[Tensor] = []  # the batch, and tensors that are still images
        self._batch = 0
        self._weights: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}  # of this batch
        self._calls: Counter[Any] = Counter()  # of each layer, of this batch

    def run(self, images: Tensor, call: Callable[[Tensor], Any] | None = None) -> Any:
        """Observe the network while it runs on some images."""
        self._batch, self._image, self._weights = len(images), [images], {}
        self._calls, self._quantized, self._padded = Counter(), {}, {}
        self._zeros.restart()
        out = super().run(images, call)
        self.images += len(images)
        self.runs += 1
        return out

    def escaped(self, name: str) -> None:
        """Record an escaped tensor."""
        self.not_recognised(name, self.inside[-1])

    def before(self, packet: Any, args: tuple[Any, ...]) -> None:
        """Observe the values before a sign."""
        if packet in _THRESHOLDS:
            self._see_threshold(packet, args)

    def other(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """Follow padding and images, and record an operation that is not recognized."""
        packet = getattr(func, "_overloadpacket", func)
        if packet in _STILL_IMAGE and _is_any(args[0], self._image):
            self._image.append(out)
        if packet is aten.constant_pad_nd and out.ndim == 4:
            left, right, top, bottom = (*args[1], 0, 0)[:4]
            if any((top, bottom, left, right)):  # else of channels alone
                self._padded[_key(out)] = (top, bottom, left, right)
        if not is_recognised(func, args, kwargs):
            self.not_recognised(str(packet), self.inside[-1])
        if isinstance(func, torch._ops.OpOverload):
            self._zeros.follow(func, args, kwargs, out, [x for x in _tensors(args) if self.depends(x)])

    def not_recognised(self, name: str, path: str) -> None:
        """Record an operation that is not recognized."""
        self.unknown.setdefault(name, []).append(path)

    def multiplied(self, operation: Multiplication, macs: int, path: str) -> None:
        """Observe both operands."""
        fake_bits = self.declared_bits(operation.weights), self.declared_bits(operation.inputs)
        operation = operation._replace(inputs=_real(operation.inputs), weights=_real(operation.weights))
        x = operation.inputs
        # the parts of a written-out product are one layer
        place = 0 if operation.is_written_out else self._place(path, operation.weights)
        key = path, tuple(operation.weights.shape), place
        layer = self.layers.get(key)
        if layer is None:
            layer = self.layers[key] = ObservedLayer(
                path, self.modules[path], operation.kind, x.shape[1], tuple(x.shape[2:]), *operation[3:7]
            )
            layer.rows = max(len(x) // self._batch, 1)
            layer.of_image = _is_any(x, self._image)
            layer.fake_bits = fake_bits
        layer.macs += macs
        layer.calls += self._batch
        if layer.first is None or not torch.equal(layer.first, operation.weights):
            layer.weights = _sum(layer.weights, summarize_weights(operation.weights))
            layer.first = operation.weights if layer.first is None else layer.first
        given = x if operation.given is None else operation.given
        padding = self._zeros.number(given) if given.numel() == x.numel() else 0
        inputs, inner = summarize_inputs(x, self._padded.get(_key(x), ()), padding)
        layer.inputs = _sum(layer.inputs, inputs)
        layer.see_channels(inner)
        layer.see_constant(self._calls[key], inputs, is_meant=self.is_made(x))
        self._calls[key] += 1
        quantized = self._quantized.get(_key(inner))
        if quantized is not None and not _is_before(given, quantized):
            layer.threshold = _sum(layer.threshold, quantized.threshold)

    def _place(self, path: str, weights: Tensor) -> int:
        """Return the index of weights among a module's weights of that shape, in order of use within the batch."""
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
            return  # already ±1, or the mask of an estimator's derivative
        values = args[1:]
        found = summarize_threshold(distance, x.std(correction=0), by)
        if before is not None and same and by == "comparison":
            if any(_is_same(values[0], value) for value in before.values):
                return  # another layer with the same input
            values += before.values
            found = Threshold(  # the next threshold of the same map
                before.threshold.count,
                before.threshold.zeros + found.zeros,
                before.threshold.near + found.near,
                min(before.threshold.closest, found.closest),
                by,
            )
        entry = _Quantized(found, x, values, _version(x))
        self._quantized[_key(x)] = entry
        if x.ndim == 5:  # several bases of one map, which are convolved separately
            self._quantized[_key(x[0])] = entry._replace(threshold=_share(found, len(x)))


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    return [part for part in tree_leaves(args) if isinstance(part, Tensor) and part.layout == torch.strided]


def _sum(before: Any, found: Any) -> Any:
    return found if before is None else before + found


def _is_same(value: Any, other: Any) -> bool:
    """Whether two thresholds, numbers or tensors, are equal."""
    first, second = (torch.as_tensor(given, dtype=torch.float64) for given in (value, other))
    return torch.equal(first, second)


def _is_before(given: Tensor, quantized: _Quantized) -> bool:
    """Whether a layer uses the unquantized map, as a shortcut does."""
    return _is_any(given, [quantized.source]) and _version(quantized.source) == quantized.version


def _version(x: Tensor) -> int:
    """Return a tensor's version, which changes when it is written to."""
    return 0 if x.is_inference() else x._version


def _share(threshold: Threshold, parts: int) -> Threshold:
    """Divide the counts by a number of parts."""
    count, zeros, near = (number // parts for number in (threshold.count, threshold.zeros, threshold.near))
    return Threshold(count, zeros, near, threshold.closest, threshold.by)


def _key(x: Tensor) -> tuple[int, int]:
    """Return what a map keeps when it is reshaped before a layer."""
    return len(x), x.numel()


def _is_any(x: Tensor, others: Sequence[Tensor]) -> bool:
    """Whether a tensor shares storage with one of others."""
    at = x.untyped_storage().data_ptr()
    return any(at == other.untyped_storage().data_ptr() for other in others)


_STILL_IMAGE = {aten.add, aten.sub, aten.mul, aten.div, aten.flip, aten.clone, aten._to_copy, aten.constant_pad_nd}


def _real(x: Tensor) -> Tensor:
    """Convert to a dtype that supports the median."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


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
"""Operation -> function of its arguments to the distance of each value to the nearest threshold."""
