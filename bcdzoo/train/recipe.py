"""A recipe: every option of a training run, in a TOML file.

Its top level holds the options that all stages share; each of its tables is a stage, in order, with options of its
own, which go before the shared ones. Nothing has a default outside the file.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError

RECIPES = files("bcdzoo") / "train" / "recipes"

_CHOICES = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "linear"),
    "decay": ("all", "convolutions"),
    "precision": ("float32", "bfloat16", "float16"),
}
_AT_LEAST_1 = ("iterations", "batch_size", "accumulate", "checkpoint_every", "log_every")


@dataclass(frozen=True)
class Stage:
    """The options of one stage.

    Attributes:
        name: Of its table.
        build: Arguments that the network is built with, such as ``step = 1``.
        iterations: Updates of the weights.
        batch_size: Images per update, over all processes.
        accumulate: Parts that a process takes its share of a batch in, one after the other.
        optimizer: ``adamw``, or ``adam`` whose weight decay is added to the gradient.
        lr: Highest learning rate.
        warmup: Updates in which it rises to ``lr`` linearly.
        warmup_from: Learning rate of the first update of the warm-up.
        schedule: How it falls to 0 after the warm-up: ``cosine`` or ``linear``.
        weight_decay: Of the optimizer.
        decay: What it applies to: ``all`` parameters, or the weights of ``convolutions``.
        label_smoothing: Share of the label that is spread over all classes.
        teacher: Network whose outputs are imitated, a zoo name or ``package.module:callable``; ``""`` for none.
        teacher_weights: Its weights: a tag or a file; ``""`` for a zoo network's default ones.
        distillation: Share of the loss that is the teacher's; with a second classifier, of that one's loss.
        preprocess: A preset or a spec (docs/evaluating.md): of the images that the weights are for.
        crop_scale: Least and greatest share of an image's area that a random crop takes; ``[]`` for crops of the
            preset's own size, shifted by up to ``crop_padding`` pixels.
        crop_padding: In pixels, without ``crop_scale``.
        flip: Whether half of the images are mirrored.
        jitter: Of brightness, contrast, saturation and hue; ``[]`` for none.
        precision: Of most arithmetic: ``float32``, or mixed with ``bfloat16`` or ``float16``.
        channels_last: Whether the maps lie in memory pixel by pixel.
        compile: Whether ``torch.compile`` makes kernels for this network first.
        sync_bn: Whether batch normalization is over all processes (on GPUs).
        checkpoint_every: Updates between two checkpoints.
        log_every: Updates between two lines in the metrics.
        evaluate_every: Updates between two evaluations, 0 for one at the end alone.
        seed: Of all that is random.
    """

    name: str
    build: dict[str, Any]
    iterations: int
    batch_size: int
    accumulate: int
    optimizer: str
    lr: float
    warmup: int
    warmup_from: float
    schedule: str
    weight_decay: float
    decay: str
    label_smoothing: float
    teacher: str
    teacher_weights: str
    distillation: float
    preprocess: str
    crop_scale: list[float]
    crop_padding: int
    flip: bool
    jitter: list[float]
    precision: str
    channels_last: bool
    compile: bool
    sync_bn: bool
    checkpoint_every: int
    log_every: int
    evaluate_every: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Every option but the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(entry.name.removesuffix(".toml") for entry in RECIPES.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str, settings: Mapping[str, Any]) -> list[Stage]:
    """Read a recipe.

    Args:
        name: Of a shipped recipe, or the path of a TOML file.
        settings: Options in place of the file's: ``{"lr": 1e-3}`` in every stage, ``{"step2.lr": 1e-3}`` in one.

    Raises:
        BcdzooError: No such recipe, or an option that is missing, unknown or out of its range.
    """
    try:
        source = RECIPES / f"{name}.toml" if name in recipe_names() else Path(name)
        content = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BcdzooError(f"no recipe {name}: use one of {', '.join(recipe_names())}, or a .toml file") from None
    except ValueError as error:
        raise BcdzooError(f"{name} is not a recipe: {error}") from error
    shared = {key: value for key, value in content.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    if not tables:
        raise BcdzooError(f"{name} has no stage: write the options of each below [its name]")
    for key, value in settings.items():
        stage, dot, option = key.rpartition(".")
        if dot and stage not in tables:
            raise BcdzooError(f"{name} has no stage {stage!r}: it has {', '.join(tables)}")
        for table in [tables[stage]] if dot else tables.values():
            table[option] = value
    return [_stage(f"{name} [{key}]", {**shared, **table, "name": key}) for key, table in tables.items()]


def _stage(where: str, options: dict[str, Any]) -> Stage:
    kinds = {field.name: field.type for field in fields(Stage)}
    for key in options.keys() - kinds.keys():
        near = difflib.get_close_matches(key, kinds, n=1)
        raise BcdzooError(f"{where}: unknown option {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key, kind in kinds.items():
        if key not in options:
            raise BcdzooError(f"{where}: {key}: missing")
        options[key] = _typed(f"{where}: {key}", options[key], kind)
    stage = Stage(**options)
    if problem := _problem(stage):
        raise BcdzooError(f"{where}: {problem}")
    return stage


def _typed(where: str, value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == list[float]:
        if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
            return [float(item) for item in value]
    elif kind == dict[str, Any]:
        if isinstance(value, dict):
            return value
    elif isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise BcdzooError(f"{where}: {value!r} is not a {getattr(kind, '__name__', kind)}")


def _problem(stage: Stage) -> str | None:
    for key, choices in _CHOICES.items():
        if getattr(stage, key) not in choices:
            return f"{key}: {getattr(stage, key)!r} is none of {', '.join(choices)}"
    for key in _AT_LEAST_1:
        if getattr(stage, key) < 1:
            return f"{key}: must be at least 1"
    for key in ("warmup", "warmup_from", "weight_decay", "crop_padding", "evaluate_every", "lr"):
        if not getattr(stage, key) >= 0:
            return f"{key}: must not be negative"
    for key in ("label_smoothing", "distillation"):
        if not 0 <= getattr(stage, key) <= 1:
            return f"{key}: must be from 0 to 1"
    if stage.warmup >= stage.iterations:
        return f"warmup: must be less than the {stage.iterations} iterations"
    if stage.crop_scale and not (len(stage.crop_scale) == 2 and 0 < stage.crop_scale[0] <= stage.crop_scale[1] <= 1):
        return "crop_scale: must be [] or two rising shares of the image's area, from above 0 to 1"
    if len(stage.jitter) not in (0, 4):
        return "jitter: must be [] or four numbers, of brightness, contrast, saturation and hue"
    if stage.distillation and not stage.teacher:
        return "distillation: needs a teacher"
    parse(stage.preprocess)
    return None
