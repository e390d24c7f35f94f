"""SLB on ResNet-18 with 1-bit weights and 1- or 8-bit activations (Yang et al., NeurIPS 2020).

The authors' repository has a README and no code. From it: Bi-Real's ResNet-18, blocks of convolution, PReLU and BN in
this order, the temperature's schedule, PACT for the activations, and batch norms that are calibrated with the discrete
weights instead of the paper's second set of statistics. Reconstruction: one PReLU slope per channel; 1-bit activations
are signs with the straight-through estimator; 8-bit ones are PACT's, from 0 to a learned clip that starts at 1.

In training call :func:`bcdzoo.layers.quantizers.base.set_training_progress` and :func:`calibrate` every epoch.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.dorefa import PactActivation
from bcdzoo.layers.quantizers.sign import clipped_sign
from bcdzoo.layers.quantizers.slb import SearchedWeight
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import BinaryResNet


def slb_r18_w1a1(num_classes: int = 1000) -> nn.Module:
    """SLB on ResNet-18 with 1-bit activations."""
    return _slb(num_classes, a_bits=1)


def slb_r18_w1a8(num_classes: int = 1000) -> nn.Module:
    """SLB on ResNet-18 with 8-bit activations."""
    return _slb(num_classes, a_bits=8)


def _slb(num_classes: int, a_bits: int) -> nn.Module:
    """Quantizer → 1-bit 3×3 → PReLU → BN → + shortcut, on Bi-Real's trunk."""

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        quantizer = clipped_sign() if a_bits == 1 else PactActivation(a_bits)
        conv = LowBitConv2d(c_in, c_out, 3, stride, SearchedWeight(), a_bits)
        return BinaryUnit(quantizer, conv, c_out, shortcut=shortcut, inner=nn.PReLU(c_out))

    return BinaryResNet(residual, (4, 4, 4, 4), num_classes)


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """State batch normalization: measure every batch norm's statistics again, with the discrete weights.

    In training the batch norms see relaxed weights, in evaluation ±1. The paper keeps statistics for both; the
    authors' code measures those of evaluation after every epoch. The network is left in evaluation mode.

    Args:
        model: Network from this file.
        batches: Images, (N, 3, H, W) each.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    for images in batches:
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
