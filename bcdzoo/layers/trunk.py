"""ResNet-18's frame (He et al., 2016): stem, four stages of two blocks, pooling and classifier."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

Block = Callable[[int, int, int], nn.Module]
"""Builds a residual block from input channels, output channels and stride."""

WIDTHS = (64, 128, 256, 512)


class ResNet18(nn.Sequential):
    """Real-valued stem, four stages of two blocks, real-valued head; (N, 3, H, W) to logits, float32.

    Args:
        stem: (N, 3, H, W) to (N, 64, H/4, W/4).
        block: Builds a block; the first of the last three stages has stride 2.
        head: (N, 512, H/32, W/32) to logits.
        first: The first block, where it is unlike the others.
    """

    def __init__(self, stem: nn.Module, block: Block, head: nn.Module, first: nn.Module | None = None) -> None:
        c_in = WIDTHS[0]
        stages = nn.Sequential(nn.Sequential(first or block(c_in, c_in, 1), block(c_in, c_in, 1)))
        for c_out in WIDTHS[1:]:
            stages.append(nn.Sequential(block(c_in, c_out, 2), block(c_out, c_out, 1)))
            c_in = c_out
        super().__init__(OrderedDict(stem=stem, stages=stages, head=head))


def resnet_stem(activation: nn.Module) -> nn.Module:
    """7×7 of stride 2 → BN → activation → 3×3 max pooling of stride 2."""
    conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(64), activation=activation, pool=pool))


def classifier(num_classes: int, before: nn.Module | None = None, norm: nn.Module | None = None) -> nn.Module:
    """Global average pooling → linear.

    Args:
        num_classes: Logits.
        before: What the map passes first.
        norm: What the 512 pooled features pass before the linear layer.
    """
    parts = {"before": before, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "norm": norm}
    given = [(name, part) for name, part in parts.items() if part is not None]
    return nn.Sequential(OrderedDict([*given, ("fc", nn.Linear(WIDTHS[-1], num_classes))]))


def projection(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """Shortcut of type B: a real-valued 1×1 of the stride → BN where the width changes, None where it does not."""
    if c_in == c_out:
        return None
    conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out)))
