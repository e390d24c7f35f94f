"""Accuracy of each class, and the confusion matrix."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bcdzoo.data.classes import names, wnids
from bcdzoo.evaluation.result import EvalResult
from bcdzoo.evaluation.stats import wilson


def per_class(results: Iterable[EvalResult]) -> pd.DataFrame:
    """Compute the top-1 accuracy of each network in each class.

    Returns:
        Columns ``model``, ``mode``, ``class`` (its index), ``wnid`` and ``name`` (of ImageNet's classes), ``images``,
        ``hits``, ``top1``, ``low`` and ``high`` (Wilson's 95 % interval), the last three in percent.
    """
    rows = []
    for result in results:
        hit = result.guesses[:, 0] == result.labels
        images, hits = np.bincount(result.labels), np.bincount(result.labels, hit)
        for label in np.flatnonzero(images):
            n, right = int(images[label]), int(hits[label])
            low, high = wilson(right, n)
            row = {"model": result.model, "mode": result.mode, "class": int(label), **_class_name(result, int(label))}
            rows.append(row | {"images": n, "hits": right, "top1": 100 * right / n, "low": low, "high": high})
    return pd.DataFrame(rows)


def confusion(results: Iterable[EvalResult]) -> pd.DataFrame:
    """Compute the nonzero cells of each network's confusion matrix.

    Returns:
        Columns ``model``, ``mode``, ``label``, ``guess`` (class indices) and ``images``.
    """
    frames = []
    for result in results:
        pairs = pd.DataFrame({"label": result.labels, "guess": result.guesses[:, 0]})
        counts = pairs.value_counts(sort=False).rename("images").reset_index()
        frames.append(counts.assign(model=result.model, mode=result.mode))
    return pd.concat(frames)[["model", "mode", "label", "guess", "images"]]


def _class_name(result: EvalResult, label: int) -> dict[str, str]:
    if result.outputs != len(wnids()):
        return {"wnid": "", "name": ""}
    return {"wnid": wnids()[label], "name": names()[label]}
