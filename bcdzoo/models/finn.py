"""The networks of FINN (Umuroglu et al., FPGA 2017) as BNN-PYNQ ships them: a sum, a threshold, the next sum.

Batch normalization and sign are one threshold a channel (section 4.2.2 of the paper); there is nothing else between
the 1-bit layers, no shortcut and no real number. Fully connected layers are 1×1 convolutions of a 1×1 map.
"""

from collections import OrderedDict

from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.grey import FirstChannel
from bcdzoo.layers.quantizers.fixed_point import FixedPointInput
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, RSign, clipped_sign

_LFC_INPUTS, _LFC_WIDTH = 784, 1024
_CNV_WIDTHS = ((64, 64), (128, 128), (256, 256))
_CNV_LINEAR = (512, 512)


def _sums(c_in: int, c_out: int, kernel_size: int = 1, a_bits: int = 1) -> LowBitConv2d:
    return LowBitConv2d(c_in, c_out, kernel_size, quantizer=ClippedSignWeight(), a_bits=a_bits, padding=0)


class Distances(nn.Module):
    """Sums minus each class's threshold, (N, C, 1, 1) to (N, C): what the hardware compares with 0.

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(Tensor(classes).zero_())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + self.bias


def finn_lfc_w1a1(num_classes: int = 10) -> nn.Module:
    """LFC: three hidden layers of 1024 for grey images of 28×28, whose pixels are 1-bit too."""
    layers = OrderedDict[str, nn.Module](
        grey=FirstChannel(), flatten=nn.Flatten(), pixels=nn.Unflatten(1, (-1, 1, 1)), sign=clipped_sign()
    )
    c_in = _LFC_INPUTS
    for i in range(3):
        layers[f"layer{i}"] = _layer(c_in, _LFC_WIDTH)
        c_in = _LFC_WIDTH
    top = OrderedDict[str, nn.Module](conv=_sums(c_in, num_classes or 1), sign=Distances(num_classes or 1))
    layers["layer3"] = nn.Sequential(top) if num_classes else nn.Flatten()
    return nn.Sequential(layers)


def finn_cnv_w1a1(num_classes: int = 10) -> nn.Module:
    """CNV: six 3×3 convolutions without padding and three linear layers for images of 32×32.

    The first convolution's inputs have 8 bits.
    """
    layers = OrderedDict[str, nn.Module](input=FixedPointInput(8))
    c_in, number = 3, 0
    for stage, widths in enumerate(_CNV_WIDTHS):
        for c_out in widths:
            layers[f"layer{number}"] = _layer(c_in, c_out, 3, a_bits=1 if number else 8)
            c_in, number = c_out, number + 1
        if stage < 2:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
    for c_out in _CNV_LINEAR:
        layers[f"layer{number}"] = _layer(c_in, c_out)
        c_in, number = c_out, number + 1
    top = OrderedDict[str, nn.Module](conv=_sums(c_in, num_classes or 1), flatten=nn.Flatten())
    layers[f"layer{number}"] = nn.Sequential(top) if num_classes else nn.Flatten()
    return nn.Sequential(layers)


def _layer(c_in: int, c_out: int, kernel_size: int = 1, a_bits: int = 1) -> nn.Module:
    sums = _sums(c_in, c_out, kernel_size, a_bits)
    return nn.Sequential(OrderedDict(conv=sums, sign=RSign(c_out, clipped_sign().estimator)))
