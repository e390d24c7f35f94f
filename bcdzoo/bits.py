"""Bits of a layer's weights and activations, and how the tables print them."""

from collections.abc import Iterable
from typing import NamedTuple


class Bits(NamedTuple):
    """Bit widths of a layer; 32 means real values.

    Attributes:
        w_bits: Bits of a weight.
        a_bits: Bits of an activation.
        w_bases: Number of bases that approximate a weight.
        a_bases: Number of bases that approximate an activation.
    """

    w_bits: int = 1
    a_bits: int = 1
    w_bases: int = 1
    a_bases: int = 1

    def __str__(self) -> str:
        """Format, such as ``1/1``, or ``(1/1)x5`` for five bases each."""
        bits = f"{self.w_bits}/{self.a_bits}"
        if self.w_bases == self.a_bases:
            return bits if self.w_bases == 1 else f"({bits})x{self.w_bases}"
        return f"({bits})x{self.w_bases}x{self.a_bases}"


BINARY, REAL = Bits(1, 1), Bits(32, 32)


def bits_label(layers: Iterable[Bits]) -> str:
    """Format the bits of a network's layers: ``mixed`` if they differ."""
    kinds = set(layers)
    return str(kinds.pop()) if len(kinds) == 1 else "mixed"
