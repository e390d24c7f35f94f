"""Find the unfinished run of a command, by its arguments, and check whether it can be resumed."""

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
    """Open a run for every model, in the results store or, if nothing is stored, in a temporary folder.

    Args:
        models: Networks to evaluate.
        images: Images to evaluate them on.
        place: Path of the images as the user wrote it.
        options: Options for all networks.
        processes: Processes that share the work; they must agree on everything.

    Raises:
        BcdzooError: Another process is running the same; the folder cannot be written to; or the unfinished run was
            computed differently.
    """
    plan = Plan(len(images), options.batch_size)
    mine = [_identity(model, images, options) for model in models], datetime.now(UTC).isoformat()
    identities, started = processes.all(mine)[0]
    if any(theirs != identities for theirs, _ in processes.all(mine)):
        raise BcdzooError("the processes do not have the same networks, images and software: give them the same")
    # only the leader's, because copies on other machines were written at other times
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
            processes.all(None)  # wait until --fresh has removed the old chunks
            runs.append(Run(folder, words, identity, plan, started))
        yield runs


def versions() -> dict[str, str]:
    """Return the versions of the software that affects predictions."""
    return {
        "bcdzoo": package_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }


def _identity(model: EvalModel, images: ImageSet, options: EvalOptions) -> dict[str, str]:
    """Return everything that the predictions depend on, in words for messages."""
    return {
        "network": f"{model.name} {model.loaded.build or ''} {model.state[:16]}",
        "weights": f"{model.loaded.label or 'as built'} {(model.loaded.sha256 or '')[:16]}".strip(),
        "preprocessing": model.preprocess.spec(),
        "data": f"{images.name}, {len(images)} images, fingerprint {images.fingerprint[:16]}",
        "decoder": images.decoder,
        "precision": f"{model.mode} on {model.device.type}",
        "batch size": str(options.batch_size),
        "software": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def _last_written(images: ImageSet) -> str:
    """Return when the newest file was written, and a hash of all times; the fingerprint does not cover contents."""
    paths = sorted({sample.read.path for sample in images.samples})
    times = [Path(path).stat().st_mtime_ns if Path(path).exists() else 0 for path in paths]
    newest = datetime.fromtimestamp(min(max(0, *times) // 10**9, 2**37), UTC).isoformat()
    return f"{newest} ({digest(times)[:16]})"


def _words(model: EvalModel, images: ImageSet, place: str, options: EvalOptions) -> dict[str, str]:
    """Return the arguments of the command; the same arguments resume the same run."""
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
        "decoder": images.decoder,
    }


def _folder(words: dict[str, str], identity: dict[str, str], options: EvalOptions) -> Path:
    """Return the folder of the run with these arguments, or with ``resume`` of one started with others."""
    key = hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:12]
    root = results_dir() / "unfinished"
    name = re.sub(r"[^\w.-]", "_", words["model"])
    folder = root / f"{name}-{key}"
    if not options.resume:
        return folder
    if (folder / RECORD).exists():
        read_record(folder)  # if damaged, the run would start over
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
    """Yield the record and folder of each unfinished run; an unreadable one is named and left out."""
    for path in root.glob(f"*/{RECORD}"):
        try:
            record, _ = read_record(path.parent)
        except (BcdzooError, OSError) as error:
            say(f"{path} is left out: {error}")
        else:
            yield record, path.parent
