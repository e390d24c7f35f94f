"""Counting conventions: a convention is data, a cost for each kind of operation.

docs/counting.md explains both and counts a block by hand.
"""

from dataclasses import dataclass

# Multiply-accumulates whose two operands are binary, times the bits of both; these are the BOPs under any convention.
BINARY = "binary_mac"

# kind -> description. Whatever the counter finds is one of these, or listed as unsupported.
KINDS = {
    BINARY: "multiply-accumulate of two low-bit numbers, times the bits of both",
    "mac": "multiply-accumulate with a real-valued operand, in a convolution or linear layer",
    "distillation_head_mac": "multiply-accumulate of a second classifier that is averaged with the first",
    "sign": "1-bit quantization of an element (a threshold folds into it)",
    "add": "addition of two maps: a shortcut",
    "rprelu": "RPReLU of an element",
    "activation": "any other activation function of an element",
    "gate": "multiplication of a map by a gate",
    "global_pool": "one input element of a pooling over the whole map",
    "context_pool": "one input element of a dynamic embedding's own pooling",
    "pool": "one output element of a pooling over a window",
    "norm": "batch normalization of an element (folds into a neighbour)",
}


@dataclass(frozen=True)
class Convention:
    """Cost in FLOPs of each kind of operation; a kind without a cost is free."""

    name: str
    description: str
    cost: dict[str, int]

    def flops(self, counts: dict[str, int]) -> int:
        """Compute the FLOPs of counted operations."""
        return sum(number * self.cost.get(kind, 0) for kind, number in counts.items())


DAGGER = Convention(
    "dagger",
    "ReActNet's: convolutions and linear layers only; two averaged classifiers are merged into one",
    {"mac": 1},
)
FULL = Convention(
    "full",
    "the undaggered columns of BCDNet (reconstructed from its printed digits): also sign 1, shortcut addition 1, "
    "RPReLU 2, other activations 1, gates 1 and global average pooling 1 per element, and every classifier",
    {
        "mac": 1,
        "distillation_head_mac": 1,
        "sign": 1,
        "add": 1,
        "rprelu": 2,
        "activation": 1,
        "gate": 1,
        "global_pool": 1,
    },
)
CONVENTIONS = {convention.name: convention for convention in (FULL, DAGGER)}
