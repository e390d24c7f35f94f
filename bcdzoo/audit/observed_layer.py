"""A layer of a network that has been run."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bcdzoo.audit.values import Form, Inputs, Threshold, Weights


@dataclass
class ObservedLayer:
    """A layer: what one module does with the same weights.

    Attributes:
        name: Path of the module.
        module: It.
        kind: As :class:`Multiplication` has it; ``packed`` on the 1-bit kernels, which compute with nothing but bits.
        c_in: Channels of the inputs.
        size: Height and width of the input map, nothing where it is none.
        kernel: Sides of the kernel.
        stride: Its steps.
        padding: Zeros that the operation puts around the inputs, in pixels.
        has_bias: Whether it adds one to its sums.
        macs: Multiply-accumulates of all calls.
        calls: Their number, times the images of each.
        weights: What it multiplies with.
        inputs: What it is given; None where that was not looked at.
        threshold: What had been before the sign of its inputs, None where no sign was seen.
        first: The weights of the first call, to know them again.
        rows: Of the inputs for each image: 1, or the places of a map where the channels are last.
        of_image: Whether it is given the network's own input.
        bases: Products of its numbers that it is a sum of, where it is packed; 0 where its module says it.
        fake_bits: Bits of a weight and of an input that a fake quantizer says they have; 0 where none does.
        lowest: Of each channel of the inputs, over all images and positions.
        highest: Likewise.
        constants: For each of its calls in a forward pass, the one value that all its inputs have had, or None.
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
        """Note whether a call's inputs are one value, in all batches.

        Args:
            call: Its place among the calls of a forward pass.
            inputs: What they are.
            is_meant: Whether they were made so.
        """
        is_constant = inputs.form == Form.CONSTANT and inputs.count > 1 and not is_meant
        value = inputs.levels[0] if is_constant else None
        if call == len(self.constants):
            self.constants.append(value)
        elif value != self.constants[call]:
            self.constants[call] = None

    def see_channels(self, x: Tensor) -> None:
        """Note the range of each channel."""
        others = [dim for dim in range(x.ndim) if dim != 1]
        low, high = x.amin(others), x.amax(others)
        if self.lowest is None or self.highest is None:
            self.lowest, self.highest = low, high
        elif self.lowest.shape == low.shape:
            self.lowest, self.highest = torch.minimum(self.lowest, low), torch.maximum(self.highest, high)

    @property
    def constant_channels(self) -> int:
        """How many have had but one value."""
        return 0 if self.lowest is None or self.highest is None else int((self.lowest == self.highest).sum())

    @property
    def positions(self) -> int:
        """Of one image's map that the weights are moved over, before the stride; 1 where it is none."""
        return self.rows * math.prod(self.size)
