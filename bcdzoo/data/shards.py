"""Layout ``webdataset``: tar shards with a ``.cls`` file next to each image."""

import math
import re
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

from bcdzoo.data.folders import File, validation_root
from bcdzoo.data.labels import FROM_WNIDS, label_of, wnid_indices
from bcdzoo.data.names import SkippedFiles, choose_split, is_image, is_litter, shown, splits_in
from bcdzoo.data.samples import Listing
from bcdzoo.data.tar import members
from bcdzoo.errors import BcdzooError

_NOTES = re.compile(r"__[^/]*__($|/)")  # ignored by webdataset's reader
_MOST_SHARDS = 100_000  # patterns are expanded at once
_LONGEST_LABEL = 64  # bytes; a .cls file holds one number


def is_shard(path: Path) -> bool:
    """Whether an archive's first files look like a shard's.

    Raises:
        BcdzooError: It is not an archive that can be read in place.
        OSError: It cannot be read.
    """
    files = (member for member in members(path) if member.read is not None and not is_litter(member.name))
    return any(member.name.lower().endswith(".cls") for member in islice(files, 20))


def webdataset_shards(path: Path, classes: int) -> Listing:
    """List the images of a folder of shards, of one shard, or of a brace pattern such as ``val-{0000..0012}.tar``.

    Raises:
        BcdzooError: The package ``webdataset`` is not installed, there are no shards, one is damaged, or a label is
            missing or bad.
        OSError: A shard cannot be read.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise BcdzooError("WebDataset shards need the package webdataset: pip install 'bcdzoo[webdataset]'") from error
    imagenet = wnid_indices(classes)
    samples, from_wnids = [], []
    skipped = SkippedFiles()
    shards, split = _shards(path, skipped)
    skipped.unlike(shard.name for shard in shards)
    for shard in shards:
        for image, text in _images(shard, skipped):
            samples.append(image.sample(label_of(f"{shard}: {shown(image.name)}", text, imagenet)))
            from_wnids.append(text in imagenet)
    labels_from = FROM_WNIDS if samples and all(from_wnids) else f"the shards' .cls files{split}"
    return Listing(samples, labels_from, notes=skipped.notes())


def _shards(path: Path, skipped: SkippedFiles) -> tuple[list[Path], str]:
    """Return the shards to read, and a remark on their split."""
    from webdataset.shardlists import expand_urls

    if path.is_dir():
        root = validation_root(path, skipped)
        shards = sorted(
            child for child in root.iterdir() if child.suffix.lower() == ".tar" and not is_litter(child.name)
        )
        if not shards:
            raise BcdzooError(f"no shards in {root}: looked for files ending in .tar")
        splits = dict(zip(shards, splits_in([shard.stem for shard in shards]), strict=True))
        split = choose_split(filter(None, splits.values()))
        for shard in shards:
            if splits[shard] != split:
                skipped.add(f"shards skipped that are not of the split {split}", shard.name)
        return [shard for shard in shards if splits[shard] == split], f" of split {split}" if split else ""
    if path.exists():
        return [path], ""
    ranges = re.findall(r"\{(\d+)\.\.(\d+)\}", str(path))
    if any(len(number) > 9 for ends in ranges for number in ends) or (
        math.prod(abs(int(last) - int(first)) + 1 for first, last in ranges) > _MOST_SHARDS
    ):
        raise BcdzooError(f"{path} stands for more than {_MOST_SHARDS} shards")
    try:
        return [Path(shard) for shard in expand_urls(str(path))], ""
    except (ValueError, AssertionError) as error:
        raise BcdzooError(f"{path} is not a pattern of shards such as val-{{0000..0012}}.tar: {error}") from error


def _images(shard: Path, skipped: SkippedFiles) -> Iterator[tuple[File, str]]:
    """Yield the images of a shard, each with the text of its label.

    An image and its label have the same name up to the ending, possibly with dots, and are adjacent: between
    them are only files of the same sample, whose names, as webdataset defines it, agree up to the first dot.
    """
    for _, files in groupby(_files(shard), lambda file: _key(file.name)):
        labels: dict[str, File] = {}
        images: dict[str, list[File]] = {}
        for file in files:
            stem, _, ending = file.name.rpartition(".")
            same = [*images.get(stem, []), *([labels[stem]] if stem in labels else [])]
            if any(other.name.lower() == file.name.lower() for other in same):
                raise BcdzooError(f"{shard}: {shown(file.name)} occurs twice")
            if ending.lower() == "cls":
                labels[stem] = file
            elif is_image(file.name):
                images.setdefault(stem, []).append(file)
        for stem, found in images.items():
            if stem not in labels:
                if not any(stem.startswith(f"{sample}.") for sample in labels):
                    raise BcdzooError(
                        f"{shard}: {shown(found[0].name)} has no {shown(stem)}.cls beside it; an archive of class "
                        "folders must be passed by itself, archives of one class each must be unpacked"
                    )
                for file in found:  # x.depth.png beside x.jpg and x.cls
                    skipped.add("further images of a sample skipped", file.name)
        for stem, label in labels.items():
            found = images.get(stem, [])
            if len(found) != 1:
                raise BcdzooError(f"{shard}: {shown(label.name)} has {len(found)} images beside it instead of one")
            if label.read.size > _LONGEST_LABEL:
                raise BcdzooError(f"{shard}: {shown(label.name)} has {label.read.size} bytes, which is not a label")
            yield found[0], label.read().decode(errors="replace").strip()


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _files(shard: Path) -> Iterator[File]:
    for name, read in members(shard):
        if read is not None and not _NOTES.match(name) and not is_litter(name):
            yield File(name, read)
