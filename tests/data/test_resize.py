"""The compiled resize: Pillow's pixels for images of any size, and Pillow itself where that is not so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode, functional

from bcdzoo.data import resize as module
from bcdzoo.data.decode import decode
from bcdzoo.data.preprocess import parse
from bcdzoo.data.resize import resize_and_crop
from tests.photos import PHOTOS

NOISE = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
EDGES = np.where(NOISE > 127, 255, 0).astype(np.uint8)  # where bicubic sums leave 0 to 255


def of_torchvision(image: Image.Image, resize: int, crop: int, interpolation: str) -> np.ndarray:
    resized = functional.resize(image, [resize], InterpolationMode(interpolation), antialias=True)
    return np.asarray(functional.pil_to_tensor(functional.center_crop(resized, [crop, crop])))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    resize=st.integers(1, 130),
    share=st.floats(0, 1),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    pixels=st.sampled_from([NOISE, EDGES]),
)
def test_any_size_gives_the_pixels_of_torchvisions_transforms(
    height: int, width: int, resize: int, share: float, interpolation: str, pixels: np.ndarray
) -> None:
    if resize * max(height, width) > 2000 * min(height, width):
        return  # Pillow would take long
    image, crop = pixels[:height, :width], max(1, round(share * resize))
    expected = of_torchvision(Image.fromarray(image), resize, crop, interpolation)
    assert np.array_equal(resize_and_crop(image, resize, crop, interpolation), expected)
    assert np.array_equal(module._by_pillow(image, resize, crop, interpolation), expected)


@pytest.mark.parametrize("spec", ["imagenet", "imagenet-bicubic", "imagenet-232", "resize=448,crop=448"])
def test_photographs_are_those_of_torchvisions_transforms(spec: str) -> None:
    geometry = parse(spec).geometry
    for photo in PHOTOS[:6]:
        image = decode(photo.read_bytes())
        assert np.array_equal(geometry.pixels(image).numpy(), of_torchvision(image, *geometry))


def test_the_compiled_way_is_taken_where_it_was_compiled() -> None:
    pytest.importorskip("bcdzoo.data._resize")
    assert module._agreeing() is not None


def test_what_does_not_agree_with_pillow_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("bcdzoo.data._resize")
    right = compiled.resize

    def off_by_one(picture: np.ndarray, out: np.ndarray, *others: object) -> None:
        right(picture, out, *others)
        out[0, 0, 0] ^= 1

    monkeypatch.setattr(compiled, "resize", off_by_one)
    module._agreeing.cache_clear()
    try:
        assert module._agreeing() is None
        expected = of_torchvision(Image.fromarray(NOISE), 64, 56, "bicubic")
        assert np.array_equal(resize_and_crop(NOISE, 64, 56, "bicubic"), expected)
    finally:
        module._agreeing.cache_clear()


@pytest.mark.parametrize(
    ("shape", "out", "resized", "corner"),
    [
        ((5, 5, 4), (3, 4, 4), (4, 4), (0, 0)),
        ((0, 5, 3), (3, 4, 4), (4, 4), (0, 0)),
        ((5, 5, 3), (3, 4, 5), (4, 4), (0, 0)),
        ((5, 5, 3), (3, 4, 4), (4, 4), (0, 1)),
        ((5, 5, 3), (3, 4, 4), (4, 3), (0, 0)),
        ((5, 5, 3), (3, 4, 4), (4, 4), (-1, 0)),
        ((5, 5, 3), (3, 4, 4), (2**62, 4), (2**62, 0)),
        ((5, 5, 3), (3, 0, 0), (4, 4), (0, 0)),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], out: tuple[int, ...], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    compiled = pytest.importorskip("bcdzoo.data._resize")
    with pytest.raises(ValueError, match=r"shape|outside"):
        compiled.resize(np.zeros(shape, np.uint8), np.zeros(out, np.uint8), resized, corner, False)


def test_an_image_of_grey_becomes_three_equal_channels() -> None:
    grey = Image.fromarray(NOISE[..., 0])
    pixels = parse("resize=32,crop=32").geometry.pixels(grey)
    assert pixels.shape == (3, 32, 32) and pixels[0].equal(pixels[1]) and pixels[0].equal(pixels[2])
