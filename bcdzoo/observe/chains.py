"""Layers on the 1-bit kernels, which only hold and compute bits, so that their shape is enough."""

from collections.abc import Iterator

from torch import Tensor

from bcdzoo.observe.observed_layer import ObservedLayer
from bcdzoo.observe.values import Form, Inputs, Weights, summarize_weights
from bcdzoo.packed.chain import PackedChain
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
        shape = unit.shape
        numbers = len(shape.samplings) * shape.c_in * shape.c_out * shape.kernel**2
        layer = ObservedLayer(
            name, unit, "packed", shape.c_in, size, (shape.kernel,) * 2, (shape.stride,) * 2, (shape.padding,) * 2
        )
        layer.weights = Weights(shape.c_out, numbers, 0, shape.c_out, 2, is_real=False, has_scale=True)
        layer.inputs = Inputs(0, 0, 0, Form.BITS if shape.zero_one else Form.SIGNS)
        size = tuple(shape.output_size(side) for side in size)
        layer.macs, layer.calls = images * shape.macs * size[0] * size[1], images
        yield layer


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
