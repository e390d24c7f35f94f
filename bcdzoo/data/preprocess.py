"""Preprocess a decoded image to a network's input: named presets, and a spec for everything else.

This module does not import torch, so that listing the presets is cheap.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image
    from torch import Tensor

Triple = tuple[float, float, float]

DECODERS = ("pillow", "torchvision")
"""Decoders of image files that can be chosen; the first is the default, and decodes what is not for the others."""

INTERPOLATIONS = ("bilinear", "bicubic", "tf-bicubic")
CHANNELS = ("rgb", "bgr")

LARGEST_SIDE = 2048
"""Largest side of a network's input in pixels, so that a batch fits into memory."""
LARGEST_IMAGE = 1 << 26
"""Most pixels of an image, before or after resizing, so that decoding and resizing stay within 2 GiB."""
_LONGEST_SPEC = 1000
_SMALLEST_STD, _LARGEST_VALUE = 1e-6, 1e6
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_FRACTION = re.compile(r"-?\d{1,20}/\d{1,20}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d{1,20}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Preprocess:
    """Resize, center crop, scale to 0..1, subtract the mean, divide by the standard deviation.

    Attributes:
        resize: Length in pixels to which the image's short side is resized.
        crop: Height and width of the center crop, and of the result, in pixels.
        interpolation: ``bilinear`` or ``bicubic``, both Pillow's (antialiased); ``tf-bicubic`` crops first, ``crop /
            resize`` of the short side, and resizes the crop as TensorFlow 1 does (bicubic, no antialiasing).
        mean: Mean per channel, in the order of ``channels``, for values in 0..1.
        std: Standard deviation, likewise.
        channels: Order of the channels, ``rgb`` or ``bgr``.

    Raises:
        BcdzooError: A value is out of range.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    channels: str = "rgb"

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise BcdzooError(f"preprocessing: crop={self.crop} must be above 0 and at most resize={self.resize}")
        if self.resize > LARGEST_SIDE:
            raise BcdzooError(f"preprocessing: resize={self.resize} is above {LARGEST_SIDE}")
        if self.interpolation not in INTERPOLATIONS:
            raise BcdzooError(
                f"preprocessing: interpolation={self.interpolation} is none of {', '.join(INTERPOLATIONS)}"
            )
        if self.channels not in CHANNELS:
            raise BcdzooError(f"preprocessing: channels={self.channels} is none of {', '.join(CHANNELS)}")
        if not all(abs(value) <= _LARGEST_VALUE for value in (*self.mean, *self.std)):
            raise BcdzooError(f"preprocessing: mean and std must be numbers of at most {_LARGEST_VALUE:g}")
        if min(self.std) < _SMALLEST_STD:
            raise BcdzooError(f"preprocessing: std must be above 0, at least {_SMALLEST_STD:g}")

    def __call__(self, image: "Image.Image | npt.NDArray[np.uint8]") -> "Tensor":
        """Preprocess one image.

        Args:
            image: Of any size; as an array of shape (H, W, 3), RGB.

        Returns:
            float32 of shape (3, ``crop``, ``crop``).
        """
        return self.normalize(self.geometry.pixels(image))

    @property
    def geometry(self) -> "Geometry":
        """The resize and crop; presets that share it share prepared images."""
        return Geometry(self.resize, self.crop, self.interpolation)

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """Apply the rest, on any device: order of channels, scale, mean and standard deviation.

        Args:
            pixels: Result of :meth:`Geometry.pixels`, (…, 3, ``crop``, ``crop``).

        Returns:
            float32 of the same shape.
        """
        from torchvision.transforms.v2 import functional

        if self.channels == "bgr":
            pixels = pixels.flip(-3)
        normal: Tensor = functional.normalize(pixels.float() / 255, list(self.mean), list(self.std))
        return normal

    def __str__(self) -> str:
        """Return the preset's name, or else the spec; :func:`parse` returns an equal object."""
        return next((name for name, preset in PRESETS.items() if preset == self), self.spec())

    def spec(self) -> str:
        """Format every value for :func:`parse`."""
        return (
            f"resize={self.resize},crop={self.crop},interpolation={self.interpolation},"
            f"mean={_text(self.mean)},std={_text(self.std)},channels={self.channels}"
        )


class Geometry(NamedTuple):
    """Resize and center crop; the fields are those of :class:`Preprocess`."""

    resize: int
    crop: int
    interpolation: str

    def pixels(self, image: "Image.Image | npt.NDArray[np.uint8]") -> "Tensor":
        """Resize and crop one image.

        Args:
            image: Of any size; as an array of shape (H, W, 3), RGB.

        Returns:
            0..255 of shape (3, ``crop``, ``crop``), RGB: uint8, or float32 with ``tf-bicubic``, which does not round.

        Raises:
            BcdzooError: The image is too narrow or too small.
        """
        import numpy as np
        from PIL import Image
        from torchvision.transforms.v2 import InterpolationMode, functional

        if self.interpolation == "tf-bicubic":
            pixels = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
            return _crop_then_tensorflow_resize(pixels, self.crop, self.resize)
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        require_resizable(*image.size, self.resize)
        image = functional.resize(image, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        cropped: Tensor = functional.pil_to_tensor(functional.center_crop(image, [self.crop, self.crop]))
        return cropped

    @property
    def whole(self) -> bool:
        """Whether the pixels are integers."""
        return self.interpolation != "tf-bicubic"

    def __str__(self) -> str:
        """Format for file names."""
        return f"{self.interpolation}-{self.resize}-{self.crop}"


PRESETS = {
    "imagenet": Preprocess(),
    "imagenet-232": Preprocess(resize=232),
    "imagenet-235-bicubic": Preprocess(resize=235, interpolation="bicubic"),
    "imagenet-bicubic": Preprocess(interpolation="bicubic"),
    "inception-bicubic": Preprocess(interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "larq": Preprocess(interpolation="tf-bicubic"),
    "openvino-bgr": Preprocess(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), channels="bgr"),
}


def parse(spec: str) -> Preprocess:
    """Read a preset's name or a spec.

    Args:
        spec: Text such as ``larq`` or ``resize=256,crop=224,interpolation=bicubic,mean=127/255,std=128/255``. A mean
            or std is one value or three joined by ``:``; omitted values are as in the preset ``imagenet``.

    Raises:
        BcdzooError: No such preset, an unknown key or a bad value.
    """
    if spec in PRESETS:
        return PRESETS[spec]
    if len(spec) > _LONGEST_SPEC:
        raise BcdzooError(f"a preprocessing of {len(spec)} characters: the longest is {_LONGEST_SPEC}")
    if "=" not in spec:
        near = near_ones(spec, PRESETS)
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(PRESETS)}, or a spec such as"
        example = "" if near else " resize=256,crop=224,interpolation=bicubic,mean=0.5,std=0.5"
        raise BcdzooError(f"no preprocessing preset named {printable(repr(spec), 100)}: {hint}{example}")
    values: dict[str, Any] = {}
    for item in spec.split(","):
        key, _, text = (part.strip() for part in item.partition("="))
        if key not in _READERS or key in values:
            what = printable(repr(item), 100)
            raise BcdzooError(f"preprocessing: {what} must be one of {', '.join(_READERS)}, given once as key=value")
        try:
            values[key] = _READERS[key](text)
        except (ValueError, ArithmeticError):
            what = printable(repr(text), 100)
            raise BcdzooError(f"preprocessing: {what} is not a value of {key} (see docs/evaluating.md)") from None
    return Preprocess(**values)


def require_moderate(width: int, height: int) -> None:
    """Check an image's size before its pixels are decoded.

    Raises:
        ValueError: It has too many pixels.
    """
    if width * height > LARGEST_IMAGE:
        raise ValueError(f"{width}×{height} pixels are more than the {LARGEST_IMAGE} that an image may have")


def require_resizable(width: int, height: int, resize: int) -> None:
    """Check the size of an image with its short side resized, before resizing.

    Raises:
        BcdzooError: It is so narrow that it would exhaust memory.
    """
    short, long = sorted((width, height))
    if not short:
        raise BcdzooError("it has no pixels")
    if resize * (resize * long // short) > LARGEST_IMAGE:
        raise BcdzooError(
            f"it has {width}×{height} pixels, and its short side resized to {resize} would make the other "
            f"{resize * long // short}"
        )


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    """Parse a decimal number or a fraction; its length is checked first."""
    if _FRACTION.fullmatch(text):
        return float(Fraction(text))
    if not _DECIMAL.fullmatch(text) or abs(float(text)) == float("inf"):
        raise ValueError(text)
    return float(text)


def _triple(text: str) -> Triple:
    numbers = [_number(number.strip()) for number in text.split(":")]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue


def _text(triple: Triple) -> str:
    return ":".join(map(repr, triple[:1] if len(set(triple)) == 1 else triple))


_READERS: dict[str, Callable[[str], Any]] = {
    "resize": _whole,
    "crop": _whole,
    "interpolation": str,
    "mean": _triple,
    "std": _triple,
    "channels": str,
}


def _crop_then_tensorflow_resize(image: "npt.NDArray[np.uint8]", crop: int, resize: int) -> "Tensor":
    # larq_zoo.training.data: the size is truncated, and an odd margin has its extra pixel at the top and left.
    import torch

    height, width, _ = image.shape
    side = int(crop / resize * min(height, width))
    if not side:
        raise BcdzooError(f"it has {width}×{height} pixels, too few to crop")
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    pixels = torch.from_numpy(image[top : top + side, left : left + side].transpose(2, 0, 1).copy())
    matrix = _tensorflow_bicubic(side, crop)
    if side > LARGEST_SIDE:  # channel by channel to save memory
        return torch.stack([matrix @ channel.float() @ matrix.T for channel in pixels])
    return matrix @ pixels.float() @ matrix.T


@lru_cache(maxsize=64)
def _tensorflow_bicubic(source: int, target: int) -> "Tensor":
    """Interpolation from ``source`` to ``target`` pixels as a matrix, float32 of shape (``target``, ``source``).

    ``tf.compat.v1.image.resize_bicubic``: Keys' cubic with a = -0.75, pixel centers on whole numbers, no antialiasing,
    offsets rounded to 1/1024, and pixels beyond the edge replicated from it.
    """
    import numpy as np
    import torch

    place = np.arange(target, dtype=np.float32) * np.float32(source / target)
    left = np.floor(place)
    offset = np.rint((place - left) * 1024).astype(np.float64) / 1024
    matrix = np.zeros((target, source), np.float32)
    for tap in (-1, 0, 1, 2):
        pixel = np.clip(left.astype(int) + tap, 0, source - 1)
        np.add.at(matrix, (np.arange(target), pixel), _keys_cubic(np.abs(offset - tap)))
    return torch.from_numpy(matrix)


def _keys_cubic(x: Any, a: float = -0.75) -> Any:
    import numpy as np

    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)
