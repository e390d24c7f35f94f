"""Token mixing: every position of a map speaks with every other, in each channel alike (BCDNet, figure 1b)."""

from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import Quantizers
from bcdzoo.layers.lowering import Lowering, Value


class TokenMixing(nn.Module):
    """One linear layer over the positions of a map, whose low-bit weights all channels share.

    The positions become the channels of a 1×1 convolution, so that it is quantized, counted and packed as any other.

    Args:
        side: Height and width of the map: there is a weight for each pair of positions.
        quantizers: Quantizers of the weights and of what the layer is given.

    Shape:
        (N, C, side, side) to the same, float32.
    """

    def __init__(self, side: int, quantizers: Quantizers) -> None:
        super().__init__()
        self.side = side
        self.conv = quantizers.conv(side * side, side * side, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.side, self.side):
            raise BcdzooError(
                f"its token mixing is for maps of {self.side}×{self.side}, not of {x.shape[2]}×{x.shape[3]}: "
                "use images of the network's own input size"
            )
        tokens = x.flatten(2).transpose(1, 2).unsqueeze(3)  # (N, H·W, C, 1)
        mixed: Tensor = self.conv(tokens)
        return mixed.squeeze(3).transpose(1, 2).reshape(x.shape)

    def lower(self, plan: Lowering, x: Value) -> Value:
        channels = plan.add("reshape", x=x, shape=(x.shape[0], self.side**2, 1))
        mixed = self.conv.lower(plan, plan.add("permute", x=channels, axes=(1, 0, 2)))
        return plan.add("reshape", x=plan.add("permute", x=mixed, axes=(1, 0, 2)), shape=x.shape)
