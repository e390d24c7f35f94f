"""PokeBNN's convolution of several bits (Zhang et al., CVPR 2022)."""

import torch
from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.pokebnn import BoundedActivation, BoundedWeight


class BoundedConv2d(LowBitConv2d):
    """A convolution whose activations have a step size for each channel, and a bias.

    Because the steps differ within a sum, the levels of the activations are multiplied by them first: what is summed
    are real numbers, whose values are as many as their bits say.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        bits: Bits of weights and activations.
        stride: Stride in pixels; one larger than 1 has no padding.
        groups: Groups of channels.
        positive: Whether the activations are not negative.
        bias: Whether there is a bias.

    Shape:
        (N, c_in, H, W), real-valued, to (N, c_out, H', W').
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        bits: int,
        stride: int = 1,
        groups: int = 1,
        positive: bool = False,
        bias: bool = True,
    ) -> None:
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(
            c_in, c_out, kernel_size, stride, BoundedWeight(bits), a_bits=bits, padding=padding, groups=groups
        )
        self.steps = BoundedActivation(c_in, bits, positive)
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        sums = super().forward(self.steps(x))
        return sums if self.bias is None else sums + self.bias[:, None, None]

    def lower(self, plan: Lowering, x: Value) -> Value:
        levels, scale = self.quantizer(self.weight)
        x = self.steps.lower(plan, x)
        geometry = {"stride": (self.stride,) * 2, "padding": (self.padding,) * 4, "groups": self.groups}
        sums = plan.add("conv", x=x, weight=levels, relu=0, **geometry)
        bias = torch.zeros_like(scale) if self.bias is None else self.bias
        return plan.add("scale_shift", x=sums, alpha=scale, beta=bias)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return super().op_counts(inputs, output) | {"activation": inputs[0].numel()}
