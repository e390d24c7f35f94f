"""Images that mean harm: refused by their headers, or decoded within bounds."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcdzoo.data.decode import decode
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import parse
from bcdzoo.data.samples import FileRange, Sample
from tests.photos import PHOTOS


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, between: bytes = b"") -> bytes:
    """A black image of one bit a pixel."""
    packer = zlib.compressobj()
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + between + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def set_of(path: Path, content: bytes) -> ImageSet:
    path.write_bytes(content)
    return ImageSet([Sample("x", 0, len(content), FileRange(str(path), 0, len(content)))], "x", "csv", "x")


def reason(path: Path, content: bytes, spec: str = "imagenet") -> str:
    _, found = Pixels(set_of(path, content), [parse(spec).geometry])[0]
    assert isinstance(found, str)
    assert found.startswith("cannot read image x: ")
    assert "\n" not in found
    return found


@pytest.mark.parametrize(("width", "height"), [(65535, 1), (1, 65535), (9000, 2)])
def test_an_image_whose_short_side_resized_would_fill_the_memory_is_refused(
    tmp_path: Path, width: int, height: int
) -> None:
    message = reason(tmp_path / "a", png(width, height))
    assert f"it has {width}×{height} pixels, and its short side resized to 256 would make the other " in message


def test_a_long_image_that_fits_is_read_as_ever(tmp_path: Path) -> None:
    _, found = Pixels(set_of(tmp_path / "a", png(9000, 20)), [parse("imagenet").geometry])[0]
    assert not isinstance(found, str)


def test_an_image_too_small_for_tensorflows_crop_is_named(tmp_path: Path) -> None:
    assert "it has 1×1 pixels, too few to crop" in reason(tmp_path / "a", png(1, 1), "larq")


def gif(width: int, height: int) -> bytes:
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0) + b"\x02\x02D\x01\0;"
    return b"GIF89a" + struct.pack("<HH", 10, 10) + b"\x80\0\0" + bytes(6) + frame


def tiff(tags: dict[int, int]) -> bytes:
    """A TIFF file of these tags and 200 bytes of nothing."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(200)


TILES = {256: 10, 257: 10, 258: 8, 259: 5, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 200, 325: 100}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(13_000, 13_000)[:2000], "13000×13000 pixels are more than the 67108864"),
        (gif(65_535, 65_535), "exceeds limit"),
        (
            encoded(Image.new("RGB", (8, 8)), "JPEG").replace(b"\0\x08\0\x08\x03", b"\x24\0\x24\0\x03"),
            "9216×9216 pixels are more",
        ),
        (encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True), ""),
        (tiff(TILES), "40000×40000 pixels are more"),
        (b"P6 60000 60000 255\n", "exceeds limit"),
        (b"P6 9" + b"9" * 5000 + b" 9 255\n", "Token too long"),
        (png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24)))), "Decompressed data too large"),
        (png(8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 24)))), "Decompressed data too large"),
        (png(0, 0), "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
    ],
    ids=[
        "PNG",
        "GIF frame",
        "JPEG",
        "WebP",
        "TIFF tile",
        "PPM",
        "PPM number",
        "zTXt",
        "iCCP",
        "0 pixels",
        "PostScript",
    ],
)
def test_a_bomb_is_refused_by_what_its_header_says(tmp_path: Path, content: bytes, expected: str) -> None:
    if expected:
        assert expected in reason(tmp_path / "a", content)
    else:
        assert decode(content).size == (16, 16)


def test_a_jpeg_file_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    whole = encoded(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    many = whole[:last] + whole[last:-2] * 600 + b"\xff\xd9"
    assert "a JPEG file of 2000×2000 pixels in " in reason(tmp_path / "a", many)
    assert decode(whole).size == (2000, 2000)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "cat" / "a.png"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(Exception, match=r"cannot read image cat/a\.png: 1099\.5 GB are too much for one image"):
        open_dataset(tmp_path, 1)[0]


def test_of_several_frames_the_first_counts() -> None:
    frames = [Image.new("RGB", (8, 8), (shade, shade, shade)) for shade in (255, 100, 0)]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        kept = encoded(
            frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        assert np.asarray(decode(kept)).min() == 255, form


def test_photographs_decode_to_pillows_own_pixels() -> None:
    for photo in PHOTOS[:3]:
        with Image.open(photo) as image:
            assert np.array_equal(np.asarray(decode(photo.read_bytes())), np.asarray(image.convert("RGB")))


def test_neither_pillow_nor_libtiff_writes_on_the_terminal_from_any_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strips = {256: 9000, 257: 9000, 258: 8, 259: 8, 262: 1, 277: 1, 278: 0xFFFFFFF0, 273: 200, 279: 100}
    odd = {
        "transparency.png": encoded(Image.new("P", (8, 8)), "PNG", transparency=b"\0" * 3),
        "strips.tif": tiff(strips),
        "exif.jpg": encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
    }
    (tmp_path / "cat").mkdir()
    for name, content in odd.items():
        (tmp_path / "cat" / name).write_bytes(content)
    images = open_dataset(tmp_path, 1)
    for workers in 0, 1:
        batches = loader(Pixels(images, [parse("resize=8,crop=8").geometry]), [range(len(images))], workers)
        assert [(len(indices), len(bad)) for indices, _, bad in batches] == [(2, 1)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["PNG", "JPEG", "JPEG2000", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("spec", ["imagenet", "larq"])
def test_the_largest_image_takes_less_than_two_gibibytes(tmp_path: Path, form: str, spec: str) -> None:
    path = tmp_path / "cat" / "a.png"
    path.parent.mkdir()
    options = {"compression": "tiff_lzw"} if form == "TIFF" else {"speed": 10} if form == "AVIF" else {}
    path.write_bytes(encoded(Image.new("RGB", (8192, 8192)), form, **options))
    code = (
        "import sys; from bcdzoo.data.imagenet import open_dataset; from bcdzoo.data.preprocess import parse;"
        "image = open_dataset(sys.argv[1], 1).image(0); parse(sys.argv[2])(image);"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), spec], capture_output=True, check=True, timeout=60
    )
    assert int(done.stdout) < 2 << 20


@pytest.mark.parametrize("most", [65535, 1023])
def test_of_16_bit_grey_the_high_byte_is_taken_in_every_format(most: int) -> None:
    values = np.linspace(0, most, 256).astype(np.uint16).reshape(16, 16)
    header = b"P5 16 16 %d\n" % most
    found = np.asarray(decode(header + values.astype(">u2").tobytes()))
    full = np.round(values * (65535 / most)).astype(np.uint16)
    assert np.array_equal(found, np.stack([full >> 8] * 3, axis=-1))
    for kind in ("PNG", "TIFF", "JPEG2000"):
        file = io.BytesIO()
        Image.fromarray(full).save(file, kind)
        assert np.array_equal(np.asarray(decode(file.getvalue())), found), kind
    plain = b"P2 16 16 %d\n" % most + " ".join(map(str, values.ravel())).encode()
    assert np.array_equal(np.asarray(decode(plain)), found)


def test_grey_without_a_defined_white_is_refused_as_what_it_is() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.int32)).save(file, "TIFF")
    for content in (file.getvalue(), b"Pf 4 4 -1.0\n" + bytes(64)):
        with pytest.raises(ValueError, match="32-bit grey has no defined white"):
            decode(content)
