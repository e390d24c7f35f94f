"""Batch normalization as Keras can have it."""

from torch import nn


class OffsetNorm2d(nn.BatchNorm2d):
    """Batch normalization without a learned factor, only with an offset (Keras' ``scale=False``)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps)
        self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        """The statistics of no images, and the offset 0."""
        self.reset_running_stats()
        nn.init.zeros_(self.bias)
