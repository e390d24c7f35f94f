"""AdaBin's convolution (Tu et al., ECCV 2022): weights and activations take two values each that are learned."""

import math

import torch
from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.folding import least_reaching
from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.adabin import CentredWeight
from bcdzoo.layers.quantizers.sign import sign_activation


class AdaBinConv2d(nn.Module):
    """A convolution of activations α(s + β) and weights σt + μ, with signs s and t; zero padding, no bias.

    It is one binary convolution of the signs, their sums in each window, which all output channels share, and a map
    that no image changes (section 3.4 of the paper). α and β are the layer's and learned; μ and σ are mean and standard
    deviation of the latent weights of each output channel.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel, odd.
        stride: Step in pixels.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    w_bits = a_bits = 1

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = LowBitConv2d(c_in, c_out, kernel_size, stride, CentredWeight())
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        signs = sign_activation((x - self.beta) / self.alpha)
        fixed = self.conv(torch.ones_like(signs[:1]))  # less at the edges, where the padding is
        out: Tensor = self.alpha * (self.conv(signs) + self.beta * fixed)
        return out

    def lower(self, plan: Lowering, x: Value) -> Value:
        threshold = least_reaching(lambda x: ((x - self.beta) / self.alpha >= 0) ^ (self.alpha < 0), 1)
        falls = constant(1.0) if self.alpha < 0 else None
        sums = self.conv.lower(plan, plan.add("binarize", x=x, threshold=threshold, falls=falls))
        ones = plan.add("binarize", x=x, threshold=constant(-math.inf))
        fixed = self.conv.lower(plan, ones)
        shift = plan.add("scale_shift", x=fixed, alpha=self.beta[None], beta=constant(0.0))
        return plan.add("scale_shift", x=plan.add("add", a=sums, b=shift), alpha=self.alpha[None], beta=constant(0.0))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        c_out, c_in, kernel, _ = self.conv.kernel_shape
        macs = output.numel() * c_in * kernel**2
        return {"binary_mac": macs + macs // c_out, "sign": inputs[0].numel()}  # the sums are one more output channel


class Maxout(nn.Module):
    """AdaBin's activation: a slope of its own for each channel and each side of 0 (section 3.3); (N, C, H, W).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.negative = nn.Parameter(torch.full((channels,), 0.25))
        self.positive = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, self.positive[:, None, None], self.negative[:, None, None]) * x

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("prelu", x=x, slope=self.negative, positive=self.positive)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"activation": output.numel()}
