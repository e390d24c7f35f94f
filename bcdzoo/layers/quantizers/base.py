"""What a low-bit convolution asks of its two quantizers; the sign and every method's own are beside this file.

A quantizer turns real numbers into small integers, its levels, and the scales that they stand for. The convolution
multiplies and sums the integers first (exact in float32, in any order) and scales the sums afterwards. What a number
is approximated with may be a sum of several such pairs, its bases: with M weight bases and N activation bases the
convolution is a sum of M·N low-bit convolutions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Levels(NamedTuple):
    """Activations of more than one bit or more than one basis; ±1 activations are a plain tensor.

    Attributes:
        values: Integers in floating point, (N, batch, C, H, W) for N bases.
        scale: Step size of each basis, (N,).
    """

    values: Tensor
    scale: Tensor


class WeightQuantizer(nn.Module):
    """Turns a convolution's latent weights into levels and scales.

    Attributes:
        w_bits: Bits of a level.
        bases: M, how many bases approximate a weight.
    """

    w_bits = 1
    bases = 1

    def latent(self, shape: tuple[int, int, int, int]) -> Tensor:
        """Initial latent weights of a convolution whose kernel has this shape."""
        weight = torch.empty(shape)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # as nn.Conv2d: small, inside the estimators' [-1, 1]
        return weight

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize.

        Args:
            weight: Latent weights, (c_out, c_in, k, k) if :meth:`latent` does not say otherwise.

        Returns:
            Levels, (M·c_out, c_in, k, k), integers in floating point, and scales, (M·c_out,).
        """
        raise NotImplementedError

    def start_epoch(self, weight: Tensor) -> None:
        """Update, from the latent weights, what is not learned by their gradient; nothing by default."""


class RealWeight(WeightQuantizer):
    """The latent weights as they are, for training step 1: real-valued weights on binary activations (W/A 32/1)."""

    w_bits = 32

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight, torch.ones_like(weight[:, 0, 0, 0])


def set_training_progress(model: nn.Module, progress: float) -> None:
    """Tell every quantizer whose gradient or relaxation changes in the course of training how far training is.

    Such state is part of the recipe, not of the weights: it is not in the state dict and has no effect on inference.

    Args:
        model: Network; those of IR-Net, RBNN, SiMaN, ReSTE, SLB, ReCU, AdaBin, BNext, BoolNet and PokeBNN have such
            quantizers.
        progress: 0 at the start of training, 1 at its end.
    """
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.set_progress(progress)


def start_epoch(model: nn.Module) -> None:
    """Let every quantizer update what it learns once an epoch: RBNN's rotations.

    Args:
        model: Network that is trained.
    """
    for module in model.modules():
        quantizer, weight = getattr(module, "quantizer", None), getattr(module, "weight", None)
        if isinstance(quantizer, WeightQuantizer) and isinstance(weight, Tensor):
            quantizer.start_epoch(weight)


class Scheduled:
    """A quantizer whose gradient or relaxation depends on the progress of training."""

    def set_progress(self, progress: float) -> None:
        """Take the state for a fraction of training done, 0 to 1."""
        raise NotImplementedError
