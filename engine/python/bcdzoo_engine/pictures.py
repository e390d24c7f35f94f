"""Pictures of any size, decoded, resized and cropped as bcdzoo does it (its ``data/decode.py``, ``preprocess.py``)."""

import os
import stat
import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bcdzoo_engine.errors import EngineError, printable

try:
    from PIL import Image, UnidentifiedImageError
except ImportError as missing:
    raise EngineError(
        "pictures are decoded by Pillow, which is missing: pip install 'bcdzoo-engine[pillow]'"
    ) from missing

FORMATS = (
    *("BMP", "GIF", "JPEG", "PPM", "PNG", "TIFF", "WEBP", "JPEG2000", "AVIF", "DIB", "PCX", "QOI", "SGI", "SUN", "ICO"),
    "TGA",  # last: any bytes may be one
)
"""Pillow's decoders that are used: none that starts another program or reads anything but pixels."""

LARGEST_IMAGE = 1 << 26
"""Most pixels of a picture, before or after resizing."""

_LARGEST_FILE = 1 << 29
_LARGEST_SIDE = 2048
_MOST_SCANNED = 1 << 31  # pixels times scans of a JPEG file

Pixels = npt.NDArray[Any]


def prepared(image: Any, preprocess: str) -> Pixels:
    """A picture at the network's size.

    Args:
        image: File, picture of Pillow, or uint8 of shape (H, W, 3).
        preprocess: Preprocessing that a plan states.

    Returns:
        uint8 of shape (H, W, 3); or, of ``tf-bicubic``, which does not round, what the network takes: float32 of
        shape (3, H, W).

    Raises:
        EngineError: It is no picture, or cannot be resized; or the preprocessing is unknown.
    """
    spec = _Spec.parse(preprocess)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise EngineError(f"a picture is uint8 of shape (H, W, 3), not {image.dtype} of shape {image.shape}")
        image = Image.fromarray(image)
    elif isinstance(image, (str, os.PathLike)):
        image = _decoded(_content_of(image), printable(os.fsdecode(image)))
    elif not isinstance(image, Image.Image):
        raise EngineError(f"a picture is a path, one of Pillow's, or a numpy array, not {type(image).__name__}")
    return spec.apply(_rgb(image))


class _Spec(NamedTuple):
    resize: int
    crop: int
    interpolation: str
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    is_bgr: bool

    @classmethod
    def parse(cls, text: str) -> "_Spec":
        """What a plan states; the engine reads the same text for pixels."""
        try:
            values = dict(item.split("=") for item in text.split(","))
            mean, std = (
                np.array([float(number) for number in values[key].split(":")], np.float32).reshape(-1, 1, 1)
                for key in ("mean", "std")
            )
            resize, crop = int(values["resize"]), int(values["crop"])
            spec = cls(resize, crop, values["interpolation"], mean, std, values["channels"] == "bgr")
            is_known = 0 < spec.crop <= spec.resize <= _LARGEST_SIDE and spec.interpolation in _RESAMPLE
        except (ValueError, KeyError):
            is_known = False
        if not is_known:
            raise EngineError(
                "this plan does not say how pictures are prepared: make it again with `bcdzoo export`, or give float32"
            )
        return spec

    def apply(self, image: Image.Image) -> Pixels:
        width, height = image.size
        if self.interpolation == "tf-bicubic":
            return self._tensorflow(image)
        short, long = sorted(image.size)
        other = int(self.resize * long / short)
        if self.resize * other > LARGEST_IMAGE:
            raise EngineError(f"a picture of {width}×{height} pixels is too narrow to be resized")
        size = (self.resize, other) if width <= height else (other, self.resize)
        if size != image.size:
            image = image.resize(size, _RESAMPLE[self.interpolation])
        left, top = round((image.width - self.crop) / 2), round((image.height - self.crop) / 2)
        return np.asarray(image.crop((left, top, left + self.crop, top + self.crop)))

    def _tensorflow(self, image: Image.Image) -> Pixels:
        side = int(self.crop / self.resize * min(image.size))
        if not side:
            raise EngineError(f"a picture of {image.width}×{image.height} pixels is too small to crop")
        top, left = (image.height - side + 1) // 2, (image.width - side + 1) // 2
        pixels = np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)
        matrix = _tensorflow_bicubic(side, self.crop)
        resized = np.stack([matrix @ channel.astype(np.float32) @ matrix.T for channel in pixels])
        normal: Pixels = (resized[:: -1 if self.is_bgr else 1] / np.float32(255) - self.mean) / self.std
        return normal


_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "tf-bicubic": None}


def _tensorflow_bicubic(source: int, target: int) -> npt.NDArray[np.float32]:
    """TensorFlow 1's ``resize_bicubic`` from ``source`` to ``target`` pixels as a matrix.

    Keys' cubic with a = -0.75, without antialiasing, offsets rounded to 1/1024, pixels beyond the edge replicated.
    """
    place = np.arange(target, dtype=np.float32) * np.float32(source / target)
    left = np.floor(place)
    offset = np.rint((place - left) * 1024).astype(np.float64) / 1024
    matrix = np.zeros((target, source), np.float32)
    for tap in (-1, 0, 1, 2):
        x = np.abs(offset - tap)
        near, far = (1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3
        np.add.at(
            matrix, (np.arange(target), np.clip(left.astype(int) + tap, 0, source - 1)), np.where(x <= 1, near, far)
        )
    return matrix


def _content_of(path: str | os.PathLike[str]) -> bytes:
    name = printable(os.fsdecode(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise EngineError(f"cannot read {name}: it is no regular file")
            if status.st_size > _LARGEST_FILE:
                raise EngineError(f"{name} has {status.st_size} bytes, and a picture at most {_LARGEST_FILE}")
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise EngineError(f"cannot read {name}: {error.strerror}") from None
    except ValueError as error:  # a zero byte in its name
        raise error if isinstance(error, EngineError) else EngineError(f"cannot read {name}: {error}") from None


def _decoded(encoded: bytes, name: str) -> Image.Image:
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about irrelevant metadata
            image = Image.open(BytesIO(encoded), formats=[known for known in FORMATS if known in Image.OPEN])
            _require_moderate(image, encoded)
            image.load()
    except UnidentifiedImageError:
        raise EngineError(f"{name} is no picture that can be decoded: its format is unknown") from None
    except Exception as error:  # whatever Pillow raises for what is broken
        reason = printable(str(error) or type(error).__name__, 200)
        raise EngineError(f"{name} is no picture that can be decoded: {reason}") from None
    return image


def _require_moderate(image: Image.Image, encoded: bytes) -> None:
    tags = getattr(image, "tag_v2", {})
    tile = int(tags[322]) * int(tags[323]) if image.format == "TIFF" and 322 in tags and 323 in tags else 0
    if max(image.width * image.height, tile) > LARGEST_IMAGE:
        raise EngineError(f"{image.width}×{image.height} pixels are more than {LARGEST_IMAGE}")
    scans = encoded.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans * image.width * image.height > _MOST_SCANNED:
        raise EngineError(f"a JPEG file of {image.width}×{image.height} pixels in {scans} scans")


def _rgb(image: Image.Image) -> Image.Image:
    """Alpha dropped, rotation not applied; of 16-bit grey the high byte."""
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))
    if image.mode in ("I", "F") and not is_16_bit:
        raise EngineError("32-bit grey has no defined white: convert it to 8 or 16 bits")
    try:
        if is_16_bit:
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")
    except (OSError, ValueError) as error:
        raise EngineError(f"the picture cannot be decoded: {printable(str(error), 200)}") from None
