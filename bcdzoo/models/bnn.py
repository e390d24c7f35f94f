"""Binarized Neural Networks' AlexNet (Hubara et al., NIPS 2016), as larq-zoo builds it.

Every weight is 1-bit, also those of the first layer, whose input is real-valued.
"""

from collections import OrderedDict

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.flatten import FlattenLast
from bcdzoo.layers.norm import OffsetNorm2d
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign
from bcdzoo.models.trunks import AlexNet

BN_EPS = 1e-3


def _layer(c_in: int, c_out: int, kernel_size: int, pools: bool = False) -> nn.Module:
    """Sign → binary convolution (→ 3×3 max pooling of stride 2) → BN."""
    conv = LowBitConv2d(c_in, c_out, kernel_size, quantizer=ClippedSignWeight())
    return _parts(clipped_sign(), conv, pools, c_out)


def _parts(sign: nn.Module, conv: nn.Module, pools: bool, c_out: int) -> nn.Module:
    pool = nn.MaxPool2d(3, 2) if pools else nn.Identity()
    return nn.Sequential(OrderedDict(sign=sign, conv=conv, pool=pool, bn=OffsetNorm2d(c_out, BN_EPS)))


def binaryalexnet(num_classes: int = 1000) -> nn.Module:
    """BinaryAlexNet.

    Args:
        num_classes: Number of outputs; 0 for the pooled features of the last 3×3 convolution.
    """
    first = LowBitConv2d(3, 64, 11, 4, ClippedSignWeight(), a_bits=32, padding="tensorflow")
    convolutions = nn.Sequential(
        _parts(nn.Identity(), first, True, 64),
        _layer(64, 192, 5, pools=True),
        _layer(192, 384, 3),
        _layer(384, 384, 3),
        _layer(384, 256, 3, pools=True),
    )
    if not num_classes:
        return AlexNet(convolutions)
    top = OrderedDict[str, nn.Module](
        flatten=FlattenLast(),
        hidden1=_layer(9216, 4096, 1),
        hidden2=_layer(4096, 4096, 1),
        fc=_layer(4096, num_classes, 1),
        squeeze=nn.Flatten(),
    )
    return AlexNet(convolutions, nn.Sequential(top))
