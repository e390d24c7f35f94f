"""Layout ``csv``: a file of ``path,label``."""

import csv
from pathlib import Path

from bcdzoo.data.labels import FROM_WNIDS, as_number, wnid_indices
from bcdzoo.data.samples import FileRange, Listing, Sample, image_id
from bcdzoo.errors import BcdzooError


def csv_file(path: Path, classes: int) -> Listing:
    """List the images that a CSV file names; relative paths start at its folder, labels are indices or wnids.

    Raises:
        BcdzooError: A line that cannot be understood, or an image that is not there.
        OSError: The file cannot be read.
    """
    imagenet = wnid_indices(classes)
    samples, from_wnids = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(enumerate(csv.reader(file, strict=True), start=1))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BcdzooError(f"{path} is not a CSV file in UTF-8: {error}") from error
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[-1].lower() == "label"):
            continue
        if len(cells) != 2:
            raise BcdzooError(f"{path}, line {number}: {len(cells)} columns where path,label are expected")
        name, text = cells
        label = imagenet.get(text, as_number(text))
        if label is None:
            raise BcdzooError(f"{path}, line {number}: label {text!r} is neither a class index nor a wnid of ImageNet")
        from_wnids.append(text in imagenet)
        image = path.parent / name
        try:
            size = image.stat().st_size
        except OSError as error:
            raise BcdzooError(f"{path}, line {number}: cannot read {name}: {error.strerror}") from error
        samples.append(Sample(image_id(Path(name).as_posix()), label, size, FileRange(str(image), 0, size)))
    return Listing(samples, FROM_WNIDS if samples and all(from_wnids) else "the CSV file")
