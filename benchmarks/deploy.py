"""What it takes to run a network in a product, by each way: space, time to the first result, memory, speed.

    python -m benchmarks.deploy [MODEL] [--weights FILE] [--threads N]

Installs ``./engine`` in an environment of its own and builds the C library, which takes some minutes, and prints a
table. Disk: everything that has to be installed, and the network's file. First result: from the start of a process to
its end after the logits of one image; memory: the most that this process took. Speed: images a second, in batches of
32, on one thread if omitted. Each is the best of three.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from tabulate import tabulate

from bcdzoo.packed.checkpoint import export

HEADERS = ("", "on disk, MB", "first result, s", "memory, MiB", "images/s")
ENGINE = Path(__file__).parents[1] / "engine"
BATCH, SECONDS = 32, 1.0

TORCH = """
import torch, bcdzoo
torch.set_num_threads(THREADS)
network = {make}
side = {side}
run = lambda n: network(torch.zeros(n, 3, side, side)).detach().numpy()
"""
MODEL = "bcdzoo.load_model({name!r}, weights={weights!r}).eval()"
NUMPY = """
import numpy, bcdzoo_engine
network = bcdzoo_engine.load({plan!r}, threads=THREADS)
side = {side}
run = lambda n: network(numpy.zeros((n, 3, side, side), numpy.float32))
"""
LIBRARY = """
import ctypes, numpy
library, network = ctypes.CDLL({library!r}), ctypes.c_void_p()
assert library.bcdzoo_load({plan!r}.encode(), ctypes.byref(network), None) == 0
side = {side}
def run(n):
    images = numpy.zeros((n, 3, side, side), numpy.float32)
    logits = numpy.empty((n, library.bcdzoo_outputs(network)), numpy.float32)
    places = images.ctypes.data_as(ctypes.c_void_p), n, logits.ctypes.data_as(ctypes.c_void_p)
    assert library.bcdzoo_run(network, *places, THREADS, None, None) == 0
    return logits
"""
FIRST = "run(1)\nimport os; os._exit(0)"  # a product does not end behind its first result
SPEED = f"""
import time
run({BATCH})
done, start = 0, time.perf_counter()
while time.perf_counter() < start + {SECONDS}:
    run({BATCH})
    done += {BATCH}
print(done / (time.perf_counter() - start))
"""


class Way(NamedTuple):
    """One way to run the network.

    Attributes:
        name: Name in the table.
        disk: Bytes of what has to be installed.
        first: Command that gives a result of one image.
        speed: Command that prints images a second.
    """

    name: str
    disk: int
    first: list[str]
    speed: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="bcdnet-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "net.bcz")
        export(given.model, plan, given.weights)
        launcher = compiled(Path(folder))
        rows = [measured(way, launcher) for way in ways(Path(folder), given.model, given.weights, plan, given.threads)]
    print(tabulate(rows, HEADERS, "github", disable_numparse=True))


def ways(folder: Path, name: str, weights: str | None, plan: Path, threads: int) -> Iterator[Way]:
    from bcdzoo.packed.checkpoint import load_packed

    _, side, _ = load_packed(plan).plan.input_shape
    facts = {"plan": str(plan), "side": side}
    mine, model = size_of_packages("bcdzoo"), MODEL.format(name=name, weights=weights)
    file = plan.stat().st_size
    for title, make in (
        ("torch", model),
        ("bcdzoo.pack", f"bcdzoo.pack({model})"),
        ("bcdzoo.load_packed", f"bcdzoo.load_packed({str(plan)!r})"),
    ):
        yield python_way(title, mine, sys.executable, TORCH.format(make=make, **facts), threads)
    python = environment(folder / "env")
    packages = [Path(line) for line in run(python, "-c", PLACES).splitlines()]
    numpy_size = sum(size_of(path) for path in packages) + file
    yield python_way("bcdzoo_engine, numpy", numpy_size, str(python), NUMPY.format(**facts), threads)
    library, example = built(folder / "build")
    through_python = LIBRARY.format(library=str(library), **facts).replace("THREADS", str(threads))
    picture = folder / "picture.ppm"
    picture.write_bytes(b"P6 %d %d 255\n" % (side, side) + bytes(3 * side * side))
    speed = [str(python), "-c", through_python + SPEED]
    disk = size_of(library) + size_of(example) + file
    yield Way("C example", disk, [str(example), str(plan), str(picture)], speed)


def python_way(title: str, disk: int, python: str, code: str, threads: int) -> Way:
    code = code.replace("THREADS", str(threads))
    return Way(title, disk, [python, "-c", code + FIRST], [python, "-c", code + SPEED])


def measured(way: Way, launcher: Path) -> tuple[str, ...]:
    firsts = [first_result(launcher, way.first) for _ in range(3)]
    seconds, mebibytes = min(each[0] for each in firsts), min(each[1] for each in firsts)
    speed = max(float(run(*way.speed).split()[-1]) for _ in range(3))
    return way.name, f"{way.disk / 1e6:,.1f}", f"{seconds:.3f}", f"{mebibytes:.0f}", f"{speed:,.0f}"


LAUNCHER = r"""
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int count, char** words) {
  struct timespec start, end;
  struct rusage usage;
  int status = 1;
  clock_gettime(CLOCK_MONOTONIC, &start);
  const pid_t child = fork();
  if (child == 0) return execv(words[1], words + 1);
  wait4(child, &status, 0, &usage);
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%f %ld\n", end.tv_sec - start.tv_sec + 1e-9 * (end.tv_nsec - start.tv_nsec), usage.ru_maxrss);
  return count < 2 || status != 0;
}
"""


def compiled(folder: Path) -> Path:
    """A program that runs another: Linux counts the memory of a process's parent to it, and this one has little."""
    (folder / "launcher.c").write_text(LAUNCHER)
    run("cc", folder / "launcher.c", "-o", folder / "launcher")
    return folder / "launcher"


def first_result(launcher: Path, command: list[str]) -> tuple[float, float]:
    """Seconds until a process has its first result, and the most memory that it took, in MiB."""
    seconds, kibibytes = run(launcher, *command).split()[-2:]
    return float(seconds), int(kibibytes) / 1024


PLACES = """
import importlib.metadata as metadata
for name in "bcdzoo-engine", "numpy":
    for top in {file.parts[0] for file in metadata.files(name) if ".." not in file.parts}:
        print(metadata.distribution(name).locate_file(top))
"""


def environment(folder: Path) -> Path:
    """A Python with the numpy package alone."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", ENGINE)
    return python


def built(folder: Path) -> tuple[Path, Path]:
    """The C library and an example, without what debuggers read."""
    run("cmake", "-S", ENGINE, "-B", folder)
    run("cmake", "--build", folder, "--parallel", "2", "--target", "bcdzoo_engine", "classify_c")
    library, example = next(folder.glob("libbcdzoo_engine.so.*.*")), folder / "tests" / "classify_c"
    run("strip", library, example)
    return library, example


def size_of_packages(name: str) -> int:
    """Bytes of a package and of all that it needs, in this environment."""
    seen, waiting = set(), [name]
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        if distribution.metadata["Name"].lower() in seen:
            continue
        seen.add(distribution.metadata["Name"].lower())
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sum(size_of(path) for each in seen for path in places_of(each))


def places_of(name: str) -> list[Path]:
    distribution = importlib.metadata.distribution(name)
    return [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return path.stat().st_size if path.is_file() else 0


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
