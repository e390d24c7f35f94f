"""Top-1 and top-5 accuracy of a network on a set of labelled images."""

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.preprocess import Preprocess, parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.result import EvalResult
from bcdzoo.files import sha256_of
from bcdzoo.own import import_network
from bcdzoo.registry import find

__all__ = ["EvalResult", "evaluate"]

_FEW_IMAGES = 256  # fewer are read before worker processes would be up


def evaluate(
    model: nn.Module | str,
    data: str | os.PathLike[str] | ImageSet,
    *,
    weights: str | Path | None = None,
    manifest: Path | None = None,
    preprocess: str | Preprocess | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    progress: bool | None = None,
    **build: Any,
) -> EvalResult:
    """Measure top-1 and top-5 accuracy: full float32, one center crop, every image once.

    Args:
        model: A zoo name; ``package.module:callable``; or a module from float32 images of shape (N, 3, H, W) to logits
            of shape (N, C), which is left on ``device``, in evaluation mode and in float32.
        data: A path that :func:`bcdzoo.data.imagenet.open_dataset` reads, or what it gave.
        weights: For a zoo name a tag or a file, None for the default; for another network a file to load strictly.
        manifest: A file of additional weights' entries.
        preprocess: A preset's name or a spec; None for the weights' own, or ``imagenet`` where they do not say.
        batch_size: Images per step.
        device: For example ``cuda:1``; by default CUDA where there is one, else the CPU.
        workers: Processes that read images, 0 for none beside this one; by default one per core up to 8, and none for
            fewer than 256 images.
        skip_bad: Leave out, count and list images that cannot be read; otherwise the first of them is an error.
        progress: Show a bar on stderr; by default where that is a terminal.
        **build: Arguments for building a zoo network, such as ``step=1`` or ``num_classes=10``.

    Raises:
        BcdzooError: Nothing to evaluate, an image that cannot be read, a label that the network has no output for,
            logits that are not finite, or anything that is wrong with the data's layout or the weights.
    """
    subject = _subject(model, weights, manifest, build)
    transform = (
        preprocess if isinstance(preprocess, Preprocess) else parse(preprocess or subject.preprocess or "imagenet")
    )
    place = _device(device)
    network = subject.model.to(place, torch.float32).eval()
    with _full_precision(), torch.inference_mode():
        outputs = _outputs(network, transform.crop, place)
        images = data if isinstance(data, ImageSet) else open_dataset(data, outputs)
        images = replace(images, preprocess=transform)
        _check_labels(images, outputs)
        started, clock = datetime.now(UTC), time.perf_counter()
        used, guesses, skipped = _run(network, images, place, batch_size, workers, skip_bad, progress)
        seconds = time.perf_counter() - clock
    labels = np.array([images.samples[index].label for index in used], np.int64)
    hit = guesses == labels[:, None]
    return EvalResult(
        model=subject.name,
        weights=subject.weights,
        sha256=subject.sha256,
        build=subject.build,
        backend="torch",
        hits={"top1": int(hit[:, 0].sum()), "top5": int(hit.any(axis=1).sum())},
        ids=[images.samples[index].id for index in used],
        labels=labels,
        guesses=guesses,
        skipped=skipped,
        outputs=outputs,
        classes=len(np.unique(labels)),
        dataset=images.name,
        layout=images.layout,
        labels_from=images.labels_from,
        fingerprint=images.fingerprint,
        preprocess=str(transform),
        preprocess_from="given" if preprocess else "weights" if subject.preprocess else "assumed",
        device=str(place),
        batch_size=batch_size,
        precision="float32",
        seconds=seconds,
        started=started.isoformat(),
        versions=_versions(),
    )


class _Subject(NamedTuple):
    model: nn.Module
    name: str
    weights: str | None
    sha256: str | None
    preprocess: str | None
    build: dict[str, Any]


def _subject(
    model: nn.Module | str, weights: str | Path | None, manifest: Path | None, build: dict[str, Any]
) -> _Subject:
    from bcdzoo.weights.load import load_into, resolve

    if isinstance(model, str) and ":" not in model:
        find(model)  # a misspelt name should get the near ones, not a search for its weights
        found = resolve(model, weights, manifest, **build)
        return _Subject(found.model, model, found.label, found.sha256, found.preprocess, found.build)
    if build:
        raise BcdzooError(f"{', '.join(build)}: only for networks of the zoo; give a callable that builds yours so")
    network = import_network(model) if isinstance(model, str) else model
    name = model if isinstance(model, str) else type(model).__name__
    if weights is None:
        return _Subject(network, name, None, None, None, {})
    path = Path(weights)
    if not path.is_file():
        raise BcdzooError(f"no weights file {path}")
    load_into(network, path)
    return _Subject(network, name, str(path), sha256_of(path), None, {})


def _device(name: str | torch.device | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BcdzooError(f"cannot use device {name}: {str(error).splitlines()[0]}") from error
    return device


@contextmanager
def _full_precision() -> Iterator[None]:
    # On GPUs torch lets convolutions use TF32 and pick their algorithm by a race, unless it is told not to.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _outputs(network: nn.Module, size: int, device: torch.device) -> int:
    try:
        logits = network(torch.zeros(1, 3, size, size, device=device))
    except Exception as error:  # anybody's network fails as it likes
        reason = " ".join(str(error).split())
        raise BcdzooError(f"the network fails on an image of 3×{size}×{size}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise BcdzooError(f"for one image the network must give logits of shape (1, classes), not {what}")
    return logits.shape[1]


def _check_labels(images: ImageSet, outputs: int) -> None:
    highest = max(images.samples, key=lambda sample: sample.label)
    if highest.label >= outputs:
        raise BcdzooError(
            f"{highest.id} has label {highest.label}, but the network's {outputs} outputs end at {outputs - 1}"
        )


def _run(
    network: nn.Module,
    images: ImageSet,
    device: torch.device,
    batch_size: int,
    workers: int | None,
    skip_bad: bool,
    progress: bool | None,
) -> tuple[list[int], npt.NDArray[np.int64], list[dict[str, str]]]:
    """Indices of the images that could be read, their guesses, and those that could not."""
    if workers is None:
        workers = 0 if len(images) < _FEW_IMAGES else min(os.cpu_count() or 1, 8)
    loader = DataLoader(
        _Readable(images),
        batch_size,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # leaves the caller's random numbers alone
    )
    used: list[int] = []
    guesses: list[npt.NDArray[np.int64]] = []
    skipped: list[dict[str, str]] = []
    right = 0
    hidden = not (sys.stderr.isatty() if progress is None else progress)
    with tqdm(total=len(images), unit=" images", disable=hidden) as bar:
        for indices, batch, unreadable in loader:
            for index, reason in unreadable:
                if not skip_bad:
                    raise BcdzooError(reason)
                skipped.append({"id": images.samples[index].id, "reason": reason})
            if indices:
                top = _top5(
                    network(batch.to(device, non_blocking=True)), [images.samples[index].id for index in indices]
                )
                right += sum(
                    images.samples[index].label == guess for index, guess in zip(indices, top[:, 0], strict=True)
                )
                used += indices
                guesses.append(top)
                bar.set_postfix_str(f"top-1 {100 * right / len(used):.2f} %", refresh=False)
            bar.update(len(indices) + len(unreadable))
    if not used:
        raise BcdzooError(f"none of the {len(images)} images can be read; the first: {skipped[0]['reason']}")
    return used, np.concatenate(guesses), skipped


def _top5(logits: Tensor, ids: list[str]) -> npt.NDArray[np.int64]:
    finite = logits.isfinite().all(dim=1)
    if not finite.all():
        raise BcdzooError(
            f"the logits of {ids[int(finite.int().argmin())]} are not finite: check the weights and the preprocessing"
        )
    # A stable sort, for torch.topk leaves the order of equal logits open: the lower class index goes first.
    order = logits.sort(dim=1, descending=True, stable=True).indices
    top: npt.NDArray[np.int64] = order[:, :5].cpu().numpy()
    return top


class _Readable(Dataset[tuple[int, Tensor | str]]):
    """The images by index, or for one that cannot be read the reason: an exception would end a worker."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, self.images[index][0]
        except BcdzooError as error:
            return index, str(error)


def _collate(items: list[tuple[int, Tensor | str]]) -> tuple[list[int], Tensor, list[tuple[int, str]]]:
    good = [(index, image) for index, image in items if isinstance(image, Tensor)]
    bad = [(index, reason) for index, reason in items if isinstance(reason, str)]
    batch = torch.stack([image for _, image in good]) if good else torch.empty(0)
    return [index for index, _ in good], batch, bad


def _versions() -> dict[str, str]:
    try:
        own = importlib.metadata.version("bcdzoo")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        own = "checkout"
    return {
        "bcdzoo": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }
