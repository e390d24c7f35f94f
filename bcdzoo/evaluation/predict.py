"""Classify images without labels: what a network names in each, with probabilities."""

import io
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bcdzoo.custom_model import unwrapped
from bcdzoo.data.decode import decode, naming, to_rgb
from bcdzoo.data.folders import walk
from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.names import IMAGE_EXTENSIONS, SkippedFiles
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import Preprocess, require_moderate
from bcdzoo.data.samples import FileRange, Sample
from bcdzoo.data.workers import workers_for
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import full_precision, modes_of
from bcdzoo.evaluation.model import load_eval_model, ranked
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.processes import Processes
from bcdzoo.text import printable, say
from bcdzoo.weights.load import assume

_ONE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, io.IOBase, Mapping)
"""Kinds of a single thing, of which nothing but an image is taken, though some can be iterated over."""
_TAKEN = "a path, the bytes of an image file, a PIL image, or a uint8 array of shape (H, W, 3) or (H, W)"


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, most probable first.

    Attributes:
        image: Path of the image, or its number among those that were given, from ``#1``.
        classes: Class indices; of equal logits the lower index goes first.
        names: Names of these classes; the indices as text, if the network does not name its classes.
        probabilities: Softmax of the logits of all classes, for these classes.
        logits: Logits of these classes.
    """

    image: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    logits: tuple[float, ...]


def predict(
    model: nn.Module | str,
    images: Any,
    *,
    top: int = 5,
    weights: str | Path | None = None,
    manifest: Path | None = None,
    preprocess: str | Preprocess | None = None,
    backend: str = "torch",
    batch_size: int = 32,
    device: str | torch.device | None = None,
    **build: Any,
) -> list[Prediction]:
    """Name what is in images, with probabilities; decoded and preprocessed as :func:`bcdzoo.evaluate` does it.

    Args:
        model: Network as for :func:`bcdzoo.evaluate`.
        images: One of these, or an iterable of them (also a uint8 array of shape (N, H, W, 3)): a path, the bytes of an
            image file, a PIL image, or a uint8 array of shape (H, W, 3), RGB, or (H, W), grey; each of any size. Or a
            tensor, float32 of shape (N, C, H, W): images that are preprocessed already, as the network takes them.
        top: Number of classes per image; at most all are given.
        weights: As for :func:`bcdzoo.evaluate`.
        manifest: As for :func:`bcdzoo.evaluate`.
        preprocess: As for :func:`bcdzoo.evaluate`.
        backend: As for :func:`bcdzoo.evaluate`.
        batch_size: Number of images per step.
        device: As for :func:`bcdzoo.evaluate`.
        **build: Arguments for building the network, such as ``step=1`` or ``num_classes=10``.

    Returns:
        A prediction for each image, in order.

    Raises:
        BcdzooError: An image cannot be read or is none of these, logits that are not finite, or a problem with the
            network or its weights.
    """
    options = EvalOptions(
        weights=weights, manifest=manifest, preprocess=preprocess, backend=backend, batch_size=batch_size, device=device
    )
    return Predictor(model, options, top, **build)(images)


class Predictor:
    """A network that is loaded once and classifies many times; of several threads one runs at a time.

    Args:
        model: Network as for :func:`predict`.
        options: Options of an evaluation, of which those that :func:`predict` has, ``seed`` and ``workers`` apply.
        top: Number of classes per image; at most all are given.
        **build: As for :func:`predict`.

    Raises:
        BcdzooError: The network cannot be loaded.
    """

    def __init__(self, model: nn.Module | str, options: EvalOptions | None = None, top: int = 5, **build: Any) -> None:
        if type(top) is not int or top < 1:
            raise BcdzooError(f"top: must be a whole number of at least 1, not {printable(repr(top), 60)}")
        self._options = options = options or EvalOptions()
        self._top = top
        device = Processes().on("cpu" if options.backend == "packed" else options.device).device
        loaded = load_eval_model(model, options, device, **build)
        (mode,) = modes_of(loaded, options.modes)
        named = getattr(unwrapped(loaded.network), "class_names", None)
        self._names = tuple(map(str, named)) if isinstance(named, list | tuple) else ()
        self._model = loaded.in_mode(mode)
        self._lock = threading.Lock()
        self._is_assumed = loaded.preprocess_from == "assumed"  # and nobody was told

    def __call__(self, images: Any) -> list[Prediction]:
        """Classify images; they and the result are as for :func:`predict`."""
        if isinstance(images, Tensor):
            return self._of_tensor(images)
        if isinstance(images, _ONE) or getattr(images, "ndim", 4) < 4:
            images = [images]
        if not isinstance(images, Iterable):
            raise BcdzooError(f"an image must be {_TAKEN}, not {printable(repr(images), 60)}")
        found: list[Prediction] = []
        ids: list[str] = []
        crops: list[Tensor] = []
        for number, given in enumerate(images, 1):
            name = os.fsdecode(given) if isinstance(given, str | os.PathLike) else f"#{number}"
            with naming(name):
                crops.append(self._model.preprocess.geometry.pixels(_opened(given)))
            ids.append(name)
            if len(ids) == self._options.batch_size:
                found += self._of_pixels(torch.stack(crops), ids)
                ids, crops = [], []
        return found + (self._of_pixels(torch.stack(crops), ids) if ids else [])

    def stream(self, samples: Sequence[Sample]) -> Iterator[Prediction | BcdzooError]:
        """Yield for each image of :func:`find_images` a prediction, or the error if it cannot be read, in order."""
        size = self._options.batch_size
        pixels = Pixels(ImageSet(list(samples), "", "", ""), [self._model.preprocess.geometry])
        batches = [range(start, min(start + size, len(samples))) for start in range(0, len(samples), size)]
        for batch, (indices, crops, unreadable) in zip(
            batches, loader(pixels, batches, workers_for(len(samples), self._options.workers)), strict=True
        ):
            ids = [samples[index].id for index in indices]
            found: dict[int, Prediction | BcdzooError] = {index: BcdzooError(reason) for index, reason in unreadable}
            if indices:
                found |= zip(indices, self._of_pixels(crops[0], ids), strict=True)
            yield from (found[index] for index in batch)

    def _of_tensor(self, images: Tensor) -> list[Prediction]:
        if images.dtype != torch.float32 or images.ndim != 4 or images.layout != torch.strided:
            raise BcdzooError(
                "a tensor must be a batch of preprocessed images, torch.float32 of shape (N, C, H, W), not "
                f"{images.dtype} of shape {tuple(images.shape)}; pixels are given as a uint8 array of shape (H, W, 3)"
            )
        if not len(images):
            return []
        ids = [f"#{number + 1}" for number in range(len(images))]
        size = self._options.batch_size
        return [
            each
            for start, part in zip(range(0, len(ids), size), images.split(size), strict=True)
            for each in self._of_images(part.to(self._model.device), ids[start : start + size])
        ]

    def _of_pixels(self, pixels: Tensor, ids: list[str]) -> list[Prediction]:
        if self._is_assumed:
            self._is_assumed = False
            assume(self._model.name, str(self._model.preprocess))
        return self._of_images(self._model.normalized(pixels), ids)

    def _of_images(self, images: Tensor, ids: list[str]) -> list[Prediction]:
        with self._lock, full_precision(), torch.inference_mode():  # settings of torch belong to the whole process
            if not self._model.outputs:
                self._model.try_out(tuple(images.shape[1:]))
                self._check_outputs()
            logits, order = ranked(self._model.logits(images, ids).cpu())
            shares = logits.double().softmax(dim=1)
        rows = zip(ids, *(each[:, : self._top].tolist() for each in (order, shares, logits)), strict=True)
        return [
            Prediction(image, tuple(classes), tuple(map(self._name, classes)), tuple(probabilities), tuple(values))
            for image, classes, probabilities, values in rows
        ]

    def _check_outputs(self) -> None:
        name, outputs = self._model.name, self._model.outputs
        if outputs < 2:
            raise BcdzooError(
                f"{name} has {outputs} outputs, of which there are no probabilities: it needs one a class"
            )
        if len(self._names) != outputs:
            has = f"{len(self._names)} names for {outputs} outputs" if self._names else "no names of its classes"
            say(f"{name} has {has}: their indices are shown")
            self._names = ()

    def _name(self, index: int) -> str:
        return self._names[index] if self._names else str(index)


def find_images(paths: Iterable[str]) -> tuple[list[Sample], list[str], list[str]]:
    """List the images of files and folders; none is read yet.

    Args:
        paths: Files, whatever their ending is, and folders, of which all images in them and below are taken, sorted.

    Returns:
        The images, with their paths as ids; a line for each folder of which there are none; and notes on what was
        skipped in folders.
    """
    samples: list[Sample] = []
    empty: list[str] = []
    notes: list[str] = []
    for path in paths:
        if not Path(path).is_dir() or not path:
            samples.append(_sample(FileRange(path, 0, _size(path))))
            continue
        skipped = SkippedFiles()
        try:
            found = sorted(walk(Path(path), skipped, labelled=False))
        except OSError as error:
            empty.append(f"cannot read {printable(error.filename or path, 300)}: {error.strerror}")
            continue
        if found:
            samples += [_sample(file.read) for file in found]
            notes += skipped.notes()
        else:
            looked = f"looked for files ending in {' '.join(IMAGE_EXTENSIONS)}"
            empty.append(f"no images in {printable(path, 300)}: {'; '.join((*skipped.notes(), looked))}")
    return samples, empty, notes


def _sample(read: FileRange) -> Sample:
    return Sample(read.path, 0, read.size, read)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):  # said when it is read
        return 0


def _opened(given: Any) -> Image.Image:
    """Return an image in mode RGB of something that :func:`predict` takes."""
    if isinstance(given, str | os.PathLike):
        path = os.fsdecode(given)
        return decode(FileRange(path, 0, _size(path))())
    if isinstance(given, bytes | bytearray | memoryview):
        return decode(bytes(given))
    if isinstance(given, Image.Image):
        require_moderate(given.width, given.height)  # before pixels are decoded
        given.load()
        return to_rgb(given)
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and (given.ndim == 2 or given.shape[2:] == (3,)):
        return to_rgb(Image.fromarray(given))
    what = f"a {given.dtype} array of shape {given.shape}" if isinstance(given, np.ndarray) else repr(given)
    raise BcdzooError(f"it must be {_TAKEN}, not {printable(what, 100)}")
