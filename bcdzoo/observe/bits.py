"""Bits of an observed layer's numbers."""

import math

from bcdzoo.bits import Bits
from bcdzoo.layers.metadata import declared_bits
from bcdzoo.observe.observed_layer import ObservedLayer
from bcdzoo.observe.values import Form


def bits_of(observed: ObservedLayer, real_input: bool) -> tuple[int, int | None]:
    """Return the bits of a weight and of an input, with those that a fake quantizer states."""
    w_bits, a_bits = _observed_bits(observed, real_input)
    w_fake, a_fake = observed.fake_bits
    return w_fake or w_bits, a_bits if a_bits is None else a_fake or a_bits


def _observed_bits(observed: ObservedLayer, real_input: bool) -> tuple[int, int | None]:
    """Return the bits of a weight and of an input, at least those that the layer states: images may miss levels.

    The network's own input always counts as real-valued, even if it is black and white.
    """
    assert observed.weights is not None
    says = declared_bits(observed.module)
    most_w, most_a = (bits if bits < 32 else 1 for bits in (says or Bits())[:2])
    w_bits = 32 if observed.is_blur and says is None else max(observed.weights.bits, most_w)
    inputs = observed.inputs if real_input else None
    if inputs is None:
        return w_bits, None
    if inputs.form == Form.CONSTANT:  # shows nothing about the bits
        if says is not None:
            return w_bits, says.a_bits
        return w_bits, most_a if observed.threshold is not None and observed.threshold.by != "round" else None
    if inputs.form == Form.REAL or observed.of_image:
        return w_bits, 32
    if inputs.form == Form.LEVELS:
        return w_bits, max(math.ceil(math.log2(len(inputs.levels))), most_a)
    return w_bits, most_a
