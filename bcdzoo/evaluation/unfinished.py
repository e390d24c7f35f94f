"""Which run on disk a command means, and whether it may go on: by its words and by what it computes with."""

import hashlib
import json
import platform
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.chunks import RECORD, Plan, Run, clear, read_record
from bcdzoo.evaluation.model import EvalModel
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.files import only_process, results_dir
from bcdzoo.processes import Processes
from bcdzoo.seal import digest
from bcdzoo.text import say
from bcdzoo.versions import package_version


@contextmanager
def unfinished_runs(
    models: Sequence[EvalModel], images: ImageSet, place: str, options: EvalOptions, processes: Processes
) -> Iterator[list[Run]]:
    """A run for every model: in the results store, or where nothing is to be kept in a temporary folder.

    Args:
        models: The networks.
        images: What they are evaluated on.
        place: Where the images are, as the user said it.
        options: For all.
        processes: The processes that share the work; they must all mean the same.

    Raises:
        BcdzooError: Another process is at the same run; the folder cannot be written to; or what was done was done
            with something else.
    """
    plan = Plan(len(images), options.batch_size)
    mine = [_identity(model, images, options) for model in models], datetime.now(UTC).isoformat()
    identities, started = processes.all(mine)[0]
    if any(theirs != identities for theirs, _ in processes.all(mine)):
        raise BcdzooError("the processes do not have the same networks, images and software: give them the same")
    # the leader's alone: copies on other machines were written at other times
    written = processes.all(_last_written(images))[0]
    identities = [identity | {"last change of the images": written} for identity in identities]
    with ExitStack() as stack:
        if not options.store:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bcdzoo-")))
        runs = []
        for number, (model, identity) in enumerate(zip(models, identities, strict=True)):
            words = _words(model, images, place, options)
            folder = _folder(words, identity, options) if options.store else root / str(number)
            if processes.first:
                try:
                    stack.enter_context(only_process(folder, "evaluating the same"))
                    if options.fresh:
                        clear(folder)
                except OSError as error:
                    raise BcdzooError(
                        f"cannot write to {folder}: {error.strerror}; --no-store evaluates without keeping anything"
                    ) from error
            processes.all(None)  # a fresh start has removed the old chunks before anybody looks for them
            runs.append(Run(folder, words, identity, plan, started))
        yield runs


def versions() -> dict[str, str]:
    """Of the software that takes part in a prediction."""
    return {
        "bcdzoo": package_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }


def _identity(model: EvalModel, images: ImageSet, options: EvalOptions) -> dict[str, str]:
    """Everything that the predictions depend on, as a message would name it."""
    return {
        "network": f"{model.name} {model.loaded.build or ''} {model.state[:16]}",
        "weights": f"{model.loaded.label or 'as built'} {(model.loaded.sha256 or '')[:16]}".strip(),
        "preprocessing": model.preprocess.spec(),
        "data": f"{images.name}, {len(images)} images, fingerprint {images.fingerprint[:16]}",
        "precision": f"{model.mode} on {model.device.type}",
        "batch size": str(options.batch_size),
        "software": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def _last_written(images: ImageSet) -> str:
    """When the newest file was written, and a hash of the times of all: the fingerprint does not look into files."""
    paths = sorted({sample.read.path for sample in images.samples})
    times = [Path(path).stat().st_mtime_ns if Path(path).exists() else 0 for path in paths]
    newest = datetime.fromtimestamp(min(max(0, *times) // 10**9, 2**37), UTC).isoformat()
    return f"{newest} ({digest(times)[:16]})"


def _words(model: EvalModel, images: ImageSet, place: str, options: EvalOptions) -> dict[str, str]:
    """What was asked for: the same words again go on with the same run."""
    return {
        "model": model.name,
        "data": place,
        "weights": str(model.loaded.label),
        "build": json.dumps(model.loaded.build, sort_keys=True),
        "preprocess": str(options.preprocess),
        "mode": str(model.mode),
        "batch_size": str(options.batch_size),
        "skip_bad": str(options.skip_bad),
        "layout": images.layout,
    }


def _folder(words: dict[str, str], identity: dict[str, str], options: EvalOptions) -> Path:
    """The folder of the run that these words mean; with ``resume`` of one that was begun in other words."""
    key = hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:12]
    root = results_dir() / "unfinished"
    name = re.sub(r"[^\w.-]", "_", words["model"])
    folder = root / f"{name}-{key}"
    if not options.resume:
        return folder
    if (folder / RECORD).exists():
        read_record(folder)  # what is damaged would start anew
        return folder
    others = [
        (record, begun)
        for record, begun in _begun(root)
        if all(record["words"].get(key) == words[key] for key in ("model", "data", "mode"))
    ]
    if not others:
        raise BcdzooError(
            f"there is no unfinished run of {words['model']} on {words['data']}; start it without --resume"
        )
    return max(others, key=lambda other: (other[0]["identity"] == identity, other[0]["started"]))[1]


def _begun(root: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Record and folder of each unfinished run; one that cannot be read is named and left out."""
    for path in root.glob(f"*/{RECORD}"):
        try:
            record, _ = read_record(path.parent)
        except (BcdzooError, OSError) as error:
            say(f"{path} is left out: {error}")
        else:
            yield record, path.parent
