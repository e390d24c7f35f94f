"""From what layouts call a class (a wnid, a number, a folder's name) to its index."""

from collections.abc import Collection, Sequence

from bcdzoo.data.classes import wnids
from bcdzoo.data.names import shown, some, split_of
from bcdzoo.errors import BcdzooError

FROM_WNIDS = "wnids"
FROM_GROUND_TRUTH = "the shipped ground truth"
FROM_NUMBERS = "folder names as class indices"
FROM_ORDER = "folder names in sorted order"

BACKGROUND = (
    "if it is one of TensorFlow's, whose output 0 is a background class, --label-offset 1 (from Python label_offset=1) "
    "puts ImageNet's classes behind it"
)

_CSV = "give the labels as a CSV of path,label"


class LabelError(BcdzooError):
    """What the data calls a class is none of the network's."""


def wnid_indices(classes: int) -> dict[str, int]:
    """The class index of each wnid for a network of so many outputs: empty unless they are ImageNet's 1000."""
    return {wnid: index for index, wnid in enumerate(wnids())} if classes == 1000 else {}


def as_number(text: str) -> int | None:
    """A number of at most nine digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def label_of(where: str, text: str, imagenet: dict[str, int]) -> int:
    """The class index that a text stands for.

    Args:
        where: Its place, for messages.
        text: A number, or one of ImageNet's wnids.
        imagenet: Of :func:`wnid_indices`.

    Raises:
        LabelError: It is neither.
    """
    label = imagenet.get(text, as_number(text))
    if label is None:
        raise LabelError(f"{where}: label {shown(repr(text))} is neither a class index nor a wnid of ImageNet")
    return label


def refuse_splits(where: str, names: Collection[str]) -> None:
    """Check that folders are not the splits of a dataset: one class may be called ``train``, not two of them so.

    Raises:
        BcdzooError: They are.
    """
    splits = [name for name in names if split_of(name)]
    if len(splits) > 1 or (splits and len(splits) == len(names)):
        raise BcdzooError(f"{where} holds splits, not classes ({some(splits)}): give one of them")


def folder_labels(where: str, names: Sequence[str], classes: int) -> tuple[dict[str, int], str]:
    """The class indices of class folders by their names, and where they come from in words.

    Args:
        where: The dataset, for messages.
        names: Of the folders, at least one.
        classes: Outputs of the network: 1000 means ImageNet's classes.

    Raises:
        BcdzooError: The names leave it open which class is meant.
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
                f"0 to {classes - 1}, and sorted as numbers or as text they differ; rename the folders, or {_CSV}"
                + (", or if they begin with 1, --label-offset -1" if min(numbers.values()) == 1 else "")
            )
    if len(names) == classes and (classes != 1000 or len(foreign) == 1000):
        return {name: index for index, name in enumerate(sorted(names))}, FROM_ORDER
    if classes == 1000:
        raise LabelError(f"{where}: not wnids of ImageNet: {some(foreign)}; {_CSV}")
    raise LabelError(f"{where} has {len(names)} class folders, the network {classes} outputs: {_CSV}")
