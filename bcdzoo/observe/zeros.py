"""Find zeros in a layer's input that are padding: from ``F.pad``, ``F.unfold``, or a map written into zeros."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_map

from bcdzoo.trace.known import FREE
from bcdzoo.trace.layout import at

aten = torch.ops.aten


class Zeros:
    """Follows the zeros of paddings through one run of a network, as a mask for each storage that has some."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Tensor, StorageWeakRef]] = {}

    def restart(self) -> None:
        """Forget the tensors of a run."""
        self._masks = {}

    def number(self, x: Tensor) -> int:
        """Count a tensor's zeros that are padding."""
        mask = self._mask(x)
        return 0 if mask is None else int(mask.sum())

    def follow(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any, maps: list[Tensor]) -> None:
        """Follow an operation.

        Args:
            func: The operation.
            args: Positional arguments.
            kwargs: Keyword arguments.
            out: Result of the operation.
            maps: Arguments that depend on the images.
        """
        packet = func._overloadpacket
        if not isinstance(out, Tensor) or out.is_meta or out.layout != torch.strided or func.is_view:
            return
        if packet is aten.copy_:
            self._write(out, args[1])
        elif packet in _PADS or (packet in _JOINS and len(maps) < len(args[0])):
            self._hold(out, self._moved(func, args, kwargs, maps) & (out == 0))
        elif not any(at(x) in self._masks for x in maps):
            return
        elif at(out) in self._masks:  # in place
            held = self._mask(out)
            assert held is not None
            held &= out == 0
        elif torch.Tag.pointwise in func.tags and packet not in FREE:
            masks = [self._mask(x) for x in maps if x.shape == out.shape]
            mask = out == 0
            for other in masks:
                mask &= False if other is None else other
            if masks:
                self._hold(out, mask)
        elif packet in FREE:
            self._hold(out, self._moved(func, args, kwargs, maps))

    def _moved(self, func: Any, args: Any, kwargs: Any, maps: list[Tensor]) -> Tensor:
        """Return the mask of an operation that moves numbers, by running it on ones for maps and zeros for padding."""
        of_maps = {id(x) for x in maps}

        def shadow(part: Any) -> Any:
            if not isinstance(part, Tensor) or not part.is_floating_point():
                return part
            if id(part) not in of_maps:
                return torch.zeros_like(part)
            mask = self._mask(part)
            return torch.ones_like(part) if mask is None else (~mask).to(part.dtype)

        moved: Tensor = func(*tree_map(shadow, args), **tree_map(shadow, dict(kwargs)))
        return moved == 0

    def _write(self, out: Tensor, source: Tensor) -> None:
        """Follow a write into a part of a tensor, which is all zeros before the first one."""
        if at(out) not in self._masks:
            if out.numel() * out.element_size() == out.untyped_storage().nbytes():
                return
            whole = torch.as_strided(out, (_length(out),), (1,), 0)
            self._masks[at(out)] = whole == 0, StorageWeakRef(out.untyped_storage())
        mask, written = self._mask(source), self._mask(out)
        assert written is not None
        written.copy_(torch.zeros_like(written) if mask is None else mask.expand_as(written))

    def _hold(self, out: Tensor, mask: Tensor) -> None:
        if mask.any():
            whole = torch.zeros(_length(out), dtype=torch.bool)
            self._masks[at(out)] = whole, StorageWeakRef(out.untyped_storage())
            whole.as_strided(out.shape, out.stride(), out.storage_offset()).copy_(mask)

    def _mask(self, x: Tensor) -> Tensor | None:
        held = self._masks.get(at(x))
        return None if held is None else held[0].as_strided(x.shape, x.stride(), x.storage_offset())


def _length(x: Tensor) -> int:
    return x.untyped_storage().nbytes() // x.element_size()


_PADS = {aten.constant_pad_nd, aten.im2col}
_JOINS = {aten.cat, aten.stack}
