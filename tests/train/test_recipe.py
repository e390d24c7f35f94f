"""Recipes: what is in the file is what is done, and nothing else is accepted."""

import math
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.registry import REGISTRY
from bcdzoo.text import printable
from bcdzoo.train.loop import _optimizer as optimizer_of
from bcdzoo.train.recipe import RECIPES, load_recipe, recipe_names
from bcdzoo.train.schedule import learning_rate
from tests.weights import authors


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_complete(name: str) -> None:
    stages = load_recipe(name, {})
    assert [stage.name for stage in stages] == (
        ["train"] if name in ("adabin", "cifar10", "recu", "reste") else ["step1", "step2"]
    )
    assert all(stage.weight_decay == 0 for stage in stages[1:])  # the paper: weight decay in step 1 alone


def test_every_network_that_names_a_recipe_has_it() -> None:
    assert {spec.recipe for spec in REGISTRY.values()} - {""} <= set(recipe_names())


def test_the_papers_recipe_is_the_papers() -> None:
    step1, step2 = load_recipe("bcdnet", {})
    assert (step1.iterations, step2.iterations) == (300_000, 600_000)
    assert (step1.optimizer, step1.schedule, step1.label_smoothing) == ("adamw", "cosine", 0.1)
    assert (step1.build, step2.build) == ({"step": 1}, {"step": 2})
    assert step1.jitter and not step2.jitter
    assert step1.warmup_from == 1e-3 and step2.lr == 5e-4


def test_the_recipe_of_cifar10_is_that_of_its_papers() -> None:
    (stage,) = load_recipe("cifar10", {})
    assert stage.iterations == 400 * (50_000 // 128)
    assert (stage.batch_size, stage.lr, stage.schedule, stage.weight_decay) == (128, 0.1, "cosine", 1e-4)
    assert (stage.crop_padding, stage.flip, stage.crop_scale, stage.jitter) == (4, True, [], [])
    optimizer = optimizer_of(torch.nn.Linear(2, 2), stage)
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["momentum"] == 0.9


def test_a_networks_arguments_are_set_beside_those_of_the_recipe() -> None:
    settings = {"mlp_groups": 4, "step2.width": 8, "build.lr": 3, "step1.build.seed": 5, "lr": 1}
    step1, step2 = load_recipe("tiny", settings, ["step", "mlp_groups", "width", "lr"])
    assert step1.build == {"step": 1, "mlp_groups": 4, "lr": 3, "seed": 5}
    assert step2.build == {"step": 2, "mlp_groups": 4, "width": 8, "lr": 3}
    assert (step1.lr, step2.lr) == (1.0, 1.0)
    with pytest.raises(BcdzooError, match="has no stage 'step3'"):
        load_recipe("tiny", {"step3.build.width": 8}, ["width"])


def test_settings_replace_options_of_one_stage_or_of_all() -> None:
    step1, step2 = load_recipe("tiny", {"seed": 7, "step2.lr": 1, "step1.build": {}})
    assert step1.seed == step2.seed == 7
    assert (step1.lr, step2.lr) == (4e-3, 1.0)
    assert step1.build == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lrr": 1}, r"unknown option 'lrr'; did you mean 'lr'\?"),
        ({"step3.lr": 1}, "no stage 'step3'"),
        ({"lr": "high"}, "lr: 'high' is not a float"),
        ({"lr": -1}, "lr: must not be negative"),
        ({"iterations": 0}, "iterations: must be at least 1"),
        ({"iterations": 2.5}, "iterations: 2.5 is not a int"),
        ({"flip": 1}, "flip: 1 is not a bool"),
        ({"optimizer": "lion"}, "optimizer: 'lion' is none of adamw, adam, sgd"),
        ({"label_smoothing": 2}, "label_smoothing: must be from 0 to 1"),
        ({"iterations": 5, "warmup": 5}, "warmup: must be less than the 5 iterations"),
        ({"crop_scale": [0.5]}, "crop_scale"),
        ({"jitter": [0.1]}, "jitter"),
        ({"distillation": 0.5}, "distillation: needs a teacher"),
        ({"teacher_weights": "x.pth"}, "teacher_weights: needs a teacher"),
        ({"teacher": "resnet-18"}, "distillation: 0 ignores the teacher"),
        ({"teacher": "a:b", "distillation": 0.5}, "may be untrained"),
        ({"teacher": "resnet-18", "teacher_weights": "as built", "distillation": 0.5}, "is for a package.module"),
        ({"lr": math.nan}, "lr: nan is not a float"),
        ({"lr": math.inf}, "lr: inf is not a float"),
        ({"lr": 10**400}, "lr: 1000.* is not a float"),
        ({"weight_decay": -math.inf}, "weight_decay: -inf is not a float"),
        ({"lr": True}, "lr: True is not a float"),
        ({"lr": [1]}, r"lr: \[1\] is not a float"),
        ({"iterations": 10**30}, "iterations: must not exceed 2147483647"),
        ({"seed": -(10**30)}, "seed: must not exceed"),
        ({"batch_size": -1}, "batch_size: must be at least 1"),
        ({"accumulate": 7}, "accumulate: 7 parts do not divide a batch_size of 64"),
        ({"accumulate": 0}, "accumulate: must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every: must be at least 1"),
        ({"warmup": -1}, "warmup: must not be negative"),
        ({"label_smoothing": math.nan}, "label_smoothing: nan is not a float"),
        ({"crop_scale": [0.5, math.nan]}, "crop_scale: .* is not a list"),
        ({"crop_scale": [True, True]}, "crop_scale: .* is not a list"),
        ({"crop_scale": [0.9, 0.5]}, "crop_scale: must be"),
        ({"crop_padding": 10**6}, "crop_padding: must not be more than the 28 pixels"),
        ({"jitter": [0.1, 0.1, 0.1, 0.7]}, "jitter: must not be negative, and the hue's at most 0.5"),
        ({"jitter": [-0.1, 0.1, 0.1, 0.1]}, "jitter: must not be negative"),
        ({"build": {"step": [[1]]}}, "build: .* is not a dict"),
        ({"build": {"step": date(2026, 1, 1)}}, "build: .* is not a dict"),
        ({"build": {"num_classes": 3}}, "build: num_classes is that of the data"),
        ({"build": 1}, "build: 1 is not a dict"),
        ({"name": "x"}, "unknown option 'name'"),
        ({"teacher": 5}, "teacher: 5 is not a str"),
        ({"teacher": "\x1b[2J\n", "distillation": 0.0}, "distillation: 0 ignores"),
        ({"\x1b[2J": 5}, r"unknown option '\\x1b\[2J'"),
        ({"keep": "best"}, "keep: 'best' needs evaluate_every"),
        ({"keep": "first"}, "keep: 'first' is none of last, best"),
        ({"preprocess": "imagenet-9000"}, "imagenet-9000"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BcdzooError, match=message) as caught:
        load_recipe("tiny", settings)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("[../../x]", "is not a recipe: "),
        ('["../../x"]', "'../../x' is not a valid name of a stage: use a plain word"),
        ('["/etc/x"]', "is not a valid name of a stage"),
        ('[""]', "'' is not a valid name of a stage"),
        ('["."]', "'.' is not a valid name of a stage"),
        ('["a.b"]', "'a.b' is not a valid name of a stage"),
        ('["\\u001b[2J"]', r"is not a valid name of a stage"),
        ('["a\\u0000b"]', "is not a valid name of a stage"),
        ('["' + "x" * 300 + '"]', "is not a valid name of a stage"),
        ("x = " + "[" * 5000 + "]" * 5000, "is not a recipe: "),
        ("x = " + "1" * 5000, "is not a recipe: "),
        ("[step1]\nx = 1\n[[step2]]", "unknown option"),
        ("\0", "is not a recipe: "),
        ("#" * 2_000_000, "is not a recipe: it has more than"),
        ("", "has no stage"),
    ],
)
def test_a_file_that_cannot_be_a_recipe_is_one_line(tmp_path: Path, head: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(head + "\n")
    with pytest.raises(BcdzooError, match=message) as caught:
        load_recipe(str(tmp_path / "mine.toml"), {})
    assert printable(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_what_is_no_regular_file_is_no_recipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for name, kind in ((tmp_path / "pipe.toml", "a named pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(BcdzooError, match=f"is {kind}, not a regular file"):
            load_recipe(str(name), {})


def test_an_option_that_is_left_out_is_named(tmp_path: Path) -> None:
    text = (RECIPES / "tiny.toml").read_text().replace("flip = true\n", "")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(BcdzooError, match=r"mine.toml \[step1\]: flip: missing"):
        load_recipe(str(tmp_path / "mine.toml"), {})


def test_no_such_recipe_says_which_there_are() -> None:
    with pytest.raises(BcdzooError, match="no recipe fast: use one of adabin"):
        load_recipe("fast", {})


@given(st.integers(0, 30), st.integers(1, 200), st.data())
def test_the_cosine_is_torchs(warmup: int, more: int, data: st.DataObject) -> None:
    (stage, _) = load_recipe("tiny", {"warmup": warmup, "iterations": warmup + more, "warmup_from": 1e-3, "lr": 4e-3})
    done = data.draw(st.integers(0, more))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=4e-3)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, more)
    for _ in range(done):
        optimizer.step()
        torchs.step()
    assert math.isclose(learning_rate(stage, warmup + done), torchs.get_last_lr()[0], rel_tol=1e-6, abs_tol=1e-9)
    if warmup:
        assert learning_rate(stage, 0) == 1e-3
        assert 1e-3 <= learning_rate(stage, warmup - 1) < 4e-3


@pytest.mark.parametrize("content", ["a" + ".a" * 500_000 + "=1", "[" + "a." * 1000 + "a]", "a=" + "[" * 100_000])
def test_a_file_that_takes_long_to_parse_is_refused_at_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(content)
    with pytest.raises(BcdzooError, match=r"deep.toml is not a recipe: (it has more|a line has|it is nested)"):
        load_recipe(str(path), {})


@pytest.mark.parametrize(("decay", "dimensions"), [("authors", 4), ("all", 0)])
def test_what_decays_is_what_decays_in_the_authors_network(decay: str, dimensions: int) -> None:
    (stage, *_) = load_recipe("reactnet-r18", {"decay": decay, "weight_decay": 1e-5})
    optimizer = optimizer_of(bcdzoo.create_model("reactnet-r18"), stage)
    rates = {group["weight_decay"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    parameters = [
        shape
        for key, shape in authors.record("reactnet-r18")["keys"].items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    theirs = sum(math.prod(shape) for shape in parameters if len(shape) >= dimensions)
    assert rates.pop(1e-5) == theirs
    assert sum(rates.values()) == sum(map(math.prod, parameters)) - theirs
