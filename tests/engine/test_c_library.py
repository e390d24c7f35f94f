"""The engine's C library as others find it: built, installed into a folder, and used from there."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bcdzoo
from bcdzoo.packed import native
from bcdzoo.packed.checkpoint import export
from bcdzoo.plan.file import write_plan
from bcdzoo.plan.operations import Array, Operation
from bcdzoo.plan.plan import Plan

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "engine"
TRAINED = {
    "bcdnet-tiny": None,  # it comes with the package
    "finn-lfc-w1a1": "finn-bnn-pynq-lfcW1A1-cnvW1A1.tar.gz",
    "adabin-resnet20": "adabin-resnet20-cifar10.th",
    "bmxnet-lenet-mnist": "binarized_mnist_64bit-0001.params",
}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, *options: str) -> Path:
    if not shutil.which("cmake") or not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("there is no C++ compiler, or no cmake")
    run("cmake", "-S", ENGINE, "-B", folder, *options)
    return folder


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the libraries are installed; built without optimization, which computes the same."""
    folder = build(tmp_path_factory.mktemp("c_library"), "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_INSTALL_LIBDIR=lib")
    run(
        "cmake", "--build", folder, "--parallel", "2", "--target", "bcdzoo_engine", "bcdzoo_engine_static", "bcdzoo-run"
    )
    run("cmake", "--install", folder, "--prefix", folder / "installed")
    return folder / "installed"


class Error(ctypes.Structure):
    _fields_ = (("status", ctypes.c_int), ("message", ctypes.c_char * 508))


def logits_of(prefix: Path, plan: Path, images: Array, pixels: bool, threads: int, instructions: str) -> Array:
    """What the shared library gives, called as C would call it."""
    library = ctypes.CDLL(str(next((prefix / "lib").glob("libbcdzoo_engine.[sd][oy]*"))))
    network, error = ctypes.c_void_p(), Error()
    assert library.bcdzoo_load(bytes(plan), ctypes.byref(network), ctypes.byref(error)) == 0, error.message
    out = np.empty((len(images), library.bcdzoo_outputs(network)), np.float32)
    call: Any = library.bcdzoo_run_pixels if pixels else library.bcdzoo_run
    places = (
        np.ascontiguousarray(images).ctypes.data_as(ctypes.c_void_p),
        len(images),
        out.ctypes.data_as(ctypes.c_void_p),
    )
    assert call(network, *places, threads, instructions.encode(), ctypes.byref(error)) == 0, error.message
    library.bcdzoo_free(network)
    return out


def exported(name: str, request: pytest.FixtureRequest, folder: Path) -> tuple[Path, Any]:
    """A trained network's plan file, and the network."""
    file = TRAINED[name]
    weights = None if file is None else request.getfixturevalue("real_data") / file
    export(name, folder / "net.bcz", weights)
    return folder / "net.bcz", bcdzoo.load_model(name, weights=weights).eval()


def picture_of(pixels: Array, path: Path) -> Path:
    path.write_bytes(b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    return path


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_network_gives_the_logits_of_pack_bit_for_bit(
    name: str, prefix: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    plan, network = exported(name, request, tmp_path)
    side = bcdzoo.load_packed(plan).plan.input_shape[1]
    pixels = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    images = network.preprocess.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    expected = bcdzoo.pack(network)(images).numpy()
    for threads, instructions in enumerate(native.instruction_sets(), 1):
        for given, is_pixels in (images.numpy(), False), (pixels, True):
            np.testing.assert_array_equal(logits_of(prefix, plan, given, is_pixels, threads, instructions), expected)


def compile_by_cmake(source: Path, library: str, prefix: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.18)\nproject(mine LANGUAGES C)\n"
        f"find_package(bcdzoo_engine 0.1 REQUIRED)\nadd_executable(mine {source})\n"
        f"target_link_libraries(mine bcdzoo::{library})\n"
    )
    run("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder / "build")
    return folder / "build" / "mine"


def compile_by_pkg_config(source: Path, prefix: Path, folder: Path) -> Path:
    if not shutil.which("pkg-config"):
        pytest.skip("there is no pkg-config")
    file = prefix / "lib" / "pkgconfig" / "bcdzoo_engine.pc"
    flags = run("pkg-config", "--cflags", "--libs", str(file)).split()
    folder.mkdir()
    compiler = ["c++", "-std=c++17"] if source.suffix == ".cpp" else ["cc", "-std=c99"]
    run(
        *compiler,
        "-Wall",
        "-Wextra",
        "-pedantic",
        "-Werror",
        source,
        *flags,
        f"-Wl,-rpath,{prefix / 'lib'}",
        "-o",
        folder / "mine",
    )
    return folder / "mine"


def test_the_examples_are_compiled_by_cmake_and_by_pkg_config_and_name_the_class_of_pack(
    prefix: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    plan, network = exported("bcdnet-tiny", request, tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28, 3), np.uint8)
    logits = bcdzoo.pack(network)(network.preprocess.normalize(torch.from_numpy(pixels).permute(2, 0, 1))[None])[0]
    best = int(logits.argmax())
    line = f"class {best}, {network.class_names[best]}: {logits[best]:.9g}\n"
    picture = picture_of(pixels, tmp_path / "picture.ppm")
    c, cpp = ENGINE / "examples" / "classify.c", ENGINE / "examples" / "classify.cpp"
    programs = [
        compile_by_cmake(c, "bcdzoo_engine", prefix, tmp_path / "shared"),
        compile_by_cmake(c, "bcdzoo_engine_static", prefix, tmp_path / "static"),
        compile_by_pkg_config(c, prefix, tmp_path / "c"),
    ]
    assert [run(program, plan, picture) for program in programs] == [line] * 3
    said = run(compile_by_pkg_config(cpp, prefix, tmp_path / "cpp"), plan, picture)
    assert said.split(":")[0] == line.split(":")[0] and float(said.split(": ")[1]) == pytest.approx(float(logits[best]))


def test_the_command_names_classes_with_the_probabilities_of_a_softmax(
    prefix: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    plan, network = exported("bcdnet-tiny", request, tmp_path)
    pixels = np.random.default_rng(2).integers(0, 256, (28, 28, 3), np.uint8)
    image = network.preprocess.normalize(torch.from_numpy(pixels).permute(2, 0, 1))[None]
    odds, classes = bcdzoo.pack(network)(image)[0].double().softmax(0).topk(3)
    expected = [[f"{p:.4f}", str(i), network.class_names[i]] for p, i in zip(odds, classes.tolist(), strict=True)]
    raw = tmp_path / "picture.f32"
    raw.write_bytes(image.numpy().tobytes())
    picture, command = picture_of(pixels, tmp_path / "picture.ppm"), prefix / "bin" / "bcdzoo-run"
    for file, options in (picture, []), (raw, ["--raw"]):
        lines = run(command, "--top", "3", *options, plan, file).splitlines()
        assert [line.split("\t") for line in lines] == [[str(file), *each] for each in expected]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"P6 30 28 255\n" + bytes(30 * 28 * 3), "it has 30 x 28 pixels, and the network takes 28 x 28; convert it"),
        (b"P6 28 28 65535\n" + bytes(28 * 28 * 6), "its largest value is 65535, not 255"),
        (b"P6 28 28 255\n" + bytes(28 * 28 * 3 - 1), "it does not have the 2352 bytes of one image"),
        (b"P6 28 28 255\n" + bytes(28 * 28 * 3 + 1), "it does not have the 2352 bytes of one image"),
        (b"P6 99999999999999999999 28 255\n", "its header is broken"),
        (b"P6 28 -28 255\n", "its header is broken"),
        (b"P5 28 28 255\n", "it is no PPM of type P6"),
        (b"", "it is no PPM of type P6"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_picture_is_named_in_one_line_and_the_next_one_still_runs(
    content: bytes | None, why: str, prefix: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    plan, _ = exported("bcdnet-tiny", request, tmp_path)
    good, bad = picture_of(np.zeros((28, 28, 3), np.uint8), tmp_path / "good.ppm"), tmp_path / "bad\x1b.ppm"
    if content is not None:
        bad.write_bytes(content)
    command: list[str | Path] = [prefix / "bin" / "bcdzoo-run", "--top", "1", plan, bad, good]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout.count("\n") == 1 and str(good) in done.stdout
    assert done.stderr.count("\n") == 1 and "bad?.ppm: " + why in done.stderr


def test_nothing_but_the_interface_is_exported(prefix: Path) -> None:
    if not shutil.which("nm"):
        pytest.skip("there is no nm")
    names = {
        line.split()[-1]
        for line in run("nm", "-D", "--defined-only", prefix / "lib" / "libbcdzoo_engine.so").splitlines()
    }
    header = (ENGINE / "include" / "bcdzoo" / "engine.h").read_text()
    declared = {
        word.split("(")[0]
        for line in header.splitlines()
        if line.startswith("BCDZOO_API")
        for word in line.split()
        if "(" in word
    }
    assert {name.lstrip("*") for name in declared} == names


def versions() -> Sequence[str]:
    from tomllib import loads

    package = loads((ENGINE / "pyproject.toml").read_text())["project"]["version"]
    cmake = (ENGINE / "CMakeLists.txt").read_text().split("project(bcdzoo_engine VERSION ")[1].split()[0]
    number = int(
        (ENGINE / "include" / "bcdzoo" / "engine.h").read_text().split("#define BCDZOO_ENGINE_VERSION ")[1].split()[0]
    )
    return package, cmake, f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def test_package_library_and_header_are_of_one_version() -> None:
    assert len(set(versions())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("option", ["-DBCDZOO_SANITIZE=OFF", "-DBCDZOO_SANITIZE=ON"])
def test_its_own_tests_pass_with_and_without_sanitizers(option: str, tmp_path: Path) -> None:
    folder = build(tmp_path, option)
    run("cmake", "--build", folder, "--parallel", "2")
    assert "100% tests passed" in run("ctest", "--test-dir", folder, "--output-on-failure")


WITHOUT_MEMORY = """
import ctypes, resource, sys
import numpy as np

library = ctypes.CDLL(sys.argv[1])
small, large = ctypes.c_void_p(), ctypes.c_void_p()
assert library.bcdzoo_load(b"none", ctypes.byref(small), None) == 2
for path, network in zip(sys.argv[2:], (small, large)):
    assert library.bcdzoo_load(path.encode(), ctypes.byref(network), None) == 0
images, logits = np.zeros((4, 3, 512, 512), np.float32), np.zeros((4, 100), np.float32)
places = images.ctypes.data_as(ctypes.c_void_p), 4, logits.ctypes.data_as(ctypes.c_void_p)
run = lambda network: library.bcdzoo_run(network, *places, 4, None, None)
print(run(small))  # there are threads now
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (4 << 20), -1))
print(run(large))
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(run(large))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited in Linux's way")
def test_threads_that_get_no_memory_are_a_status_and_leave_the_network_usable(prefix: Path, tmp_path: Path) -> None:
    for name, side in ("small", 4), ("large", 512):
        turn = Operation("permute", {"x": 0}, {"axes": (0, 2, 1)})
        mean = Operation("mean", {"x": 1}, {"axes": (1, 2), "double": 0})
        flat = Operation("reshape", {"x": 2}, {"shape": (0,)})
        write_plan(tmp_path / name, Plan((3, side, side), (turn, mean, flat)))
    library = str(prefix / "lib" / "libbcdzoo_engine.so")
    command = [sys.executable, "-c", WITHOUT_MEMORY, library, str(tmp_path / "small"), str(tmp_path / "large")]
    assert run(*command).split() == ["0", "5", "0"]
