"""One benchmark: networks on backends, all of them taking turns."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bcdzoo.bench.backends import CALIBRATION, Variant, Wanted, require, variants
from bcdzoo.bench.energy import Meter
from bcdzoo.bench.machine import load, machine
from bcdzoo.bench.timing import Time, times
from bcdzoo.errors import BcdzooError
from bcdzoo.interchange.importing import build_network
from bcdzoo.packed.bench import Limit, Rates, limit, rates
from bcdzoo.packed.checkpoint import is_packed_file, load_packed
from bcdzoo.packed.module import EngineModule
from bcdzoo.packed.pack import PackedNetwork, PlanNetwork
from bcdzoo.text import printable, say
from bcdzoo.versions import installed, package_version

USUAL = ("torch", "torch.compile", "packed")
"""The backends that are measured if nobody chooses."""


class Subject(NamedTuple):
    """A network that is measured.

    Attributes:
        model: Its name.
        build: Its arguments.
        network: The network, with random weights unless it is a plan.
        size: Side of its images in pixels.
    """

    model: str
    build: dict[str, Any]
    network: nn.Module
    size: int


def subject(model: str, build: dict[str, Any], input_size: int | None) -> Subject:
    """Build a network to measure.

    Args:
        model: Zoo name, ``package.module:callable``, a QONNX file or a plan's, which has neither arguments nor another
            size.
        build: Its arguments.
        input_size: Side of the images in pixels; None for the network's own, or 224.

    Raises:
        BcdzooError: It cannot be built.
    """
    if ":" not in model and is_packed_file(Path(model)):
        plan = load_packed(model)
        return Subject(model, {}, plan, plan.plan.input_shape[1])
    network, size = build_network(model, **build)
    if isinstance(network, PlanNetwork):  # of one's own function
        return Subject(model, build, network, network.plan.input_shape[1])
    return Subject(model, build, network.eval(), input_size or size)


def benchmark(
    subjects: Sequence[Subject],
    backends: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """Measure networks on random images, all backends of all networks taking turns, on torch's number of threads.

    What a network cannot do is left out, with its reason on stderr.

    Args:
        subjects: Networks.
        backends: Some of :data:`bcdzoo.bench.backends.BACKENDS`; none for :data:`USUAL`.
        precisions: Some of :data:`bcdzoo.bench.backends.PRECISIONS`; none for all that a backend has.
        batch_sizes: Images at once.
        rounds: Turns that each has.

    Returns:
        What :mod:`bcdzoo.bench.store` stores: ``started``, ``versions``, ``rounds``, ``machine``, and ``records``, one
        for each network and batch size.

    Raises:
        BcdzooError: A backend's packages are missing, or a network can be measured on none.
    """
    require(backends)
    started, facts, before = datetime.now(UTC), machine(), load()
    packed = "packed" in (backends or USUAL) and facts["kernels"] != "none"
    reached = rates(torch.get_num_threads()) if packed else None
    records = [
        record
        for batch_size in batch_sizes
        for record in _records(subjects, backends or USUAL, precisions, batch_size, rounds, reached)
    ]
    return {
        "started": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": versions(),
        "rounds": rounds,
        "machine": facts | {"load_before": round(before, 2), "load_after": round(load(), 2)},
        "records": records,
    }


def versions() -> dict[str, str]:
    """Versions of what is measured."""
    found = {name: installed(name) for name in ("torch", "openvino", "nncf", "onnxruntime")}
    return {"bcdzoo": package_version()} | {name: version for name, version in found.items() if version}


def _records(
    subjects: Sequence[Subject],
    backends: Sequence[str],
    precisions: Sequence[str],
    batch_size: int,
    rounds: int,
    reached: Rates | None,
) -> Iterator[dict[str, Any]]:
    meter = Meter()
    images = {each.size: _images(batch_size, each.size) for each in subjects}
    found = [_ready(each, Wanted(backends, precisions, tuple(images[each.size].shape)), images) for each in subjects]
    calls = {
        (number, way): partial(variant.run, images[each.size])
        for number, each in enumerate(subjects)
        for way, variant in enumerate(found[number])
    }
    timed = times(calls, rounds, meter.of)
    for number, each in enumerate(subjects):
        best: dict[tuple[str, str], dict[str, Any]] = {}
        of_limit = None
        for way, variant in enumerate(found[number]):
            result = _result(variant, timed[number, way], batch_size, meter.joules.get((number, way)))
            if variant.network is not None and reached and (of_limit := _limit(variant.network, each.size, reached)):
                result["share_of_limit"] = result["images_per_second"] / of_limit.images_per_second
            key = (variant.backend, variant.precision)  # whose numbers of streams are ways to the same
            if key not in best or result["ms_per_image"] < best[key]["ms_per_image"]:
                best[key] = result
        record = {
            "model": each.model,
            "build": each.build,
            "input_size": each.size,
            "batch_size": batch_size,
            "threads": torch.get_num_threads(),
            "results": list(best.values()),
        }
        yield record | ({"limit": _described(of_limit)} if of_limit else {})


def _images(batch_size: int, size: int) -> Tensor:
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))


def _ready(each: Subject, wanted: Wanted, images: Mapping[int, Tensor]) -> list[Variant]:
    """The variants of a network that can run."""
    found, left = variants(each.network, wanted)
    works = []
    for variant in found:
        try:
            with torch.inference_mode():
                variant.run(images[each.size])
        except Exception as error:  # as in variants
            left.append(f"{variant.name}: {printable(error, 300)}")
        else:
            works.append(variant)
    if not works:
        why = "; ".join(left) or "no backend has this precision"
        raise BcdzooError(f"{each.model} can be measured on none of these backends: {why}")
    for reason in left:
        say(f"{each.model}: left out: {reason}")
    for variant in works:
        if isinstance(variant.network, PackedNetwork):
            reasons = [reason for _, reason in variant.network.layers((3, each.size, each.size))]
            if alone := [reason for reason in reasons if reason]:
                fused = len(reasons) - len(alone)
                say(f"{len(alone)} convolutions are packed by themselves, {fused} in one pass with what is around them")
    return works


def _result(variant: Variant, calls: list[Time], images: int, joules: float | None) -> dict[str, Any]:
    wall, processor = zip(*calls, strict=True)
    best, middle = min(wall), median(wall)
    return {
        "backend": variant.backend,
        "precision": variant.precision,
        "images_per_second": images / best,
        "images_per_second_median": images / middle,
        "ms_per_image": 1000 * best / images,
        "ms_per_image_median": 1000 * middle / images,
        "cpu_ms_per_image": 1000 * min(processor) / images,
        "cpu_ms_per_image_median": 1000 * median(processor) / images,
        "calls": len(calls),
        **({"streams": variant.streams} if variant.streams else {}),
        **({"calibration": f"{CALIBRATION} random images"} if variant.precision == "int8" else {}),
        **({} if joules is None else {"joules_per_image": joules / (len(calls) * images)}),
    }


def _limit(network: EngineModule, size: int, reached: Rates) -> Limit | None:
    plan = network.plan((3, size, size)) if isinstance(network, PackedNetwork) else getattr(network, "plan", None)
    return limit(plan, reached) if plan else None


def _described(of: Limit) -> dict[str, float]:
    (binary, real), (binary_rate, real_rate) = of
    return {
        "images_per_second": of.images_per_second,
        "binary_macs": binary,
        "real_macs": real,
        "binary_macs_per_second": binary_rate,
        "real_macs_per_second": real_rate,
    }
