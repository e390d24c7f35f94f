"""What a file's name says: an image, litter, a split; and how names are shown. Imports nothing that takes time."""

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
"""Of the formats in :data:`bcdzoo.data.decode.FORMATS`."""

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
ARCHIVES_PASSED = "archives passed over, whose images are only read once each is unpacked into a folder of its class"
_SPLITS = {"train": "train", "training": "train", "trainval": "train", "test": "test", "testing": "test"} | (
    dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation", "holdout"), "validation")
)
_SHORT = {"tr": "train", "trn": "train", "te": "test", "ts": "test", "tst": "test", "va": "validation"} | (
    dict.fromkeys(("vl", "vld"), "validation")
)
"""Splits only where all names beside them are some: else they may be classes, languages, countries …"""

_SPLIT_COLUMNS = {"split", "splits", "set", "dataset", "subset", "partition", "fold", "phase", "usage", "mode", "part"}
_BESIDE = {"set", "data", "dataset", "image", "images", "img", "imgs", "split", "folder", "imagenet", "ilsvrc", "k"}
_NUMBERS = re.compile(r"(?<![a-z0-9])[0-9a-f]{8,}(?![a-z0-9])|[0-9]+")  # and the hashes in names of parquet files
_SHOWN = 100  # characters of a name


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_litter(path: str) -> bool:
    """Whether any part of a path is what systems and programs leave behind, or begins with a dot."""
    return any(_LITTER.fullmatch(part) for part in path.lower().split("/"))


def split_of(name: str) -> str | None:
    """``train``, ``validation`` or ``test`` if a folder's name says that and nothing else, else None."""
    words = [word for word in _words(name) if word not in _BESIDE]
    return _split(words[0]) if len(words) == 1 else None


def splits_among(names: Collection[str]) -> list[str]:
    """Those of some folders' names that are splits and not classes: two or all; one among others may be a class."""
    splits = [name for name in names if split_of(name)]
    if len(splits) > 1 or (splits and len(splits) == len(names)):
        return splits
    short = {name: split_of(name) or _SHORT.get("".join(_words(name))) for name in names}
    return list(names) if all(short.values()) and len(set(short.values())) > 1 else []


def several_splits(names: Collection[str]) -> list[str]:
    """The names of two splits or more among some; empty if there are none, or all are of one split."""
    splits = splits_among(names)
    return splits if len({split_of(name) or name for name in splits}) > 1 else []


def split_in(name: str) -> str | None:
    """The first word of a file's name that says which split it is of, in one of the three ways; else None."""
    return next(filter(None, map(_split, _words(name))), None)


def splits_in(names: Sequence[str]) -> list[str | None]:
    """The split of each file of a folder by its name, in short words too where they say it of every file."""
    splits = [split_in(name) for name in names]
    short = [
        split or next(filter(None, map(_SHORT.get, _words(name))), None)
        for split, name in zip(splits, names, strict=True)
    ]
    return short if all(short) else splits


def is_split_column(name: str) -> bool:
    """Whether a table's column may say which split a row is of; what is in it has to be looked at."""
    return _is_flag(name) or not _SPLIT_COLUMNS.isdisjoint(_words(name))


def _is_flag(name: str) -> bool:
    """Whether a column is called ``is_valid``, as fastai's, ``is_train`` …: any two values in it are two splits."""
    return name.lower().startswith("is_") and split_of(name[3:]) is not None


def refuse_split_column(where: str, column: str, values: Collection[str]) -> None:
    """Check that the rows of a table are of one split.

    Raises:
        BcdzooError: They are not.
    """
    if splits := list(values) if _is_flag(column) and len(values) > 1 else several_splits(values):
        raise BcdzooError(
            f"{where}: its rows are of several splits, as column {shown(column)} says ({some(splits)}): write those of "
            "one of them to a file of their own, and give that"
        )


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _split(word: str) -> str | None:
    return _SPLITS.get(re.sub("(set|data|images)$", "", word))


def choose_split(splits: Iterable[str]) -> str | None:
    """The split to evaluate on: ``validation``, else ``test``, else ``train``; None if it is none of these."""
    splits = set(splits)
    return next((split for split in ("validation", "val", "valid", "test", "train") if split in splits), None)


def image_id(path: str) -> str:
    r"""The id of an image at a path in its dataset.

    An official name in whatever folder and with whatever ending (``ILSVRC2012_val_00000001_n01751748.png``, as the
    Hugging Face hub writes it) gives the official name, so that layouts that rename the files give the same ids.
    Bytes that are not UTF-8 are written as ``\xe9``.
    """
    number = official_number(path)
    if number is not None:
        return f"ILSVRC2012_val_{number:08d}.JPEG"
    return path if path.isascii() else path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def relative(path: str) -> str:
    """A member's path in an archive without ``./``, ``//`` or a leading ``/``; it is a name and never a place."""
    return PurePosixPath(path.lstrip("/")).as_posix()


def shown(name: object) -> str:
    """A name from a file, fit for a message."""
    return printable(name, _SHOWN)


def some(names: Iterable[str]) -> str:
    """The first three names in order, and how many more there are."""
    names = sorted(names)
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + rest


class PassedOver:
    """Counts what is not taken for an image, so that nothing that may be one is left out without a word."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, name: str) -> None:
        """Count a file.

        Args:
            what: What is said of all such files, behind their number.
            name: Its path in the dataset.
        """
        count, names = self._found.get(what, (0, []))
        self._found[what] = count + 1, [*names, shown(name)] if count < 3 else names

    def other(self, name: str) -> None:
        """Count a file that does not end as an image does, unless it ends as text does."""
        if name.lower().endswith(_ARCHIVES):
            self.add(ARCHIVES_PASSED, name)
        elif not name.lower().endswith(_TEXT):
            self.add("files passed over, which do not end as images do", name)

    def unlike(self, names: Iterable[str]) -> None:
        """Say it where files that are read as one dataset have names that differ in more than their numbers."""
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(_NUMBERS.sub("#", name.lower()), []).append(name)
        for same in alike.values() if len(alike) > 1 else ():
            what = "kinds of files, by names that differ in more than numbers, are read as one dataset"
            self.add(what, same[0] if len(same) == 1 else f"{len(same)} such as {same[0]}")

    def notes(self) -> tuple[str, ...]:
        """One line of each kind."""
        return tuple(
            f"{count} {what} ({', '.join(names)}{f' and {count - 3} more' if count > 3 else ''})"
            for what, (count, names) in self._found.items()
        )
