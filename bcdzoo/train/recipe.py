"""A recipe: every option of a training run, in a TOML file.

Its top level holds the options that all stages share; each of its tables is a stage, in order, with its own
options, which override the shared ones. Nothing has a default outside the file.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable
from bcdzoo.toml import read_toml

RECIPES = files("bcdzoo") / "train" / "recipes"

_CHOICES = {
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("cosine", "linear"),
    "decay": ("all", "convolutions", "authors"),
    "keep": ("last", "best"),
    "precision": ("float32", "bfloat16", "float16"),
}
_AT_LEAST_1 = ("iterations", "batch_size", "accumulate", "checkpoint_every", "log_every")
_NOT_NEGATIVE = ("warmup", "warmup_from", "weight_decay", "crop_padding", "evaluate_every", "lr")
_LARGEST = 2**31 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

AS_BUILT = "as built"
"""Value of ``teacher_weights`` for a callable that loads its own weights."""


@dataclass(frozen=True)
class Stage:
    """The options of one stage.

    Attributes:
        name: Name of its table; a plain word, because files are named after it.
        build: Arguments of the network, such as ``step = 1``.
        iterations: Number of updates.
        batch_size: Number of images per update, over all processes.
        accumulate: Number of parts into which a process divides its share of a batch.
        optimizer: Optimizer: ``adamw``; or ``adam`` or ``sgd`` (of momentum 0.9), whose weight decay is added to the
            gradient.
        lr: Highest learning rate.
        warmup: Number of updates in which the learning rate rises linearly to ``lr``.
        warmup_from: Learning rate of the first update of the warm-up.
        schedule: Decay of the learning rate to 0 after the warm-up: ``cosine`` or ``linear``.
        weight_decay: Weight decay of the optimizer.
        decay: Parameters with weight decay: ``all``, the weights of ``convolutions``, or with ``authors`` (ReActNet's)
            also the biases of RSign and the shifts of RPReLU.
        label_smoothing: Share of the label that is spread over all classes.
        teacher: Network to imitate, a zoo name or ``package.module:callable``; ``""`` for none.
        teacher_weights: Weights of the teacher: a tag or a file; ``""`` for a zoo network's default, ``as built`` for
            a callable that loads its own.
        distillation: Share of the teacher in the loss.
        preprocess: Preset or spec (docs/evaluating.md) of the images.
        crop_scale: Smallest and largest share of an image's area in a random crop; ``[]`` for crops of the
            preset's own size, shifted by up to ``crop_padding`` pixels.
        crop_padding: Padding in pixels, without ``crop_scale``.
        flip: Whether to mirror half of the images.
        jitter: Jitter of brightness, contrast, saturation and hue; ``[]`` for none.
        precision: Precision: ``float32``, or mixed with ``bfloat16`` or ``float16``.
        channels_last: Whether to use channels-last memory order.
        compile: Whether to use ``torch.compile``.
        sync_bn: Whether batch normalization spans all processes (on GPUs).
        checkpoint_every: Number of updates between checkpoints.
        log_every: Number of updates between rows of the metrics.
        evaluate_every: Number of updates between evaluations, 0 for only one at the end.
        seed: Random seed.
        keep: Weights to keep: the ``last``, or the ``best`` of its evaluations. These are chosen on the test
            images, so that their accuracy there is too optimistic.
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
    keep: str = "last"

    def to_json(self) -> dict[str, Any]:
        """Return every option except the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(entry.name.removesuffix(".toml") for entry in RECIPES.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str, settings: Mapping[str, Any], arguments: Collection[str] = ()) -> list[Stage]:
    """Read a recipe.

    Args:
        name: Name of a shipped recipe, or the path of a TOML file.
        settings: Options that override the file's: ``{"lr": 1e-3}`` in every stage, ``{"step2.lr": 1e-3}`` in one. An
            argument of the network is set likewise, beside those that the file has; ``build.KEY`` is always one.
        arguments: Arguments that the network takes; an option of the same name goes first.

    Raises:
        BcdzooError: No such recipe, or an option that is missing, unknown or out of range.
    """
    if name in recipe_names():
        options = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    elif not Path(name).exists():
        near = near_ones(name, recipe_names())
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(recipe_names())}"
        raise BcdzooError(f"no recipe {printable(name, 100)}: {hint} (or a .toml file)")
    else:
        options = read_toml(Path(name), "recipe")
    shared = {key: value for key, value in options.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in options.items() if isinstance(value, dict)}
    if not tables:
        raise BcdzooError(f"{name} has no stage: write the options of each in a table [its name]")
    for key in tables:
        if not _NAME.fullmatch(key):
            raise BcdzooError(f"{name}: {printable(repr(key), 60)} is not a valid name of a stage: use a plain word")
    for key, value in settings.items():
        prefix, _, option = key.rpartition(".")
        stage = prefix.removesuffix("build").rstrip(".")
        if stage and stage not in tables:
            raise BcdzooError(f"{name} has no stage {printable(repr(stage), 60)}: it has {', '.join(tables)}")
        of_network = prefix != stage or (option not in _options() and option in arguments)
        for table in [tables[stage]] if stage else tables.values():
            if of_network:
                table["build"] = {**table.get("build", {}), option: value}
            else:
                table[option] = value
    return [_stage(f"{name} [{key}]", key, {**shared, **table}, arguments) for key, table in tables.items()]


def _options() -> dict[str, Any]:
    """Names of a stage's options, with their types."""
    return {field.name: field.type for field in fields(Stage) if field.name != "name"}


def _stage(where: str, name: str, options: dict[str, Any], arguments: Collection[str]) -> Stage:
    kinds = _options()
    for key in options.keys() - kinds.keys():
        near = near_ones(key, [*kinds, *arguments])
        unknown = f"{where}: unknown option {printable(repr(key), 60)}"
        raise BcdzooError(unknown + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ""))
    defaults = {field.name for field in fields(Stage) if field.default is not MISSING}
    for key, kind in kinds.items():
        if key not in options and key in defaults:
            continue
        if key not in options:
            raise BcdzooError(f"{where}: {key}: missing")
        if not _is(options[key], kind):
            value = printable(repr(options[key]), 60)
            raise BcdzooError(f"{where}: {key}: {value} is not a {getattr(kind, '__name__', kind)}")
        if kind is float:
            options[key] = float(options[key])
        elif kind == list[float]:
            options[key] = [float(item) for item in options[key]]
    stage = Stage(name=name, **options)
    if problem := _problem(stage):
        raise BcdzooError(f"{where}: {problem}")
    return stage


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) <= 1e300  # False for NaN
    if kind == list[float]:
        return isinstance(value, list) and all(_is(item, float) for item in value)
    if kind == dict[str, Any]:
        return isinstance(value, dict) and all(map(_plain, value.values()))
    return type(value) is kind


def _plain(value: Any) -> bool:
    """Whether a value can be an argument of a network, as stored in the weights' file."""
    return isinstance(value, str) or (isinstance(value, int | float) and isfinite(value) and abs(value) <= _LARGEST)


def _problem(stage: Stage) -> str | None:
    for key, choices in _CHOICES.items():
        if getattr(stage, key) not in choices:
            return f"{key}: {printable(repr(getattr(stage, key)), 60)} is none of {', '.join(choices)}"
    for key, value in stage.to_json().items():
        if isinstance(value, int) and abs(value) > _LARGEST:
            return f"{key}: must not exceed {_LARGEST}"
        if key in _AT_LEAST_1 and value < 1:
            return f"{key}: must be at least 1"
        if key in _NOT_NEGATIVE and value < 0:
            return f"{key}: must not be negative"
    for key in ("label_smoothing", "distillation"):
        if not 0 <= getattr(stage, key) <= 1:
            return f"{key}: must be from 0 to 1"
    if stage.warmup >= stage.iterations:
        return f"warmup: must be less than the {stage.iterations} iterations"
    if stage.batch_size % stage.accumulate:
        return f"accumulate: {stage.accumulate} parts do not divide a batch_size of {stage.batch_size}"
    if "num_classes" in stage.build:
        return "build: num_classes is that of the data, or --classes"
    return _image_problem(stage) or _teacher_problem(stage)


def _image_problem(stage: Stage) -> str | None:
    crop = parse(stage.preprocess).crop
    if stage.crop_scale and not (len(stage.crop_scale) == 2 and 0 < stage.crop_scale[0] <= stage.crop_scale[1] <= 1):
        return "crop_scale: must be [] or two increasing shares of the image's area, above 0 and at most 1"
    if stage.crop_padding > crop:
        return f"crop_padding: must not be more than the {crop} pixels of a crop"
    if len(stage.jitter) not in (0, 4):
        return "jitter: must be [] or four numbers, of brightness, contrast, saturation and hue"
    if any(value < 0 for value in stage.jitter) or (stage.jitter and stage.jitter[3] > 0.5):
        return "jitter: must not be negative, and the hue's at most 0.5"
    return None


def _teacher_problem(stage: Stage) -> str | None:
    if not stage.teacher and stage.distillation:
        return "distillation: needs a teacher"
    if not stage.teacher and stage.teacher_weights:
        return "teacher_weights: needs a teacher"
    if stage.teacher and not stage.distillation:
        return "distillation: 0 ignores the teacher: set a share (BCDNet's authors: 0.5), or omit the teacher"
    if ":" in stage.teacher and not stage.teacher_weights:
        return (
            f"teacher_weights: {printable(stage.teacher, 100)} may be untrained: "
            f"set a file, or {AS_BUILT!r} if it loads its own weights"
        )
    if ":" not in stage.teacher and stage.teacher_weights == AS_BUILT:
        return f"teacher_weights: {AS_BUILT!r} is for a package.module:callable that loads its own"
    if stage.keep == "best" and not stage.evaluate_every:
        return "keep: 'best' needs evaluate_every"
    return None
