"""``bcdzoo bench``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import MODEL, build_settings, format_option
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable, say
from bcdzoo.text_table import Column, table


@click.command("bench")
@click.argument("model", type=MODEL)
@click.option("--batch-size", "batch_sizes", type=click.IntRange(1), multiple=True, default=(1, 32), show_default=True)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(["torch", "torch.compile", "packed"]),
    multiple=True,
    help="Backend to measure; repeatable. Default: all that MODEL supports.",
)
@click.option("--input-size", type=click.IntRange(1), help="Image side in pixels; default: the network's own, or 224.")
@click.option("--threads", type=click.IntRange(1), help="Number of threads; default: torch's.")
@click.option("--layers", is_flag=True, help="Time each packed block, with its BOPs and fraction of the kernels' peak.")
@format_option("text", "markdown", "json")
@build_settings
def command(
    model: str,
    batch_sizes: tuple[int, ...],
    backends: tuple[str, ...],
    input_size: int | None,
    threads: int | None,
    layers: bool,
    style: str,
    build: dict[str, Any],
) -> None:
    """Measure images per second and milliseconds per image of MODEL with random weights, on the CPU.

    Of a packed network also the share of the limit: the images per second if its binary operations ran at the bare
    kernel's rate, its real-valued products at a matrix product's, and nothing else took time.

    MODEL is a network of the zoo, package.module:callable for your own, a QONNX file (.onnx), or a plan's (.bcz).
    """
    import torch

    from bcdzoo.interchange.importing import build_network
    from bcdzoo.packed import bench, native
    from bcdzoo.packed.checkpoint import is_packed_file, load_packed
    from bcdzoo.packed.module import EngineModule
    from bcdzoo.packed.pack import PackedNetwork, PlanNetwork, pack

    if threads:
        torch.set_num_threads(threads)
    if ":" not in model and is_packed_file(Path(model)):
        if build:
            raise click.UsageError(f"{model} is a plan: it takes no arguments")
        network: Any = load_packed(model)
        size = network.plan.input_shape[1]
    else:
        network, size = build_network(model, **build)
        size = input_size or size
    if isinstance(network, EngineModule):
        if backends not in ((), ("packed",)) or (input_size and isinstance(network, PlanNetwork)):
            raise click.UsageError(f"{model} is packed: it has one backend, and a plan has one size")
        backends = ("packed",)
    network.eval()
    draw = torch.Generator().manual_seed(0)
    if layers:
        whole: Any = network if isinstance(network, EngineModule) else pack(network)
        found = bench.layers(whole, torch.randn(8, 3, size, size, generator=draw))
        _show_layers(model, found, whole.layers((3, size, size)), style)
        return
    networks = bench.runners(network, backends or ("torch", "torch.compile"))
    if not backends:
        try:
            networks |= bench.runners(network, ("packed",))
        except BcdzooError as error:
            say(f"backend packed left out: {error}")
    packed = networks.get("packed")
    if isinstance(packed, PackedNetwork):
        reasons = [reason for _, reason in packed.layers((3, size, size))]
        if alone := [reason for reason in reasons if reason]:
            fused = len(reasons) - len(alone)
            say(f"{len(alone)} convolutions are packed by themselves, {fused} in one pass with what is around them")
    plan = packed.plan((3, size, size)) if isinstance(packed, PackedNetwork) else getattr(packed, "plan", None)
    limit = bench.limit(plan, bench.rates(torch.get_num_threads())) if plan else None
    records: list[dict[str, Any]] = []
    for batch_size in batch_sizes:
        seconds = bench.measure(networks, torch.randn(batch_size, 3, size, size, generator=draw))
        results: list[dict[str, Any]] = [
            {"backend": name, "images_per_second": batch_size / s, "ms_per_image": 1000 * s / batch_size}
            for name, s in seconds.items()
        ]
        record = {"model": model, "batch_size": batch_size, "threads": torch.get_num_threads(), "results": results}
        if limit:
            (of_packed,) = (result for result in results if result["backend"] == "packed")
            of_packed["share_of_limit"] = of_packed["images_per_second"] / limit.images_per_second
            record["limit"] = _described(limit)
        records.append(record)
    if style == "json":
        click.echo(json.dumps(records[0] if len(records) == 1 else records, indent=1))
        return
    body = [
        (
            result["backend"],
            str(record["batch_size"]),
            f"{result['images_per_second']:.1f}",
            f"{result['ms_per_image']:.2f}",
            *([f"{100 * result['share_of_limit']:.0f} %" if "share_of_limit" in result else "–"] if limit else []),
        )
        for record in records
        for result in record["results"]
    ]
    kernels = f", kernels {native.chosen()}" if "packed" in networks else ""
    click.echo(f"{model}, {torch.get_num_threads()} threads{kernels}\n")
    heads = ("batch size", "images/s", "ms/image", *(("of the limit",) if limit else ()))
    click.echo(table((Column("backend"), *(Column(head, right=True) for head in heads)), body, style))
    if limit:
        click.echo(f"\n{_sentence(limit)}")


def _sentence(limit: Any) -> str:
    (binary, real), (binary_rate, real_rate) = limit
    bits = f"{binary / 1e6:.1f}e6 binary operations (borders not counted) at {binary_rate / 1e9:.0f}e9/s"
    reals = f"{real / 1e6:.1f}e6 real-valued ones at {real_rate / 1e9:.0f}e9/s"
    return f"limit {limit.images_per_second:.0f} images/s: {bits}, {reals}"


def _described(limit: Any) -> dict[str, float]:
    (binary, real), (binary_rate, real_rate) = limit
    return {
        "images_per_second": limit.images_per_second,
        "binary_macs": binary,
        "real_macs": real,
        "binary_macs_per_second": binary_rate,
        "real_macs_per_second": real_rate,
    }


def _show_layers(model: str, found: Any, layers: list[tuple[str, str]], style: str) -> None:
    alone = {name: reason for name, reason in layers if reason}
    if style == "json":
        facts = {"model": model, "layers": [layer._asdict() for layer in found], "alone": alone}
        click.echo(json.dumps(facts, indent=1))
        return
    body = [
        (layer.name, f"{layer.bops / 1e6:.2f}", f"{layer.microseconds:.0f}", f"{100 * layer.fraction:.0f} %")
        for layer in found
    ]
    numbers = (Column(head, right=True) for head in ("BOPs (1e6)", "µs·core/image", "of the peak"))
    click.echo(table((Column("block"), *numbers), body, style))
    if alone:
        named = [(printable(name, 100), reason) for name, reason in alone.items()]
        click.echo("\n" + table((Column("alone"), Column("because of")), named, style))
