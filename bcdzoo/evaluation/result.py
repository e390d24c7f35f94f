"""What one run of an evaluation measured."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bcdzoo.evaluation.stats import wilson

if TYPE_CHECKING:
    import pandas as pd

_PER_IMAGE = ("ids", "labels", "guesses")
_PREPROCESS_FROM = {
    "given": "as asked for",
    "weights": "the weights' own",
    "assumed": "assumed, the weights do not say; --preprocess sets it",
}


@dataclass(frozen=True)
class EvalResult:
    """The accuracy, and all that is needed to repeat the run.

    Attributes:
        model: The network's name.
        weights: Tag or path of its weights; None for a network that was given as it is.
        sha256: Hex hash of the weights' file, if there is one.
        build: Arguments that the network was built with.
        backend: What ran it.
        hits: Exact number of images whose label is the first guess (``top1``), or among the first five (``top5``).
        ids: Of the images that were evaluated, in order.
        labels: Their class indices, int64 of shape (n,).
        guesses: Class indices by falling logit, int64 of shape (n, k); k is 5, or the number of outputs if less.
        skipped: One ``{"id", "reason"}`` per image that could not be read.
        outputs: Number of classes that the network tells apart.
        classes: Number of classes present among the images.
        dataset: ``imagenet``, or the name of the data's path.
        layout: ``imagefolder``, ``flat`` or ``csv``.
        labels_from: Where the labels come from.
        fingerprint: Hash of the dataset's ids, labels and file sizes.
        preprocess: A preset's name or a spec.
        preprocess_from: ``given``, ``weights``, or ``assumed`` where nobody said.
        device: For example ``cpu``.
        batch_size: Images per step.
        precision: Type of number that the network computes with.
        seconds: Duration, reading of the images included.
        started: UTC, ISO 8601.
        versions: Of the software that matters.
    """

    model: str
    weights: str | None
    sha256: str | None
    build: dict[str, Any]
    backend: str
    hits: dict[str, int]
    ids: list[str]
    labels: npt.NDArray[np.int64]
    guesses: npt.NDArray[np.int64]
    skipped: list[dict[str, str]]
    outputs: int
    classes: int
    dataset: str
    layout: str
    labels_from: str
    fingerprint: str
    preprocess: str
    preprocess_from: str
    device: str
    batch_size: int
    precision: str
    seconds: float
    started: str
    versions: dict[str, str]

    @property
    def n(self) -> int:
        """Number of images that were evaluated."""
        return len(self.ids)

    @property
    def top1(self) -> float:
        """Percent of images whose label is the first guess."""
        return 100 * self.hits["top1"] / self.n

    @property
    def top5(self) -> float:
        """Percent of images whose label is among the first five guesses (of fewer than five classes: among all)."""
        return 100 * self.hits["top5"] / self.n

    @property
    def ci95(self) -> dict[str, list[float]]:
        """Wilson's 95 % intervals of ``top1`` and ``top5`` in percent."""
        return {key: list(wilson(hits, self.n)) for key, hits in self.hits.items()}

    @property
    def images_per_second(self) -> float:
        """Throughput, reading of the images included."""
        return self.n / self.seconds

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """One row per image: ``id``, ``label``, and the guessed class indices ``top1`` to ``top5``."""
        import pandas as pd

        guesses = {f"top{rank}": column for rank, column in enumerate(self.guesses.T, start=1)}
        return pd.DataFrame({"id": self.ids, "label": self.labels, **guesses})

    def to_json(self) -> dict[str, Any]:
        """Everything but the single predictions, as JSON holds it; accuracies in percent."""
        measured = {key: getattr(self, key) for key in ("n", "top1", "top5", "ci95", "images_per_second")}
        recorded = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _PER_IMAGE}
        return recorded | measured

    def summary(self) -> str:
        """The same for a reader, in a few aligned lines."""
        low1, high1, low5, high5 = self.ci95["top1"] + self.ci95["top5"]
        lines = [
            ("model", self.model),
            ("weights", (self.weights or "as built") + (f", sha256 {self.sha256[:12]}…" if self.sha256 else "")),
            ("top-1", f"{self.top1:.2f} %, 95 % interval {low1:.2f} to {high1:.2f}"),
            (f"top-{self.guesses.shape[1]}", f"{self.top5:.2f} %, 95 % interval {low5:.2f} to {high5:.2f}"),
            ("images", f"{self.n} of {self.dataset} ({self.layout}), {self.classes} of {self.outputs} classes"),
            ("labels", f"from {self.labels_from}"),
            ("preprocessing", f"{self.preprocess} ({_PREPROCESS_FROM[self.preprocess_from]})"),
            (
                "speed",
                f"{self.images_per_second:.1f} images/s, {self.device}, {self.precision}, batch {self.batch_size}",
            ),
        ]
        if self.skipped:
            lines.append(("skipped", f"{len(self.skipped)}: {', '.join(entry['id'] for entry in self.skipped)}"))
        return "\n".join(f"{key:<15}{value}" for key, value in lines)
