"""Layout ``webdataset``: shards in tar archives, each image followed or preceded by its class in a ``.cls`` file."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bcdzoo.data.folders import File
from bcdzoo.data.labels import FROM_WNIDS, as_number, wnid_indices
from bcdzoo.data.samples import IMAGE_EXTENSIONS, FileRange, Listing
from bcdzoo.data.tar import members
from bcdzoo.errors import BcdzooError

_NOTES = re.compile(r"__[^/]*__($|/)")  # webdataset's reader passes over them
_LONGEST_LABEL = 64  # bytes; a .cls file holds one number


def is_shard(path: Path) -> bool:
    """Whether an archive's first files look like a shard's.

    Raises:
        BcdzooError: It is no archive that can be read in place.
        OSError: It cannot be read.
    """
    return any(member.name.lower().endswith(".cls") for member in islice(members(path), 20))


def webdataset_shards(path: Path, classes: int) -> Listing:
    """List the images of a folder of shards, of one shard, or of a brace pattern such as ``val-{0000..0012}.tar``.

    Which files make up a sample is left to the package ``webdataset``; the images themselves are read at random.

    Raises:
        BcdzooError: The package is not installed, there are no shards, one is damaged, or a label is missing or bad.
        OSError: A shard cannot be read.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise BcdzooError("WebDataset shards need the package webdataset: pip install 'bcdzoo[webdataset]'") from error
    imagenet = wnid_indices(classes)
    samples, from_wnids = [], []
    for shard in _shards(path):
        for image, text in _images(shard):
            label = imagenet.get(text, as_number(text))
            if label is None:
                raise BcdzooError(f"{shard}: {image.name} has the label {text!r}: neither a class index nor a wnid")
            from_wnids.append(text in imagenet)
            samples.append(image.sample(label))
    return Listing(samples, FROM_WNIDS if samples and all(from_wnids) else "the shards' .cls files")


def _shards(path: Path) -> list[Path]:
    from webdataset.shardlists import expand_urls

    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        if not shards:
            raise BcdzooError(f"no shards in {path}: looked for files ending in .tar")
        return shards
    if path.exists():
        return [path]
    try:
        return [Path(shard) for shard in expand_urls(str(path))]
    except (ValueError, AssertionError) as error:
        raise BcdzooError(f"{path} is not a pattern of shards such as val-{{0000..0012}}.tar: {error}") from error


def _images(shard: Path) -> Iterator[tuple[File, str]]:
    """The images of a shard, each with the text of its label."""
    from webdataset.tariterators import group_by_keys

    found = ({"fname": name, "data": File(name, read), "__url__": str(shard)} for name, read in _files(shard))
    try:
        for sample in group_by_keys(found):
            key = sample["__key__"]
            images = [file for suffix, file in sample.items() if f".{suffix}" in IMAGE_EXTENSIONS]
            if "cls" not in sample:
                if images:
                    raise BcdzooError(
                        f"{shard}: {images[0].name} has no {key}.cls beside it; an archive of class folders is "
                        "read when it is given by itself"
                    )
            elif len(images) != 1:
                raise BcdzooError(f"{shard}: {key}.cls has {len(images)} images beside it where one is expected")
            else:
                read = sample["cls"].read
                text = read._replace(size=min(read.size, _LONGEST_LABEL))()
                yield images[0], text.decode(errors="replace").strip()
    except ValueError as error:  # a file that is there twice
        raise BcdzooError(f"{shard}: {error.args[0]}") from error


def _files(shard: Path) -> Iterator[tuple[str, FileRange]]:
    for name, read in members(shard):
        if read is not None and not _NOTES.match(name):
            yield name, read
