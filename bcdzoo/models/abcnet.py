"""ABC-Net on ResNet-18 with 5 weight bases and 5 activation bases (Lin et al., NeurIPS 2017).

Reconstruction, because the authors published no code: the multi-base sign replaces every ReLU of ResNet-18's blocks
and comes before the convolution, so that the map between blocks stays real-valued; stem, 1×1 shortcuts and classifier
are real-valued.
"""

from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.abcnet import MultiBaseActivation, MultiBaseWeight
from bcdzoo.models.trunks import ResNet18, classifier, projection, resnet_stem

BASES = 5


class MultiBaseBlock(nn.Module):
    """(Multi-base sign → multi-base 3×3 → BN) twice, + shortcut.

    A multi-base convolution is the sum of 5·5 binary ones.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.sign1 = MultiBaseActivation(BASES)
        self.conv1 = LowBitConv2d(c_in, c_out, 3, stride, MultiBaseWeight(BASES), a_bases=BASES)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.sign2 = MultiBaseActivation(BASES)
        self.conv2 = LowBitConv2d(c_out, c_out, 3, 1, MultiBaseWeight(BASES), a_bases=BASES)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = projection(c_in, c_out, stride) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        between = self.bn1(self.conv1(self.sign1(x)))
        out: Tensor = self.bn2(self.conv2(self.sign2(between))) + self.shortcut(x)
        return out


def abcnet_r18_5x5(num_classes: int = 1000) -> nn.Module:
    """ABC-Net on ResNet-18, 5×5 bases."""
    return ResNet18(resnet_stem(nn.ReLU()), MultiBaseBlock, classifier(num_classes))
