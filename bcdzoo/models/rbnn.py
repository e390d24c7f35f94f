"""RBNN on ResNet-18 (Lin et al., NeurIPS 2020): IR-Net's trunk with rotated weights, as in the authors' ImageNet code.

In training call :func:`bcdzoo.layers.quantizers.base.set_training_progress` and :func:`update_rotations` every epoch.
"""

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.rbnn import CentredSign, RotatedWeight
from bcdzoo.models.trunks import hardtanh_resnet18


def rbnn_r18(num_classes: int = 1000) -> nn.Module:
    """RBNN on ResNet-18."""
    return hardtanh_resnet18(
        num_classes,
        CentredSign,
        lambda c_in, c_out, stride: LowBitConv2d(c_in, c_out, 3, stride, RotatedWeight((c_out, c_in, 3, 3))),
    )


def update_rotations(model: nn.Module) -> None:
    """Update the rotations of every layer towards the signs of its current weights."""
    for module in model.modules():
        if isinstance(module, LowBitConv2d) and isinstance(module.quantizer, RotatedWeight):
            module.quantizer.update_rotation(module.weight)
