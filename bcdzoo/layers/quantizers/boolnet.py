"""BoolNet's quantizers (Guo et al., arXiv:2106.06991, 2021): signs at several thresholds, gradual signs of weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign, sign_straight_through, straight_through


class GradualSignWeight(WeightQuantizer, Scheduled):
    """Sign of the weights, reached gradually, and mean(|W|) of each output channel, which has a gradient.

    In training a level is ``W / temperature``, clipped to [-1, 1], with a straight-through gradient inside [-1, 1]. The
    authors multiply the temperature by 0.965 every 1000 updates; in evaluation the levels are signs at any time.

    Args:
        updates: How often the temperature falls in a whole training.
        order: Which input channel of the latent weights each channel of the map belongs to; the same if omitted.
    """

    def __init__(self, updates: int, order: Sequence[int] = ()) -> None:
        super().__init__()
        self.updates = updates
        self.order = list(order)
        self.set_progress(0)

    def set_progress(self, progress: float) -> None:
        self.temperature = 0.965 ** int(self.updates * progress)

    def latent(self, shape: tuple[int, int, int, int]) -> Tensor:
        """He's initialization by outputs. The authors take a hundredth, whose first maps are next to constant."""
        return torch.randn(shape) * math.sqrt(2 / (shape[0] * shape[2] * shape[3]))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        latent = weight.detach()
        levels = (latent / self.temperature).clamp_(-1, 1) if self.training else sign(latent)
        levels = straight_through(levels, weight.clamp(-1, 1))
        return levels[:, self.order] if self.order else levels, weight.abs().mean((1, 2, 3))


class SlicedSign(nn.Module):
    """The signs of a map at evenly spaced thresholds between -1 and 1: a map of so many slices.

    Backward it is a straight-through estimator inside (-1, 1) around each threshold.

    Args:
        slices: Number of thresholds, 1 or even; 4 are 2/3, 1/3, -1/3 and -2/3, and 1 is 0.

    Shape:
        (N, C, H, W) to (N, slices·C, H, W), ±1, one slice behind the other.
    """

    offsets: Tensor

    def __init__(self, slices: int) -> None:
        super().__init__()
        if slices != 1 and (slices < 1 or slices % 2):
            raise BcdzooError(f"slices must be 1 or an even number, not {slices}")
        half = slices // 2
        steps = [i for i in range(-half, half + 1) if i] if half else [0]
        self.register_buffer("offsets", torch.tensor([1 / (half + 1) * i for i in steps]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([sign_straight_through(x + offset) for offset in self.offsets], 1)

    def lower(self, plan: Lowering, x: Value) -> Value:
        # x + offset rounds to 0 only where it is 0: the comparison with -offset is exact
        copies = plan.add("concat", **{f"x{i}": x for i in range(len(self.offsets))}) if len(self.offsets) > 1 else x
        return plan.add("binarize", x=copies, threshold=-self.offsets.float().repeat_interleave(x.shape[0]))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"sign": output.numel()}
