"""The loss on labels and on a teacher's outputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.custom_model import unwrapped
from bcdzoo.errors import BcdzooError

Logits = tuple[Tensor, Tensor]


def separate_logits_of(network: nn.Module) -> Callable[[Tensor], Logits] | None:
    """Return the method ``separate_logits`` of a network with a second classifier for a teacher; None for others.

    It maps images of shape (N, 3, H, W) to the logits of both classifiers.
    """
    return getattr(unwrapped(network), "separate_logits", None)


class Objective(nn.Module):
    """Loss of a network on a batch.

    ``(1 - d)·CE(labels) + d·CE(teacher)``: cross entropy with the smoothed labels, and with the teacher's softmax
    (ReActNet's distributional loss). A network with two classifiers (:func:`separate_logits_of`) gets the teacher's
    share in the second and the labels' in the first, with d = 1/2 in BCDNet's code; d = 1 would leave the first
    untrained. ReActNet has d = 1. Without a teacher the labels train the average of two classifiers.

    Args:
        network: Network to train.
        label_smoothing: Share of the label that is spread over all classes.
        distillation: Share of the teacher, d.

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
        separate = None if teacher is None else separate_logits_of(self.network)
        if separate is not None:
            logits, imitating = _two(separate(images), len(images))
        else:
            logits = imitating = self.network(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if teacher is not None:
            imitation = F.cross_entropy(imitating, teacher.float().softmax(1))
            loss = (1 - self.distillation) * loss + self.distillation * imitation
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
        return loss, right


def _two(logits: Any, images: int) -> Logits:
    """Convert the logits of a network's two classifiers to float32.

    Raises:
        BcdzooError: They are not two tensors of logits.
    """
    if isinstance(logits, tuple | list) and len(logits) == 2:
        first, second = logits
        if all(isinstance(each, Tensor) and each.ndim == 2 and len(each) == images for each in logits):
            return first.float(), second.float()
    raise BcdzooError(f"separate_logits must return two tensors of shape ({images}, classes), one for each classifier")
