"""How a grey image enters a network: images have three channels everywhere in this zoo."""

from torch import Tensor, nn


class FirstChannel(nn.Module):
    """The first of three channels, which are equal in a grey image; (N, 3, H, W) to (N, 1, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]
