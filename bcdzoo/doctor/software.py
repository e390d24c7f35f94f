"""Python, the packages, torch, the 1-bit kernels and the compiler."""

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator

from packaging.requirements import Requirement

from bcdzoo import versions
from bcdzoo.doctor.finding import Finding
from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native

_COMPILERS = ("c++", "g++", "clang++")


def software() -> Iterator[Finding]:
    """Everything that is installed, or should be."""
    machine = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"
    yield Finding("ok", "Python", f"{platform.python_version()} on {machine}")
    yield Finding("ok", "bcdzoo", versions.package_version())
    yield from packages()
    yield torch()
    yield kernels()
    yield compiler()


def packages() -> Iterator[Finding]:
    """Check the required packages and the extras."""
    try:
        needed = [Requirement(line) for line in importlib.metadata.requires("bcdzoo") or ()]
        extras = importlib.metadata.metadata("bcdzoo").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("note", "packages", "not known: bcdzoo itself is not installed", "pip install .")
        return
    always = [each for each in needed if _applies(each, "")]
    if lacking := _lacking(always):
        yield Finding("problem", "packages", lacking, "pip install --upgrade bcdzoo")
    else:
        found = ", ".join(f"{each.name} {versions.installed(each.name)}" for each in always)
        yield Finding("ok", "packages", found)
    for extra in extras:
        lacking = _lacking([each for each in needed if _applies(each, extra) and each not in always])
        advice = f"pip install 'bcdzoo[{extra}]'" if lacking else ""
        yield Finding("note" if lacking else "ok", f"extra {extra}", lacking or "installed", advice)


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _lacking(needed: list[Requirement]) -> str:
    lines = []
    for each in needed:
        version = versions.installed(each.name)
        if version is None or not each.specifier.contains(version, prereleases=True):
            lines.append(f"{each.name}{each.specifier} is needed, {version or 'none'} installed")
    return "; ".join(lines)


def torch() -> Finding:
    """Whether torch can be imported, its threads and GPUs."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a missing library
        return Finding("problem", "torch", " ".join(f"cannot be imported: {error}".split()), "install torch again")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    built_for = f" (built for CUDA {torch.version.cuda})" if torch.version.cuda else ""
    devices = ", ".join(f"cuda:{number} {name}" for number, name in enumerate(gpus)) or f"no CUDA device{built_for}"
    return Finding("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads, {devices}")


def kernels() -> Finding:
    """Which of the instruction sets is used, and why."""
    if reason := native.missing():
        if os.environ.get(native.VARIABLE) == "none":
            return Finding("note", "kernels", f"{reason}: packed networks run in plain torch")
        advice = "install a C++ compiler and then bcdzoo again"
        return Finding("note", "kernels", f"not built: packed networks run in plain torch ({reason})", advice)
    known = native.instruction_sets()
    try:
        chosen = native.chosen()
    except BcdzooError as error:
        return Finding("problem", "kernels", str(error), f"choose one of these or unset {native.VARIABLE}")
    why = f"{native.VARIABLE} says so" if native.VARIABLE in os.environ else "the fastest that this processor has"
    return Finding("ok" if chosen == known[0] else "note", "kernels", f"{chosen}, {why}, of {', '.join(known)}")


def compiler() -> Finding:
    """The C++ compiler that would build the kernels."""
    wanted = shlex.split(os.environ.get("CXX", ""))[:1] or _COMPILERS
    found = next(filter(None, map(shutil.which, wanted)), None)
    if found is None:
        text = f"none ({', '.join(wanted)}): --compile and building the kernels need one"
        return Finding("note", "C++ compiler", text, "install g++ or clang")
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("note", "C++ compiler", f"{found} does not run: {error}", "install g++ or clang")
    return Finding("ok", "C++ compiler", ": ".join([found, *said[:1]]))
