"""Decode image files, which may be hostile: with Pillow, whose pixels are the reference, or a faster library."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bcdzoo.data.names import shown
from bcdzoo.data.preprocess import DECODERS, require_moderate
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable

FORMATS = (
    *("BMP", "GIF", "JPEG", "PPM", "PNG", "TIFF", "WEBP", "JPEG2000", "AVIF", "DIB", "PCX", "QOI", "SGI", "SUN", "ICO"),
    "TGA",  # last: any bytes may be one
)
"""Pillow's decoders that are used: none that starts another program (PostScript) or reads anything but pixels."""

_MOST_SCANNED = 1 << 31  # pixels times scans of a JPEG file; each scan of a progressive one visits all pixels


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def require_decoder(name: str) -> None:
    """Check a decoder's name.

    Raises:
        BcdzooError: There is no such decoder, or this version of torchvision has none any more.
    """
    if name not in DECODERS:
        raise BcdzooError(f"decoder: {printable(repr(name), 60)} is none of {', '.join(DECODERS)}")
    if name == "torchvision":
        from torchvision import io

        if not hasattr(io, "decode_jpeg"):  # which torchvision 0.29 announces
            raise BcdzooError("decoder: this version of torchvision does not decode images: omit --decoder")


def rgb(encoded: bytes, decoder: str = DECODERS[0]) -> npt.NDArray[np.uint8]:
    """The pixels of an image as :func:`decode` gives them, uint8 of shape (H, W, 3).

    Args:
        encoded: Content of an image file.
        decoder: One of :data:`bcdzoo.data.preprocess.DECODERS`. Any other than Pillow gets only what Pillow recognizes
            as a JPEG file of red, green and blue, and Pillow decodes what it cannot.

    Raises:
        Exception: Whatever Pillow raises for a file that is broken, truncated or not an image.
    """
    pixels = _by_torchvision(encoded) if decoder == "torchvision" else None
    return np.asarray(decode(encoded)) if pixels is None else pixels


def decode(encoded: bytes) -> Image.Image:
    """Decode an image like torchvision's default loader: to RGB, alpha dropped, EXIF rotation not applied.

    One thing differs: for 16-bit grey the high byte is used, as Pillow does for 16-bit colour; its own
    conversion would clip everything above 255 to white.

    Raises:
        Exception: Whatever Pillow raises for a file that is broken, truncated or not an image.
    """
    with _opened(encoded) as image:
        with _quiet() if image.format == "TIFF" else nullcontext():
            image.load()
        return to_rgb(image)


@contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    """Open an image and check its header; no pixels are decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about irrelevant metadata
        with Image.open(BytesIO(encoded), formats=_formats()) as image:
            _check(image, encoded)
            yield image


def _by_torchvision(encoded: bytes) -> npt.NDArray[np.uint8] | None:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    with _opened(encoded) as image:
        if image.format != "JPEG" or image.mode != "RGB":
            return None
    content = torch.from_numpy(np.frombuffer(encoded, np.uint8).copy())  # torch wants it writable
    try:
        with _quiet(), warnings.catch_warnings():  # libjpeg writes warnings directly to stderr
            warnings.simplefilter("ignore")  # torchvision announces the end of its decoders: require_decoder
            pixels: npt.NDArray[np.uint8] = decode_jpeg(content, ImageReadMode.RGB).permute(1, 2, 0).numpy()
    except RuntimeError:
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image as :func:`decode` does.

    Raises:
        ValueError: It has no defined white, or too many pixels.
    """
    require_moderate(image.width, image.height)
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))
    if image.mode in ("I", "F") and not is_16_bit:
        raise ValueError("32-bit grey has no defined white; convert it to 8 or 16 bits")
    if is_16_bit:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


@contextmanager
def naming(image: str) -> Iterator[None]:
    """Turn any error inside into one that names the image.

    Raises:
        BcdzooError: Something failed.
    """
    try:
        yield
    except Exception as error:  # Pillow's decoders raise anything on a broken file: OSError, SyntaxError, …
        words = error.strerror if isinstance(error, OSError) and error.strerror else error
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else " ".join(str(words).split())
        raise BcdzooError(
            f"cannot read image {shown(image)}: {printable(reason or type(error).__name__, 300)}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence libraries that write warnings directly to stderr."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check(image: Image.Image, encoded: bytes) -> None:
    """Check the header before pixels are decoded."""
    require_moderate(image.width, image.height)
    if image.format in ("JPEG", "MPO"):
        scans = encoded.count(b"\xff\xda")
        if scans * image.width * image.height > _MOST_SCANNED:
            raise ValueError(f"a JPEG file of {image.width}×{image.height} pixels in {scans} scans")
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and 322 in tags and 323 in tags:
        require_moderate(int(tags[322]), int(tags[323]))  # tiles are decoded as a whole
