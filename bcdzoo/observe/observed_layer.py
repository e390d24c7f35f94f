"""A layer as observed in a run of a network."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bcdzoo.observe.values import Form, Inputs, Threshold, Weights


@dataclass
class ObservedLayer:
    """A layer: all calls of one module with the same weights.

    Attributes:
        name: Path of the module.
        module: Module that runs the operation.
        kind: Kind of operation, as in :class:`Multiplication`; ``packed`` on the 1-bit kernels.
        c_in: Number of input channels.
        size: Height and width of the input map; empty if it is not a map.
        kernel: Height and width of the kernel.
        stride: Stride of the kernel.
        padding: Zero padding of the operation, in pixels.
        has_bias: Whether a bias is added to the sums.
        macs: Multiply-accumulates of all calls.
        calls: Number of calls, times the images of each.
        weights: Summary of the weights that are multiplied.
        inputs: Summary of the inputs; None if they were not examined.
        threshold: Values before the sign of the inputs; None if there was no sign.
        first: Weights of the first call, to recognize them.
        rows: Number of rows of the inputs per image: 1, or the positions of a map with channels last.
        of_image: Whether the input is the network's own.
        bases: Number of products whose sum it is, where it is packed; 0 where its module states it.
        fake_bits: Bits of a weight and of an input that a fake quantizer states; 0 if none does.
        lowest: Minimum of each input channel, over all images and positions.
        highest: Maximum of each input channel.
        constants: For each call in a forward pass, the single value of all its inputs, or None.
    """

    name: str
    module: nn.Module
    kind: str
    c_in: int
    size: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    has_bias: bool = False
    macs: int = 0
    calls: int = 0
    weights: Weights | None = None
    inputs: Inputs | None = None
    threshold: Threshold | None = None
    first: Tensor | None = None
    rows: int = 1
    of_image: bool = False
    bases: int = 0
    fake_bits: tuple[int, int] = (0, 0)
    lowest: Tensor | None = None
    highest: Tensor | None = None
    constants: list[float | None] = field(default_factory=list)

    def see_constant(self, call: int, inputs: Inputs, is_meant: bool) -> None:
        """Record whether a call's inputs have a single value, in all batches.

        Args:
            call: Index among the calls in a forward pass.
            inputs: Summary of the inputs.
            is_meant: Whether they are constant on purpose.
        """
        is_constant = inputs.form == Form.CONSTANT and inputs.count > 1 and not is_meant
        value = inputs.levels[0] if is_constant else None
        if call == len(self.constants):
            self.constants.append(value)
        elif value != self.constants[call]:
            self.constants[call] = None

    def see_channels(self, x: Tensor) -> None:
        """Record the range of each channel."""
        others = [dim for dim in range(x.ndim) if dim != 1]
        low, high = x.amin(others), x.amax(others)
        if self.lowest is None or self.highest is None:
            self.lowest, self.highest = low, high
        elif self.lowest.shape == low.shape:
            self.lowest, self.highest = torch.minimum(self.lowest, low), torch.maximum(self.highest, high)

    @property
    def constant_channels(self) -> int:
        """Number of channels with a single value."""
        return 0 if self.lowest is None or self.highest is None else int((self.lowest == self.highest).sum())

    @property
    def is_blur(self) -> bool:
        """Whether every channel's own map has the same filter."""
        rows = self.first
        if rows is None or not self.kernel or self.c_in < 2 or rows.shape != (self.c_in, math.prod(self.kernel)):
            return False
        return bool((rows == rows[0]).all())

    @property
    def positions(self) -> int:
        """Number of positions in one image's map, ignoring the stride; 1 if it is not a map."""
        return self.rows * math.prod(self.size)
