"""What layers declare: their operations for the counter, and the bits of what they multiply."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from bcdzoo.bits import Bits

# Kind of operation -> how many of it one forward pass performs. The kinds, and what each costs under a convention,
# are in bcdzoo.ops.conventions.
OpCounts = dict[str, int]


@runtime_checkable
class Counted(Protocol):
    """A module that states its own operations, so that the counter does not look inside it.

    Where it multiplies low-bit numbers it also has ``w_bits`` and ``a_bits``, and ``w_bases`` and ``a_bases`` if these
    are not 1.
    """

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        """Operations of the call that turned ``inputs`` into ``output``; only their shapes may be read."""
        ...


def declared_bits(module: Any) -> Bits | None:
    """The bits that a layer declares; None if it does not."""
    if not isinstance(module, Counted) or not hasattr(module, "w_bits") or not hasattr(module, "a_bits"):
        return None
    return Bits(module.w_bits, module.a_bits, getattr(module, "w_bases", 1), getattr(module, "a_bases", 1))


def layer_bits(network: nn.Module) -> list[Bits]:
    """Return the bits of every layer in a network that declares them; what such a layer contains is not asked again."""
    bits = declared_bits(network)
    return [bits] if bits else [found for child in network.children() for found in layer_bits(child)]
