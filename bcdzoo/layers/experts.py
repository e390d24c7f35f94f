"""Expert binary convolution (Bulat et al., ICLR 2021): each image chooses one of several sets of weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.dynamic import double_mean
from bcdzoo.layers.lowering import Lowering, Value, constant, weight_planes
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.sign import sign, sign_straight_through, straight_through


class ExpertConv2d(nn.Module):
    """A binary convolution of ``sign(a)`` by the weights of one of several experts, and a learned scale.

    Each image has the expert whose score is the highest, the first of several; scores are a linear layer of a's mean
    over positions. Backward, the choice has the gradient of the scores' softmax, and a sign that of the
    straight-through estimator inside (-1, 1).

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel, odd.
        stride: Stride in pixels.
        groups: Groups of channels.
        experts: Number of experts.

    Shape:
        a, (N, c_in, H, W), real-valued, to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    w_bits = a_bits = 1

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, groups: int = 1, experts: int = 4
    ) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        self.select = nn.Linear(c_in, experts)
        self.weight = nn.Parameter(torch.empty(experts, c_out, c_in // groups, kernel_size, kernel_size))
        self.alpha = nn.Parameter(torch.ones(c_out))
        for weight in self.weight:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    def forward(self, a: Tensor) -> Tensor:
        images, channels, *sides = a.shape
        weights = sign_straight_through(self._chosen(a).view(-1, *self.weight.shape[2:]))
        # the groups of each image beside those of the others
        x = sign_straight_through(a).reshape(1, images * channels, *sides)
        padding = self.weight.shape[-1] // 2
        sums = F.conv2d(x, weights, None, self.stride, padding, 1, self.groups * images)
        return sums.view(images, -1, *sums.shape[2:]) * self.alpha[:, None, None]

    def _chosen(self, a: Tensor) -> Tensor:
        """The latent weights of each image's expert."""
        if self.training or torch.compiler.is_compiling():  # a graph per image would take minutes to compile
            scores = self.select(F.adaptive_avg_pool2d(a, 1).flatten(1))
        else:  # double precision, so that the choice does not depend on the number of images summed at once
            scores = F.linear(double_mean(a), self.select.weight.double()).to(a.dtype) + self.select.bias
        highest = scores.argmax(1)
        if not self.training:
            return self.weight[highest]
        choice = straight_through(F.one_hot(highest, scores.shape[1]).to(a.dtype), scores.softmax(1))
        return choice @ self.weight.flatten(1)

    def lower(self, plan: Lowering, a: Value) -> Value:
        experts = len(self.weight)
        same = torch.eye(experts)
        means = plan.add("context", x=a, first=self.select.weight, second=same, hidden="none", output="none")
        return plan.add(
            "low_bit_conv",
            x=plan.add("binarize", x=a, threshold=constant(0.0)),
            scores=plan.add("scale_shift", x=means, alpha=torch.ones(experts), beta=self.select.bias),
            planes=weight_planes(sign(self.weight.flatten(0, 1)), 1),
            scale=self.alpha.repeat(experts),
            a_scale=constant(1.0),
            stride=(self.stride,) * 2,
            padding=(self.weight.shape[-1] // 2,) * 4,
            groups=self.groups,
            kernel=tuple(self.weight.shape[3:]),
            w_bases=1,
            a_bits=1,
        )

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        (a,) = inputs
        return {
            "binary_mac": output.numel() * math.prod(self.weight.shape[2:]),
            "mac": len(a) * self.select.weight.numel(),
            "sign": a.numel(),
            "context_pool": a.numel(),
        }
