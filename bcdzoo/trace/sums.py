"""Find matrix products that are written as element-wise products and sums.

``(x[:, :, None] * w).sum(-1)`` is a linear layer, although there is no matrix product. There are two criteria:

- **A product is summed over a dimension along which both factors vary**, if one of them is a weight, or if there are
  more products than either has numbers. A scale per channel before a pooling over the map is not such a sum: it
  could also be multiplied after the sum.
- **A map is multiplied several times**, and the products are added up: a loop over output channels, input channels
  or kernel positions.

A map that is multiplied with another one of its size is gated, or passed through an activation function if that is made
of it (x·sigmoid(x), x²): as many products as it has numbers. The scaled sums of a few bases, after a low-bit
convolution, are the approximation of one weight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from bcdzoo.trace.known import FREE
from bcdzoo.trace.layout import POOLS, at, moves_along, numbers_of, of_storage, summed_dims, varies_along
from bcdzoo.trace.products import Multiplication

aten = torch.ops.aten

OVER = 4
"""Least number of multiplications of each number in a matrix product; three branches or gates are not one."""
_BASES = 8


@dataclass(eq=False)
class _Product:
    """An element-wise product of two tensors."""

    path: str
    inputs: Tensor
    weights: Tensor
    number: int
    is_of_two_maps: bool
    is_wide: bool  # has many more numbers than the larger factor
    is_scaled_sum: bool
    is_added: bool = False
    is_reported: bool = False


@dataclass
class _StoredProducts:
    """Products in a storage.

    Attributes:
        products: Products whose values, or sums or further products of them, are stored.
        terms: Those of them that were not multiplied with a map again, as by a gate.
        layout: Size, stride, and whether both factors vary, for each dimension.
        alive: Weak reference to the storage.
    """

    products: list[_Product]
    terms: list[_Product]
    layout: list[tuple[int, int, bool]]
    alive: StorageWeakRef


@dataclass
class SumOfProducts:
    """A matrix product that was written out.

    Attributes:
        operation: Operands of the product.
        macs: Number of multiply-accumulates.
        path: Path of the module.
    """

    operation: Multiplication
    macs: int
    path: str


@dataclass
class Sums:
    """Follows element-wise products through one run of a network.

    Args:
        depends: Predicate on tensors that depend on the images.

    Attributes:
        elements: Number of element-wise products that are not part of matrix products.
    """

    depends: Callable[[Tensor], bool]
    elements: int = 0
    _held: dict[int, _StoredProducts] = field(default_factory=dict)
    _roots: dict[int, int] = field(default_factory=dict)
    _summed: set[int] = field(default_factory=set)  # results of multiplications
    _times: dict[tuple[int, int], list[int]] = field(
        default_factory=dict
    )  # of a map: its size, and number of added products

    def restart(self) -> None:
        """Forget the tensors of a run."""
        self._held, self._roots, self._summed, self._times = {}, {}, set(), {}

    def multiplied(self, out: Any) -> None:
        """Record the result of a recognized multiplication."""
        if isinstance(out, Tensor):
            self._summed.add(at(out))

    def follow(self, func: Any, args: tuple[Any, ...], out: Any, path: str) -> list[SumOfProducts]:
        """Follow an operation that depends on the images.

        Returns:
            Matrix products that it completes.
        """
        packet = func._overloadpacket
        if packet in SUMS and isinstance(out, Tensor):
            return self.reduce(args[0], summed_dims(packet, args), out.numel())
        if torch.Tag.pointwise in func.tags or packet in MOVES:
            return self._pointwise(packet, args, out, path) if isinstance(out, Tensor) else []
        return [] if packet in FREE or func.is_view else self.consume(args)

    def reduce(self, x: Tensor, dims: Sequence[int], left: int) -> list[SumOfProducts]:
        """Follow a sum of ``x`` over dimensions, which leaves ``left`` numbers."""
        held = self._held.get(at(x))
        if held is None:
            return []
        length = max(x.numel() // max(left, 1), 1)
        found = []
        if any(varies_along(x, held.layout)[dim] for dim in dims):
            for product in held.products:
                if not product.is_reported and not (product.is_scaled_sum and length <= _BASES):
                    found.append(self._report(product, product.number, length))
        return found + self._added(held.terms)

    def consume(self, args: Sequence[Any]) -> list[SumOfProducts]:
        """Follow an operation that is not element-wise: a norm, a scatter, another matrix product."""
        found = []
        for x in args:
            held = self._held.get(at(x)) if isinstance(x, Tensor) and x.layout == torch.strided else None
            for product in held.products if held else ():
                if product.is_wide and not product.is_reported:
                    found.append(self._report(product, product.number, 1))
        return found

    def _pointwise(self, packet: Any, args: tuple[Any, ...], out: Tensor, path: str) -> list[SumOfProducts]:
        flat = [part for arg in args for part in (arg if isinstance(arg, (list, tuple)) else (arg,))]
        tensors = [part for part in flat if isinstance(part, Tensor)]
        maps = [tensor for tensor in tensors if self.depends(tensor)]
        roots = {self._root(tensor) for tensor in maps}
        if len(roots) == 1 and (packet not in MOVES or packet in COPIES):
            self._roots[at(out)] = roots.pop()
        varies = [False] * out.ndim
        products: list[_Product] = []
        terms: list[_Product] = []
        if packet in _LINEAR or packet in MOVES:
            for tensor in maps:
                if (held := self._held.get(at(tensor))) is None:
                    continue
                products, terms = products + held.products, terms + held.terms
                own = varies_along(tensor, held.layout)
                if packet is aten.stack:
                    own.insert(args[1] if len(args) > 1 else 0, False)
                for dim in range(1, min(len(own), out.ndim) + 1):
                    varies[-dim] |= own[-dim]
        found = self._added(terms) if packet in ADDS and len(tensors) > 1 else []
        if factors := _factors(packet, args):
            product, both_vary = self._product(*factors, out, path)
            products, terms = [*products, product], [product] if product.is_of_two_maps else [*terms, product]
            varies = [known or new for known, new in zip(varies, both_vary, strict=True)]
        if products:
            for key in [key for key, held in self._held.items() if held.alive.expired()]:
                del self._held[key]
            if before := self._held.get(at(out)):  # written in parts
                products, terms = [*before.products, *products], [*before.terms, *terms]
            layout = list(zip(out.shape, out.stride(), varies, strict=True))
            self._held[at(out)] = _StoredProducts(
                list(dict.fromkeys(products)), list(dict.fromkeys(terms)), layout, StorageWeakRef(out.untyped_storage())
            )
        return found

    def _product(self, first: Tensor, second: Tensor, out: Tensor, path: str) -> tuple[_Product, list[bool]]:
        swap = not self.depends(first) or (self.depends(second) and second.numel() > first.numel())
        inputs, weights = (second, first) if swap else (first, second)
        is_of_two_maps = self.depends(weights)
        numbers = max(numbers_of(first), numbers_of(second))
        is_wide = out.numel() >= OVER * numbers
        is_own = is_of_two_maps and self._root(first) == self._root(second)  # an activation function
        product = _Product(
            path,
            inputs,
            weights,
            out.numel(),
            is_of_two_maps,
            is_wide,
            is_scaled_sum=out.numel() == numbers and self._root(inputs) in self._summed,
            is_added=is_own and not is_wide,  # not counted again
        )
        self.elements += product.number
        both_vary = [
            (out.numel() > numbers or not is_of_two_maps)
            and all(moves_along(factor, dim, out.ndim) for factor in (first, second))
            for dim in range(out.ndim)
        ]
        return product, both_vary

    def _added(self, products: Sequence[_Product]) -> list[SumOfProducts]:
        found = []
        for product in products:
            if product.is_added or product.is_reported:
                continue
            product.is_added = True
            x = product.inputs
            version = 0 if x.is_inference() else x._version  # a map changed in place is a different one
            times = self._times.setdefault((at(x), version), [of_storage(x), 0])
            before = times[1]
            times[1] += product.number
            if times[1] >= OVER * times[0]:
                new = product.number if before >= OVER * times[0] else times[1]
                found.append(self._report(product, new, 1))
        return found

    def _report(self, product: _Product, macs: int, length: int) -> SumOfProducts:
        """Report a product as part of a matrix product that sums ``length`` numbers."""
        product.is_reported = True
        self.elements -= macs
        inputs, weights = product.inputs, product.weights
        rows = inputs.reshape(-1, length if inputs.numel() % length == 0 else 1)
        columns = weights.reshape(-1, length if weights.numel() % length == 0 and length > 1 else weights.numel())
        kind = "product" if product.is_of_two_maps else "linear"
        return SumOfProducts(Multiplication(kind, rows, columns, is_written_out=True), macs, product.path)

    def _root(self, x: Tensor) -> int:
        return self._roots.get(at(x), at(x))


def _factors(packet: Any, args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """Return the factors of an element-wise product of two tensors with more than one number each."""
    if packet not in _PRODUCTS:
        return None
    pair = args[_PRODUCTS[packet] : _PRODUCTS[packet] + 2]
    if len(pair) < 2 or not all(isinstance(factor, Tensor) and factor.numel() > 1 for factor in pair):
        return None
    return None if any(factor.dtype == torch.bool for factor in pair) else (pair[0], pair[1])


_PRODUCTS = {
    **dict.fromkeys((aten.mul, aten.mul_, aten.div, aten.div_), 0),
    **dict.fromkeys((aten.addcmul, aten.addcmul_, aten.addcdiv, aten.addcdiv_, aten.lerp, aten.lerp_), 1),
}
ADDS = {aten.add, aten.add_, aten.sub, aten.sub_, aten.rsub, aten.addcmul, aten.addcmul_, aten.addcdiv, aten.addcdiv_}
_LINEAR = {*ADDS, *_PRODUCTS, aten.neg, aten.neg_}
COPIES = {aten.clone, aten._to_copy, aten.alias, aten.detach}
MOVES = {
    *(*COPIES, aten.copy_, aten.cat, aten.stack, aten.repeat),
    *(aten.constant_pad_nd, aten.reflection_pad2d, aten.replication_pad2d, aten.roll, aten.flip, aten.index_select),
}
SUMS = {aten.sum, aten.mean, aten.nansum, aten.cumsum, *POOLS}
