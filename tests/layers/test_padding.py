"""TensorFlow's padding and the clipped sign."""

import pytest
import torch

from bcdzoo.layers.padding import SamePad, max_pool
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "before", "after"),
    [(224, 7, 2, 2, 3), (56, 3, 2, 0, 1), (57, 3, 2, 1, 1), (9, 3, 1, 1, 1), (7, 2, 2, 0, 1), (8, 2, 2, 0, 0)],
)
def test_same_padding_puts_the_odd_pixel_behind(
    size: int, kernel_size: int, stride: int, before: int, after: int
) -> None:
    padded = SamePad(kernel_size, stride, value=5.0)(torch.zeros(1, 1, size, 2 * size))
    assert padded.shape[2] == before + size + after
    assert padded[0, 0, :, size].tolist() == [5.0] * before + [0.0] * size + [5.0] * after


def test_a_pooling_of_negative_values_ignores_its_padding() -> None:
    x = -1 - torch.rand(1, 2, 8, 8)
    for padding in ("symmetric", "tensorflow"):
        pooled = max_pool(3, padding)(x)
        assert pooled.shape == (1, 2, 4, 4)
        assert pooled.max() <= -1
    assert pooled[0, 0, 0, 0] == x[0, 0, :3, :3].max()
    assert pooled[0, 0, 3, 3] == x[0, 0, 6:, 6:].max()


@pytest.mark.parametrize("threshold", [1.0, 1.3])
def test_the_clipped_sign_passes_the_gradient_inside_its_threshold(threshold: float) -> None:
    x = torch.tensor([-2.0, -1.2, -0.5, -0.0, 0.0, 0.5, 1.2, 2.0], requires_grad=True)
    out = clipped_sign(threshold)(x)
    assert out.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    assert torch.equal(clipped_sign(threshold)(out), out)
    (out * torch.arange(1.0, 9)).sum().backward()
    outside = threshold <= 1.2
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0 if outside else 2, 3, 4, 5, 6, 0 if outside else 7, 0]


def test_clipped_weights_have_scale_1() -> None:
    weight = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    levels, scale = ClippedSignWeight(1.3)(weight)
    assert torch.equal(levels, torch.where(weight >= 0, 1.0, -1.0))
    assert scale.tolist() == [1.0] * 4
    levels.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, (weight.abs() < 1.3).float())
