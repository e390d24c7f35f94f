"""IR-Net on ResNet-18 (Qin et al., CVPR 2020), shaped as the authors' ImageNet code; RBNN has the same trunk.

In training, call :func:`bcdzoo.layers.quantizers.base.set_training_progress` every epoch, because the sign's gradient
depends on it.
"""

from torch import nn

from bcdzoo.layers.binary_conv import of_step
from bcdzoo.layers.quantizers.irnet import BalancedWeight, DecayingEstimator
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.models.trunks import hardtanh_resnet18


def irnet_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """IR-Net on ResNet-18."""
    quantizers = of_step(step, BalancedWeight)
    return hardtanh_resnet18(
        num_classes,
        lambda: Sign(DecayingEstimator()),
        lambda c_in, c_out, stride: quantizers.conv(c_in, c_out, 3, stride),
    )
