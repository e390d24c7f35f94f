"""The images of a folder of class folders, or of a flat one, in each of the other layouts, by the tools people use."""

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import datasets
import webdataset
from PIL import Image

from bcdzoo.data.imagenet import ImageSet, open_dataset

datasets.disable_progress_bars()


def picture_folder(root: Path, classes: Sequence[str], each: int = 3) -> Path:
    """Small PNGs, all different, some of them of one name in several classes."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            colour = (label * 16 % 256, number * 40 % 256, (label + number) % 256)
            Image.new("RGB", (8 + number, 8), colour).save(root / name / f"{number:05d}.png")
    return root


def tar_file(folder: Path, path: Path, top: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(folder, top or ".")
    return path


def parquet_folder(
    images: ImageSet, folder: Path, names: Sequence[str] | None = None, split: str = "validation", column: str = "image"
) -> Path:
    """Two files as ``Dataset.push_to_hub`` writes them: bare names, bytes, labels, class names in the schema."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = datasets.Dataset.from_dict(
        {
            column: [{"bytes": sample.read(), "path": Path(sample.read.path).name} for sample in images.samples],
            "label": [sample.label for sample in images.samples],
        },
        datasets.Features(
            {
                column: datasets.Image(),
                "label": datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64"),
            }
        ),
    )
    for number in range(2):
        part = dataset.shard(2, number, contiguous=True)
        part.to_parquet(folder / f"{split}-{number:05d}-of-00002.parquet", batch_size=7)
    return folder


def shard_folder(images: ImageSet, root: Path, folder: Path, size: int = 8) -> Path:
    """Shards of webdataset's own writer, keys with folders as relative to ``root``."""
    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(f"{folder}/val-%04d.tar", maxcount=size, verbose=0) as writer:
        for sample in images.samples:
            key, suffix = os.path.splitext(Path(sample.read.path).relative_to(root).as_posix())  # noqa: PTH122
            writer.write({"__key__": key, suffix[1:]: sample.read(), "cls": sample.label})
    return folder


def everywhere(root: Path, target: Path, classes: int, names: Sequence[str] | None = None) -> dict[str, ImageSet]:
    """The images below a folder, as they are and in every other layout but by a hub's name."""
    images = open_dataset(root, classes)
    relative = [Path(sample.read.path).relative_to(root).as_posix() for sample in images.samples]
    lines = [f"{path},{sample.label}\n" for path, sample in zip(relative, images.samples, strict=True)]
    (root / "list.csv").write_text("".join(lines))
    target.mkdir()
    parquet_folder(images, target / "hf" / "data", names)
    shard_folder(images, root, target / "shards")
    paths = {
        "csv": root / "list.csv",
        "tar": tar_file(root, target / "all.tar"),
        "tar with a top folder": tar_file(root, target / "top.tar", "some/where"),
        "parquet": target / "hf",
        "parquet, only its folder of files": target / "hf" / "data",
        "webdataset": target / "shards",
        "webdataset by pattern": target
        / "shards"
        / f"val-{{0000..{len(list((target / 'shards').iterdir())) - 1:04d}}}.tar",
    }
    others = {name: open_dataset(path, classes) for name, path in paths.items()}
    assert {name: opened.layout for name, opened in others.items()} == {
        name: name.split()[0].strip(",") for name in paths
    }
    return {images.layout: images, **others}


def assert_the_same(sets: dict[str, ImageSet]) -> None:
    first, *others = sets.values()
    for other in others:
        assert [sample[:3] for sample in other.samples] == [sample[:3] for sample in first.samples]
        assert all(a.read() == b.read() for a, b in zip(first.samples, other.samples, strict=True))
    assert len({images.fingerprint for images in sets.values()}) == 1
