"""The idx files of MNIST and its successors, and what pretends to be one."""

import gzip
import os
import struct
from pathlib import Path

import pytest

from bcdzoo.data.imagenet import open_dataset
from tests.data.test_layouts import complaint

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + b"".join(struct.pack(">I", length) for length in shape)


def write(folder: Path, images: bytes, labels: bytes, packed: bool) -> Path:
    for name, content in ((IMAGES, images), (LABELS, labels)):
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_small_pair_of_files_is_read(tmp_path: Path, packed: bool) -> None:
    folder = write(tmp_path, header(2, 1, 3) + b"abcdef", header(2) + b"\1\0", packed)
    images = open_dataset(folder, 2)
    assert [sample.label for sample in images.samples] == [1, 0]
    assert [sample.read()[-3:] for sample in images.samples] == [b"abc", b"def"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), header(1) + b"\0", "at most 1048576 images"),
        (header(2**31, 0, 9), header(1) + b"\0", "at most 1048576 images"),
        (header(1, 2**15, 2**15) + bytes(9), header(1) + b"\0", "with a total of 640 MiB are read"),
        (header(1, 0, 9), header(1) + b"\0", "has images of 9×0 pixels"),
        (header(1, 1, 9) + bytes(1 << 24), header(1) + b"\0", "is not an idx file of bytes with 3 dimensions, or"),
        (header(1, 1, 9) + bytes(8), header(1) + b"\0", "or it is cut short"),
        (header(1, 1), header(1) + b"\0", "is not an idx file of bytes with 3 dimensions"),
        (b"", b"", "is not an idx file"),
        (header(1, 1, 1) + b"\0", header(2) + b"\0\0", "has 1 images, but"),
    ],
)
def test_a_header_is_believed_only_within_bounds(
    tmp_path: Path, images: bytes, labels: bytes, expected: str, packed: bool
) -> None:
    assert expected in complaint(write(tmp_path, images, labels, packed), 10)


def test_a_pipe_is_no_idx_file(tmp_path: Path) -> None:
    write(tmp_path, header(1, 1, 1) + b"\0", header(1) + b"\0", packed=False)
    (tmp_path / LABELS).unlink()
    os.mkfifo(tmp_path / LABELS)
    assert f"has neither {LABELS}" in complaint(tmp_path, 10)
