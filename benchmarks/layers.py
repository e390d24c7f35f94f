"""Ten binary layers beside OpenVINO's binary convolution, in turns, on one thread.

    python -m benchmarks.layers [--rounds 7]

Each layer is a unit (sign, convolution, batch normalization) three times in sequence, which both engines fuse: the
first one makes bits of floats, and gives bits; the middle one reads and gives bits, as most do in a network; the last
one gives floats. Times are those of each engine's own counters; a ratio is OpenVINO's time over ours. That the sums of
both are equal is checked first.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import click
import torch
from torch import nn
from torch.nn import functional as F

import bcdzoo
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.sign import Sign, sign
from bcdzoo.packed import bench, native
from bcdzoo.plan.work import work
from bcdzoo.text_table import Column, table
from benchmarks.openvino_peer import BinaryLayers, missing

SHAPES = tuple((kernel, channels, 7168 // channels) for kernel in (3, 1) for channels in (64, 128, 256, 512, 1024))
"""Kernel, channels, height and width."""

UNITS = ("first", "middle", "last")
GOAL = 0.95
CALLS = 3  # after a first one; a round's time is their mean


def conv_of(channels: int, kernel: int) -> LowBitConv2d:
    return LowBitConv2d(channels, channels, kernel)


def require_equal_sums(channels: int, kernel: int, size: int) -> None:
    """Compare OpenVINO's sums and ours with those of torch's convolution of floats."""
    conv, images = conv_of(channels, kernel), torch.randn(1, channels, size, size)
    weight = sign(conv.weight.detach())
    expected = F.conv2d(sign(images), weight, padding=kernel // 2)
    theirs = BinaryLayers([weight.numpy()], size, normalize=False)(images)
    scaled = nn.Sequential(Sign(), conv).eval()
    if not torch.equal(theirs, expected) or not torch.equal(bcdzoo.pack(scaled)(images), scaled(images)):
        raise click.ClickException(f"{kernel}×{kernel} of {channels} channels: the sums differ")


def ours(channels: int, kernel: int, size: int) -> tuple[Callable[[], list[float]], float]:
    """A function that measures the microseconds of each unit, and the binary products of one."""
    units = (nn.Sequential(Sign(), conv_of(channels, kernel), nn.BatchNorm2d(channels)) for _ in UNITS)
    packed, images = bcdzoo.pack(nn.Sequential(*units).eval()), torch.randn(1, channels, size, size)
    plan: Any = packed.plan((channels, size, size))

    def measure() -> list[float]:
        found = bench.layers(packed, images, repeats=CALLS)
        if len(found) != len(UNITS):
            raise click.ClickException(f"the engine timed {len(found)} of {len(UNITS)} units")
        return [layer.microseconds for layer in found]

    return measure, work(plan).binary / len(UNITS)


def theirs(channels: int, kernel: int, size: int) -> Callable[[], list[float]]:
    """The same of OpenVINO."""
    weights = [sign(torch.randn(channels, channels, kernel, kernel)).numpy() for _ in UNITS]
    layers, images = BinaryLayers(weights, size, normalize=True), torch.randn(1, channels, size, size)

    def measure() -> list[float]:
        layers(images)
        calls = []
        for _ in range(CALLS):
            layers(images)
            calls.append(layers.microseconds())
        return [sum(times) / CALLS for times in zip(*calls, strict=True)]

    return measure


@click.command()
@click.option("--rounds", default=7, show_default=True)
def main(rounds: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if reason := missing():
        print(f"OpenVINO's columns are dashes: {reason}")
    rows = []
    for kernel, channels, size in SHAPES:
        measure, products = ours(channels, kernel, size)
        peer = None
        if not reason:
            require_equal_sums(channels, kernel, size)
            peer = theirs(channels, kernel, size)
        pairs = [(measure(), peer() if peer else []) for _ in range(rounds)]
        rows.append((f"{kernel}×{kernel} {channels}, {size}²", *_figures(pairs, products)))
    times = (*UNITS, "e9/s", f"OpenVINO: {UNITS[0]}", *UNITS[1:], "e9/s")
    heads = (*times, "ratio: first", "middle", "last", "medians: middle", "last")
    print(f"1 thread, kernels {native.chosen()}; µs, the least of {rounds} rounds, and 1e9 products a second")
    print(f"of the middle one; the goal is a ratio of {GOAL}\n")
    print(table((Column("layer"), *(Column(head, right=True) for head in heads)), rows, "markdown"))


def _figures(pairs: list[tuple[list[float], list[float]]], products: float) -> list[str]:
    our_times, their_times = (list(zip(*times, strict=True)) for times in zip(*pairs, strict=True))
    best = [min(times) for times in our_times]
    found = [*(f"{value:.0f}" for value in best), f"{products / best[1] / 1e3:.0f}"]
    if not their_times:
        return found + ["–"] * 9
    their_best = [min(times) for times in their_times]
    found += [*(f"{value:.0f}" for value in their_best), f"{products / their_best[1] / 1e3:.0f}"]
    found += [f"{peer / own:.2f}" for peer, own in zip(their_best, best, strict=True)]
    middles = [(median(peer), median(own)) for peer, own in zip(their_times, our_times, strict=True)]
    return found + [f"{peer / own:.2f}" for peer, own in middles[1:]]


if __name__ == "__main__":
    main()
