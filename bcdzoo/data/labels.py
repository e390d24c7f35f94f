"""From what layouts call a class (a wnid, a number, a folder's name) to its index."""

from collections.abc import Sequence

from bcdzoo.data.classes import wnids
from bcdzoo.data.samples import some
from bcdzoo.errors import BcdzooError

FROM_WNIDS = "wnids"
FROM_GROUND_TRUTH = "the shipped ground truth"
FROM_NUMBERS = "folder names as class indices"
FROM_ORDER = "folder names in sorted order"

_CSV = "give the labels as a CSV of path,label"


def wnid_indices(classes: int) -> dict[str, int]:
    """The class index of each wnid for a network of so many outputs: empty unless they are ImageNet's 1000."""
    return {wnid: index for index, wnid in enumerate(wnids())} if classes == 1000 else {}


def as_number(text: str) -> int | None:
    """A number of at most nine digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


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
    numbers = {name: number for name in names if (number := as_number(name)) is not None}
    if len(numbers) == len(set(numbers.values())) == len(names):
        if max(numbers.values()) < classes:
            return numbers, FROM_NUMBERS
        if sorted(numbers) != sorted(numbers, key=numbers.__getitem__):
            raise BcdzooError(
                f"{where}: class folders {min(numbers.values())} to {max(numbers.values())} are not the class indices "
                f"0 to {classes - 1}, and sorted as numbers or as text they differ; rename the folders, or {_CSV}"
            )
    if len(names) == classes and (classes != 1000 or len(foreign) == 1000):
        return {name: index for index, name in enumerate(sorted(names))}, FROM_ORDER
    if classes == 1000:
        raise BcdzooError(f"{where}: not wnids of ImageNet: {some(foreign)}; {_CSV}")
    raise BcdzooError(f"{where} has {len(names)} class folders, the network {classes} outputs: {_CSV}")
