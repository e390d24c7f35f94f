"""What XNOR and popcount give: how many bits agree."""

from torch import Tensor, nn

from bcdzoo.layers.metadata import OpCounts


class Agreements(nn.Module):
    """Sums of ±1 products as numbers of products that are +1: ``(x + terms) / 2``, exact; any shape.

    Args:
        terms: Products in a sum.
    """

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.terms = terms

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.terms) / 2

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}  # the popcount itself; the sum is what costs more

    def extra_repr(self) -> str:
        return str(self.terms)
