"""Top-1 and top-5 accuracy of networks on a set of labelled images."""

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from bcdzoo.data.cache import find_prepared
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preflight import DataFinding, preflight
from bcdzoo.data.preprocess import Preprocess
from bcdzoo.data.workers import workers_for
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.batch import batch_notes
from bcdzoo.evaluation.chunks import Run, bring_to_leader
from bcdzoo.evaluation.job import EvalJob
from bcdzoo.evaluation.mode import PACKED, STRICT, Mode
from bcdzoo.evaluation.model import EvalModel, load_eval_model
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.evaluation.probe import probe, shifted
from bcdzoo.evaluation.result import EvalResult, result_of
from bcdzoo.evaluation.unfinished import unfinished_runs, versions
from bcdzoo.files import results_dir
from bcdzoo.packed.module import EngineModule
from bcdzoo.processes import Processes, joined
from bcdzoo.seal import write_json
from bcdzoo.text import as_utf8, printable, say
from bcdzoo.weights.load import assume

__all__ = ["EvalOptions", "EvalResult", "evaluate", "evaluate_all"]


def evaluate(
    model: nn.Module | str,
    data: str | os.PathLike[str] | ImageSet,
    *,
    weights: str | Path | None = None,
    manifest: Path | None = None,
    preprocess: str | Preprocess | None = None,
    layout: str | None = None,
    label_offset: int | None = None,
    columns: tuple[str, str] | None = None,
    decoder: str | None = None,
    backend: str = "torch",
    amp: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    check: bool = True,
    seed: int = 0,
    progress: bool | None = None,
    store: bool = False,
    label: str | None = None,
    **build: Any,
) -> EvalResult:
    """Measure top-1 and top-5 accuracy: full float32, one center crop, every image once.

    Args:
        model: Zoo name; ``package.module:callable``; or a module from float32 images of shape (N, 3, H, W) to logits
            of shape (N, C), which is left on ``device``, in evaluation mode and in float32.
        data: Path that :func:`bcdzoo.data.imagenet.open_dataset` reads, or its result.
        weights: Tag or file for a zoo name, None for the default; for another network a file to load strictly.
        manifest: File with additional weight entries.
        preprocess: Preset's name or a spec; None for the weights' own, or ``imagenet`` if they do not state one.
        layout: Data layout (:data:`bcdzoo.data.layouts.LAYOUTS`); detected if omitted.
        label_offset: As for :func:`bcdzoo.data.imagenet.open_dataset`.
        columns: As for :func:`bcdzoo.data.imagenet.open_dataset`.
        decoder: One of :data:`bcdzoo.data.preprocess.DECODERS`; by default that of ``data``, Pillow for a path.
        backend: ``torch``, or ``packed`` for the 1-bit kernels on the CPU.
        amp: ``bf16`` for automatic mixed precision; None for full float32.
        compile: Whether to run through torch.compile.
        channels_last: Whether to run in channels-last memory order.
        batch_size: Number of images per step.
        device: Torch device, such as ``cuda:1``; by default CUDA if available, else the CPU.
        workers: Number of processes that read images, 0 to read in this one; by default one per core up to 8, and 0
            for fewer than 256 images.
        skip_bad: Whether to skip and list images that cannot be read; otherwise the first of them is an error.
        check: Whether to check the data first, and stop if the labels cannot be right or a sample of the images is
            predicted no better than by chance.
        seed: Random seed, for a callable that draws random weights.
        progress: Whether to show a progress bar on stderr; by default if that is a terminal.
        store: Whether to keep predictions and result in the results store, so that an interrupted run can be resumed.
        label: Word by which the stored result is found again.
        **build: Arguments for building the network, such as ``step=1`` or ``num_classes=10``.

    Raises:
        BcdzooError: Nothing to evaluate, an unreadable image, a label beyond the network's outputs, non-finite
            logits, or a problem with the data's layout or the weights.
    """
    given = locals()
    options = EvalOptions(**{field.name: given[field.name] for field in fields(EvalOptions) if field.name in given})
    with joined() as processes:
        (outcome,) = evaluate_all([model], data, options, processes, **build)
    if isinstance(outcome, BcdzooError):
        raise outcome
    return outcome


def evaluate_all(
    models: Sequence[nn.Module | str],
    data: str | os.PathLike[str] | ImageSet,
    options: EvalOptions,
    processes: Processes | None = None,
    **build: Any,
) -> list[EvalResult | BcdzooError]:
    """Measure several networks in one pass over the images, which are decoded once.

    Args:
        models: Networks as for :func:`evaluate`; all with the same number of outputs.
        data: Data as for :func:`evaluate`.
        options: Options for all networks.
        processes: Processes that share the work; all of them get the results.
        **build: As for :func:`evaluate`.

    Returns:
        The result for each network and mode (the modes of a network are adjacent); or the error, if a network fails
        during the run and others do not.

    Raises:
        BcdzooError: As for :func:`evaluate`; or the networks differ in their number of outputs, or ``weights`` is given
            for several.
    """
    processes = processes or Processes()
    _check_data(data)
    if options.weights is not None and len(models) > 1:
        raise BcdzooError("weights: they belong to one network, but several are given")
    processes = processes.on("cpu" if options.backend == "packed" else options.device)
    with full_precision(), torch.inference_mode():
        loaded = [load_eval_model(model, options, processes.device, **build) for model in models]
        running = list(_in_modes(loaded, options.modes))
        outputs = _common_outputs(running)
        images = data if isinstance(data, ImageSet) else _open(data, outputs, options)
        images = replace(images, decoder=options.decoder or images.decoder)
        for each in loaded if processes.first else []:
            if each.preprocess_from == "assumed":
                assume(each.name, str(each.preprocess))
        notes = _preflight(images, outputs, options.check, processes)
        _check_labels(images, outputs)
        with unfinished_runs(running, images, _place(data), options, processes) as runs:
            before = [
                set[int]().union(*known) for known in zip(*processes.all([run.done() for run in runs]), strict=True)
            ]
            jobs = [EvalJob(*parts) for parts in zip(running, runs, before, strict=True)]
            odd = _odd(loaded, options, processes)
            clock = time.perf_counter()
            _compute(jobs, images, options, processes)
            seconds = time.perf_counter() - clock
            facts = {
                "data": as_utf8(_place(data)),
                "processes": processes.count,
                "seconds": seconds,
                "networks": len(jobs),
            }
            outcomes: list[EvalResult | BcdzooError] = []
            if processes.first:
                outcomes = [
                    job.failure or _finish(job, images, options, facts | {"notes": notes + odd[job.model.state]})
                    for job in jobs
                ]
            outcomes = processes.all(outcomes)[0]
            for job, outcome in zip(jobs, outcomes, strict=True):
                if not isinstance(outcome, BcdzooError):
                    job.run.remove()
    return outcomes


def _check_data(data: Any) -> None:
    if not isinstance(data, str | os.PathLike | ImageSet):
        raise BcdzooError(f"data: must be a path or a result of open_dataset, not {printable(repr(data), 60)}")


@contextmanager
def full_precision() -> Iterator[None]:
    """While it lasts, torch computes in full float32, and the same way each time."""
    # By default torch lets convolutions on GPUs use TF32 and choose their algorithm by benchmarking.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _in_modes(models: Sequence[EvalModel], modes: Sequence[Mode]) -> Iterator[EvalModel]:
    """Yield each network in each mode; of several modes, one that is not available is named and left out."""
    for model in models:
        for mode in modes_of(model, modes):
            chosen = model.in_mode(mode)
            try:
                chosen.try_out()
            except BcdzooError as error:
                if mode in (modes[0], PACKED):
                    raise
                say(f"left out: {error}")
            else:
                yield chosen


def modes_of(model: EvalModel, modes: Sequence[Mode]) -> Sequence[Mode]:
    """The modes that are asked for; a packed network has one of its own, in which it runs where no other is."""
    if not isinstance(model.network, EngineModule):
        return modes
    if set(modes) - {STRICT, PACKED}:
        raise BcdzooError(
            f"{model.loaded.label or model.name} is packed, and runs in strict float32 around its bits: omit --amp, "
            "--compile, --channels-last and --check-stability"
        )
    return (PACKED,)


def _common_outputs(models: Sequence[EvalModel]) -> int:
    first = models[0]
    for other in models:
        if other.outputs != first.outputs:
            raise BcdzooError(
                f"{first.name} has {first.outputs} outputs and {other.name} {other.outputs}: evaluate them one by one"
            )
    return first.outputs


def _check_labels(images: ImageSet, outputs: int) -> None:
    highest = max(images.samples, key=lambda sample: sample.label)
    if highest.label >= outputs:
        raise BcdzooError(
            f"{highest.id} has label {highest.label}, but the network's {outputs} outputs end at {outputs - 1}"
        )


def _open(data: str | os.PathLike[str], outputs: int, options: EvalOptions) -> ImageSet:
    return open_dataset(data, outputs, options.layout, options.label_offset, options.columns)


def _preflight(images: ImageSet, outputs: int, check: bool, processes: Processes) -> list[str]:
    """Check the data; returns notes for the result, which are also printed."""
    findings = preflight(images, outputs) if check else [DataFinding("note", note) for note in images.notes]
    for finding in findings:
        if finding.severity == "stop":
            raise BcdzooError(f"{finding.message}; --no-check evaluates anyway")
    notes = [finding.message for finding in findings]
    for note in notes if processes.first else []:
        say(f"note: {note}")
    return notes


def _odd(models: Sequence[EvalModel], options: EvalOptions, processes: Processes) -> dict[str, list[str]]:
    """Check the networks; returns notes for the result by a network's ``state``, which are also printed."""
    odd = {}
    for model in models:
        odd[model.state] = batch_notes(model, options.batch_size)
        for note in odd[model.state] if processes.first else []:
            say(f"note: {note}")
    return odd


def _place(data: str | os.PathLike[str] | ImageSet) -> str:
    if isinstance(data, ImageSet):
        return data.name
    return str(Path(data).resolve()) if Path(data).exists() else str(data)


def _compute(jobs: Sequence[EvalJob], images: ImageSet, options: EvalOptions, processes: Processes) -> None:
    """Compute the missing chunks, and send them to the leader."""
    plan = jobs[0].run.plan
    left = [chunk for chunk in plan.chunks if any(chunk not in job.done for job in jobs)]
    geometries = list(dict.fromkeys(job.model.preprocess.geometry for job in jobs))
    prepared = {geometry: found for geometry in geometries if left and (found := find_prepared(images, geometry))}
    pixels = Pixels(images, geometries, prepared)
    if options.check and left and not any(job.done for job in jobs):
        probe([job.model for job in jobs], pixels)
    for job in jobs:
        if job.done and processes.first:
            title = job.model.title
            say(f"{title}: resuming, {job.before} of {plan.images} images are done")
    try:
        _pass(jobs, pixels, left[processes.rank :: processes.count], options, processes)
    except KeyboardInterrupt:
        kept = sum(len(plan.rows(chunk)) for chunk in jobs[0].run.done())
        what = f"{kept} of {plan.images} images are kept, the same command resumes from there" if options.store else ""
        raise KeyboardInterrupt(what) from None
    for job, failures in zip(jobs, zip(*processes.all([job.failure for job in jobs]), strict=True), strict=True):
        job.failure = next(filter(None, failures), None)
    bring_to_leader([job.run for job in jobs], processes)


def _pass(
    jobs: Sequence[EvalJob], pixels: Pixels, chunks: Sequence[int], options: EvalOptions, processes: Processes
) -> None:
    """Read the images of these chunks once, and pass them to every network that lacks them."""
    plan = jobs[0].run.plan
    batches = [batch for chunk in chunks for batch in plan.batches(chunk)]
    on_gpu = jobs[0].model.device.type == "cuda"
    hidden = not (processes.first and (sys.stderr.isatty() if options.progress is None else options.progress))
    whose = f"process 1 of {processes.count}" if processes.count > 1 else None
    with tqdm(total=sum(map(len, batches)), unit=" images", disable=hidden, desc=whose) as bar:
        for indices, crops, unreadable in loader(pixels, batches, _workers(pixels, batches, options), on_gpu):
            if unreadable and not options.skip_bad:
                raise BcdzooError(f"{unreadable[0][1]}; replace it, or leave such files out with --skip-bad")
            chunk = [*indices, *(index for index, _ in unreadable)][0] // plan.chunk_size
            by_geometry = dict(zip(pixels.geometries, crops, strict=False))  # empty if no image could be read
            for job in jobs:
                if job.wants(chunk):
                    mine = by_geometry.get(job.model.preprocess.geometry)
                    job.take(chunk, pixels.images, indices, mine, unreadable)
            if all(job.failure for job in jobs):
                raise jobs[0].failure or AssertionError
            bar.update(len(indices) + len(unreadable))
            bar.set_postfix_str(f"top-1 {jobs[0].top1:.2f} %", refresh=False)


def _workers(pixels: Pixels, batches: Sequence[range], options: EvalOptions) -> int:
    all_prepared = all(geometry in pixels.prepared for geometry in pixels.geometries)
    return workers_for(0 if all_prepared else sum(map(len, batches)), options.workers)


def _finish(job: EvalJob, images: ImageSet, options: EvalOptions, facts: dict[str, Any]) -> EvalResult | BcdzooError:
    """Join a run's chunks, and store the result if requested, unless its labels turn out to be shifted."""
    model, run = job.model, job.run
    name = re.sub(r"[^\w.-]", "_", f"{run.started}-{model.name}-{run.folder.name[-8:]}")
    predictions = results_dir() / f"{name}.parquet" if options.store else run.folder / "predictions.parquet"
    with _all_kept(run):
        run.join(predictions)
    result = result_of(
        predictions,
        images,
        kept=options.store,
        **model.record(),
        batch_size=options.batch_size,
        images_at_once=model.step or options.batch_size,
        seed=options.seed,
        label=options.label,
        threads=torch.get_num_threads(),
        resumed=job.before,
        started=run.started,
        versions=versions(),
        **facts,
    )
    if not result.n:
        raise BcdzooError(f"none of the {len(images)} images can be read; the first: {result.skipped[0]['reason']}")
    why = shifted(result.guesses[:, 0].tolist(), result.labels.tolist(), images.label_offset)
    if why and options.check:
        predictions.unlink(missing_ok=True)
        return BcdzooError(f"{model.title}: {why}; --no-check keeps the result anyway")
    if options.store:
        with _all_kept(run):
            write_json(results_dir() / f"{name}.json", result.to_json())
    return result


@contextmanager
def _all_kept(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BcdzooError(
            f"cannot write the result: {error.strerror or error}; all predictions are kept in {run.folder}, and the "
            "same command finishes the run"
        ) from error
