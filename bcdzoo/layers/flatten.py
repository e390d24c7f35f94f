"""The order in which TensorFlow's networks flatten a map."""

from torch import Tensor, nn

from bcdzoo.layers.lowering import Lowering, Value


class FlattenLast(nn.Module):
    """Flattens a map whose channels come last, to a map of one pixel: (N, C, H, W) to (N, H·W·C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("reshape", x=plan.add("permute", x=x, axes=(1, 2, 0)), shape=(0, 1, 1))
