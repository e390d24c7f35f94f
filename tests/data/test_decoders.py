"""Decoders other than Pillow: the same pixels, the same refusals, and Pillow for whatever is not theirs."""

import io
import random

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from bcdzoo.data.decode import decode, rgb
from tests.photos import PHOTOS

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)).resize((90, 70))


def encoded(picture: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def by_torchvision(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each file that torchvision is given whether it decodes it."""
    given: list[bool] = []
    original = torchvision.io.decode_jpeg

    def watched(*arguments: object) -> torch.Tensor:
        given.append(False)
        pixels: torch.Tensor = original(*arguments)
        given[-1] = True
        return pixels

    monkeypatch.setattr(torchvision.io, "decode_jpeg", watched)
    return given


def outcome(content: bytes, decoder: str) -> list[int] | str:
    try:
        return list(rgb(content, decoder).ravel())
    except Exception as error:  # Pillow raises anything
        return str(error).partition(" <")[0]  # an address in memory


def test_photographs_have_the_same_pixels(by_torchvision: list[bool]) -> None:
    for photo in PHOTOS:
        content = photo.read_bytes()
        assert np.array_equal(rgb(content, "torchvision"), np.asarray(decode(content)))
    assert by_torchvision == [True] * len(PHOTOS)


KINDS = {
    "progressive": encoded(PICTURE, progressive=True),
    "4:4:4": encoded(PICTURE, subsampling=0),
    "4:2:2": encoded(PICTURE, subsampling=1, quality=20),
    "restarts": encoded(PICTURE, restart_marker_blocks=2),
    "turned by EXIF": encoded(PICTURE, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "of RGB": encoded(PICTURE, keep_rgb=True),
    "with something behind": encoded(PICTURE) + b"more" * 20,
}
OTHERS = {
    "CMYK": encoded(PICTURE.convert("CMYK")),
    "grey": encoded(PICTURE.convert("L")),
    "several pictures": encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(90)]),
    "palette": encoded(PICTURE.convert("P"), "PNG"),
    "alpha": encoded(PICTURE.convert("RGBA"), "PNG"),
    "16 bits": encoded(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257), "PNG"),
    "WebP": encoded(PICTURE, "WEBP"),
}


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_every_kind_of_file_has_pillows_pixels(kind: str, by_torchvision: list[bool]) -> None:
    content = (KINDS | OTHERS)[kind]
    expected = np.asarray(decode(content))
    assert np.array_equal(rgb(content, "torchvision"), expected)
    assert by_torchvision == ([True] if kind in KINDS else [])


def test_damaged_files_have_pillows_pixels_or_its_refusal(
    by_torchvision: list[bool], capfd: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(0)
    refused = 0
    for content in KINDS.values():
        for _ in range(20):
            damaged = bytearray(content)
            for _ in range(dice.choice((1, 2, 8))):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            start, end = sorted(dice.sample(range(len(content)), 2))
            for each in bytes(damaged), content[:start], content[:start] + content[end:]:
                expected = outcome(each, "pillow")
                assert outcome(each, "torchvision") == expected
                refused += isinstance(expected, str)
    assert refused > 100 and by_torchvision.count(True) > 100 and by_torchvision.count(False) > 10
    assert capfd.readouterr().err == ""  # libjpeg would complain there


def test_an_image_that_is_too_large_is_refused_before_any_decoder_gets_it(by_torchvision: list[bool]) -> None:
    large = encoded(Image.new("RGB", (8, 8))).replace(b"\0\x08\0\x08\x03", b"\x24\0\x24\0\x03")
    with pytest.raises(ValueError, match="9216×9216 pixels are more"):
        rgb(large, "torchvision")
    assert by_torchvision == []


def test_decoding_leaves_the_random_state_and_threads_alone() -> None:
    before = torch.get_rng_state().tolist(), torch.get_num_threads()
    rgb(KINDS["progressive"], "torchvision")
    assert (torch.get_rng_state().tolist(), torch.get_num_threads()) == before
