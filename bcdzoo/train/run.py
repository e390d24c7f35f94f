"""A run: the stages of a recipe one after the other, each from the weights of the one before."""

import importlib.metadata
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import evaluate
from bcdzoo.files import atomic_write, sha256_of
from bcdzoo.own import import_network
from bcdzoo.registry import create_model, find
from bcdzoo.train.images import derived_seed, has_test_images, open_training_set
from bcdzoo.train.loop import checkpoint_path, train_stage
from bcdzoo.train.processes import Processes, joined
from bcdzoo.train.recipe import Stage, load_recipe, recipe_names
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import FORMAT, load_into, resolve
from bcdzoo.weights.tensors import write_tensors

RUN = "run.json"

_SOFTWARE = ("bcdzoo", "torch", "torchvision", "pillow")


@dataclass(frozen=True)
class Trained:
    """What a stage gave.

    Attributes:
        stage: Its name.
        weights: The file.
        lineage: How they came about (docs/training.md).
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
) -> list[Trained]:
    """Train a network by a recipe. A run that was killed goes on where it was when it is called again.

    Args:
        model: A zoo name, or ``package.module:callable``.
        data: Images to train on, and to evaluate on at the end of each stage (docs/training.md).
        out: The run's folder; a stage's weights are ``<stage>.safetensors`` there.
        recipe: Name of a shipped recipe or a TOML file; None for the network's own.
        settings: Options in place of the recipe's.
        classes: Number of classes where the data does not tell.
        weights: Initial weights of the first stage: a file.
        device: For example ``cuda:1``; by default a GPU for each process, or the CPU where there is none.
        workers: Processes that read images; by default one per core, up to 8, shared among the processes.
        tensorboard: Whether to write TensorBoard's files.

    Raises:
        BcdzooError: The recipe, the data or the weights are wrong, the folder is another run's, or the loss is not
            finite.
    """
    stages = load_recipe(recipe or _own_recipe(model), settings or {})
    data, out = Path(data), Path(out)
    with joined(device) as processes:
        images, classes = open_training_set(data, classes)
        if workers is None:
            workers = min(os.cpu_count() or 1, 8) // processes.count
        test_images = open_dataset(data, classes) if has_test_images(data) else None
        plan = {
            "model": model,
            "classes": classes,
            "data": _described(images),
            "weights": weights,
            "stages": {stage.name: stage.to_json() for stage in stages},
        }
        _claim(out, plan, processes)
        parent = weights
        for stage in stages:
            path = out / f"{stage.name}.safetensors"
            if not path.exists():
                network = _network(model, stage, classes, parent)
                teacher, taught_by = _teacher(stage, processes)
                train_stage(
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
                        "initial": _origin(weights),
                        "processes": processes.count,
                        "versions": {name: importlib.metadata.version(name) for name in _SOFTWARE},
                        "evaluation": _evaluated(network, test_images, stage, processes),
                    }
                    _write(path, model, network, stage, classes, lineage)
                    checkpoint_path(out, stage).unlink()
                processes.wait()
            parent = str(path)
    return [_trained(out, stage) for stage in stages]


def _own_recipe(model: str) -> str:
    own = "" if ":" in model else find(model).recipe
    if not own:
        raise BcdzooError(f"{model} has no recipe of its own: give --recipe {'|'.join(recipe_names())} or a .toml file")
    return own


def _claim(out: Path, plan: dict[str, Any], processes: Processes) -> None:
    """Make the folder this run's, unless it is another's."""
    path = out / RUN
    if path.exists():
        held = json.loads(path.read_text())
        for key, value in json.loads(json.dumps(plan)).items():
            if held.get(key) != value:
                raise BcdzooError(f"{out} is the folder of a run with other {key}: choose another one with --out")
    elif processes.first:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(plan, indent=1) + "\n")
    processes.wait()


def _network(model: str, stage: Stage, classes: int, weights: str | None) -> nn.Module:
    torch.manual_seed(derived_seed(stage.seed, stage.name, "weights"))
    if ":" in model:
        network = import_network(model, **stage.build)
    else:
        network = create_model(model, num_classes=classes, **stage.build)
    if weights is not None:
        load_into(network, Path(weights))
    return network


def _teacher(stage: Stage, processes: Processes) -> tuple[nn.Module | None, dict[str, Any] | None]:
    """The network to imitate, and what the lineage says of it."""
    if not stage.teacher:
        return None, None
    weights = stage.teacher_weights or None
    if ":" in stage.teacher:
        network = import_network(stage.teacher)
        if weights:
            load_into(network, Path(weights))
        known = {"weights": weights, "sha256": sha256_of(Path(weights)) if weights else None}
    else:
        found = resolve(stage.teacher, weights)
        network, known = found.model, {"weights": found.label, "sha256": found.sha256}
    network = network.to(processes.device).eval().requires_grad_(False)
    return network, {"model": stage.teacher, **known}


def _evaluated(
    network: nn.Module, images: ImageSet | None, stage: Stage, processes: Processes
) -> dict[str, Any] | None:
    if images is None:
        return None
    result = evaluate(network, images, preprocess=stage.preprocess, device=processes.device, progress=False)
    return {"top1": result.top1, "top5": result.top5, "n": result.n, "data": _described(images)}


def _described(images: ImageSet) -> dict[str, Any]:
    return {"name": images.name, "layout": images.layout, "images": len(images), "fingerprint": images.fingerprint}


def _origin(weights: str | None) -> dict[str, str] | None:
    if weights is None:
        return None
    path = Path(weights)
    metadata = safetensors_metadata(path)
    known = {key: value for key, value in metadata.items() if key in ("source_sha256", "license")}
    return {"file": path.name, "sha256": sha256_of(path), **known}


def _write(path: Path, model: str, network: nn.Module, stage: Stage, classes: int, lineage: dict[str, Any]) -> None:
    """Write a stage's weights. No time is in the file: the same run gives the same bytes."""
    metadata = {
        "format": FORMAT,
        "model": model,
        "build": json.dumps({"num_classes": classes, **stage.build}, sort_keys=True),
        "preprocess": stage.preprocess,
        "license": "",
        "lineage": json.dumps(lineage, sort_keys=True),
    }
    write_tensors(path, network.state_dict(), metadata)


def _trained(out: Path, stage: Stage) -> Trained:
    path = out / f"{stage.name}.safetensors"
    return Trained(stage.name, path, json.loads(safetensors_metadata(path)["lineage"]))
