"""What file names say (image, litter, split), and how they are shown. Imports nothing slow."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from bcdzoo.data.classes import official_number
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # torchvision's
    *(".jpe", ".jfif", ".jif", ".mpo", ".apng", ".gif", ".dib", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    *(".jpc", ".avif", ".tga", ".pcx", ".qoi", ".sgi", ".ras", ".ico"),
)
"""Extensions of the formats in :data:`bcdzoo.data.decode.FORMATS`."""

_LITTER = re.compile(
    r"\..*[^.].*|__macosx|__pycache__|(eh)?thumbs\.db|desktop\.ini|lost\+found|found\.\d{3}|\$recycle\.bin|"
    r"system volume information|network trash folder|temporary items|[#@~](recycle(\.bin)?|snapshots?|tmp)|"
    r"@(eadir|__thumb|recently-snapshot|syno.*|share(bin|snap)|database|app(conf|data|home|share|store|temp)|quarantine)",
    re.DOTALL,
)
_TEXT = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".html", ".log", ".ini"),
    *(".cls", ".py", ".sh", ".md5", ".sha1", ".sha256", ".pt", ".pth", ".safetensors"),
)
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
ARCHIVES_SKIPPED = "archives skipped: unpack each into a folder of its class to read its images"
_SPLITS = {"train": "train", "training": "train", "trainval": "train", "test": "test", "testing": "test"} | (
    dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation", "holdout"), "validation")
)
_SHORT = {"tr": "train", "trn": "train", "te": "test", "ts": "test", "tst": "test", "va": "validation"} | (
    dict.fromkeys(("vl", "vld"), "validation")
)
"""Splits only if all names beside them are splits too: else they may be classes, languages, countries …"""

_SPLIT_COLUMNS = {"split", "splits", "set", "dataset", "subset", "partition", "fold", "phase", "usage", "mode", "part"}
_BESIDE = {"set", "data", "dataset", "image", "images", "img", "imgs", "split", "folder", "imagenet", "ilsvrc", "k"}
_NUMBERS = re.compile(r"(?<![a-z0-9])[0-9a-f]{8,}(?![a-z0-9])|[0-9]+")  # and the hashes in names of parquet files
_SHOWN = 100  # characters of a name


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_litter(path: str) -> bool:
    """Whether any part of a path is a leftover of systems and programs, or starts with a dot."""
    return any(_LITTER.fullmatch(part) for part in path.lower().split("/"))


def split_of(name: str) -> str | None:
    """Return ``train``, ``validation`` or ``test`` if a folder's name means that and nothing else, else None."""
    words = [word for word in _words(name) if word not in _BESIDE]
    return _split(words[0]) if len(words) == 1 else None


def splits_among(names: Collection[str]) -> list[str]:
    """Return the folder names that are splits, not classes: two or more, or all; one among others may be a class."""
    splits = [name for name in names if split_of(name)]
    if len(splits) > 1 or (splits and len(splits) == len(names)):
        return splits
    short = {name: split_of(name) or _SHORT.get("".join(_words(name))) for name in names}
    return list(names) if all(short.values()) and len(set(short.values())) > 1 else []


def several_splits(names: Collection[str]) -> list[str]:
    """Return the names of splits if there are at least two different ones; else empty."""
    splits = splits_among(names)
    return splits if len({split_of(name) or name for name in splits}) > 1 else []


def split_in(name: str) -> str | None:
    """Return the split named by the first word in a file's name that is one; else None."""
    return next(filter(None, map(_split, _words(name))), None)


def splits_in(names: Sequence[str]) -> list[str | None]:
    """Return the split of each file in a folder by its name; short words count only if every file has one."""
    splits = [split_in(name) for name in names]
    short = [
        split or next(filter(None, map(_SHORT.get, _words(name))), None)
        for split, name in zip(splits, names, strict=True)
    ]
    return short if all(short) else splits


def is_split_column(name: str) -> bool:
    """Whether a table's column may state the split of a row; its values have to be checked."""
    return _is_flag(name) or not _SPLIT_COLUMNS.isdisjoint(_words(name))


def _is_flag(name: str) -> bool:
    """Whether a column is called ``is_valid``, like fastai's, ``is_train`` …: its values are then two splits."""
    return name.lower().startswith("is_") and split_of(name[3:]) is not None


def refuse_split_column(where: str, column: str, values: Collection[str]) -> None:
    """Check that the rows of a table are of one split.

    Raises:
        BcdzooError: They are not.
    """
    if splits := list(values) if _is_flag(column) and len(values) > 1 else several_splits(values):
        raise BcdzooError(
            f"{where}: its rows are of several splits, as column {shown(column)} says ({some(splits)}): write "
            "those of one of them to a separate file, and use that"
        )


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _split(word: str) -> str | None:
    return _SPLITS.get(re.sub("(set|data|images)$", "", word))


def choose_split(splits: Iterable[str]) -> str | None:
    """Choose the split to evaluate on: ``validation``, else ``test``, else ``train``, else None."""
    splits = set(splits)
    return next((split for split in ("validation", "val", "valid", "test", "train") if split in splits), None)


def image_id(path: str) -> str:
    r"""Return the id of an image from its path in the dataset.

    An official name in any folder and with any ending (``ILSVRC2012_val_00000001_n01751748.png``, as the
    Hugging Face hub writes it) becomes the official name, so that layouts that rename files have the same ids.
    Bytes that are not UTF-8 are written as ``\xe9``.
    """
    number = official_number(path)
    if number is not None:
        return f"ILSVRC2012_val_{number:08d}.JPEG"
    return path if path.isascii() else path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def relative(path: str) -> str:
    """Normalize a member's path in an archive: without ``./``, ``//`` or a leading ``/``; only used as a name."""
    return PurePosixPath(path.lstrip("/")).as_posix()


def shown(name: object) -> str:
    """Escape and shorten a name from a file for a message."""
    return printable(name, _SHOWN)


def some(names: Iterable[str]) -> str:
    """List the first three names in order, and how many more there are."""
    names = sorted(names)
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + rest


class SkippedFiles:
    """Counts files that are not used as images, so that none is skipped silently."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, name: str) -> None:
        """Count a file.

        Args:
            what: Description of all such files, which follows their number.
            name: Path of the file in the dataset.
        """
        count, names = self._found.get(what, (0, []))
        self._found[what] = count + 1, [*names, shown(name)] if count < 3 else names

    def other(self, name: str) -> None:
        """Count a file without an image's extension, unless it is text."""
        if name.lower().endswith(_ARCHIVES):
            self.add(ARCHIVES_SKIPPED, name)
        elif not name.lower().endswith(_TEXT):
            self.add("files skipped that do not have an image extension", name)

    def unlike(self, names: Iterable[str]) -> None:
        """Note files read as one dataset whose names differ in more than numbers."""
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(_NUMBERS.sub("#", name.lower()), []).append(name)
        for same in alike.values() if len(alike) > 1 else ():
            what = "kinds of files, by names that differ in more than numbers, are read as one dataset"
            self.add(what, same[0] if len(same) == 1 else f"{len(same)} such as {same[0]}")

    def notes(self) -> tuple[str, ...]:
        """Return one line for each kind."""
        return tuple(
            f"{count} {what} ({', '.join(names)}{f' and {count - 3} more' if count > 3 else ''})"
            for what, (count, names) in self._found.items()
        )
