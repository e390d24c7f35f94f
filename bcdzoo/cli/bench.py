"""``bcdzoo bench``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import MODEL, build_settings, format_option, out_option
from bcdzoo.text import printable, say
from bcdzoo.text_table import Column, table


@click.command("bench")
@click.argument("models", type=MODEL, nargs=-1, required=True, metavar="MODEL...")
@click.option("--batch-size", "batch_sizes", type=click.IntRange(1), multiple=True, default=(1, 32), show_default=True)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(["torch", "torch.compile", "packed", "openvino", "onnxruntime"]),
    multiple=True,
    help="Backend to measure; repeatable. Default: torch, torch.compile and packed, where MODEL supports them.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["float32", "bfloat16", "int8", "bits"]),
    multiple=True,
    help="Number format to measure; repeatable. Default: all that a backend has; int8 is for real-valued networks.",
)
@click.option("--input-size", type=click.IntRange(1), help="Image side in pixels; default: the network's own, or 224.")
@click.option("--threads", type=click.IntRange(1), help="Number of threads; default: torch's.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of half a second for each.")
@click.option("--layers", is_flag=True, help="Time each packed block, with its BOPs and fraction of the kernels' peak.")
@click.option("--store", is_flag=True, help="Store the result, for `bcdzoo table`, `plot` and `report`.")
@out_option("JSON file for the result.")
@format_option("text", "markdown", "json")
@build_settings
def command(
    models: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    input_size: int | None,
    threads: int | None,
    rounds: int,
    layers: bool,
    store: bool,
    out: Path | None,
    style: str,
    build: dict[str, Any],
) -> None:
    """Measure images per second and milliseconds per image of each MODEL with random weights, on the CPU.

    All networks on all backends take turns; shown are the shortest and the middle one of their calls, and the least
    time that the processor worked on one, all threads together, which other programs do not lengthen. Of a packed
    network also the share of the limit: the images per second if its binary operations ran at the bare kernel's rate,
    its real-valued products at a matrix product's, and nothing else took time.

    OpenVINO and ONNX Runtime (extras of these names) run the same network as a graph of floats, in int8 (quantized with
    random images: right for time, not for predictions), and with OpenVINO's 1-bit convolution.

    MODEL is a network of the zoo, package.module:callable for your own, a QONNX file (.onnx), or a plan's (.bcz).
    """
    import torch

    from bcdzoo.bench.run import benchmark, subject
    from bcdzoo.packed.module import EngineModule
    from bcdzoo.packed.pack import PlanNetwork

    if threads:
        torch.set_num_threads(threads)
    subjects = [subject(model, build, input_size) for model in dict.fromkeys(models)]
    packed = [each for each in subjects if isinstance(each.network, EngineModule)]
    if packed and {"torch", "torch.compile"} & {*backends}:
        raise click.UsageError(f"{packed[0].model} is packed, and has no other form in torch")
    if (build or input_size) and any(isinstance(each.network, PlanNetwork) for each in subjects):
        raise click.UsageError("a plan takes no arguments, and has one size")
    if layers:
        if len(subjects) > 1 or store or out:
            raise click.UsageError("--layers is for one MODEL, and is not stored")
        _show_layers(subjects[0], style)
        return
    found = benchmark(subjects, backends or (("packed",) if packed else ()), precisions, batch_sizes, rounds)
    try:
        _keep(found, store, out)
    finally:  # print the result even if the disk is full
        _show(found, style)


def _keep(found: dict[str, Any], store: bool, out: Path | None) -> None:
    from bcdzoo.bench import store as benchmarks
    from bcdzoo.seal import write_json

    if out:
        write_json(out, found)
    if store:
        say(f"stored as {benchmarks.store(found)}")


def _show(found: dict[str, Any], style: str) -> None:
    from bcdzoo.bench.energy import CAVEAT
    from bcdzoo.bench.machine import described

    records, of = found["records"], found["machine"]
    if style == "json":
        with_machine = [record | {"machine": of, "versions": found["versions"]} for record in records]
        click.echo(json.dumps(with_machine[0] if len(records) == 1 else with_machine, indent=1))
        return
    results = [(record, result) for record in records for result in record["results"]]
    several = len({record["model"] for record in records}) > 1
    has_limit, has_energy = (
        any(key in result for _, result in results) for key in ("share_of_limit", "joules_per_image")
    )
    columns = [
        *([Column("network")] if several else []),
        Column("backend"),
        Column("batch", right=True),
        *(Column(head, right=True) for head in ("images/s", "ms", "median", "CPU ms")),
        *([Column("of the limit", right=True, rank=1)] if has_limit else []),
        *([Column("J/image", right=True)] if has_energy else []),
    ]
    body = [
        [
            *([record["model"]] if several else []),
            result["backend"] + (f" {result['precision']}" if result["backend"] in ("openvino", "onnxruntime") else ""),
            str(record["batch_size"]),
            f"{result['images_per_second']:.1f}",
            f"{result['ms_per_image']:.2f}",
            f"{result['ms_per_image_median']:.2f}",
            f"{result['cpu_ms_per_image']:.2f}",
            *([f"{100 * result['share_of_limit']:.0f} %" if "share_of_limit" in result else "–"] if has_limit else []),
            *([f"{result['joules_per_image']:.3g}"] if has_energy else []),
        ]
        for record, result in results
    ]
    threads = records[0]["threads"]
    named = printable(", ".join(dict.fromkeys(record["model"] for record in records)), 200)
    load = f"load {of['load_before']:.1f} before, {of['load_after']:.1f} after"
    click.echo(f"{named}, {threads} threads\n{printable(described(of), 500)}; {load}\n")
    click.echo(table(columns, body, style))
    for record in records:
        if "limit" in record:
            where = f"{record['model']}, batch {record['batch_size']}: " if several else ""
            click.echo(f"\n{printable(where, 200)}{_sentence(record['limit'])}")
    if has_energy:
        click.echo(f"\n{CAVEAT}")
    if calibrated := {result["calibration"] for _, result in results if "calibration" in result}:
        click.echo(f"\nint8: quantized after training, with {calibrated.pop()}: right for time, not for predictions")


def _sentence(limit: dict[str, float]) -> str:
    bits = f"{limit['binary_macs'] / 1e6:.1f}e6 binary operations (borders not counted)"
    reals = f"{limit['real_macs'] / 1e6:.1f}e6 real-valued ones at {limit['real_macs_per_second'] / 1e9:.0f}e9/s"
    at = f"{limit['binary_macs_per_second'] / 1e9:.0f}e9/s"
    return f"limit {limit['images_per_second']:.0f} images/s: {bits} at {at}, {reals}"


def _show_layers(of: Any, style: str) -> None:
    import torch

    from bcdzoo.packed import bench
    from bcdzoo.packed.module import EngineModule
    from bcdzoo.packed.pack import pack

    network: Any = of.network if isinstance(of.network, EngineModule) else pack(of.network)
    images = torch.randn(8, 3, of.size, of.size, generator=torch.Generator().manual_seed(0))
    found = bench.layers(network, images)
    alone = {name: reason for name, reason in network.layers((3, of.size, of.size)) if reason}
    if style == "json":
        facts = {"model": of.model, "layers": [layer._asdict() for layer in found], "alone": alone}
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
