"""What stands in for things of the documentation that are not here: images, checkpoints, large networks."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from zlib import crc32

import torch
from PIL import Image
from safetensors.torch import save_file

import bcdzoo
from bcdzoo.registry import REGISTRY
from bcdzoo.weights.keys.finn import PROGRAMS
from bcdzoo.weights.load import convert
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from tests.docs.blocks import PAGES, blocks
from tests.photos import image_folder
from tests.train.idx import stripes
from tests.weights.servers import Page, file_page, serving

# Text of a command -> what is run in its place; the only changes, but for the files below and a few options.
REWRITTEN = {
    ".venv/bin/bcdzoo": "bcdzoo",
    "--nproc-per-node 4": "--nproc-per-node 2",
    "--nproc-per-node 8": "--nproc-per-node 2",
    "-m bcdzoo train bcdnet-b": "-m bcdzoo train bcdnet-b --out runs/shared",  # not what one process has trained
    "first-machine:29500": "localhost:29500",
}

_SHORT = ("iterations=1", "warmup=0", "batch_size=4", "accumulate=1", "compile=false", "preprocess=resize=32,crop=32")

# Command -> options added to it, so that it takes seconds.
QUICKER = {
    "eval": ["--workers", "0"],
    "prepare": ["--workers", "0"],
    "train": ["--workers", "0", *(f"--set={option}" for option in _SHORT)],
}


def _images(path: Path) -> None:
    image_folder(path)
    (path / "train").symlink_to("val")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(image_folder(path.with_suffix(".folder")) / "val", "val")


def _package(path: Path) -> None:
    path.mkdir()
    network = "nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 1000))"
    for module, function in (("nets", "small"), ("my_module", "build")):
        code = f"from torch import nn\n\n\ndef {function}():\n    return {network}\n"
        (path / f"{module}.py").write_text(code)


def _weights_of_the_package(path: Path) -> None:
    torch.save({"2.weight": torch.randn(1000, 12), "2.bias": torch.zeros(1000)}, path)


def _convention(path: Path) -> None:
    """The one that the page on counting shows."""
    shown = (block.text for page in PAGES for block in blocks(page) if "[cost]" in block.text)
    path.write_text(next(shown))


def _photo(path: Path) -> None:
    Image.new("RGB", (40, 30), "gray").save(path)


def _theirs(model: str) -> Callable[[Path], None]:
    return lambda path: torch.save({"state_dict": bcdzoo.create_model(model).state_dict()}, path)


def _lfc(path: Path) -> None:
    """Files of FINN's LFC, all of ones, in a folder of an archive."""
    with tarfile.open(path, "w:gz") as archive:
        for layer, folding in enumerate(PROGRAMS["lfc"]):
            folds = -(-max(folding.outputs, 64) // folding.elements)
            words = {"weights": (folding.columns or folding.inputs) // folding.simd, "thres": 1}
            for element, kind in product(range(folding.elements), words):
                member = tarfile.TarInfo(f"mnist/lfcW1A1/{layer}-{element}-{kind}.bin")
                member.size = 8 * folds * words[kind]
                archive.addfile(member, io.BytesIO(b"\xff" * member.size))


def _converted(model: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        source = path.with_suffix(".pth")
        _theirs(model)(source)
        convert(source, model, path)

    return write


# Path in the documentation -> writes a file or folder like it. An absolute one lies in the test's folder, too.
FILES: dict[str, Callable[[Path], object]] = {
    "/imagenet": _images,
    "/mnist": stripes,
    "/usr/share/datasets/fashion-mnist": stripes,
    "bits.toml": _convention,
    "bcdnet-a.safetensors": _converted("bcdnet-a"),
    "best.pth": _weights_of_the_package,
    "finn-bnn-pynq.tar.gz": _lfc,
    "mine.pth.tar": _theirs("reactnet-a"),
    "my_package": _package,
    "photo.jpg": _photo,
    "small.pt": _weights_of_the_package,
    "theirs.pth.tar": _theirs("bcdnet-a"),
    "val.tar": _tar,
}


# The same, of files that a browser has downloaded: model and tag of the checkpoint.
DOWNLOADED = {
    "~/Downloads/model.pth.tar": ("reactnet-a", "authors"),
    "~/Downloads/model_best.pth.tar": ("rbnn-r18", "paper"),
}


def _is_large(model: str) -> bool:
    return model in REGISTRY and REGISTRY[model].input_size == 224


@contextmanager
def small_networks() -> Iterator[None]:
    """While it lasts, every network for images of 224×224 is a small one under its name."""
    large = {name: spec for name, spec in REGISTRY.items() if _is_large(name)}
    REGISTRY.update({name: replace(spec, build="tiny:bcdnet_tiny") for name, spec in large.items()})
    try:
        yield
    finally:
        REGISTRY.update(large)


class Publisher:
    """A server of every public checkpoint, with random weights that are made when they are first asked for.

    Args:
        folder: Where they are kept.
        small: Whether they are of :func:`small_networks`, for small images.
    """

    def __init__(self, folder: Path, small: bool) -> None:
        self.folder, self.small = folder, small
        self.printed: dict[tuple[str, ...], str] = {}  # by the words of a command that has run

    def checkpoint(self, model: str, tag: str) -> Path:
        """The file in place of a checkpoint."""
        path = self.folder / model / tag / "model.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True)
            torch.manual_seed(crc32(model.encode()))
            build = {} if self.small else load_manifest().find(model, tag).build
            with small_networks() if self.small else nullcontext():
                save_file(bcdzoo.create_model(model, **build).state_dict(), path)
        return path

    @contextmanager
    def serving(self) -> Iterator[Path]:
        """While it lasts: the manifest that leads there."""

        def answer(host: str, path: str) -> Page:
            model, tag = path.split("/")[1:3]
            return file_page(self.checkpoint(model, tag).read_bytes())

        with serving() as server:
            server.answer = answer
            manifest = self.folder / "manifest.toml"
            entries = [entry for entry in load_manifest().checkpoints if entry.source != "package"]
            manifest.write_text("".join(self._entry(entry, server.url) for entry in entries))
            yield manifest

    def _entry(self, entry: Checkpoint, server: str) -> str:
        facts = {
            "model": entry.model,
            "tag": entry.tag,
            "source": "url",
            "url": f"{server}/{entry.model}/{entry.tag}",
            "filename": "model.safetensors",
            "format": "zoo" if entry.convertible else entry.format,
            "preprocess": "resize=32,crop=32" if self.small and _is_large(entry.model) else entry.preprocess,
        }
        build = "" if self.small else ", ".join(f"{key} = {json.dumps(value)}" for key, value in entry.build.items())
        lines = [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
        return "\n".join(["[[checkpoint]]", *lines, f"build = {{{build}}}", "", ""])
