"""What the kernels' arithmetic allows on this processor, and how much of it a packed network reaches."""

import math
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native
from bcdzoo.packed.pack import PackedNetwork, PlanNetwork
from bcdzoo.packed.run import PlanRunner
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.work import Work, bit_products, work, work_of

_PRODUCT_SIZE = 1024


class LayerTime(NamedTuple):
    """Time of one packed unit.

    Attributes:
        name: Name in the network.
        bops: Binary multiply-accumulates for one image.
        microseconds: Time for one image on one core, including everything around the convolution.
        fraction: Fraction of the kernels' peak that is reached; products with a border do not count.
    """

    name: str
    bops: int
    microseconds: float
    fraction: float


class Rates(NamedTuple):
    """Multiply-accumulates per second that this processor can do.

    Attributes:
        binary: Those of the bare kernel, on data in the L1 cache.
        real: Those of float32 products: of torch's matrix product or of the engine's bare kernel, whichever does more.
    """

    binary: float
    real: float


class Limit(NamedTuple):
    """The speed of a network whose products run at the processor's rates, and nothing else takes time.

    Attributes:
        work: The network's products for one image.
        rates: The processor's rates.
    """

    work: Work
    rates: Rates

    @property
    def images_per_second(self) -> float:
        """Images per second at these rates."""
        return 1 / sum(count / rate for count, rate in zip(self.work, self.rates, strict=True))


def layers(packed: nn.Module, images: Tensor, repeats: int = 5) -> list[LayerTime]:
    """Measure the time of each operation on bits, the mean of several calls, on one thread.

    Args:
        packed: Result of :func:`bcdzoo.pack`.
        images: Images, (N, 3, H, W).
        repeats: Number of calls.
    """
    runner = packed.runner(tuple(images.shape[1:])) if isinstance(packed, PackedNetwork | PlanNetwork) else None
    if not isinstance(runner, PlanRunner):
        return []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runner(images)
        spent = np.sum([runner.nanoseconds(images) for _ in range(repeats)], axis=0) / (len(images) * repeats * 1e9)
        most = peak(1)
    finally:
        torch.set_num_threads(threads)
    found = zip(runner.plan.operations, work_of(runner.plan), bit_products(runner.plan), spent, strict=True)
    return [
        LayerTime(each.name, bops, float(seconds) * 1e6, products.binary / seconds / most if seconds else 0.0)
        for each, products, bops, seconds in found
        if products.binary
    ]


def peak(threads: int) -> float:
    """Measure binary multiply-accumulates per second of the bare kernel, on data in the L1 cache; the best of five."""
    module = native.kernels()
    if module is None:
        raise BcdzooError("the 1-bit kernels are missing")
    return max(float(module.peak(threads, native.chosen())) for _ in range(5))


def rates(threads: int) -> Rates:
    """Measure this processor's rates, on so many threads; torch must have as many."""
    module = native.kernels()
    assert module is not None  # peak has said so otherwise
    bare = max(float(module.float_peak(threads, native.chosen())) for _ in range(5))
    return Rates(peak(threads), max(product_rate(), bare))


def product_rate() -> float:
    """Measure multiply-accumulates per second of torch's float32 matrix product; the best of five."""
    a, b = torch.randn(2, _PRODUCT_SIZE, _PRODUCT_SIZE, generator=torch.Generator().manual_seed(0))
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return _PRODUCT_SIZE**3 / best


def limit(plan: Plan, of: Rates) -> Limit:
    """The limit of a plan at a processor's rates."""
    return Limit(work(plan), of)
