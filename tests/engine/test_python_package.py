"""``bcdzoo_engine``, the package that needs numpy alone: its module is also bcdzoo's, under another name."""

import importlib
import io
import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bcdzoo
from bcdzoo.data import decode
from bcdzoo.data.preprocess import PRESETS, Preprocess, parse
from bcdzoo.packed.checkpoint import export
from bcdzoo.plan.file import write_plan
from bcdzoo.plan.operations import Operation
from bcdzoo.plan.plan import Plan
from tests import numpy_package, photos

ODD = [
    parse("resize=33,crop=32,mean=0.1:0.2:0.3,std=127/255,channels=bgr"),
    parse("resize=28,crop=28,mean=0,std=1"),
    parse("resize=40,crop=17,interpolation=bicubic,mean=-1e-7:2:1e3,std=1e-6:3:5"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    numpy_package.make_importable(patch)
    yield importlib.import_module("bcdzoo_engine")
    patch.undo()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "net.bcz"
    export("bcdnet-tiny", path)
    return path


def flat_plan(path: Path, preprocess: str, shape: tuple[int, ...] = (3, 16, 16)) -> Path:
    """A network whose logits are its image's numbers."""
    write_plan(path, Plan(shape, (Operation("reshape", {"x": 0}, {"shape": (0,)}),), "flat", preprocess))
    return path


def trained() -> Any:
    return bcdzoo.load_model("bcdnet-tiny").eval()


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def test_a_trained_network_gives_the_logits_of_pack_and_says_what_it_is(engine: Any, tiny: Path) -> None:
    network, plain = engine.load(tiny), trained()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 28, 28, 3), np.uint8)
    images = plain.preprocess.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    expected = bcdzoo.pack(plain)(images).numpy()
    for threads in 0, 1, 3:
        for instructions in (None, *engine.instruction_sets()):
            here = engine.load(tiny, threads, instructions)
            np.testing.assert_array_equal(here(pixels), expected)
            np.testing.assert_array_equal(here(images.numpy()), expected)
    np.testing.assert_array_equal(network(np.asfortranarray(pixels)[::-1]), expected[::-1])
    np.testing.assert_array_equal(network(images.numpy().astype(">f4")), expected)
    assert network.classes == plain.class_names and network.input_shape == (3, 28, 28)
    assert (network.model, network.outputs, network(pixels[:0]).shape) == ("bcdnet-tiny", 10, (0, 10))
    assert parse(network.preprocess) == plain.preprocess


@pytest.mark.parametrize("preprocess", [*PRESETS.values(), *ODD], ids=str)
def test_every_byte_becomes_the_number_that_torch_makes_of_it(
    preprocess: Preprocess, engine: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).permuted(np.arange(3 * 256, dtype=np.uint8).reshape(1, 16, 16, 3), axis=1)
    expected = preprocess.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2)).reshape(1, -1).numpy()
    got = engine.load(flat_plan(tmp_path / "flat.bcz", preprocess.spec()))(pixels)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "said", ["", "imagenet", "resize=16,crop=16", "resize=16,crop=16,interpolation=x,mean=1,std=0,channels=rgb"]
)
def test_pixels_are_refused_where_a_plan_does_not_say_what_becomes_of_them(
    said: str, engine: Any, tmp_path: Path
) -> None:
    network = engine.load(flat_plan(tmp_path / "flat.bcz", said))
    with pytest.raises(engine.EngineError, match="does not say how pixels become numbers: give it float32"):
        network(np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(engine.EngineError, match="does not say how pictures are prepared"):
        network.classify(picture(20, 20))
    assert network(np.ones((1, 3, 16, 16), np.float32)).sum() == 768


@pytest.mark.parametrize("preprocess", [*PRESETS.values(), *ODD], ids=str)
@pytest.mark.parametrize("size", [(300, 277), (277, 300), (256, 256), (40, 171), (1, 9), (33, 40), (235, 500)])
def test_a_picture_is_resized_and_cropped_as_bcdzoo_does_it(
    preprocess: Preprocess, size: tuple[int, int], engine: Any
) -> None:
    from bcdzoo_engine.pictures import prepared

    image = picture(*size)
    if size == (1, 9) and not preprocess.geometry.whole:
        pytest.skip("too small to crop")
    got = prepared(image, preprocess.spec())
    if preprocess.geometry.whole:
        expected = preprocess.geometry.pixels(image).permute(1, 2, 0).numpy()
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected)
    else:  # sums of real numbers, in another order
        np.testing.assert_allclose(got, preprocess(image).numpy(), atol=1e-5)


def files() -> dict[str, tuple[Image.Image, str]]:
    image = picture(30, 20)
    grey = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    return {
        "jpeg": (image, "JPEG"),
        "png": (image, "PNG"),
        "alpha": (image.convert("RGBA"), "PNG"),
        "palette": (image.convert("P"), "GIF"),
        "one bit": (image.convert("1"), "TIFF"),
        "grey": (image.convert("L"), "BMP"),
        "16-bit grey": (grey, "PNG"),
        "16-bit tiff": (grey, "TIFF"),
        "cmyk": (image.convert("CMYK"), "JPEG"),
        "ppm": (image, "PPM"),
        "tga": (image, "TGA"),
    }


@pytest.mark.parametrize("kind", files())
def test_a_file_is_decoded_as_bcdzoo_does_it(kind: str, engine: Any, tmp_path: Path) -> None:
    from bcdzoo_engine.pictures import prepared

    image, form = files()[kind]
    image.save(tmp_path / "picture", form)
    preprocess = parse("resize=20,crop=20")
    expected = preprocess.geometry.pixels(decode.decode((tmp_path / "picture").read_bytes())).permute(1, 2, 0)
    np.testing.assert_array_equal(prepared(tmp_path / "picture", preprocess.spec()), expected.numpy())


def test_a_photograph_gets_the_classes_and_probabilities_of_bcdzoo(engine: Any, tiny: Path) -> None:
    network, plain = engine.load(tiny), trained()
    image = Image.open(photos.PHOTOS[0]).convert("RGB")
    odds, classes = bcdzoo.pack(plain)(plain.preprocess(image)[None])[0].double().softmax(0).topk(3)
    expected = [(plain.class_names[i], pytest.approx(float(p))) for i, p in zip(classes.tolist(), odds, strict=True)]
    for given in image, np.asarray(image), photos.PHOTOS[0], str(photos.PHOTOS[0]):
        assert network.classify(given, top=3) == expected
    assert len(network.classify(image, top=1000)) == 10


def test_both_know_the_same_formats_and_limits(engine: Any) -> None:
    from bcdzoo_engine import pictures

    from bcdzoo.data import preprocess

    assert pictures.FORMATS == decode.FORMATS and pictures.LARGEST_IMAGE == preprocess.LARGEST_IMAGE


def wrong_images() -> dict[str, tuple[Any, str]]:
    zeros = np.zeros((2, 3, 28, 28), np.float32)
    return {
        "no batch": (
            zeros[0],
            r"takes uint8 of shape \(N, 28, 28, 3\) or float32 of shape \(N, 3, 28, 28\), not float32 of shape \(3, 28",
        ),
        "another size": (zeros[..., 1:], "not float32 of shape"),
        "float64": (zeros.astype(float), "not float64 of shape"),
        "half": (zeros.astype(np.float16), "not float16 of shape"),
        "int8": (zeros.astype(np.int8), "not int8 of shape"),
        "pixels channel by channel": (zeros.astype(np.uint8), "not uint8 of shape"),
        "no pixels": (np.zeros((2, 28, 28, 4), np.uint8), "not uint8 of shape"),
        "objects": (zeros.astype(object), "not object of shape"),
        "a list": ([[1.0]], "a numpy array, not list"),
        "a tensor": (torch.zeros(1, 3, 28, 28), "a numpy array, not Tensor"),
        "nan": (np.where(np.arange(28) == 3, np.nan, zeros).astype(np.float32), "not finite"),
        "inf": (zeros + np.float32(np.inf), "not finite"),
        "many": (np.broadcast_to(zeros[:1], ((1 << 20) + 1, 3, 28, 28)), "are more than 1048576"),
    }


@pytest.mark.parametrize("what", wrong_images())
def test_what_are_no_images_is_refused_in_one_line(what: str, engine: Any, tiny: Path) -> None:
    given, why = wrong_images()[what]
    with pytest.raises(engine.EngineError, match=why) as refused:
        engine.load(tiny)(given)
    assert "\n" not in str(refused.value)


def wrong_pictures(folder: Path) -> dict[str, tuple[Any, str]]:
    bomb, text, cut, narrow = (folder / name for name in ("bomb.png", "text\x1b.jpg", "cut.jpg", "narrow.png"))
    Image.new("1", (10_000, 10_000)).save(bomb)
    text.write_text("text")
    content = io.BytesIO()
    picture(64, 64).save(content, "JPEG")
    cut.write_bytes(content.getvalue()[:900])
    Image.new("L", (1, 100_000)).save(narrow)
    os.mkfifo(folder / "pipe")
    return {
        "a bomb": (bomb, "10000×10000 pixels are more than 67108864"),
        "a text": (text, r"text\?.jpg is no picture that can be decoded: its format is unknown"),
        "a cut one": (cut, "is no picture that can be decoded"),
        "a narrow one": (narrow, "too narrow to be resized"),
        "none": (folder / "none", "No such file"),
        "a pipe": (folder / "pipe", "it is no regular file"),
        "a folder": (folder, "cannot read"),
        "a zero byte": ("a\0b", "cannot read"),
        "a number": (3, "not int"),
        "grey": (np.zeros((28, 28), np.uint8), r"not uint8 of shape \(28, 28\)"),
        "floats": (np.zeros((28, 28, 3)), "not float64"),
        "empty": (np.zeros((0, 28, 3), np.uint8), "a picture is uint8"),
        "32-bit grey": (Image.new("F", (30, 30)), "no defined white"),
    }


WRONG_PICTURES = [
    *("a bomb", "a text", "a cut one", "a narrow one", "none", "a pipe", "a folder", "a zero byte", "a number"),
    *("grey", "floats", "empty", "32-bit grey"),
]


@pytest.mark.parametrize("what", WRONG_PICTURES)
def test_what_is_no_picture_is_refused_in_one_line(what: str, engine: Any, tiny: Path, tmp_path: Path) -> None:
    cases = wrong_pictures(tmp_path)
    assert list(cases) == WRONG_PICTURES
    given, why = cases[what]
    network = engine.load(tiny)
    with pytest.raises(engine.EngineError, match=why) as refused:
        network.classify(given)
    assert "\n" not in str(refused.value) and str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/no/such\x1b", r"cannot read /no/such\?: No such file"),
        ("/dev/zero", "it is no regular file"),
        ("/", "it is no regular file"),
        (__file__, "it is not a plan file; make it again"),
        ("a\0b", "its name has a zero byte"),
        (3, "by its path, not as int"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(path: Any, why: str, engine: Any) -> None:
    with pytest.raises(engine.EngineError, match=why) as refused:
        engine.load(path)
    assert "\n" not in str(refused.value) and str(refused.value).isprintable()


def test_a_damaged_plan_and_odd_arguments_are_refused(engine: Any, tiny: Path, tmp_path: Path) -> None:
    content = bytearray(tiny.read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged.bcz").write_bytes(content)
    with pytest.raises(engine.EngineError, match="does not match its hash"):
        engine.load(tmp_path / "damaged.bcz")
    for threads in -1, 1025, 1.5, "2":
        with pytest.raises(engine.EngineError, match="threads must be a whole number from 0 to 1024"):
            engine.load(tiny, threads=threads)
    with pytest.raises(engine.EngineError, match=r"this processor has .*, not sse9"):
        engine.load(tiny, instructions="sse9")
    for top in 0, 1.5:
        with pytest.raises(engine.EngineError, match="top must be"):
            engine.load(tiny).classify(picture(9, 9), top=top)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured in Linux's way")
def test_it_is_installed_without_torch_starts_at_once_and_takes_little_memory(tiny: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    package = f"{numpy_package.FOLDER.parent}[pillow]"
    subprocess.run([python, "-m", "pip", "install", "-q", package], check=True, timeout=1200)
    code = """
import pathlib, re, sys, time
start = time.perf_counter()
import numpy, bcdzoo_engine
network = bcdzoo_engine.load(sys.argv[1])
logits = network(numpy.zeros((1, 28, 28, 3), numpy.uint8))
kibibytes = re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]
print(time.perf_counter() - start, int(kibibytes) / 1024, "torch" in sys.modules)
print(network.classify(sys.argv[2], top=1)[0][0] in network.classes)
"""
    done = subprocess.run([python, "-c", code, tiny, photos.PHOTOS[0]], capture_output=True, text=True, check=True)
    seconds, mebibytes, has_torch, is_named = done.stdout.split()
    assert float(seconds) < 0.5 and float(mebibytes) < 80 and (has_torch, is_named) == ("False", "True")
