"""Attention of bits and what stands around it, against formulas written out and torch's own functions."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.attention import BinaryAttention, ChannelPool, PositionEmbedding, Repeat, Upsample
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.binaryvit import CentredSignWeight, one_bit
from bcdzoo.models.binaryvit import binaryvit


def reals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attention_is_the_sum_of_signs_whose_weight_is_above_half_a_level() -> None:
    layer = BinaryAttention(8, 2).double()
    query, key, value = reals(1, 8, 3, 2), reals(1, 8, 2, 2, seed=1), reals(1, 8, 2, 2, seed=2)
    with torch.no_grad():
        layer.level.fill_(0.4)
        layer.key.bias.fill_(0.3)
        got = layer(query, key, value)
    for head in (slice(0, 4), slice(4, 8)):
        for y in range(3):
            for x in range(2):
                asked = query[0, head, y, x].sign()
                keys = [(key[0, head, i, j] + 0.3).sign() for i in range(2) for j in range(2)]
                values = [value[0, head, i, j].sign() for i in range(2) for j in range(2)]
                powers = [math.exp(float(asked @ each) / 2) for each in keys]
                seen = [each for each, power in zip(values, powers, strict=True) if power / sum(powers) > 0.2]
                torch.testing.assert_close(got[0, head, y, x], 0.4 * sum(seen, torch.zeros(4, dtype=torch.float64)))


def test_a_level_learns_as_in_bit_and_passes_gradients_where_a_weight_lies_within_it() -> None:
    weights = torch.tensor([0.0, 0.05, 0.1, 0.15, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    level = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    upstream = torch.arange(1.0, 7, dtype=torch.float64)
    bits = one_bit(weights, level)
    assert bits.tolist() == [0, 0, 0, 1, 1, 1]
    (bits * level * upstream).sum().backward()
    assert weights.grad is not None and level.grad is not None
    torch.testing.assert_close(weights.grad, upstream * torch.tensor([1.0, 1, 1, 1, 1, 0]))
    of_level = torch.tensor([0, -0.25, -0.5, 0.25, 0, 1], dtype=torch.float64)  # rounded less ratio, 1 above
    torch.testing.assert_close(level.grad, (upstream * of_level).sum())


def test_weights_are_signs_around_their_mean_with_the_magnitude_of_the_weights_as_they_are() -> None:
    torch.manual_seed(0)
    layer, x = LowBitConv2d(6, 4, 1, quantizer=CentredSignWeight()).double(), reals(2, 6, 3, 3).sign()
    with torch.no_grad():
        layer.weight.add_(0.7)  # so that some are beyond 1, where their gradient ends
        layer.weight[0, 0] += 2
    given = layer.weight.detach().clone().requires_grad_()
    centred = given - given.mean(1, keepdim=True)
    clipped = centred.clamp(-1, 1)
    used = (given.abs().mean(1, keepdim=True) * centred.sign() - clipped).detach() + clipped
    upstream = reals(2, 4, 3, 3, seed=1)
    out, expected = layer(x), F.conv2d(x, used)
    torch.testing.assert_close(out, expected)
    (out * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(layer.weight.grad, given.grad)


def test_maps_are_enlarged_repeated_and_averaged_as_torch_does_it() -> None:
    x = reals(2, 12, 3, 4)
    assert torch.equal(Upsample(3)(x), F.interpolate(x, scale_factor=3, mode="nearest"))
    assert torch.equal(Repeat(2)(x), x.repeat(1, 2, 1, 1))
    pooled = F.avg_pool1d(x.flatten(2).mT, 4).mT.unflatten(2, (3, 4))
    torch.testing.assert_close(ChannelPool(4)(x), pooled)


def test_positions_are_for_maps_of_one_size_and_the_message_says_which() -> None:
    layer = PositionEmbedding(2, 3)
    assert torch.equal(layer(torch.zeros(1, 2, 3, 3))[0, :, 1, 2], layer.weight[0, 5])
    with pytest.raises(BcdzooError, match="of a map of 3×3, not of 3×4: use images of the network's own input size"):
        layer(torch.zeros(1, 2, 3, 4))


def test_both_products_of_attention_count_as_binary_operations() -> None:
    report = bcdzoo.count_ops("binaryvit")
    found = {layer.name: layer for layer in report.layers if layer.type == "BinaryAttention"}
    assert len(found) == 19
    pixels, keys = (56 * 56, 28 * 28, 14 * 14, 7 * 7), (7 * 7, 7 * 7, 14 * 14, 7 * 7)
    for stage, channels in enumerate((64, 128, 256, 512)):
        layer = found[f"stages.{stage}.blocks.0.attend.attention"]
        assert layer.bops == 2 * pixels[stage] * keys[stage] * channels and "mac" not in layer.counts
        assert layer.counts["activation"] == pixels[stage] * keys[stage] * channels // 64


def test_a_networks_maps_are_those_of_its_stages() -> None:
    info = bcdzoo.create_model("binaryvit", features_only=True).feature_info
    assert isinstance(info, list)
    assert [(each["num_chs"], each["reduction"]) for each in info] == [(64, 4), (128, 8), (256, 16), (512, 32)]
    assert info[0]["module"] == "stages.0" and len(binaryvit().state_dict()) > 1000
