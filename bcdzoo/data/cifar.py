"""Layout ``cifar10``: the files of CIFAR-10 as its authors publish them (https://www.cs.toronto.edu/~kriz/cifar.html).

In the binary form a file has records of a label's byte and three planes of 32×32 bytes, red, green and blue. In the
form for Python it is a pickled table of the same, which is read without running code (:mod:`bcdzoo.unpickle`).
"""

import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from bcdzoo.data.names import shown, some
from bcdzoo.data.samples import FileRange, Listing, Sample
from bcdzoo.data.tar import members
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable
from bcdzoo.unpickle import Machine, Made

TRAIN, TEST = "train", "test"
CLASSES = 10

_PLANE = 32 * 32
_PIXELS = 3 * _PLANE
_HEADER = b"P6 32 32 255\n"
_LARGEST = 320 << 20  # bytes of a file, ten times a batch; all are held in memory
_LARGEST_META = 1 << 16
_BATCHES = {TRAIN: tuple(f"data_batch_{number}" for number in range(1, 6)), TEST: ("test_batch",)}
_IMAGES = {TRAIN: 50_000, TEST: 10_000}
_BATCH = re.compile(r"(test_batch|data_batch_\d{1,2})(\.bin)?", re.ASCII)
_ARCHIVE = re.compile(r".*cifar-?100?-(binary|python).*\.(tar|tar\.gz|tgz)", re.IGNORECASE | re.DOTALL)
_HUNDRED = ("fine_label_names.txt", "file.txt~")
"""Files that CIFAR-100 has beside its ``train`` and ``test``, and CIFAR-10 has not."""

Images = tuple[Sequence[int], bytes]
"""Labels, and the planes of all images."""


class CifarImage(NamedTuple):
    """Reader of an image, as a PPM file.

    Attributes:
        path: Path of the file that holds it.
        planes: Red, green and blue, row by row.
    """

    path: str
    planes: bytes

    def __call__(self) -> bytes:
        """Return the PPM file."""
        pixels = bytearray(_PIXELS)
        for channel in range(3):
            pixels[channel::3] = self.planes[channel * _PLANE : (channel + 1) * _PLANE]
        return _HEADER + pixels


def holds_cifar(path: Path) -> bool:
    """Whether a folder, an archive or a file is CIFAR's, by names alone; CIFAR-100's too, which is then refused."""
    if path.is_dir():
        return any(_BATCH.fullmatch(name) or name in _HUNDRED for name in _files(path))
    return path.exists() and bool(_BATCH.fullmatch(path.name) or _ARCHIVE.fullmatch(path.name))


def holds_splits(path: Path) -> bool:
    """Whether a folder or an archive is CIFAR's, by names alone, and no single file of it."""
    return holds_cifar(path) and not _is_batch(path)


def has_split(path: Path, split: str) -> bool:
    """Whether a folder or an archive of CIFAR-10 has any file of a split, ``train`` or ``test``."""
    return holds_splits(path) and any(_in_form(_files(path), form, split) for form in _FORMS)


def cifar10_files(path: Path, classes: int) -> Listing:
    """List the test images of a folder or an archive, or the images of one file."""
    if not _is_batch(path):
        return read_split(path, TEST)
    form = next(form for form in _FORMS if path.name.endswith(form.ending))
    file = FileRange(str(path), 0, path.stat().st_size)
    return Listing(_samples(path.name.removesuffix(form.ending), str(path), file, form), path.name)


def read_split(path: Path, split: str) -> Listing:
    """List the images of one split; an id is the file's name without ending, and the place in it.

    Args:
        path: Folder or archive.
        split: Name of the split, ``train`` or ``test``.

    Raises:
        BcdzooError: A file is missing or damaged, or they are CIFAR-100's.
        OSError: A file cannot be read.
    """
    files = _files(path)
    if any(name in files for name in _HUNDRED):
        raise BcdzooError(f"{path} is CIFAR-100, and this layout is CIFAR-10's: write its images into class folders")
    form = next((form for form in _FORMS if _in_form(files, form, split)), None)
    batches = sorted(name for name in files if _BATCH.fullmatch(name))
    wanted = [name + (form or _FORMS[0]).ending for name in _BATCHES[split]]
    if form is None or any(name not in files for name in wanted):
        has = f", only {some(batches)}" if batches else ""
        missing = some(name for name in wanted if name not in files)
        raise BcdzooError(f"{path} does not have the files of CIFAR-10's {split} images ({missing}){has}")
    samples: list[Sample] = []
    for batch, name in zip(_BATCHES[split], wanted, strict=True):
        where = f"{path}/{name}" if path.is_dir() else f"{path}: {name}"
        samples += _samples(batch, where, files[name], form)
    notes = []
    if len(samples) != _IMAGES[split]:
        notes.append(f"{len(samples)} images, of the {_IMAGES[split]} {split} images of CIFAR-10")
    tests = [batch + form.ending for batch in _BATCHES[TEST]]  # an evaluation of the training takes these
    if others := [name for name in batches if name not in (*wanted, *tests)]:
        notes.append(f"{len(others)} files of CIFAR-10 not used, only its {split} images are ({some(others)})")
    return Listing(samples, ", ".join(wanted), _class_names(path, files, form), tuple(notes))


def _is_batch(path: Path) -> bool:
    return not path.is_dir() and ".tar" not in path.name.lower() and path.suffix.lower() != ".tgz"


def _files(path: Path) -> dict[str, FileRange]:
    """CIFAR's files in a folder or an archive, by their own names; a folder may hold the authors' folder."""
    if path.is_dir():
        inner = next((inner for form in _FORMS if (inner := path / form.folder).is_dir()), path)
        found = [child for child in inner.iterdir() if _is_ours(child.name) and child.is_file()]
        return {child.name: FileRange(str(child), 0, child.stat().st_size) for child in found}
    files: dict[str, FileRange] = {}
    for member in members(path):
        name = PurePosixPath(member.name).name
        if member.read and _is_ours(name) and files.setdefault(name, member.read) != member.read:
            raise BcdzooError(f"{path} has two files called {shown(name)}: unpack it, and use one of their folders")
    return files


def _is_ours(name: str) -> bool:
    return bool(_BATCH.fullmatch(name)) or name in (*_HUNDRED, *(form.meta for form in _FORMS))


def _samples(batch: str, where: str, file: FileRange, form: "_Form") -> list[Sample]:
    labels, planes = form.images(where, _content(where, file))
    for place, label in enumerate(labels):
        if not 0 <= label < CLASSES:
            raise BcdzooError(
                f"{where}: image {place} has label {printable(label, 20)}, and CIFAR-10's end at {CLASSES - 1}: it is "
                "damaged, or no such file"
            )
    size = len(_HEADER) + _PIXELS
    each = (planes[at : at + _PIXELS] for at in range(0, len(planes), _PIXELS))
    return [
        Sample(f"{batch}/{place:05d}", label, size, CifarImage(file.path, image))
        for place, (label, image) in enumerate(zip(labels, each, strict=True))
    ]


def _content(where: str, file: FileRange, most: int = _LARGEST) -> bytes:
    if file.size > most:
        raise BcdzooError(f"{where} has {file.size} bytes, and at most {most} are read: it is no file of CIFAR-10")
    return file()


def _records(where: str, content: bytes) -> Images:
    size = 1 + _PIXELS
    if not content or len(content) % size:
        hundred = content and not len(content) % (size + 1)
        why = "they are CIFAR-100's, with two labels each" if hundred else "it is cut off, or no such file"
        raise BcdzooError(f"{where} has {len(content)} bytes, no whole number of CIFAR-10's records of {size}: {why}")
    planes = b"".join(content[at + 1 : at + size] for at in range(0, len(content), size))
    return content[::size], planes


def _lines(where: str, content: bytes) -> list[Any]:
    return content.decode(errors="replace").split()


class _Array(Machine):
    """Notes what an array is made of."""

    def make(self, made: Any, arguments: Any) -> Any:
        match made, arguments:
            case Made("numpy.dtype"), (str(kind), *_):
                return Made(f"numpy.dtype {kind}")
            case Made("_codecs.encode"), (str(text), "latin1" | "latin-1"):  # how Python 3 writes bytes for Python 2
                return text.encode("latin-1")
        return super().make(made, arguments)


def _pickled(where: str, content: bytes) -> tuple[dict[str, Any], Machine]:
    machine = _Array()
    try:
        table = machine.run(BytesIO(content))
        if machine.foreign:
            raise ValueError(f"reading {printable(machine.foreign, 60)} would run code from it")
        if not isinstance(table, dict):
            raise ValueError("it is no table")
    except Exception as error:  # a damaged or hostile program fails in many ways
        reason = printable(error, 150)
        raise BcdzooError(
            f"{where} is no batch file of CIFAR-10 ({reason}): use those of cifar-10-binary.tar.gz"
        ) from None
    return table, machine


def _arrays(where: str, content: bytes) -> Images:
    table, machine = _pickled(where, content)
    array = table.get("data")
    match table.get("labels"), machine.states.get(array) if isinstance(array, Made) else None:
        case list(labels), (1, (count, 3072), Made("numpy.dtype u1"), False, str() | bytes() as data):
            planes = data.encode("latin-1", "ignore") if isinstance(data, str) else data
            if count == len(labels) == len(planes) / _PIXELS and count and all(map(_is_label, labels)):
                return labels, planes
    hundred = ": it is CIFAR-100's" if "fine_labels" in table else ""
    raise BcdzooError(
        f"{where} has no labels with as many images of 3072 bytes, as CIFAR-10's has{hundred}; its files are lists and "
        "arrays of bytes, pickled with a protocol up to 4: use those of cifar-10-binary.tar.gz"
    )


def _is_label(label: Any) -> bool:
    return type(label) is int and label.bit_length() < 32


def _label_names(where: str, content: bytes) -> list[Any]:
    table, _ = _pickled(where, content)
    names = table.get("label_names")
    return names if isinstance(names, list) else []


class _Form(NamedTuple):
    """One of the two forms in which the files are published.

    Attributes:
        folder: Name of the folder.
        ending: Ending of the batch files.
        images: Reads one of them.
        meta: File of the classes' names.
        names: Reads it.
    """

    folder: str
    ending: str
    images: Callable[[str, bytes], Images]
    meta: str
    names: Callable[[str, bytes], list[Any]]


_FORMS = (
    _Form("cifar-10-batches-bin", ".bin", _records, "batches.meta.txt", _lines),
    _Form("cifar-10-batches-py", "", _arrays, "batches.meta", _label_names),
)


def _in_form(files: dict[str, FileRange], form: _Form, split: str) -> bool:
    return any(batch + form.ending in files for batch in _BATCHES[split])


def _class_names(path: Path, files: dict[str, FileRange], form: _Form) -> tuple[str, ...]:
    if form.meta not in files:
        return ()
    where = f"{path}: {form.meta}"
    names = form.names(where, _content(where, files[form.meta], _LARGEST_META))
    if len(names) != CLASSES or not all(isinstance(name, str) and 0 < len(name) <= 100 for name in names):
        raise BcdzooError(f"{where} does not have the names of {CLASSES} classes: remove it, or unpack it again")
    return tuple(names)
