"""What a layer tells the counter of itself."""

from typing import Protocol, runtime_checkable

from torch import Tensor

# Kind of operation -> how many of it one forward pass performs. The kinds, and what each costs under a convention,
# are in bcdzoo.ops.conventions.
OpCounts = dict[str, int]


@runtime_checkable
class Counted(Protocol):
    """A module that states its operations itself; the counter then does not look inside it.

    Where it multiplies low-bit numbers it also has the attributes ``w_bits`` and ``a_bits``.
    """

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        """Operations of the call that turned ``inputs`` into ``output``; only their shapes may be read."""
        ...
