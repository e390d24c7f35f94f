"""Layers on the 1-bit kernels, which only hold and compute bits, so that their shape is enough."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bcdzoo.layers.padding import SamePad
from bcdzoo.layers.quantizers.base import Levels
from bcdzoo.observe.observed_layer import ObservedLayer
from bcdzoo.observe.values import Form, Inputs, Weights, summarize_weights
from bcdzoo.packed.chain import PackedChain
from bcdzoo.packed.conv import PackedConv2d
from bcdzoo.packed.unit import PackedStem, PackedUnit


def observe_chain(chain: PackedChain, images: int) -> Iterator[ObservedLayer]:
    """Yield the layers of a chain after a run.

    Args:
        chain: Chain that has just been run.
        images: Number of images of the run.
    """
    size = tuple(chain.last_size)
    if chain.stem is not None:
        yield from _stem(chain.stem, size, images)
        size = tuple(chain.stem.output_size(side) for side in size)
    for unit, name in zip(chain.units, chain.names, strict=True):
        assert isinstance(unit, PackedUnit)
        layer = _unit(name, unit, size, images)
        layer.inputs = Inputs(0, 0, 0, Form.SIGNS)
        yield layer
        size = tuple(unit.shape.output_size(side) for side in size)


def observe_conv(conv: PackedConv2d, x: Tensor | Levels, images: int) -> ObservedLayer:
    """A convolution by itself that has just been run, once for each pair of bits.

    Args:
        conv: It.
        x: What it was given.
        images: That it was run on.
    """
    chain: Any = (conv.bits or conv.signs)[0]
    layer = _unit(conv.name, chain.units[0], chain.last_size, images)
    assert layer.weights is not None
    is_binary, a_bases = len(conv.signs) == 1, len(x.values) if isinstance(x, Levels) else 1
    layer.weights = replace(
        layer.weights,
        binary=layer.weights.channels if is_binary else 0,
        levels=2 ** len(conv.signs),
        has_scale=not bool((conv.get_buffer("scale").abs() == 1).all()),
    )
    border = float(conv.border.value) if isinstance(conv.border, nn.ConstantPad2d | SamePad) else None
    if conv.a_bits == 1:
        layer.inputs = Inputs(0, 0, 0, Form.SIGNS, border=border)
    else:
        layer.inputs = Inputs(0, 0, 0, Form.LEVELS, tuple(map(float, range(2**conv.a_bits))), border=border)
    layer.bases, layer.macs = conv.w_bases * a_bases, layer.macs * a_bases
    return layer


def _unit(name: str, unit: PackedUnit, size: tuple[int, ...], images: int) -> ObservedLayer:
    """A layer of ±1 weights on a map of a size."""
    shape = unit.shape
    numbers = len(shape.samplings) * shape.c_in * shape.c_out * shape.kernel**2
    layer = ObservedLayer(
        name, unit, "packed", shape.c_in, tuple(size), (shape.kernel,) * 2, (shape.stride,) * 2, (shape.padding,) * 2
    )
    layer.weights = Weights(shape.c_out, numbers, 0, shape.c_out, 2, is_real=False, has_scale=True)
    height, width = (shape.output_size(side) for side in size)
    layer.macs, layer.calls = images * shape.macs * height * width, images
    return layer


def _stem(stem: PackedStem, size: tuple[int, ...], images: int) -> Iterator[ObservedLayer]:
    for i, layer in enumerate(stem.sizes):
        weights: Tensor = stem.get_buffer(f"weights{i}")
        (c_out, c_in, *kernel), stride, padding = weights.shape, layer["stride"], layer["padding"]
        observed = ObservedLayer(
            f"stem.{i}",
            stem,
            "conv",
            c_in * layer["groups"],
            size,
            tuple(kernel),
            (stride, stride),
            (padding, padding),
            weights=summarize_weights(weights.flatten(1)),
            first=weights.flatten(1),
        )
        size = tuple((side + 2 * padding - k) // stride + 1 for side, k in zip(size, kernel, strict=True))
        observed.macs, observed.calls = images * size[0] * size[1] * c_out * c_in * kernel[0] * kernel[1], images
        yield observed
