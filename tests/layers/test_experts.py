"""The convolution of experts: the image chooses."""

import pytest
import torch
from torch.nn import functional as F

from bcdzoo.graph.fuse import fuse
from bcdzoo.graph.record import record
from bcdzoo.layers.experts import ExpertConv2d
from bcdzoo.packed.explain import in_words
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan import reference


def layer(bias: list[float]) -> ExpertConv2d:
    torch.manual_seed(0)
    conv = ExpertConv2d(32, 64, 3, stride=2, groups=2).eval()
    torch.nn.init.uniform_(conv.alpha, 0.5, 1.5)
    conv.select.bias = torch.nn.Parameter(torch.tensor(bias))
    return conv


def test_each_image_has_the_weights_of_the_expert_with_the_highest_score() -> None:
    conv, images = layer([0.0] * 4), torch.randn(12, 32, 8, 6)
    chosen = conv.select(images.mean((2, 3))).argmax(1).tolist()
    assert len(set(chosen)) > 2
    signs = torch.where(conv.weight >= 0, 1.0, -1.0)
    for image, expert, got in zip(images, chosen, conv(images), strict=True):
        sums = F.conv2d(torch.where(image >= 0, 1.0, -1.0)[None], signs[expert], None, 2, 1, 1, 2)
        assert torch.equal(got, sums[0] * conv.alpha[:, None, None])


@pytest.mark.parametrize("bias", [[0.0] * 4, [1.0, 2.0, 2.0, 0.0], [-3.0, -3.0, -3.0, -3.0 - 2**-21]])
def test_a_plan_chooses_the_same_expert_of_equal_scores_too(bias: list[float]) -> None:
    conv, images = layer(bias), torch.randn(6, 32, 8, 6)
    if any(bias):
        torch.nn.init.zeros_(conv.select.weight)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(x).flatten(1)
            return out

    network = Network().eval()
    plan = fuse(record(network, images[:1]))
    (unit,) = [operation for operation in plan.operations if operation.kind == "binary_unit"]
    assert in_words(unit) == "sign, 3×3 by 2, weights that the image chooses"
    with torch.inference_mode():
        expected = network(images)
    assert torch.equal(torch.from_numpy(reference.run(plan, images.numpy())), expected)
    assert torch.equal(PlanRunner(plan)(images), expected)
