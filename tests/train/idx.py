"""Small idx files: ten kinds of stripes, each image of one kind with noise of its own."""

import gzip
from pathlib import Path

import numpy as np


def stripes(folder: Path, train: int = 96, test: int = 40) -> Path:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for split, count in ("train", train), ("t10k", test):
        labels = np.arange(count, dtype=np.uint8) % 10
        waves = np.sin(np.arange(28)[None, :] * (labels[:, None] + 1) / 4)
        images = np.where(labels[:, None, None] % 2, waves[:, :, None], waves[:, None, :]) * 80 + 128
        images = (images + draw.integers(-40, 40, (count, 28, 28))).clip(0, 255).astype(np.uint8)
        write(folder / f"{split}-images-idx3-ubyte.gz", images)
        write(folder / f"{split}-labels-idx1-ubyte", labels)
    return folder


def write(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
