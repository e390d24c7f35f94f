"""Contextual dynamic embeddings of BCDNet-B's binary convolutions.

Reconstruction: the paper gives the formulas below, but neither the reduction r nor which convolutions have them, and no
code was published. r = 4 in every binary convolution of the convolutional blocks fits the printed FLOPs (0.34 full,
0.14 dagger); so does r = 2 in the 3×3 convolutions alone. Both are parameters of :func:`bcdzoo.models.bcdnet.bcdnet_b`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.sign import sign_activation
from bcdzoo.plan.operations import END


def double_mean(a: Tensor) -> Tensor:
    """Mean of each channel in float64, (N, C, H, W) to (N, C); image by image, so that the doubles stay in cache."""
    pixels = a.shape[2] * a.shape[3]
    ones = torch.ones(1, pixels, dtype=torch.float64, device=a.device)
    sums = [ones @ image.permute(1, 2, 0).flatten(0, 1).double() for image in a]
    return torch.cat(sums) / pixels


class DynamicEmbedding(nn.Module):
    """Threshold and offset of a binary convolution, computed from the image's own context.

    For the convolution's input A: ``g = W1·GAP(A)``, ``alpha = W2·g``, ``beta = W3·g``; no biases and no nonlinearity.
    The convolution takes ``sign(A - alpha)`` and adds ``beta`` to its output.

    Args:
        c_in: Channels of A.
        c_out: Channels of the convolution's output.
        reduction: Reduction r; the context g has c_in / r entries.

    Shape:
        A, (N, c_in, H, W), to a tuple of ``sign(A - alpha)``, the same shape, and ``beta``, (N, c_out, 1, 1).
    """

    def __init__(self, c_in: int, c_out: int, reduction: int) -> None:
        super().__init__()
        self.context = nn.Linear(c_in, c_in // reduction, bias=False)
        self.threshold = nn.Linear(c_in // reduction, c_in, bias=False)
        self.offset = nn.Linear(c_in // reduction, c_out, bias=False)

    def statistics(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """alpha, (N, c_in), and beta, (N, c_out), of A."""
        if self.training or torch.compiler.is_compiling():  # a graph per image would take minutes to compile
            g = self.context(F.adaptive_avg_pool2d(a, 1).flatten(1))
            return self.threshold(g), self.offset(g)
        # double precision, so that signs do not depend on the number of images summed at once, nor on their layout
        g = F.linear(double_mean(a), self.context.weight.double())
        alpha, beta = (F.linear(g, layer.weight.double()).to(a.dtype) for layer in (self.threshold, self.offset))
        return alpha, beta

    def forward(self, a: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta = self.statistics(a)
        return sign_activation(a - alpha[:, :, None, None]), beta[:, :, None, None]

    def lower(self, plan: Lowering, a: Value) -> tuple[Value, Value]:
        c_in = a.shape[0]
        second = torch.cat([self.threshold.weight, self.offset.weight])
        both = plan.add("context", x=a, first=self.context.weight, second=second, hidden="none", output="none")
        alpha = plan.add("slice", x=both, axis=0, start=0, stop=c_in, step=1)
        beta = plan.add("slice", x=both, axis=0, start=c_in, stop=END, step=1)
        return plan.add("binarize", x=a, threshold=alpha), beta

    def op_counts(self, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> OpCounts:
        binary, _ = output
        macs = binary.shape[0] * sum(p.numel() for p in self.parameters())
        return {"mac": macs, "sign": binary.numel(), "context_pool": binary.numel()}
