"""Layout ``hf``: a dataset on the Hugging Face hub, through the package ``datasets``."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bcdzoo.data.names import choose_split, refuse_split_column, shown, some
from bcdzoo.data.samples import FileRange, Listing, Reader, Sample
from bcdzoo.errors import BcdzooError

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "hf:"


class HubRow(NamedTuple):
    """Reader of an image in a dataset, which ``datasets`` stores in a memory-mapped file."""

    dataset: "Dataset"
    column: str
    row: int

    @property
    def path(self) -> str:
        """The file that holds the image."""
        return str(self.dataset.cache_files[0]["filename"])

    def __call__(self) -> bytes:
        """Read the image's bytes."""
        content: bytes = self.dataset[self.row][self.column]["bytes"]
        return content


def hub_dataset(path: Path, classes: int, columns: tuple[str, str] | None = None) -> Listing:
    """List the images of ``hf:OWNER/NAME`` or ``hf:OWNER/NAME:SPLIT``; what is missing is fetched.

    Args:
        path: Name of the dataset with ``hf:``.
        classes: Number of outputs of the network.
        columns: Names of the columns of images and labels; by default recognized by common names.

    Raises:
        BcdzooError: The package is not installed, the dataset cannot be obtained, or it has no labelled images.
    """
    try:
        import datasets
    except ImportError as error:
        raise BcdzooError("datasets of the hub need the package datasets: pip install 'bcdzoo[hf]'") from error
    from bcdzoo.data.hf_columns import Columns, cells

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    name = str(path)
    dataset = _load(name.removeprefix(PREFIX))
    found = Columns.of(name, dataset.features.arrow_schema, classes, columns)
    for column in found.splits:
        refuse_split_column(name, column, sorted(str(value) for value in dataset.unique(column) if value is not None))
    dataset = dataset.select_columns([found.image, found.label])
    dataset = dataset.cast_column(found.image, datasets.Image(decode=False))
    samples: list[Sample] = []
    for table in dataset.with_format("arrow").iter(1000):
        for cell in cells(name, table, found, classes, len(samples)):
            read: Reader = HubRow(dataset, found.image, len(samples))
            if cell.size is None and cell.path is not None:  # for a folder of files only the paths are stored
                read = _own_file(cell.path, name)
            elif cell.size is None:
                raise BcdzooError(f"{name}, row {len(samples)}: no image bytes; leave the row out of the dataset")
            size = read.size if isinstance(read, FileRange) else cell.size or 0
            samples.append(Sample(cell.id, cell.label, size, read))
    return Listing(samples, f"column {shown(found.label)} of split {dataset.split}", found.class_names)


def _own_file(path: str, name: str) -> FileRange:
    """Return a file of the dataset, which must be in the cache or in the local repository.

    Raises:
        BcdzooError: The dataset names a file outside of these.
        OSError: It does not exist.
    """
    from datasets import config
    from huggingface_hub import constants

    local = name.removeprefix(PREFIX).partition(":")[0]
    places = [Path(config.HF_DATASETS_CACHE), Path(config.DOWNLOADED_DATASETS_PATH), Path(constants.HF_HUB_CACHE)]
    places += [Path(local)] if Path(local).is_dir() else []
    whole = os.path.abspath(path)  # noqa: PTH100 - without following the cache's links
    if not any(Path(whole).is_relative_to(place.absolute()) for place in places):
        raise BcdzooError(f"{name} names a file that is not its own, {shown(path)}: its images must be in the dataset")
    return FileRange(whole, 0, Path(whole).stat().st_size)


def _load(name: str) -> "Dataset":
    import datasets

    repository, _, wanted = name.partition(":")
    if not repository:
        raise BcdzooError(f"{PREFIX}{name} names no dataset: write {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME:SPLIT")
    try:
        found = datasets.load_dataset_builder(repository).config.data_files
        files = {str(split): list(urls) for split, urls in found.items()}
        split = wanted or choose_split(files)
        if split not in files:
            raise BcdzooError(f"{repository} has the splits {some(files)}: select one as hf:{repository}:SPLIT")
        # Otherwise datasets would fetch the files of all splits, including ImageNet's training images.
        chosen = {split: files[split]}
        return datasets.load_dataset(repository, data_files=chosen, split=split, verification_mode="no_checks")
    except BcdzooError:
        raise
    except Exception as error:  # from the network, the hub, the file system or a reader
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BcdzooError(f"cannot get the dataset {repository}: {reason}") from error
