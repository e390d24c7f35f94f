"""Find real-valued layers without products: a map and weights, or two maps, combined element by element and summed.

``(x[:, :, None] - w).abs().sum(-1)`` is a layer of distances, ``(x.log()[:, :, None] + w.log()).exp().sum(-1)`` a
product through logarithms. The cost and bits of such a layer are undefined, so it is reported as not recognized.
There are three criteria:

- **Two tensors produce more numbers than either has**, and these are reduced over a dimension along which both vary,
  after any element-wise operations. A bias, scale or threshold per channel produces as many as the map has;
  the thresholds of a quantizer that are summed vary along a dimension of their own.
- **One map is combined several times over** in one module, and the results are reduced so: a loop over output channels.
- **Or they are added up**: a loop over input channels or kernel positions.

Combining the result with a map of the same size, as in a gate, ends the search.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from bcdzoo.trace.known import FREE, packets
from bcdzoo.trace.layout import at, moves_along, numbers_of, of_storage, passed_along, summed_dims
from bcdzoo.trace.sums import COPIES, MOVES, OVER, SUMS

aten = torch.ops.aten


@dataclass(eq=False)
class _Pair:
    """An element-wise combination of two tensors.

    Attributes:
        path: Path of its module.
        name: Name of the operation.
        source: Storage and version of the map, and the path, because units that share a map are not a loop.
        size: Size of the map's storage.
        number: Number of results.
        extent: Product of the dimensions along which both vary.
        is_outer: Whether there are more results than either tensor has numbers.
    """

    path: str
    name: str
    source: tuple[int, int, str]
    size: int
    number: int
    extent: int
    is_outer: bool
    is_added: bool = False
    is_reported: bool = False


@dataclass
class _StoredPairs:
    """Combinations in a storage, with whether both vary along each dimension; size and stride of the dimensions."""

    pairs: dict[_Pair, list[bool]]
    layout: list[tuple[int, int]]
    alive: StorageWeakRef

    def along(self, x: Tensor) -> dict[_Pair, list[bool]]:
        """Return unreported combinations, with whether both vary along each dimension of a view."""
        passed = passed_along(x, self.layout)
        return {
            pair: [any(varies[place] for place in places) for places in passed]
            for pair, varies in self.pairs.items()
            if not pair.is_reported
        }


@dataclass
class Pairs:
    """Follows such combinations through one run of a network.

    Args:
        depends: Predicate on tensors that depend on the images.
    """

    depends: Callable[[Tensor], bool]
    _held: dict[int, _StoredPairs] = field(default_factory=dict)
    _distinct: dict[int, tuple[int, StorageWeakRef]] = field(default_factory=dict)  # numbers that are not repeated
    _times: dict[tuple[int, int, str], int] = field(default_factory=dict)  # of a map: results that are summed

    def restart(self) -> None:
        """Forget the tensors of a run."""
        self._held, self._distinct, self._times = {}, {}, {}

    def follow(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any, path: str, *, is_known: bool
    ) -> list[tuple[str, str]]:
        """Follow an operation that depends on the images.

        Args:
            func: Operation.
            args: Positional arguments.
            kwargs: Keyword arguments.
            out: Result of the operation.
            path: Path of the module in which it runs.
            is_known: Whether it completes a recognized product, which is reported elsewhere.

        Returns:
            Names and paths of the layers that it completes.
        """
        packet = func._overloadpacket
        given = {name: part for name, part in kwargs.items() if name != "out"}
        tensors = [part for part in tree_leaves((args, given)) if isinstance(part, Tensor)]
        tensors = [part for part in tensors if part.layout == torch.strided]
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if is_known:
            for tensor in tensors:
                for pair in self._pairs(tensor):
                    pair.is_reported = True
        if not isinstance(first, Tensor) or first.layout != torch.strided or func.is_view:
            return []
        if torch.Tag.pointwise in func.tags or packet in MOVES:
            return self._pointwise(packet, args, tensors, first, path)
        found = []
        for x in tensors:
            if (held := self._held.get(at(x))) is None or at(first) == at(x):
                continue
            if packet not in FREE and (first.numel() < x.numel() or packet in SUMS):
                found += self.reduce(x, _dims(func, args, kwargs), str(packet))
            else:
                same = x.ndim == first.ndim
                self._hold(first, {p: own if same else [True] * first.ndim for p, own in held.along(x).items()})
        return found

    def holds(self, x: Tensor) -> bool:
        """Whether a tensor holds combinations."""
        return at(x) in self._held

    def reduce(self, x: Tensor, dims: Sequence[int], name: str) -> list[tuple[str, str]]:
        """Follow a reduction of ``x`` over dimensions."""
        held = self._held.get(at(x))
        if held is None:
            return []
        found = []
        pairs = held.along(x)
        sources = [pair.source for pair in pairs]
        for pair, own in pairs.items():
            if any(own[dim % x.ndim] for dim in dims):
                found += self._report(pair, name) if pair.is_outer else self._count(pair, name)
            if sources.count(pair.source) > 1:  # stacked, then added up
                found += self._count(pair, name)
        return found

    def _pointwise(
        self, packet: Any, args: tuple[Any, ...], tensors: list[Tensor], out: Tensor, path: str
    ) -> list[tuple[str, str]]:
        is_move, name = packet in MOVES and packet not in COPIES, str(packet)
        carriers = [(tensor, held) for tensor in tensors if (held := self._held.get(at(tensor)))]
        others = [tensor for tensor in tensors if at(tensor) not in self._held and self.depends(tensor)]
        is_gated = not is_move and any(tensor.numel() == out.numel() for tensor in others)
        pairs: dict[_Pair, list[bool]] = {}
        parts: list[_Pair] = []  # combined in pieces
        for tensor, held in carriers:
            for pair, own in held.along(tensor).items():
                if math.prod(size for size, both in zip(tensor.shape, own, strict=True) if both) < pair.extent:
                    parts.append(pair)
                if is_gated and tensor.numel() >= pair.number:
                    continue
                if packet is aten.stack:
                    own.insert(args[1] if len(args) > 1 else 0, False)
                varies = pairs.setdefault(pair, [False] * out.ndim)
                for dim in range(1, min(len(own), out.ndim) + 1):
                    varies[-dim] |= own[-dim]
        found = []
        if not is_move and len(carriers) > 1:
            for pair in dict.fromkeys(parts):
                found += self._report(pair, name) if pair.is_outer and parts.count(pair) > 1 else []
        if packet in _ADDS and len(carriers) > 1 and not is_gated:
            for pair in pairs:
                found += self._count(pair, name)
        if not is_move and packet not in COPIES:
            pairs |= self._combine(tensors, out, path, name)
        self._note_repeats(packet, tensors, out)
        self._hold(out, pairs)
        return found

    def _combine(self, tensors: list[Tensor], out: Tensor, path: str, name: str) -> dict[_Pair, list[bool]]:
        """Return the combination that an operation makes, if any, with whether both vary along each dimension."""
        many = [tensor for tensor in tensors if tensor.numel() > 1]
        maps = [tensor for tensor in many if self.depends(tensor)]
        number = out.numel()
        is_outer = number > max(map(self._numbers, many), default=number)
        if len(many) < 2 or not maps or (not is_outer and len(maps) == len(many)):
            return {}
        both = [sum(moves_along(tensor, dim, out.ndim) for tensor in many) > 1 for dim in range(out.ndim)]
        x = max(maps, key=self._numbers)
        version = 0 if x.is_inference() else x._version  # a map changed in place is a different one
        extent = math.prod(size for size, vary in zip(out.shape, both, strict=True) if vary)
        return {_Pair(path, name, (at(x), version, path), of_storage(x), number, extent, is_outer): both}

    def _note_repeats(self, packet: Any, tensors: list[Tensor], out: Tensor) -> None:
        tensors = tensors[1:] if packet is aten.copy_ else tensors
        is_one = len({(tensor.data_ptr(), tensor.shape) for tensor in tensors}) == 1 if not out.is_meta else False
        if is_one or len(tensors) == 1:
            numbers = self._numbers(tensors[0])
            if numbers < out.numel() and packet not in _PADS:
                self._distinct[at(out)] = numbers, StorageWeakRef(out.untyped_storage())

    def _numbers(self, x: Tensor) -> int:
        return min(numbers_of(x), self._distinct.get(at(x), (x.numel(), None))[0])

    def _pairs(self, x: Tensor) -> list[_Pair]:
        held = self._held.get(at(x))
        return list(held.pairs) if held else []

    def _hold(self, out: Tensor, pairs: dict[_Pair, list[bool]]) -> None:
        if not pairs:
            self._held.pop(at(out), None)
            return
        for key in [key for key, held in self._held.items() if held.alive.expired()]:
            del self._held[key]
        if before := self._held.get(at(out)):  # written in parts
            pairs = before.along(out) | pairs
        layout = list(zip(out.shape, out.stride(), strict=True))
        self._held[at(out)] = _StoredPairs(pairs, layout, StorageWeakRef(out.untyped_storage()))

    def _count(self, pair: _Pair, name: str) -> list[tuple[str, str]]:
        """Count summed results; report them if they are several times as many as the map has numbers."""
        if pair.is_added or pair.is_reported:
            return []
        pair.is_added = True
        self._times[pair.source] = self._times.get(pair.source, 0) + pair.number
        return self._report(pair, name) if self._times[pair.source] >= OVER * pair.size else []

    def _report(self, pair: _Pair, name: str) -> list[tuple[str, str]]:
        if pair.is_reported:
            return []
        pair.is_reported = True
        return [(f"{pair.name} with {name}", pair.path)]


def _dims(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
    """Return the dimensions that an operation reduces."""
    x, packet = args[0], func._overloadpacket
    if packet in SUMS:
        return summed_dims(packet, args)
    if "pool" in str(packet):
        return list(range(2, x.ndim))
    names = (argument.name for argument in func._schema.arguments)
    asked = (dict(zip(names, args, strict=False)) | dict(kwargs)).get("dim")
    return [asked] if isinstance(asked, int) else list(asked or range(x.ndim if isinstance(x, Tensor) else 0))


_ADDS = set(packets("add sub rsub maximum minimum logaddexp"))
_PADS = {aten.constant_pad_nd, aten.reflection_pad2d, aten.replication_pad2d, aten.cat}
