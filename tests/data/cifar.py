"""Small files of CIFAR-10's two forms."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("test_batch", *(f"data_batch_{number}" for number in range(1, 6)))


def pixels(count: int = 20, seed: int = 0) -> np.ndarray:
    """Images of (count, 3, 32, 32) bytes; the label of each is its place modulo 10."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def binary(images: np.ndarray) -> bytes:
    return b"".join(bytes([place % 10]) + image.tobytes() for place, image in enumerate(images))


def pickled(images: np.ndarray, protocol: int = 2) -> bytes:
    labels = [place % 10 for place in range(len(images))]
    return pickle.dumps({"batch_label": "x", "labels": labels, "data": images.reshape(len(images), -1)}, protocol)


def binary_folder(folder: Path, count: int = 20) -> Path:
    folder.mkdir(parents=True)
    for seed, batch in enumerate(BATCHES):
        (folder / f"{batch}.bin").write_bytes(binary(pixels(count, seed)))
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def pickled_folder(folder: Path, count: int = 20) -> Path:
    folder.mkdir(parents=True)
    for seed, batch in enumerate(BATCHES):
        (folder / batch).write_bytes(pickled(pixels(count, seed)))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(NAMES), "num_vis": 3072}, 2))
    return folder


def archive(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        file.add(folder, folder.name)
    return path


def python_2(images: np.ndarray) -> bytes:
    """A batch as Python 2 pickled the published ones: text and the array's bytes are its strings."""
    planes = images.reshape(len(images), -1)
    out = io.BytesIO()

    def text(value: bytes) -> None:
        out.write(b"T" + len(value).to_bytes(4, "little") + value)

    out.write(b"\x80\x02}q\x01(")
    text(b"data")
    out.write(b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04")
    text(b"b")
    out.write(b"\x87q\x05Rq\x06(K\x01M" + len(planes).to_bytes(2, "little") + b"M\x00\x0c\x86q\x07cnumpy\ndtype\nq\x08")
    text(b"u1")
    out.write(b"K\x00K\x01\x87q\x09Rq\x0a(K\x03")
    text(b"|")
    out.write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0bb\x89")
    text(planes.tobytes())
    out.write(b"tq\x0cb")
    text(b"labels")
    out.write(b"]q\x0d(" + b"".join(b"K" + bytes([place % 10]) for place in range(len(planes))) + b"eu.")
    return out.getvalue()
