"""Rows of a Hugging Face dataset: a struct of an image's bytes and path, and a class index."""

import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from bcdzoo.data.classes import official_number
from bcdzoo.data.labels import folder_labels
from bcdzoo.data.samples import image_id, relative
from bcdzoo.errors import BcdzooError


class Columns(NamedTuple):
    """What a schema says.

    Attributes:
        image: Name of the column of structs.
        label: Name of the column of integers.
        class_names: By label; empty if they are not known.
    """

    image: str
    label: str
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, where: str, schema: pa.Schema) -> "Columns":
        """Find the columns.

        Raises:
            BcdzooError: There are none of the types that a Hugging Face dataset has.
        """
        for image in ("image", "img"):
            if {image, "label"} <= set(schema.names) and _fits(schema, image, "label"):
                return cls(image, "label", _class_names(schema, "label"))
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise BcdzooError(
            f"{where} must have the columns image (or img), a struct of bytes and path, and label, an integer; "
            f"there are: {there}"
        )


class Cell(NamedTuple):
    """An image in a row: its id, class index, number of bytes if they are there, and its path if there is one."""

    id: str
    label: int
    size: int | None
    path: str | None


def cells(where: str, table: pa.Table, columns: Columns, classes: int, first: int) -> Iterator[Cell]:
    """The images of some rows.

    Args:
        where: The file, for messages and for the ids of images without a name.
        table: The rows.
        columns: What is where in it.
        classes: Outputs of the network.
        first: Number of the first row in the file.

    Raises:
        BcdzooError: A label is missing or not one of the classes.
    """
    names = columns.class_names
    index = _class_index(where, names, classes)
    flat = table.select([columns.image]).flatten()
    sizes = pc.binary_length(flat.column(f"{columns.image}.bytes")).to_pylist()
    paths = flat.column(f"{columns.image}.path").to_pylist() if f"{columns.image}.path" in flat.column_names else None
    for row, label in enumerate(table.column(columns.label).to_pylist()):
        if label is None or label < 0:
            what = "no label" if label is None else f"label {label}, which means that this split has no labels"
            raise BcdzooError(f"{where}, row {first + row}: {what}; take a split that has labels")
        if names and label >= len(names):
            raise BcdzooError(f"{where}, row {first + row}: label {label}, but the file names {len(names)} classes")
        path = paths[row] if paths else None
        name = f"{PurePosixPath(where).stem}/{first + row:06d}"
        if path is not None:
            name = _name(path, names[label] if names else str(label))
        yield Cell(name, index(label), sizes[row], path)


def _fits(schema: pa.Schema, image: str, label: str) -> bool:
    kind, types = schema.field(image).type, pa.types
    if not types.is_struct(kind):
        return False
    parts = {field.name: field.type for field in kind}
    path = parts.get("path", pa.string())
    return (
        parts.get("bytes") in (pa.binary(), pa.large_binary())
        and (types.is_string(path) or types.is_large_string(path) or types.is_null(path))
        and bool(types.is_integer(schema.field(label).type))
    )


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]))
    except (TypeError, KeyError, ValueError):  # written by something else than datasets, or no class label
        return ()


def _class_index(where: str, names: tuple[str, ...], classes: int) -> Callable[[int], int]:
    """From a label to the network's class index.

    They are the same where there are as many classes, or no names. Fewer names are understood as those of class
    folders: ten wnids are ten of ImageNet's classes.
    """
    if len(names) in (0, classes):
        return lambda label: label
    indices, _ = folder_labels(where, names, classes)
    return lambda label: indices[names[label]]


def _name(path: str, class_name: str) -> str:
    # datasets keeps the files' bare names, which may be there once per class: the class's folder was before them
    path = PurePosixPath(path).name if path.startswith("/") else relative(path)
    return image_id(path if "/" in path or official_number(path) is not None else f"{class_name}/{path}")
