"""TFC of the QONNX model zoo (Pappalardo et al., arXiv:2206.07527, 2022), trained by FINN's authors with Brevitas."""

from collections import OrderedDict

from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.folding import fold
from bcdzoo.layers.grey import FirstChannel
from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign

_INPUTS, _WIDTH = 784, 64


class ScaledLogits(nn.Module):
    """Batch normalization of all logits as one channel; (N, C, 1, 1) to (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bn(x.flatten(1)[:, None])
        return logits[:, 0]

    def lower(self, plan: Lowering, x: Value) -> Value:
        logits = plan.add("reshape", x=x, shape=x.shape[:1])
        alpha, beta = fold(self.bn)
        return plan.add("scale_shift", x=logits, alpha=alpha, beta=beta)


def qonnx_tfc_w1a1(num_classes: int = 10) -> nn.Module:
    """TFC: three hidden layers of 64 for grey images of 28×28, whose pixels are 1-bit too."""
    layers = OrderedDict[str, nn.Module](
        grey=FirstChannel(), flatten=nn.Flatten(), pixels=nn.Unflatten(1, (-1, 1, 1)), sign=clipped_sign()
    )
    c_in = _INPUTS
    for i in range(3):
        conv = LowBitConv2d(c_in, _WIDTH, 1, quantizer=ClippedSignWeight())
        layers[f"layer{i}"] = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(_WIDTH), sign=clipped_sign()))
        c_in = _WIDTH
    conv = LowBitConv2d(c_in, num_classes or 1, 1, quantizer=ClippedSignWeight())
    top = OrderedDict[str, nn.Module](conv=conv, logits=ScaledLogits())
    layers["layer3"] = nn.Sequential(top) if num_classes else nn.Flatten()
    return nn.Sequential(layers)
