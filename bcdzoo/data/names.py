"""What a file's name says: an image, litter, a split; and how names are shown. Imports nothing that takes time."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from bcdzoo.data.classes import official_number
from bcdzoo.text import printable

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # torchvision's
    *(".jpe", ".jfif", ".jif", ".mpo", ".apng", ".gif", ".dib", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    *(".jpc", ".avif", ".tga", ".pcx", ".qoi", ".sgi", ".ras", ".ico"),
)
"""Of the formats in :data:`bcdzoo.data.decode.FORMATS`."""

_LITTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found", "$recycle.bin", "#recycle"}
_TEXT = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".html", ".log", ".ini"),
    *(".cls", ".py", ".sh", ".md5", ".sha1", ".sha256", ".pt", ".pth", ".safetensors"),
)
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev", "eval", "evaluation", "holdout"), "validation"
)
_BESIDE = {"set", "data", "dataset", "image", "images", "img", "imgs", "split", "folder", "imagenet", "ilsvrc", "k"}
_SHOWN = 100  # characters of a name


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_litter(path: str) -> bool:
    """Whether any part of a path is what systems and programs leave behind, or begins with a dot."""
    return any(part.lower() in _LITTER or (part[:1] == "." and part.strip(".") != "") for part in path.split("/"))


def split_of(name: str) -> str | None:
    """``train``, ``validation`` or ``test`` if a folder's name says that and nothing else, else None."""
    words = [word for word in _words(name) if word not in _BESIDE]
    return _split(words[0]) if len(words) == 1 else None


def split_in(name: str) -> str | None:
    """The first word of a file's name that says which split it is of, in one of the three ways; else None."""
    return next(filter(None, map(_split, _words(name))), None)


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
        if not name.lower().endswith(_TEXT):
            self.add("files passed over, which do not end as images do", name)

    def notes(self) -> tuple[str, ...]:
        """One line of each kind."""
        return tuple(
            f"{count} {what} ({', '.join(names)}{f' and {count - 3} more' if count > 3 else ''})"
            for what, (count, names) in self._found.items()
        )
