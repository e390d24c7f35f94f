"""XNOR-Net's quantizers (Rastegari et al., ECCV 2016): of both its networks' weights, and the activations' scale."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign


class _XnorSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        weight, scale = ctx.saved_tensors
        n = weight[0].numel()
        of_scaled = torch.where(scale > 0, grad / scale, 0)  # the convolution multiplied its gradient by the scale
        return of_scaled * (1 / n + scale * (weight.abs() < 1)), None


class XnorWeight(WeightQuantizer):
    """Sign and mean(|W|) of each output channel, of weights centred over the input channels and clipped to [-1, 1].

    Backward is the paper's (section 3.1): the gradient of the scaled weight times ``1/n + mean(|W|)·1[|W| < 1]``, n
    being the weights of an output channel. Centring and clipping are not in the paper; the authors' code
    (allenai/XNOR-Net, ``util.lua``) does both to the latent weights before every use. Here they are part of the
    quantizer: centring with its own derivative, for which that code has the factor 1 - 1/c_in.

    Args:
        centre: Whether to centre; larq-zoo's XNOR-Net does not.
    """

    def __init__(self, centre: bool = True) -> None:
        super().__init__()
        self.centre = centre

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        centred = weight - weight.mean(dim=1, keepdim=True) if self.centre else weight
        scale = centred.detach().clamp(-1, 1).abs().mean(dim=(1, 2, 3), keepdim=True)
        return _XnorSign.apply(centred, scale), scale.flatten()


class InputScale(nn.Module):
    """K, the magnitude of the activations under each position of a k×k kernel (XNOR-Net, section 3.2, figure 2).

    The mean of |x| over the channels, then over the window; zeros outside of the map. Constant in the backward pass.

    Args:
        kernel_size: Kernel size k of the convolution whose output K multiplies.
        stride: Stride of the convolution.

    Shape:
        (N, C, H, W) to (N, 1, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        magnitude = x.detach().abs().mean(dim=1, keepdim=True)
        return F.avg_pool2d(magnitude, self.kernel_size, self.stride, self.kernel_size // 2)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        # |x| and its sum over the channels, one operation an element; then a real-valued convolution of one channel
        return {"activation": inputs[0].numel(), "mac": output.numel() * self.kernel_size**2}
