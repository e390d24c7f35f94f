"""Probe a small sample before a long run: accuracy at chance means wrong labels, weights or preprocessing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.model import EvalModel

_IMAGES = 256
_BATCH = 32
_FEWEST_CLASSES = 100  # with fewer, chance is too close to a bad network
_MORE = 2  # more hits than by chance; with 1000 classes, a network with 5 % top-1 fails in one of 5,000 probes
_SAME = 0.5
_SHIFTED = 10  # ratio of images that fit the label next to theirs to those that fit their own
_SPREAD = 5  # classes of these images; in a single one a network may well prefer a neighbour


def probe(models: Sequence[EvalModel], pixels: Pixels) -> None:
    """Evaluate every network on evenly spaced images, if that is a small part of the work.

    Raises:
        BcdzooError: A network is no better than chance; the message gives the likeliest reason.
    """
    if len(pixels) < 4 * _IMAGES or models[0].outputs < _FEWEST_CLASSES:
        return
    spread = np.linspace(0, len(pixels) - 1, _IMAGES, dtype=int).tolist()
    batches = [spread[start : start + _BATCH] for start in range(0, _IMAGES, _BATCH)]
    samples = pixels.images.samples
    guesses: list[list[int]] = [[] for _ in models]
    labels: list[int] = []
    for indices, crops, _ in loader(pixels, batches, workers=0):
        labels += [samples[index].label for index in indices]
        for model, mine in zip(models, guesses, strict=True):
            if indices:
                of_geometry = crops[pixels.geometries.index(model.preprocess.geometry)]
                mine += model.guess(of_geometry, [samples[index].id for index in indices])[0][:, 0].tolist()
    for model, mine in zip(models, guesses, strict=True):
        _judge(model, mine, labels, pixels)


def shifted(guesses: Sequence[int], labels: Sequence[int], label_offset: int | None) -> str | None:
    """Describe predictions that are mostly one above, or mostly one below, the labels; None for others.

    Args:
        guesses: Top-1 predictions of the images.
        labels: Labels of the images.
        label_offset: Offset that was added to the data's labels.
    """
    steps = np.asarray(guesses) - np.asarray(labels)
    for step in (1, -1):
        fitting = int((steps == step).sum())
        spread = len(np.unique(np.asarray(labels)[steps == step]))
        right = int((steps == 0).sum())
        if fitting >= _SHIFTED * max(right, 1) and spread >= _SPREAD:
            return (
                f"{fitting} of {len(steps)} images are predicted as the class {'after' if step > 0 else 'before'} "
                f"their label and {right} as their label, so the labels are shifted by one: --label-offset "
                f"{(label_offset or 0) + step} corrects them"
            )
    return None


def _judge(model: EvalModel, guesses: list[int], labels: list[int], pixels: Pixels) -> None:
    hits = sum(guess == label for guess, label in zip(guesses, labels, strict=True))
    if why := shifted(guesses, labels, pixels.images.label_offset):
        raise BcdzooError(f"{model.title}: {why}; --no-check evaluates anyway")
    if len(set(labels)) < _FEWEST_CLASSES or hits > _MORE + len(labels) / model.outputs:
        return
    commonest = Counter(guesses).most_common(1)[0][1]
    if commonest > _SAME * len(guesses):
        why = "its predictions are nearly all the same class: check the weights and --preprocess"
    else:
        why = f"its predictions vary but do not fit the labels (from {pixels.images.labels_from}): check their order"
    raise BcdzooError(
        f"{model.title} is right for {hits} of {len(labels)} images spread over the data, as if by chance; {why}; "
        "--no-check evaluates anyway"
    )
