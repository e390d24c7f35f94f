"""What is minimized, against the formulas written out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.unit import AveragedHeads
from bcdzoo.models.bcdnet import BCDNet
from bcdzoo.train.loss import Objective

IMAGES = torch.randn(6, 3, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 9, 1, 1, 5])


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(6, 10, generator=torch.Generator().manual_seed(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def smoothed(labels: Tensor, share: float) -> Tensor:
    return torch.full((6, 10), share / 10).scatter_(1, labels[:, None], 1 - share + share / 10)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(1)).sum(1).mean()


def test_labels_are_smoothed_and_right_guesses_counted() -> None:
    network = Fixed()
    loss, right = Objective(network, 0.1, 0.0)(IMAGES, LABELS)
    torch.testing.assert_close(loss, cross_entropy(network.logits, smoothed(LABELS, 0.1)))
    assert right == (network.logits.argmax(1) == LABELS).sum()


def test_a_network_of_one_classifier_has_the_teacher_as_its_share() -> None:
    network, taught = Fixed(), torch.randn(6, 10)
    loss, _ = Objective(network, 0.1, 1.0)(IMAGES, LABELS, taught)
    torch.testing.assert_close(loss, cross_entropy(network.logits, taught.softmax(1)))
    half, _ = Objective(network, 0.0, 0.5)(IMAGES, LABELS, taught)
    own = cross_entropy(network.logits, smoothed(LABELS, 0.0))
    torch.testing.assert_close(half, (own + loss) / 2)


def test_bcdnets_second_classifier_imitates_and_its_first_learns_the_labels() -> None:
    network = bcdzoo.create_model("bcdnet-tiny").eval()
    assert isinstance(network, BCDNet)
    taught = torch.randn(6, 10)
    loss, _ = Objective(network, 0.1, 0.5)(IMAGES, LABELS, taught)
    features = network.features(IMAGES)
    assert isinstance(network.head, AveragedHeads)
    first = cross_entropy(network.head.fc(features), smoothed(LABELS, 0.1))
    second = cross_entropy(network.head.fc_dist(features), taught.softmax(1))
    torch.testing.assert_close(loss, (first + second) / 2)


def test_both_classifiers_have_a_gradient_with_a_teacher_and_without() -> None:
    for share, taught in ((0.5, torch.randn(6, 10)), (0.0, None)):
        network = bcdzoo.create_model("bcdnet-tiny").train()
        loss, _ = Objective(network, 0.1, share)(IMAGES, LABELS, taught)
        loss.backward()
        for name in ("fc", "fc_dist"):
            gradient = network.get_parameter(f"head.{name}.weight").grad
            assert gradient is not None and gradient.abs().sum() > 0


class Two(Fixed):
    def separate_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits, 2 * self.logits


@pytest.mark.parametrize("wrap", [lambda network: network, nn.DataParallel, torch.compile])
def test_anybodys_network_of_two_classifiers_declares_it(wrap: Callable[[nn.Module], nn.Module]) -> None:
    taught = torch.randn(6, 10)
    loss, _ = Objective(wrap(Two()), 0.0, 0.5)(IMAGES, LABELS, taught)
    logits = Fixed().logits
    own = cross_entropy(logits, smoothed(LABELS, 0.0))
    torch.testing.assert_close(loss, (own + cross_entropy(2 * logits, taught.softmax(1))) / 2)


@pytest.mark.parametrize(
    "given", [torch.zeros(6, 10), (torch.zeros(6, 10),), (torch.zeros(6, 10), torch.zeros(10)), None]
)
def test_what_is_not_the_logits_of_two_classifiers_is_refused(given: Any) -> None:
    network = Fixed()
    object.__setattr__(network, "separate_logits", lambda images: given)
    with pytest.raises(BcdzooError, match=r"separate_logits must return two tensors of shape \(6, classes\)"):
        Objective(network, 0.0, 0.5)(IMAGES, LABELS, torch.randn(6, 10))
