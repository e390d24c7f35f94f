"""From a decoded image to a network's input: named presets, and a spec for everything else.

Importing this imports no torch, so that the names of the presets are cheap to know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bcdzoo.errors import BcdzooError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Triple = tuple[float, float, float]

INTERPOLATIONS = ("bilinear", "bicubic", "tf-bicubic")
CHANNELS = ("rgb", "bgr")


@dataclass(frozen=True)
class Preprocess:
    """Resize, center crop, scale to 0..1, subtract the mean, divide by the standard deviation.

    Attributes:
        resize: Length in pixels that the image's short side is resized to.
        crop: Height and width in pixels of the center crop, and so of the result.
        interpolation: ``bilinear`` or ``bicubic``, both Pillow's (antialiased); ``tf-bicubic`` crops first, ``crop /
            resize`` of the short side, and resizes the crop as TensorFlow 1 does (bicubic, no antialiasing).
        mean: Per channel, in the order of ``channels``, of values in 0..1.
        std: Likewise.
        channels: ``rgb`` or ``bgr``.

    Raises:
        BcdzooError: A value is out of its range.
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
        if self.interpolation not in INTERPOLATIONS:
            raise BcdzooError(
                f"preprocessing: interpolation={self.interpolation} is none of {', '.join(INTERPOLATIONS)}"
            )
        if self.channels not in CHANNELS:
            raise BcdzooError(f"preprocessing: channels={self.channels} is none of {', '.join(CHANNELS)}")
        if min(self.std) <= 0:
            raise BcdzooError("preprocessing: std must be above 0")

    def __call__(self, image: "Image.Image") -> "Tensor":
        """Preprocess one image.

        Args:
            image: In mode RGB, of any size.

        Returns:
            float32 of shape (3, ``crop``, ``crop``).
        """
        return self.normalize(self.geometry.pixels(image))

    @property
    def geometry(self) -> "Geometry":
        """The part that makes pixels out of pixels: presets that share it share decoded images."""
        return Geometry(self.resize, self.crop, self.interpolation)

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """The rest, on any device: order of channels, scale, mean and standard deviation.

        Args:
            pixels: Of :meth:`Geometry.pixels`, (…, 3, ``crop``, ``crop``).

        Returns:
            float32 of the same shape.
        """
        from torchvision.transforms.v2 import functional

        if self.channels == "bgr":
            pixels = pixels.flip(-3)
        normal: Tensor = functional.normalize(pixels.float() / 255, list(self.mean), list(self.std))
        return normal

    def __str__(self) -> str:
        """The preset's name, or the spec if it is none: :func:`parse` gives the same object back."""
        return next((name for name, preset in PRESETS.items() if preset == self), self.spec())

    def spec(self) -> str:
        """Every value, as :func:`parse` reads it."""
        return (
            f"resize={self.resize},crop={self.crop},interpolation={self.interpolation},"
            f"mean={_text(self.mean)},std={_text(self.std)},channels={self.channels}"
        )


class Geometry(NamedTuple):
    """Resize and center crop; the fields are those of :class:`Preprocess`."""

    resize: int
    crop: int
    interpolation: str

    def pixels(self, image: "Image.Image") -> "Tensor":
        """Resize and crop one image.

        Args:
            image: In mode RGB, of any size.

        Returns:
            0..255 of shape (3, ``crop``, ``crop``), RGB: uint8, or float32 with ``tf-bicubic``, which does not round.
        """
        from torchvision.transforms.v2 import InterpolationMode, functional

        if self.interpolation == "tf-bicubic":
            return _crop_then_tensorflow_resize(image, self.crop, self.resize)
        image = functional.resize(image, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        pixels: Tensor = functional.pil_to_tensor(functional.center_crop(image, [self.crop, self.crop]))
        return pixels

    @property
    def whole(self) -> bool:
        """Whether the pixels are whole numbers."""
        return self.interpolation != "tf-bicubic"

    def __str__(self) -> str:
        """For names of files."""
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
        spec: For example ``larq`` or ``resize=256,crop=224,interpolation=bicubic,mean=127/255,std=128/255``. A mean
            or std is one value or three joined by ``:``; what is left out is as in the preset ``imagenet``.

    Raises:
        BcdzooError: No such preset, an unknown key or a bad value.
    """
    if spec in PRESETS:
        return PRESETS[spec]
    if "=" not in spec:
        raise BcdzooError(
            f"no preprocessing preset named {spec!r}: use one of {', '.join(PRESETS)}, or a spec such as "
            "resize=256,crop=224,interpolation=bicubic,mean=0.5,std=0.5"
        )
    values: dict[str, Any] = {}
    for item in spec.split(","):
        key, _, text = (part.strip() for part in item.partition("="))
        if key not in _READERS or key in values:
            raise BcdzooError(f"preprocessing: {item!r} must be one of {', '.join(_READERS)}, given once as key=value")
        try:
            values[key] = _READERS[key](text)
        except (ValueError, ArithmeticError):
            raise BcdzooError(f"preprocessing: {text!r} is not a value of {key} (see docs/evaluating.md)") from None
    return Preprocess(**values)


def _triple(text: str) -> Triple:
    numbers = [float(Fraction(number)) for number in text.split(":")]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue


def _text(triple: Triple) -> str:
    return ":".join(map(repr, triple[:1] if len(set(triple)) == 1 else triple))


_READERS: dict[str, Callable[[str], Any]] = {
    "resize": int,
    "crop": int,
    "interpolation": str,
    "mean": _triple,
    "std": _triple,
    "channels": str,
}


def _crop_then_tensorflow_resize(image: "Image.Image", crop: int, resize: int) -> "Tensor":
    # larq_zoo.training.data: the size is truncated, an odd margin gives its extra pixel to the top and left.
    from torchvision.transforms.v2 import functional

    side = int(crop / resize * min(image.size))
    top, left = (image.height - side + 1) // 2, (image.width - side + 1) // 2
    pixels: Tensor = functional.pil_to_tensor(functional.crop(image, top, left, side, side)).float()
    matrix = _tensorflow_bicubic(side, crop)
    return matrix @ pixels @ matrix.T


@lru_cache(maxsize=64)
def _tensorflow_bicubic(source: int, target: int) -> "Tensor":
    """Interpolation from ``source`` to ``target`` pixels as a matrix, float32 of shape (``target``, ``source``).

    ``tf.compat.v1.image.resize_bicubic``: Keys' cubic with a = -0.75, pixel centers on whole numbers, no antialiasing,
    offsets rounded to 1/1024, and pixels beyond the edge taken as the edge's.
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
