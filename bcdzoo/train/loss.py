"""What is minimized: labels, and a teacher's outputs."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@runtime_checkable
class TwoClassifiers(Protocol):
    """What a network declares that has a classifier for the labels and another one for a teacher."""

    def separate_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each for images of shape (N, 3, H, W)."""


class Objective(nn.Module):
    """Loss of a network on a batch.

    ``(1 - d)·CE(labels) + d·CE(teacher)``: cross entropy with the smoothed labels, and with the teacher's softmax
    (ReActNet's distributional loss). A network of :class:`TwoClassifiers` gets the teacher's share in the second
    and the labels' in the first, both with d = 1/2 in BCDNet's code; d = 1 would leave the first as it was built.
    ReActNet has d = 1. Without a teacher the labels train the average of two classifiers.

    Args:
        network: To be trained.
        label_smoothing: Share of the label that is spread over all classes.
        distillation: d.

    Shape:
        Images (N, 3, H, W), labels (N,) and, with d > 0, the teacher's logits (N, classes) to the loss, a scalar, and
        the number of images whose label has the highest logit.
    """

    def __init__(self, network: nn.Module, label_smoothing: float, distillation: float) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing
        self.distillation = distillation

    def forward(self, images: Tensor, labels: Tensor, teacher: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: D102
        if teacher is not None and isinstance(self.network, TwoClassifiers):
            logits, imitating = (each.float() for each in self.network.separate_logits(images))
        else:
            logits = imitating = self.network(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if teacher is not None:
            imitation = F.cross_entropy(imitating, teacher.float().softmax(1))
            loss = (1 - self.distillation) * loss + self.distillation * imitation
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
        return loss, right
