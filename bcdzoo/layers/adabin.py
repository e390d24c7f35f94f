"""AdaBin's convolution (Tu et al., ECCV 2022): weights and activations take two values each that are learned."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.adabin import CentredWeight
from bcdzoo.layers.quantizers.sign import sign_activation


class AdaBinConv2d(nn.Module):
    """A convolution of activations α(s + β) and weights σt + μ, with signs s and t; zero padding, no bias.

    It is one binary convolution of the signs and three corrections (section 3.4 of the paper): the sums of the signs in
    each window, which all output channels share, and two that no image changes. α and β are of the layer
    (learned), μ and σ of each output channel (mean and standard deviation of the latent weights).

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
        weight = self.conv.weight
        mean = weight.mean(dim=(1, 2, 3))[:, None, None]
        levels, scale = self.conv.quantizer(weight)
        filters = (levels * scale[:, None, None, None]).sum(1, keepdim=True)
        ones = torch.ones_like(x[:1, :1])
        inside = self._window(ones) * weight.shape[1]
        fixed = F.conv2d(ones, filters, stride=self.conv.stride, padding=self.conv.padding) + mean * inside
        sums = self.conv(signs) + mean * self._window(signs.sum(1, keepdim=True))
        return self.alpha * (sums + self.beta * fixed)

    def _window(self, x: Tensor) -> Tensor:
        kernel = x.new_ones(1, 1, *self.conv.kernel_shape[2:])
        return F.conv2d(x, kernel, stride=self.conv.stride, padding=self.conv.padding)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        c_out, c_in, kernel, _ = self.conv.kernel_shape
        window = output.numel() // c_out * c_in * kernel**2  # the sums of signs: one more output channel
        return {"binary_mac": output.numel() * c_in * kernel**2 + window, "sign": inputs[0].numel()}


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

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"activation": output.numel()}
