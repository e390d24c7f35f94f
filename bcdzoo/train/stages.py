"""A training run: the stages of a recipe, each starting from the weights of the previous one."""

import importlib.metadata
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from bcdzoo.custom_model import import_network, taken_arguments
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.preflight import preflight
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import evaluate
from bcdzoo.evaluation.model import EvalModel, load_network
from bcdzoo.files import only_process, require_regular, sha256_of
from bcdzoo.layers.int8 import with_int8
from bcdzoo.processes import Processes, joined
from bcdzoo.registry import create_model, default_arguments, find, zoo_name
from bcdzoo.seal import DamagedError, read_json, write_json
from bcdzoo.text import say
from bcdzoo.train.images import (
    check_batches,
    check_labels,
    derived_seed,
    has_test_images,
    name_classes,
    open_training_set,
)
from bcdzoo.train.loop import checkpoint_path, train_stage
from bcdzoo.train.loss import separate_logits_of
from bcdzoo.train.recipe import AS_BUILT, Stage, load_recipe, recipe_names
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import FORMAT, LoadedModel, load_into
from bcdzoo.weights.tensors import write_tensors

RUN = "run.json"

Taught = tuple[nn.Module | None, dict[str, Any] | None]
"""A teacher, and its entry in the lineage."""

_SOFTWARE = ("bcdzoo", "torch", "torchvision", "pillow")


@dataclass(frozen=True)
class Trained:
    """The result of a stage.

    Attributes:
        stage: Name of the stage.
        weights: File of weights.
        lineage: How the weights were made (docs/training.md).
    """

    stage: str
    weights: Path
    lineage: dict[str, Any]


def train(
    model: str,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    settings: dict[str, Any] | None = None,
    classes: int | None = None,
    weights: str | None = None,
    device: str | None = None,
    workers: int | None = None,
    tensorboard: bool = False,
    class_names: str | os.PathLike[str] | None = None,
    label_offset: int | None = None,
) -> list[Trained]:
    """Train a network with a recipe. The same call resumes an interrupted run.

    Args:
        model: Zoo name, or ``package.module:callable``.
        data: Images to train on, and to evaluate on at the end of each stage (docs/training.md).
        out: Folder of the run; a stage's weights are ``<stage>.safetensors`` there.
        recipe: Name of a shipped recipe or a TOML file; None for the network's own.
        settings: Options that override the recipe's.
        classes: Number of classes, if the data does not say.
        weights: File with initial weights of the first stage.
        device: Torch device, such as ``cuda:1``; by default a GPU per process, or the CPU if there is none.
        workers: Number of processes that read images; by default one per core, up to 8, divided among the processes.
        tensorboard: Whether to write TensorBoard files.
        class_names: File with one class name per line; by default the data's own names.
        label_offset: Offset added to every label, as for :func:`bcdzoo.data.imagenet.open_dataset`.

    Raises:
        BcdzooError: The recipe, the data or the weights are invalid, the folder belongs to another run or is in use,
            the disk is full, or the loss is not finite.
    """
    model = zoo_name(model)
    takes = taken_arguments(model) if ":" in model else default_arguments(model)
    stages = load_recipe(recipe or _own_recipe(model), settings or {}, takes)
    data, out = Path(data), Path(out)
    named = Path(class_names) if class_names is not None else None
    with ExitStack() as stack:
        processes = stack.enter_context(joined()).on(device)
        if processes.first:
            stack.enter_context(_only_process(out))
        images, classes = open_training_set(data, classes, label_offset)
        if workers is None:
            workers = min(os.cpu_count() or 1, 8) // processes.count
        test_images = open_dataset(data, classes, label_offset=label_offset) if has_test_images(data) else None
        initial = _origin(weights)
        plan = {
            "model": model,
            "classes": classes,
            "data": _described(images),
            "weights": weights,
            "initial": initial,
            "stages": {stage.name: stage.to_json() for stage in stages},
        }
        _check_data(images, test_images, classes, stages, processes)
        words = name_classes(images, classes, named)
        known = _is_ours(out, plan)
        left = [stage for stage in stages if not _finished(out, stage, plan)]
        teachers = _teachers(left, processes)
        for stage in left:
            _check_network(model, stage, classes, teachers[stage.name], processes)
        if processes.first and not known:
            stack.enter_context(_claimed(out, plan))
        processes.wait()
        parent = weights
        for stage in stages:
            path = _weights(out, stage)
            if stage in left:
                network = _network(model, stage, classes, parent)
                teacher, taught_by = teachers[stage.name]
                updates = train_stage(
                    network,
                    stage,
                    images,
                    out,
                    processes=processes,
                    teacher=teacher,
                    test_images=test_images,
                    workers=workers,
                    tensorboard=tensorboard,
                )
                if processes.first:
                    lineage = {
                        "recipe": {"name": recipe or _own_recipe(model), "stage": stage.name, **stage.to_json()},
                        "data": plan["data"],
                        "teacher": taught_by,
                        "parent": _origin(parent),
                        "initial": initial,
                        "processes": processes.count,
                        "versions": {name: importlib.metadata.version(name) for name in _SOFTWARE},
                        "updates": updates,
                        "evaluation": _evaluated(network, test_images, stage, processes),
                    }
                    _write(path, model, network, stage, classes, words, lineage)
            if processes.first:  # a run may have been killed between the weights and this
                checkpoint_path(out, stage).unlink(missing_ok=True)
            processes.wait()
            parent = str(path)
        return [Trained(stage.name, _weights(out, stage), _lineage(out, stage)) for stage in stages]


@contextmanager
def _only_process(out: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(only_process(out, "training into the same folder"))
        except OSError as error:
            raise BcdzooError(f"cannot write to {out}: {error.strerror}; --out names another folder") from None
        yield


def _check_data(
    images: ImageSet, test_images: ImageSet | None, classes: int, stages: list[Stage], processes: Processes
) -> None:
    """Check the data before training for anything that would stop the run or spoil its evaluation later."""
    check_labels(images, classes)
    for note in images.notes if processes.first else ():
        say(f"note: the training images: {note}")
    for stage in stages:
        check_batches(stage, images, processes)
        if stage.keep == "best" and test_images is None:
            raise BcdzooError(f"{stage.name}: keep = 'best' needs test images: a folder val, idx files t10k …")
    if test_images is None:
        return
    check_labels(test_images, classes)
    for finding in preflight(test_images, classes):
        if finding.severity == "stop":
            raise BcdzooError(f"the test images: {finding.message}")
        if processes.first:
            say(f"note: the test images: {finding.message}")
    if processes.first and any(stage.keep == "best" for stage in stages):
        say("note: the kept weights are chosen on the test images, so their accuracy there is too optimistic")


def _own_recipe(model: str) -> str:
    own = "" if ":" in model else find(model).recipe
    if not own:
        raise BcdzooError(f"{model} has no recipe of its own: use --recipe {'|'.join(recipe_names())} or a .toml file")
    return own


def _is_ours(out: Path, plan: dict[str, Any]) -> bool:
    """Whether the folder already belongs to this run; False for a new folder.

    Raises:
        BcdzooError: It belongs to another run.
    """
    path = out / RUN
    try:
        held, checked = read_json(path)
    except FileNotFoundError:
        return False
    except DamagedError as error:  # checkpoints and weights also state their run
        say(f"{error}; it is rewritten")
        return False
    except OSError as error:
        raise BcdzooError(f"cannot read {path}: {error.strerror}") from None
    now = json.loads(json.dumps(plan))
    for key in now if checked else now.keys() & held.keys():
        if held.get(key) != now[key]:
            raise BcdzooError(f"{out} is the folder of a run with different {key}: choose another folder with --out")
    if not checked:
        say(f"{path} is unchecked: it has no hash, as older versions wrote it")
    return True


@contextmanager
def _claimed(out: Path, plan: dict[str, Any]) -> Iterator[None]:
    """Make the folder this run's; a run that ends before there is anything to go on from leaves it to another."""
    try:
        write_json(out / RUN, plan)
    except OSError as error:
        raise BcdzooError(f"cannot write to {out}: {error.strerror}; --out names another folder") from None
    try:
        yield
    finally:
        if not any(out.glob("*.safetensors")) and not any(out.glob("*.checkpoint.pt")):
            (out / RUN).unlink(missing_ok=True)


def _weights(out: Path, stage: Stage) -> Path:
    return out / f"{stage.name}.safetensors"


def _finished(out: Path, stage: Stage, plan: dict[str, Any]) -> bool:
    """Whether a stage's weights exist; they must belong to this run."""
    path = _weights(out, stage)
    if not path.exists():
        return False
    lineage = _lineage(out, stage)
    then, now = lineage.get("recipe"), stage.to_json()
    same = isinstance(then, dict) and all(then.get(key, value) == value for key, value in now.items())
    if not same or any(lineage.get(key) != plan[key] for key in ("data", "initial")):
        raise BcdzooError(f"{path} is from another run: delete it to train this stage again, or choose another --out")
    return True


def _lineage(out: Path, stage: Stage) -> dict[str, Any]:
    path = _weights(out, stage)
    try:
        lineage: dict[str, Any] = json.loads(safetensors_metadata(path)["lineage"])
        if not isinstance(lineage, dict):
            raise ValueError("not a table")
    except DamagedError as error:
        raise BcdzooError(f"{error}; delete it to train this stage again") from None
    except (KeyError, ValueError, RecursionError):
        raise BcdzooError(f"{path} does not say how it was trained: delete it to train this stage again") from None
    return lineage


def _network(model: str, stage: Stage, classes: int, weights: str | None) -> nn.Module:
    torch.manual_seed(derived_seed(stage.seed, stage.name, "weights"))
    build = _build(model, stage, classes)
    network = import_network(model, **build) if ":" in model else create_model(model, **build)
    if weights is not None:
        load_into(network, Path(weights))
    return network


def _build(model: str, stage: Stage, classes: int) -> dict[str, Any]:
    """Arguments of the network: the stage's, and the number of classes where it takes that."""
    counted = ":" not in model or "num_classes" in taken_arguments(model)
    return ({"num_classes": classes} if counted else {}) | stage.build


def _check_network(model: str, stage: Stage, classes: int, taught: Taught, processes: Processes) -> None:
    """Run a network and its teacher on a blank image, to fail early if they cannot be trained."""
    network = _network(model, stage, classes, None)
    outputs = _outputs(network, model, stage)
    if outputs < classes:
        raise BcdzooError(f"{model} has {outputs} outputs, but the images have {classes} classes")
    if outputs > classes and processes.first:
        say(f"note: {model} has {outputs} outputs, but the images have {classes} classes")
    teacher, _ = taught
    if teacher is None:
        return
    if (theirs := _outputs(teacher, stage.teacher, stage)) != outputs:
        raise BcdzooError(f"the teacher {stage.teacher} has {theirs} outputs, but {model} has {outputs}")
    if separate_logits_of(network) and stage.distillation == 1:
        raise BcdzooError(
            f"{stage.name}: distillation: 1 leaves {model}'s classifier for the labels, which is half of its answer, "
            "untrained: use less than 1 (the authors: 0.5)"
        )


def _outputs(network: nn.Module, name: str, stage: Stage) -> int:
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    model = EvalModel(LoadedModel(network.eval(), name), parse(stage.preprocess), "given", device)
    with torch.no_grad():
        model.try_out()
    return model.outputs


def _teachers(stages: list[Stage], processes: Processes) -> dict[str, Taught]:
    """Load each stage's teacher, with its entry in the lineage."""
    loaded: dict[tuple[str, str], Taught] = {("", ""): (None, None)}
    for stage in stages:
        key = stage.teacher, stage.teacher_weights
        if key not in loaded:
            loaded[key] = _teacher(stage, processes)
    return {stage.name: loaded[stage.teacher, stage.teacher_weights] for stage in stages}


def _teacher(stage: Stage, processes: Processes) -> Taught:
    weights = stage.teacher_weights or None
    found = load_network(stage.teacher, None if weights == AS_BUILT else weights)
    theirs = found.preprocess
    if theirs and parse(theirs).spec() != parse(stage.preprocess).spec() and processes.first:
        say(f"note: the teacher {stage.teacher} was trained with {theirs}, but gets {stage.preprocess}")
    network = found.model.to(processes.device).eval().requires_grad_(False)
    return with_int8(network), {"model": stage.teacher, "weights": found.label or weights, "sha256": found.sha256}


def _evaluated(
    network: nn.Module, images: ImageSet | None, stage: Stage, processes: Processes
) -> dict[str, Any] | None:
    if images is None:
        return None
    # without checks: accuracy at chance is a valid result here, and the data was checked before
    result = evaluate(
        network, images, preprocess=stage.preprocess, device=processes.device, progress=False, check=False
    )
    return {"top1": result.top1, "top5": result.top5, "n": result.n, "data": _described(images)}


def _described(images: ImageSet) -> dict[str, Any]:
    return {"name": images.name, "layout": images.layout, "images": len(images), "fingerprint": images.fingerprint}


def _origin(weights: str | None) -> dict[str, str] | None:
    if weights is None:
        return None
    path = Path(weights)
    require_regular(path)
    metadata = safetensors_metadata(path)
    known = {key: value for key, value in metadata.items() if key in ("source_sha256", "license")}
    return {"file": path.name, "sha256": sha256_of(path), **known}


def _write(
    path: Path, model: str, network: nn.Module, stage: Stage, classes: int, words: list[str], lineage: dict[str, Any]
) -> None:
    """Write a stage's weights, without a time stamp, so that the same run gives the same bytes."""
    metadata = {
        "format": FORMAT,
        "model": model,
        "build": json.dumps(_build(model, stage, classes), sort_keys=True),
        "preprocess": stage.preprocess,
        "class_names": json.dumps(words),
        "license": "",
        "lineage": json.dumps(lineage, sort_keys=True),
    }
    try:
        write_tensors(path, network.state_dict(), metadata)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BcdzooError(f"cannot write {path}: {reason}; the same command resumes from the checkpoint") from None
