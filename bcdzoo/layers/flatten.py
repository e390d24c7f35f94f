"""The order in which TensorFlow's networks flatten a map."""

from torch import Tensor, nn


class FlattenLast(nn.Module):
    """Flattens a map whose channels come last, to a map of one pixel: (N, C, H, W) to (N, H·W·C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]
