"""The order in which TensorFlow's networks flatten a map."""

from torch import Tensor, nn

from bcdzoo.layers.lowering import Lowering, Value


class FlattenLast(nn.Module):
    """Flattens a map whose channels come last, to a map of one pixel: (N, C, H, W) to (N, H·W·C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]

    def lower(self, plan: Lowering, x: Value) -> Value:
        flat = plan.add("flatten_last", x=x)
        return plan.add("reshape", x=flat, shape=(*flat.shape, 1, 1))
