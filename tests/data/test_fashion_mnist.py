"""The 10,000 test images of Fashion-MNIST as Debian's package dataset-fashion-mnist installs them, in every layout."""

import gzip
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from bcdzoo.data.imagenet import open_dataset
from bcdzoo.data.preflight import preflight
from bcdzoo.evaluation.loop import evaluate
from tests.data.layouts import assert_the_same, everywhere
from tests.own_networks import Steady

SOURCE = Path("/usr/share/datasets/fashion-mnist")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCE.is_dir(), reason="needs apt-get install dataset-fashion-mnist"),
]


def read(name: str, header: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(gzip.decompress((SOURCE / f"t10k-{name}-ubyte.gz").read_bytes()), np.uint8, offset=header)


def test_ten_thousand_real_images_are_the_same_in_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    pixels, labels = read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8)
    names = [str(label) for label in range(10)]
    root = tmp_path / "fashion"
    for name in names:
        (root / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(root / str(label) / f"{number:05d}.png")
    sets = everywhere(root, tmp_path / "others", 10, names)
    sets["hf"] = open_dataset(f"hf:{tmp_path}/others/hf", 10)
    sets["hf, a folder of classes"] = open_dataset(f"hf:{root}", 10)
    assert_the_same(sets)
    for images in sets.values():
        assert len(images) == 10_000
        assert [sample.label for sample in images.samples] == np.sort(labels).tolist()
        assert preflight(images, 10) == []
    for index in range(0, 10_000, 997):
        number = int(Path(sets["tar"].samples[index].id).stem)
        (first, given, _), *others = [images[index] for images in sets.values()]
        assert given == labels[number]
        assert all(other[0].equal(first) for other in others)
    torch.manual_seed(0)
    network = Steady()
    results = [evaluate(network, images, preprocess="resize=28,crop=28", batch_size=100) for images in sets.values()]
    assert {result.predictions_sha256 for result in results} == {results[0].predictions_sha256}
    assert len(results) == 10
