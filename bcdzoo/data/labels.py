"""Class indices from wnids, numbers and folder names."""

import re
from collections.abc import Collection, Sequence

from bcdzoo.data.classes import wnids
from bcdzoo.data.names import shown, some, splits_among
from bcdzoo.errors import BcdzooError

FROM_WNIDS = "wnids"
FROM_GROUND_TRUTH = "the shipped ground truth"
FROM_NUMBERS = "folder names as class indices"
FROM_ORDER = "folder names in sorted order"

BACKGROUND = (
    "if it is one of TensorFlow's, whose output 0 is a background class, --label-offset 1 (from Python label_offset=1) "
    "shifts the labels accordingly"
)

_WHOLE = re.compile(r"(?<=\d)\.0*\Z", re.ASCII)
_CSV = "give the labels as a CSV of path,label"


class LabelError(BcdzooError):
    """A label in the data does not name a class of the network."""


def wnid_indices(classes: int) -> dict[str, int]:
    """Map each wnid to its class index for a network with that many outputs: empty unless 1000, ImageNet's classes."""
    return {wnid: index for index, wnid in enumerate(wnids())} if classes == 1000 else {}


def as_number(text: str) -> int | None:
    """Parse a number of at most nine digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def label_of(where: str, text: str, imagenet: dict[str, int]) -> int:
    """Parse a label to a class index.

    Args:
        where: Location of the label in messages.
        text: Number (also ``3.0``, as pandas writes it), or one of ImageNet's wnids.
        imagenet: Result of :func:`wnid_indices`.

    Raises:
        LabelError: It is neither.
    """
    label = imagenet.get(text, as_number(_WHOLE.sub("", text)))
    if label is None:
        raise LabelError(f"{where}: label {shown(repr(text))} is neither a class index nor a wnid of ImageNet")
    return label


def refuse_splits(where: str, names: Collection[str]) -> None:
    """Check that folders are not the splits of a dataset; a single class may be called ``train``.

    Raises:
        BcdzooError: They are.
    """
    if splits := splits_among(names):
        raise BcdzooError(f"{where} has splits, not classes ({some(splits)}): use one of them")


def folder_labels(where: str, names: Sequence[str], classes: int) -> tuple[dict[str, int], str]:
    """Map names of class folders to class indices; also returns a description of where these come from.

    Args:
        where: Name of the dataset in messages.
        names: Names of the folders, at least one.
        classes: Number of outputs of the network; 1000 means ImageNet's classes.

    Raises:
        BcdzooError: The names are ambiguous.
    """
    imagenet = wnid_indices(classes)
    foreign = [name for name in names if name not in imagenet]
    if not foreign:
        return imagenet, FROM_WNIDS
    refuse_splits(where, names)
    numbers = {name: number for name in names if (number := as_number(name)) is not None}
    if len(numbers) == len(set(numbers.values())) == len(names):
        if max(numbers.values()) < classes:
            return numbers, FROM_NUMBERS
        if sorted(numbers) != sorted(numbers, key=numbers.__getitem__):
            raise LabelError(
                f"{where}: class folders {min(numbers.values())} to {max(numbers.values())} are not the class indices "
                f"0 to {classes - 1}, and sort differently as numbers and as text; rename the folders, or {_CSV}"
                + (", or if they start at 1, use --label-offset -1" if min(numbers.values()) == 1 else "")
            )
    if len(names) == classes and (classes != 1000 or len(foreign) == 1000):
        return {name: index for index, name in enumerate(sorted(names))}, FROM_ORDER
    if classes == 1000:
        raise LabelError(f"{where}: not wnids of ImageNet: {some(foreign)}; {_CSV}")
    raise LabelError(f"{where} has {len(names)} class folders, but the network has {classes} outputs: {_CSV}")
