"""Observe the bits of layers that do not state them, as an audit does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from bcdzoo.audit.audit import batches_of
from bcdzoo.audit.verdict import bits_of
from bcdzoo.audit.watch import Watch
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.metadata import Counted
from bcdzoo.ops.conventions import BINARY
from bcdzoo.text import printable

if TYPE_CHECKING:
    from bcdzoo.ops.count import Countable, OpsReport

_IMAGES = 32


def crop_of(preprocess: str | None, input_size: int | None) -> int:
    """Return the side of the images that a preprocessing makes.

    Raises:
        BcdzooError: Another input size was requested.
    """
    crop = parse(preprocess or "imagenet").crop
    if input_size not in (None, crop):
        raise BcdzooError(f"input size {input_size} is not the crop of the preprocessing, {crop}: omit one of them")
    return crop


def observe(report: "OpsReport", network: "Countable", data: str | None, preprocess: str | None) -> None:
    """Count layers that are observed to multiply low-bit numbers as binary, and note that in the report.

    Args:
        report: Report of the network; it gets warnings.
        network: Network, whose trace is changed.
        data: Path of images; None for a random one.
        preprocess: Preprocessing of the images.

    Raises:
        BcdzooError: The images cannot be read, or the network fails.
    """
    if network.device.type == "meta":
        report.warnings.append(
            "its weights have no values, so no bits could be observed: everything is counted as real-valued"
        )
        return
    watch = Watch(network.model)
    for batch in _batches(network, data, preprocess):
        network.watch(watch, batch)
    report.observed = f"{watch.images} images of {data}" if data else "1 random image"
    trace, layers, share = network.trace, 0, 0
    whole = sum(counts["mac"] for counts in trace.undeclared())
    largest: dict[str, int] = {}
    for observed in watch.layers.values():
        if observed.name not in trace.modules or isinstance(trace.modules[observed.name], Counted):
            continue
        name = printable(observed.name or "the network", 100)
        macs, counts = observed.macs // watch.images, trace.counts[observed.name]
        w_bits, a_bits = bits_of(observed, real_input=True)
        if any(value is not None for value in observed.constants):
            report.warnings.append(f"{name}: an input is constant" + " (counted as real)" * (a_bits is None))
        if a_bits is None or w_bits == 32 or a_bits == 32:
            continue
        if counts["mac"] < macs:
            report.warnings.append(f"{name}: its operations differ from image to image")
        moved = min(counts["mac"], macs)
        counts["mac"] -= moved
        counts[BINARY] += moved * w_bits * a_bits
        layers, share = layers + 1, share + moved
        if moved > largest.get(observed.name, 0):
            largest[observed.name], trace.bits[observed.name] = moved, (w_bits, a_bits)
    if layers:
        are = f"{layers} layers, {{}}, are" if layers > 1 else "one layer, {}, are"
        share_of = are.format(f"{100 * share / whole:.1f} % of the multiply-accumulates")
        report.warnings.insert(
            0,
            f"the bits of {share_of} not stated but observed, on {report.observed}: with other weights or images "
            "there may be more",
        )


def _batches(network: "Countable", data: str | None, preprocess: str | None) -> Iterator[Tensor]:
    if data is None:
        yield network.noise()
        return
    shape = network.trace.shapes.get("", ())
    if len(shape) != 1:
        raise BcdzooError(f"for one image the network must return logits of shape (1, classes), not (1, {shape})")
    for batch in batches_of(data, parse(preprocess or "imagenet"), shape[0], None, _IMAGES):
        yield batch.to(network.device, network.dtype)
