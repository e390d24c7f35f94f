"""The result of one evaluation run."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from bcdzoo.data.classes import official_number, real_labels
from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.names import shown
from bcdzoo.data.preprocess import DECODERS
from bcdzoo.evaluation.predictions import read_predictions
from bcdzoo.evaluation.stats import wilson
from bcdzoo.files import sha256_of
from bcdzoo.text import as_utf8, html_table, printable

if TYPE_CHECKING:
    import pandas as pd

_PER_IMAGE = ("ids", "labels", "guesses", "logits")
_PREPROCESS_FROM = {
    "given": "as asked for",
    "weights": "the weights' own",
    "assumed": "assumed, the weights do not say; --preprocess sets it",
}


@dataclass(frozen=True)
class EvalResult:
    """The accuracy, and everything needed to repeat the run.

    Attributes:
        model: Name of the network.
        weights: Tag or path of its weights; None for a module that was passed.
        sha256: Hex hash of the weights' file, if there is one.
        state: Hex hash of the network's architecture, parameters and buffers.
        build: Arguments that the network was built with.
        backend: Backend that ran it.
        hits: Number of images whose label is the top-1 prediction (``top1``), or among the top five (``top5``).
        ids: Ids of the evaluated images, in order.
        labels: Class indices of these images, int64 of shape (n,).
        guesses: Predicted class indices by descending logit, int64 of shape (n, k); k is 5, or fewer for fewer outputs.
        logits: Logits of these predictions, float32 of shape (n, k).
        skipped: Entries ``{"id", "reason"}``, one for each unreadable image.
        outputs: Number of outputs of the network.
        classes: Number of classes present among the images.
        dataset: ``imagenet``, or the name of the data's path.
        data: Path of the images.
        layout: Name in :data:`bcdzoo.data.layouts.LAYOUTS`.
        labels_from: Origin of the labels.
        notes: Oddities of the data or the network.
        fingerprint: Hash of the dataset's ids, labels and file sizes.
        decoder: Decoder of the images, one of :data:`bcdzoo.data.preprocess.DECODERS`.
        preprocess: Preset's name or a spec.
        preprocess_from: Origin of the preprocessing: ``given``, ``weights``, or ``assumed``.
        device: Torch device, such as ``cpu``.
        batch_size: Number of images per step, as requested.
        images_at_once: Actual number, which is lower if a GPU's memory was too small.
        precision: Data type of the network's arithmetic.
        compiled: Whether it ran through torch.compile.
        channels_last: Whether it ran in channels-last memory order.
        seed: Random seed, for callables that draw weights.
        processes: Number of processes that shared the images.
        threads: Number of threads of each process.
        seconds: Duration of the last session, including reading of the images.
        resumed: Number of images that were evaluated in earlier sessions.
        networks: Number of networks, or modes, evaluated in the same pass and time.
        started: Start of the first session, UTC in ISO 8601.
        predictions_file: Name of the file in the results store with all predictions; None if not kept.
        predictions_sha256: Hash of the file of predictions.
        versions: Versions of the relevant software.
        label: Word by which the result is found again.
    """

    model: str
    weights: str | None
    sha256: str | None
    state: str
    build: dict[str, Any]
    backend: str
    hits: dict[str, int]
    ids: list[str]
    labels: npt.NDArray[np.int64]
    guesses: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    skipped: list[dict[str, str]]
    outputs: int
    classes: int
    dataset: str
    data: str
    layout: str
    labels_from: str
    notes: list[str]
    fingerprint: str
    preprocess: str
    preprocess_from: str
    device: str
    batch_size: int
    images_at_once: int
    precision: str
    compiled: bool
    channels_last: bool
    seed: int
    processes: int
    threads: int
    seconds: float
    resumed: int
    networks: int
    started: str
    predictions_file: str | None
    predictions_sha256: str
    versions: dict[str, str]
    label: str | None = None
    decoder: str = DECODERS[0]

    @property
    def n(self) -> int:
        """Number of images that were evaluated."""
        return len(self.ids)

    @property
    def top1(self) -> float:
        """Percentage of images whose label is the top-1 prediction."""
        return 100 * self.hits["top1"] / self.n

    @property
    def top5(self) -> float:
        """Percentage of images whose label is among the top five predictions (or all, if there are fewer)."""
        return 100 * self.hits["top5"] / self.n

    @property
    def ci95(self) -> dict[str, list[float]]:
        """Wilson's 95 % intervals of ``top1`` and ``top5`` in percent."""
        return {key: list(wilson(hits, self.n)) for key, hits in self.hits.items()}

    @cached_property
    def real(self) -> dict[str, Any] | None:
        """Top-1 on the ReaL labels (:func:`bcdzoo.data.classes.real_labels`); None unless the images are ImageNet's.

        For the images with such labels: their number ``n``, ``hits`` (the prediction is one of them), and in percent
        ``top1`` and ``ci95``.
        """
        numbers = (
            [official_number(name) for name in self.ids] if self.dataset == "imagenet" and self.outputs == 1000 else []
        )
        accepted = real_labels() if any(numbers) else []
        judged = [
            int(guess) in accepted[number - 1]
            for number, guess in zip(numbers, self.guesses[:, 0], strict=False)
            if number and accepted[number - 1]
        ]
        if not judged:
            return None
        n, hits = len(judged), sum(judged)
        return {"n": n, "hits": hits, "top1": 100 * hits / n, "ci95": list(wilson(hits, n))}

    @property
    def images_per_second(self) -> float:
        """Throughput of the last session, including reading of the images."""
        return (self.n + len(self.skipped) - self.resumed) / self.seconds

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """One row per image: ``id``, ``label``, the classes ``top1`` to ``top5``, and their logits."""
        import pandas as pd

        guesses = {f"top{rank}": column for rank, column in enumerate(self.guesses.T, start=1)}
        logits = {f"logit{rank}": column for rank, column in enumerate(self.logits.T, start=1)}
        return pd.DataFrame({"id": self.ids, "label": self.labels, **guesses, **logits})

    @property
    def mode(self) -> str:
        """Description of the mode, such as ``float32``."""
        from bcdzoo.evaluation.mode import Mode  # imports torch

        amp = None if self.precision == "float32" else self.precision
        return str(Mode(self.backend, amp, self.compiled, self.channels_last))

    def to_json(self) -> dict[str, Any]:
        """Return everything except the predictions for JSON; accuracies in percent."""
        measured = {key: getattr(self, key) for key in ("n", "top1", "top5", "ci95", "real", "images_per_second")}
        recorded = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _PER_IMAGE}
        return recorded | measured

    def summary(self) -> str:
        """Format the result in a few aligned lines."""
        return "\n".join(f"{key:<15}{printable(value)}" for key, value in self._lines())

    def __repr__(self) -> str:
        name, dataset = printable(self.model, 100), printable(self.dataset, 100)
        return (
            f"EvalResult({name}, {self.mode}: top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} % of {self.n} images of "
            f"{dataset})"
        )

    def _repr_html_(self) -> str:
        return html_table(self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        low1, high1, low5, high5 = self.ci95["top1"] + self.ci95["top5"]
        lines = [
            ("model", self.model),
            ("weights", (self.weights or "as built") + (f", sha256 {self.sha256[:12]}…" if self.sha256 else "")),
            *([("build", ", ".join(f"{key}={value}" for key, value in self.build.items()))] if self.build else []),
            ("top-1", f"{self.top1:.2f} %, 95 % interval {low1:.2f} to {high1:.2f}"),
            (f"top-{self.guesses.shape[1]}", f"{self.top5:.2f} %, 95 % interval {low5:.2f} to {high5:.2f}"),
            *self._real_line(),
            ("images", f"{self.n} of {self.dataset} ({self.layout}), {self.classes} of {self.outputs} classes"),
            ("labels", f"from {self.labels_from}"),
            ("preprocessing", f"{self.preprocess} ({_PREPROCESS_FROM[self.preprocess_from]})"),
            *([("decoder", f"{self.decoder}; Pillow for all but colour JPEG")] if self.decoder != DECODERS[0] else []),
            (
                "speed",
                f"{self.images_per_second:.1f} images/s, {self.device}, {self.mode}, batch {self.batch_size}"
                + (f", {self.processes} processes" if self.processes > 1 else "")
                + (f", {self.networks} networks in one pass" if self.networks > 1 else "")
                + (f"; {self.resumed} images were done before" if self.resumed else ""),
            ),
        ]
        if self.skipped:
            lines.append(("skipped", f"{len(self.skipped)}: {', '.join(shown(entry['id']) for entry in self.skipped)}"))
        return lines

    def _real_line(self) -> list[tuple[str, str]]:
        if self.real is None:
            return []
        low, high = self.real["ci95"]
        return [("ReaL top-1", f"{self.real['top1']:.2f} % of {self.real['n']}, 95 % interval {low:.2f} to {high:.2f}")]


def result_of(predictions: Path, images: ImageSet, kept: bool, **facts: Any) -> EvalResult:
    """Compute the result from a finished file of predictions.

    Args:
        predictions: Parquet file with one row per image.
        images: Images that were evaluated.
        kept: Whether the file is kept.
        **facts: The other attributes of :class:`EvalResult`.
    """
    table, _ = read_predictions(predictions)
    read = table.filter(pc.is_null(table["unreadable"]))
    unreadable = table.filter(pc.is_valid(table["unreadable"]))
    labels = read["label"].to_numpy().astype(np.int64)
    guesses, logits = (
        np.stack([read[name].to_numpy() for name in table.column_names if name.startswith(kind)], axis=1)
        for kind in ("top", "logit")
    )
    hit = guesses == labels[:, None]
    return EvalResult(
        hits={"top1": int(hit[:, 0].sum()), "top5": int(hit.any(axis=1).sum())},
        ids=read["id"].to_pylist(),
        labels=labels,
        guesses=guesses.astype(np.int64),
        logits=logits,
        skipped=[
            {"id": name, "reason": reason}
            for name, reason in zip(unreadable["id"].to_pylist(), unreadable["unreadable"].to_pylist(), strict=True)
        ],
        classes=len(np.unique(labels)),
        dataset=as_utf8(images.name),
        layout=images.layout,
        labels_from=as_utf8(images.labels_from),
        fingerprint=images.fingerprint,
        decoder=images.decoder,
        predictions_file=predictions.name if kept else None,
        predictions_sha256=sha256_of(predictions),
        **facts,
    )
