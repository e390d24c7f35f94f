"""Tables of images as in Hugging Face's datasets: a column with the images' bytes, and one with labels."""

import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from bcdzoo.data.classes import official_number
from bcdzoo.data.csv_layout import LABEL_COLUMNS
from bcdzoo.data.labels import folder_labels, label_of, wnid_indices
from bcdzoo.data.names import image_id, is_split_column, relative, shown
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
_LABELS = (*LABEL_COLUMNS, "fine_label", "coarse_label")
_LONGEST_NAME = 4096  # characters of a path
_LARGEST_LABEL = 10**9


class Columns(NamedTuple):
    """The columns of a table.

    Attributes:
        image: Name of the column of images.
        label: Name of the column of labels.
        class_names: Names by label; empty if unknown.
        splits: Columns that may state the split of a row.
    """

    image: str
    label: str
    class_names: tuple[str, ...]
    splits: tuple[str, ...]

    @classmethod
    def of(cls, where: str, schema: pa.Schema, classes: int, columns: tuple[str, str] | None = None) -> "Columns":
        """Find the columns in a schema.

        Args:
            where: Name of the table in messages.
            schema: Schema of the table.
            classes: Number of outputs of the network; of several label columns, the one with as many class names is
                used.
            columns: Names of the columns of images and labels, if given.

        Raises:
            BcdzooError: There are no columns of supported types, or it is not clear which to use.
        """
        there = printable(", ".join(f"{field.name} ({field.type})" for field in schema), 500)
        if len(set(schema.names)) < len(schema.names):
            raise BcdzooError(f"{where} has two columns with the same name: {there}")
        images = [field.name for field in schema if _holds_images(field.type)]
        labels = [field.name for field in schema if _holds_labels(field.type)]
        floats = [field.name for field in schema if pa.types.is_floating(field.type)]
        if columns:
            images, labels = (
                [name] if name in names else [] for name, names in zip(columns, (images, labels + floats), strict=True)
            )
        images = [name for name in _IMAGES if name in images][:1] or images
        if not columns:  # floats, such as scores, only if nothing else can be the label
            labels = [name for name in labels if name in _LABELS] or [name for name in floats if name in _LABELS]
        labels = ["label"] if "label" in labels else labels
        if not images or not labels:
            raise BcdzooError(
                f"{where} must have a column of images, binary or a struct of bytes and path, and one of labels, "
                f"integers or text, named image and label or the like{', or as --columns says' if columns else ''}; "
                f"there are: {there}"
            )
        named = {name: _class_names(schema, name) for name in labels}
        if len(labels) > 1:
            labels = [name for name in labels if len(named[name]) == classes] or labels
        if len(images) > 1 or len(labels) > 1:
            raise BcdzooError(
                f"{where}: it is not clear which columns of {there} are the images and the labels; specify them with "
                "--columns IMAGE,LABEL"
            )
        splits = (field.name for field in schema if is_split_column(field.name) and _may_name_splits(field.type))
        return cls(images[0], labels[0], named[labels[0]], tuple(name for name in splits if name != labels[0]))


class Cell(NamedTuple):
    """An image in a row: id, class index, number of bytes if stored in the row, and path if there is one."""

    id: str
    label: int
    size: int | None
    path: str | None


def cells(where: str, table: pa.Table, columns: Columns, classes: int, first: int) -> Iterator[Cell]:
    """Yield the images of some rows.

    Args:
        where: Name of the file, for messages and for the ids of images without a name.
        table: Rows of the file.
        columns: Columns of the table.
        classes: Number of outputs of the network.
        first: Number of the first row in the file.

    Raises:
        BcdzooError: A label is missing or not one of the classes.
    """
    names = columns.class_names
    index = _class_index(where, names, classes)
    imagenet = wnid_indices(classes)
    of_image = parts(table.column(columns.image))
    sizes = [size for chunk in of_image["bytes"].chunks for size in _lengths(chunk)]
    paths = _values(of_image["path"]) if "path" in of_image else [None] * len(table)
    for row, (label, size, path) in enumerate(zip(_values(table.column(columns.label)), sizes, paths, strict=True)):
        at = f"{where}, row {first + row}"
        if isinstance(label, str):
            label = label_of(at, label.strip(), imagenet)
        elif label is not None and not isinstance(label, int):  # a float; NaN is not a label
            label = label_of(at, repr(float(label)), imagenet) if label >= 0 else -1 if label < 0 else None
        if label is None or label < 0:
            what = "no label" if label is None else f"label {label}, which means that this split has no labels"
            raise BcdzooError(f"{at}: {what}; use a split that has labels")
        if names and label >= len(names):
            raise BcdzooError(f"{at}: label {label}, but the file names {len(names)} classes")
        if label >= _LARGEST_LABEL or len(path or "") > _LONGEST_NAME:
            raise BcdzooError(
                f"{at}: label {label} of image {shown(path)} is not a class index, or its path is not a path"
            )
        name = f"{PurePosixPath(where).stem}/{first + row:06d}"
        if path is not None:
            name = _name(path, names[label] if names else str(label))
        yield Cell(name, index(label), size, path)


def parts(column: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Split a column of images into bytes and, if it has them, paths."""
    if not pa.types.is_struct(column.type):
        return {"bytes": column}
    return dict(zip((field.name for field in column.type), column.flatten(), strict=True))


def _lengths(chunk: pa.Array) -> list[int | None]:
    if pa.types.is_dictionary(chunk.type):
        found: list[int | None] = pc.binary_length(chunk.dictionary).take(chunk.indices).to_pylist()
    else:
        found = pc.binary_length(chunk).to_pylist()
    return found


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values; each value of a dictionary column is in memory only once."""
    found: list[Any] = []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            values = chunk.dictionary.to_pylist()
            found += [None if at is None else values[at] for at in chunk.indices.to_pylist()]
        else:
            found += chunk.to_pylist()
    return found


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return _plain(kind) in (pa.string(), pa.large_string())


def _is_binary(kind: pa.DataType) -> bool:
    return _plain(kind) in (pa.binary(), pa.large_binary())


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_binary(kind)
    names = [field.name for field in kind]
    if len(set(names)) < len(names) or "bytes" not in names:
        return False
    path = kind.field("path").type if "path" in names else pa.string()
    return _is_binary(kind.field("bytes").type) and (_is_text(path) or bool(pa.types.is_null(path)))


def _holds_labels(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind)) or _is_text(kind)


def _may_name_splits(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind))


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else ()
    except (TypeError, KeyError, ValueError, RecursionError):  # written by another program, or not a class label
        return ()


def _class_index(where: str, names: tuple[str, ...], classes: int) -> Callable[[int], int]:
    """Return a function from a label to the network's class index.

    It is the identity if there are as many names as classes, or no names. Fewer names are treated like class
    folders: ten wnids are ten of ImageNet's classes.
    """
    if len(names) in (0, classes):
        return lambda label: label
    indices, _ = folder_labels(where, names, classes)
    return lambda label: indices[names[label]]


def _name(path: str, class_name: str) -> str:
    # datasets stores file names without their folders, the classes, so a name may occur once per class
    path = PurePosixPath(path).name if path.startswith("/") else relative(path)
    return image_id(path if "/" in path or official_number(path) is not None else f"{class_name}/{path}")
