"""Guesses that fit the labels beside the right ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import evaluate
from bcdzoo.evaluation.probe import shifted


class Oracle(nn.Module):
    """Reads the class off the image's red."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x: Tensor) -> Tensor:
        found = (x[:, 0].mean((1, 2)) * 255).round().long()
        return nn.functional.one_hot(found, len(self.scale)) * self.scale


def coloured(folder: Path, count: int, classes: int, shift: int) -> ImageSet:
    folder.mkdir()
    lines = []
    for number in range(count):
        label = number % (classes - 2) + 1
        Image.new("RGB", (8, 8), (label, 0, 0)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label + shift}\n")
    (folder / "list.csv").write_text("".join(lines))
    return open_dataset(folder / "list.csv", classes)


SPEC = "resize=8,crop=8,mean=0,std=1"


@pytest.mark.parametrize(("shift", "count", "classes"), [(1, 40, 20), (-1, 40, 20), (1, 1100, 200), (-1, 1100, 200)])
def test_labels_shifted_by_one_are_said_to_be_so_in_short_and_long_runs(
    tmp_path: Path, shift: int, count: int, classes: int
) -> None:
    images = coloured(tmp_path / "images", count, classes, shift)
    options = {"preprocess": SPEC, "progress": False, "workers": 0}
    with pytest.raises(BcdzooError, match=f"so the labels are shifted by one: --label-offset {-shift} corrects them"):
        evaluate(Oracle(classes), images, **options, store=True)  # type: ignore[arg-type]
    assert evaluate(Oracle(classes), images, **options, check=False).top1 == 0  # type: ignore[arg-type]
    corrected = open_dataset(tmp_path / "images" / "list.csv", classes, label_offset=-shift)
    assert evaluate(Oracle(classes), corrected, **options).top1 == 100  # type: ignore[arg-type]


def test_a_result_of_shifted_labels_is_not_kept(tmp_path: Path, own_home: Path) -> None:
    with pytest.raises(BcdzooError, match="--no-check keeps the result anyway"):
        evaluate(Oracle(20), coloured(tmp_path / "images", 40, 20, 1), preprocess=SPEC, progress=False, store=True)
    assert [path for path in (own_home / "results").glob("*") if path.suffix in (".json", ".parquet")] == []


def test_bad_chance_and_good_guesses_are_not_called_shifted() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1000)
    for guesses in (labels, rng.integers(0, 10, 1000), np.where(rng.random(1000) < 0.3, labels + 1, labels)):
        assert shifted(guesses.tolist(), labels.tolist(), None) is None
    assert shifted([6] * 100, [5] * 100, None) is None  # one class that is taken for its neighbour
