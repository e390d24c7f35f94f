"""Whole training runs of a small network: killed, resumed, shared, and what they leave behind."""

import csv
import importlib.metadata
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import bcdzoo
from bcdzoo.cli import main
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import only_process, sha256_of
from bcdzoo.layers.quantizers.rbnn import RotatedWeight
from bcdzoo.seal import SEAL, DamagedError
from bcdzoo.train import checkpoint
from bcdzoo.train.metrics import Metrics, read
from bcdzoo.train.stages import Trained, train
from bcdzoo.weights.convert import safetensors_metadata
from tests.command import bcdzoo as zoo
from tests.command import on_a_full_disk
from tests.data import cifar
from tests.train.idx import stripes

QUICK = {
    "batch_size": 16,
    "iterations": 12,
    "warmup": 0,
    "step1.warmup": 4,
    "checkpoint_every": 3,
    "log_every": 2,
    "compile": False,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("data") / "stripes")


def run(data: Path, out: Path, **settings: Any) -> list[Trained]:
    return train("bcdnet-tiny", data, out, settings=QUICK | settings, workers=0)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Trained]:
    return run(data, tmp_path_factory.mktemp("whole") / "run")


def command(data: Path, out: Path, **settings: Any) -> list[str]:
    words = ["bcdnet-tiny", "--data", str(data), "--out", str(out), "--workers", "0"]
    for key, value in (QUICK | settings).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


def execute(words: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, env=os.environ | environment
    )


def test_a_network_learns_in_two_steps_each_from_the_weights_of_the_one_before(data: Path, tmp_path: Path) -> None:
    first, second = run(data, tmp_path / "run", iterations=40)
    assert (first.stage, second.stage) == ("step1", "step2")
    assert second.lineage["evaluation"]["top1"] > 60  # of ten classes
    assert second.lineage["evaluation"]["n"] == 40
    parent = {"file": "step1.safetensors", "sha256": sha256_of(first.weights), "license": ""}
    assert second.lineage["parent"] == parent


def test_trained_weights_are_loaded_by_name_and_give_the_accuracy_of_their_lineage(
    data: Path, whole: list[Trained]
) -> None:
    trained = whole[-1]
    network = bcdzoo.load_model("bcdnet-tiny", weights=str(trained.weights))
    result = bcdzoo.evaluate("bcdnet-tiny", data, weights=str(trained.weights))
    assert result.top1 == trained.lineage["evaluation"]["top1"]
    assert parse(result.preprocess) == parse(safetensors_metadata(trained.weights)["preprocess"])
    with torch.inference_mode():
        x = torch.randn(2, 3, 28, 28)
        torch.testing.assert_close(bcdzoo.pack(network)(x), network(x))


def test_the_lineage_says_what_the_weights_came_from(data: Path, whole: list[Trained]) -> None:
    lineage = json.loads(safetensors_metadata(whole[1].weights)["lineage"])
    assert lineage == whole[1].lineage
    assert lineage["recipe"]["iterations"] == 12
    assert lineage["recipe"]["name"] == "tiny"
    assert lineage["data"]["images"] == 96
    assert lineage["data"]["fingerprint"]
    assert lineage["versions"]["torch"] == importlib.metadata.version("torch")
    assert lineage["initial"] is None
    assert lineage["teacher"] is None


def test_the_metrics_are_a_csv_of_every_logged_update(whole: list[Trained]) -> None:
    with (whole[0].weights.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows if row["stage"] == "step2"] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert all(float(row["loss"]) > 0 for row in rows)


def test_tensorboard_shows_the_rows_of_the_metrics(data: Path, tmp_path: Path) -> None:
    settings = QUICK | {"iterations": 4, "step1.warmup": 1}
    train("bcdnet-tiny", data, tmp_path / "run", settings=settings, workers=0, tensorboard=True)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "step2")).Reload()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == "step2"]
    for column in ("lr", "loss", "train_top1"):
        shown = {event.step: event.value for event in board.Scalars(column)}
        assert shown == pytest.approx({int(row["iteration"]): float(row[column]) for row in rows})


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_network_learns_in_mixed_precision(data: Path, tmp_path: Path, precision: str) -> None:
    trained = run(data, tmp_path / "run", iterations=30, precision=precision)
    assert trained[1].lineage["evaluation"]["top1"] > 60  # of ten classes


def test_the_same_command_again_does_nothing_more(data: Path, whole: list[Trained]) -> None:
    before = [(trained.weights, trained.weights.stat().st_mtime_ns) for trained in whole]
    again = run(data, whole[0].weights.parent)
    assert [(trained.weights, trained.weights.stat().st_mtime_ns) for trained in again] == before


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    data: Path, whole: list[Trained], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    killed = 0
    for place in ("step1.checkpoint.pt", "step1.safetensors", "step2.checkpoint.pt"):
        process = subprocess.Popen(
            [sys.executable, "-m", "bcdzoo", "train", *command(data, out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not (out / place).exists():
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 2
    last = zoo("train", *command(data, out))
    assert last.returncode == 0, last.stderr
    assert same(out, whole)
    assert not list(out.glob("*.checkpoint.pt"))
    # the speeds differ, nothing else does
    columns = ("stage", "iteration", "lr", "loss", "train_top1", "test_top1")
    logs = []
    for folder in (out, whole[0].weights.parent):
        with (folder / "metrics.csv").open() as file:
            logs.append([[row[key] for key in columns] for row in csv.DictReader(file)])
    assert logs[0] == logs[1]


def test_two_processes_train_the_network_that_one_would(data: Path, tmp_path: Path) -> None:
    # the same batch in two halves, each with its own batch statistics: near, not equal
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bcdzoo", "train"]
    done = execute([*torchrun, *command(data, tmp_path / "two", iterations=40)])
    assert done.returncode == 0, done.stderr
    lineage = json.loads(safetensors_metadata(tmp_path / "two" / "step2.safetensors")["lineage"])
    assert lineage["processes"] == 2
    assert lineage["evaluation"]["top1"] > 60
    assert done.stdout.count("step2\t") == 1


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_kept(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BcdzooError, match=r"no longer finite after \d+ updates; .*try a lower lr"):
        run(data, tmp_path / "run", lr=1e30, checkpoint_every=1)  # the first update of the warm-up has lr 0
    state = torch.load(tmp_path / "run" / "step1.checkpoint.pt", weights_only=True)
    assert state["done"] >= 1
    assert all(bool(value.isfinite().all()) for value in state["network"].values() if value.is_floating_point())


@pytest.mark.parametrize("change", ["recipe", "data", "weights"])
def test_a_folder_is_for_one_run(data: Path, whole: list[Trained], tmp_path: Path, change: str) -> None:
    folder = whole[0].weights.parent
    with pytest.raises(BcdzooError, match="is the folder of a run with different"):
        match change:
            case "recipe":
                run(data, folder, lr=0.5)
            case "data":
                run(stripes(tmp_path / "other", train=64), folder)
            case "weights":
                train("bcdnet-tiny", data, folder, settings=QUICK, workers=0, weights=str(whole[0].weights))


@pytest.fixture(scope="module")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed in its first step."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", killed_at(8, torch.optim.AdamW.step))
        with pytest.raises(KeyboardInterrupt):
            run(data, out)
    assert checkpoint.load(out / "step1.checkpoint.pt")
    return out


def killed_at(update: int, step: Any) -> Any:
    """An optimizer's step, in which Ctrl-C comes the given time that it is called."""
    calls = count(1)

    def patched(*arguments: Any, **options: Any) -> Any:
        if next(calls) == update:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    return patched


def copy(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def same(out: Path, whole: list[Trained]) -> bool:
    return all((out / trained.weights.name).read_bytes() == trained.weights.read_bytes() for trained in whole)


def test_every_flipped_bit_of_a_checkpoint_that_matters_is_noticed(stopped: Path, tmp_path: Path) -> None:
    path = tmp_path / "step1.checkpoint.pt"
    content, dice, noticed = (stopped / path.name).read_bytes(), random.Random(0), 0
    (tmp_path / "whole.pt").write_bytes(content)
    whole = checkpoint.load(tmp_path / "whole.pt")
    for _ in range(20):
        damaged = bytearray(content)
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            torch.testing.assert_close(checkpoint.load(path), whole, rtol=0, atol=0)
        except DamagedError as error:
            assert str(error).startswith(f"{path} is damaged, delete it to train this stage again: ")
            noticed += 1
    assert noticed > 15


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", None])
def test_a_damaged_checkpoint_is_named_and_without_it_the_run_ends_as_ever(
    data: Path, stopped: Path, whole: list[Trained], tmp_path: Path, content: bytes | None
) -> None:
    out = copy(stopped, tmp_path / "run")
    path = out / "step1.checkpoint.pt"
    if content is None:
        torch.save([1], path)
    else:
        path.write_bytes(content)
    with pytest.raises(BcdzooError, match=r"step1.checkpoint.pt is damaged, delete it") as caught:
        run(data, out)
    assert "\n" not in str(caught.value)
    if content is None:
        path.unlink()
        run(data, out)
        assert same(out, whole)


def test_a_checkpoint_of_an_older_version_is_read_and_said_to_be_unchecked(
    data: Path, stopped: Path, whole: list[Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy(stopped, tmp_path / "run")
    state = checkpoint.load(out / "step1.checkpoint.pt") or {}
    old = {key: state[key] for key in ("done", "network", "optimizer", "scaler")}
    torch.save(old, out / "step1.checkpoint.pt")
    plan = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({key: plan[key] for key in plan if key not in (SEAL, "initial")}))
    run(data, out)
    assert same(out, whole)
    said = capsys.readouterr().err
    assert said.count("unchecked") == 2 and "run.json is unchecked" in said


def test_a_checkpoint_of_another_run_or_network_is_refused(data: Path, stopped: Path, tmp_path: Path) -> None:
    out = copy(stopped, tmp_path / "run")
    (out / "run.json").write_text("{")
    with pytest.raises(BcdzooError, match=r"is from a stage with other options \(lr was 0.004 but is 0.5\)"):
        run(data, out, lr=0.5)
    state = checkpoint.load(out / "step1.checkpoint.pt") or {}
    checkpoint.save(out / "step1.checkpoint.pt", state | {"network": {"a": torch.zeros(1)}})
    (out / "run.json").unlink()
    with pytest.raises(BcdzooError, match=r"step1.checkpoint.pt is not from this network: .*; delete it"):
        run(data, out)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model": "bcdnet-tiny"}', "[" * 100_000])
def test_a_damaged_plan_is_said_and_the_run_goes_on(
    data: Path, whole: list[Trained], tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copy(whole[0].weights.parent, tmp_path / "run")
    (out / "run.json").write_text(content)
    run(data, out)
    assert re.search("run.json is (damaged|unchecked)", capsys.readouterr().err)
    (out / "run.json").write_text(content)
    with pytest.raises(BcdzooError, match=r"step1.safetensors is from another run: delete it"):
        run(data, out, lr=0.5)


def test_damaged_metrics_lose_no_row_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(tmp_path, "step1", 0, False)
    for iteration in range(1, 6):
        metrics.add(iteration, lr=0.1, loss=1 / iteration)
    path = tmp_path / "metrics.csv"
    whole = path.read_text()
    path.write_text(whole.replace("0.25", "0.35").replace("0.3333", "0.\x00") + "step1,6,0.")
    rows = read(path)
    assert [row["iteration"] for row in rows] == ["1", "2", "5"]
    assert "2 of its 5 rows are left out" in capsys.readouterr().err
    assert "0.35" in (tmp_path / "metrics.csv.damaged").read_text()
    for odd in (b"", b"\xff\xfe", b"a,b\n1\n", b"\0" * 100, b",".join([b"x"] * 100_000) + b"\n"):
        path.write_bytes(odd)
        assert read(path) == []
    head = "stage,iteration,lr,loss,train_top1,test_top1,images_per_second"
    path.write_text(f"{head}\r\nstep1,3,0.1,2,50,,9\r\nstep1,x,0.1,2,50,,9\r\n")
    assert [row["loss"] for row in read(path)] == ["2"]
    assert "is unchecked" in capsys.readouterr().err


def test_a_second_process_in_the_same_folder_is_told_so(data: Path, tmp_path: Path) -> None:
    with (
        only_process(tmp_path / "run", "training into the same folder"),
        pytest.raises(BcdzooError, match="another process is training into the same folder"),
    ):
        run(data, tmp_path / "run")


def test_what_a_killed_command_left_half_written_goes_at_the_next(
    data: Path, whole: list[Trained], tmp_path: Path
) -> None:
    out = copy(whole[0].weights.parent, tmp_path / "run")
    (out / ".step1.checkpoint.pt.bcdzoo-abc123.tmp").write_bytes(b"half")
    run(data, out)
    assert not list(out.glob(".*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 200}, "batch_size 200 is more than the 96 images"),
        ({"step2.batch_size": 200}, "batch_size 200 is more than the 96 images"),
        ({"build": {"steps": 1}}, "bcdnet-tiny: got an unexpected keyword argument 'steps'"),
        ({"step2.teacher": "resnet-50", "step2.distillation": 0.5}, "no network named 'resnet-50'"),
        ({"teacher": "tests.own_networks:Wide", "teacher_weights": "/nowhere.pth", "distillation": 0.5}, "/nowhere"),
        (
            {"teacher": "tests.train.test_stages:three", "teacher_weights": "as built", "distillation": 0.5},
            "the teacher tests.train.test_stages:three has 3 outputs, but bcdnet-tiny has 10",
        ),
        (
            {"teacher": "tests.train.test_stages:ten", "teacher_weights": "as built", "step2.distillation": 1.0,
             "step1.distillation": 0.5},
            "step2: distillation: 1 leaves bcdnet-tiny's classifier for the labels",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_found_out_before_anything_is(
    data: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BcdzooError, match=message) as caught:
        run(data, tmp_path / "run", **settings)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]  # another recipe may have the folder


class Mean(torch.nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(images.mean(dim=(2, 3)))
        return logits


def three() -> torch.nn.Module:
    return Mean(3)


def ten() -> torch.nn.Module:
    return Mean(10)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("tests.train.test_stages:three", "three has 3 outputs, but the images have 10 classes"),
        ("tests.own_networks:Wide", "the network tests.own_networks:Wide fails on an image of 3×28×28"),
        ("tests.own_networks:Feature", r"must return logits of shape \(1, classes\), not shape \(1, 3, 28, 28\)"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(
    data: Path, tmp_path: Path, network: str, message: str
) -> None:
    with pytest.raises(BcdzooError, match=message):
        train(network, data, tmp_path, recipe="tiny", settings=QUICK | {"build": {}}, workers=0)


def test_the_best_of_a_runs_evaluations_is_kept_if_asked_for_whether_it_was_killed_or_not(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"keep": "best", "evaluate_every": 2, "lr": 0.3, "step2.iterations": 1}
    trained = run(data, tmp_path / "run", **settings)
    assert "chosen on the test images, so their accuracy there is too optimistic" in capsys.readouterr().err
    rows = [row for row in read(tmp_path / "run" / "metrics.csv") if row["stage"] == "step1" and row["test_top1"]]
    best = max(rows, key=lambda row: (float(row["test_top1"]), -int(row["iteration"])))
    assert trained[0].lineage["updates"] == int(best["iteration"]) < 12
    assert trained[0].lineage["evaluation"]["top1"] == float(best["test_top1"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", killed_at(12, torch.optim.AdamW.step))
        run(data, tmp_path / "again", **settings)
    run(data, tmp_path / "again", **settings)
    assert same(tmp_path / "again", trained)


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    data: Path, whole: list[Trained], tmp_path: Path
) -> None:
    words = ["train", *command(data, tmp_path / "small")]
    done = on_a_full_disk(tmp_path / "small", ("1m", "100m"), words)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"bcdzoo: cannot write .*/step1.checkpoint.pt: No space left on device; the same command .*", line
    )
    assert same(tmp_path / "small.kept", whole)


def test_weights_say_the_names_of_their_classes(whole: list[Trained], data: Path, tmp_path: Path) -> None:
    assert json.loads(safetensors_metadata(whole[1].weights)["class_names"]) == [str(number) for number in range(10)]
    names = [f"stripe {number}" for number in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    words = command(data, tmp_path / "run", iterations=1, **{"step1.warmup": 0})
    done = zoo("train", *words, "--class-names", str(tmp_path / "names.txt"))
    assert done.returncode == 0, done.stderr
    assert json.loads(safetensors_metadata(tmp_path / "run" / "step1.safetensors")["class_names"]) == names


def test_a_teacher_is_imitated_and_named(data: Path, whole: list[Trained], tmp_path: Path) -> None:
    taught = run(data, tmp_path / "run", teacher="bcdnet-tiny", teacher_weights=str(whole[1].weights), distillation=0.5)
    assert taught[1].lineage["teacher"]["model"] == "bcdnet-tiny"
    assert taught[1].lineage["teacher"]["sha256"] == sha256_of(whole[1].weights)
    heads = load_file(taught[1].weights)
    assert not torch.equal(heads["head.fc.weight"], heads["head.fc_dist.weight"])


def test_initial_weights_are_those_of_a_file(data: Path, whole: list[Trained], tmp_path: Path) -> None:
    tuned = train(
        "bcdnet-tiny",
        data,
        tmp_path / "run",
        settings=QUICK | {"lr": 0.0, "weight_decay": 0.0, "iterations": 1, "step1.warmup": 0},
        workers=0,
        weights=str(whole[0].weights),
    )
    assert tuned[1].lineage["initial"]["sha256"] == sha256_of(whole[0].weights)
    before, after = load_file(whole[0].weights), load_file(tuned[0].weights)
    weights = [key for key in before if key.endswith("conv.weight")]
    assert len(weights) > 5 and all(torch.equal(after[key], before[key]) for key in weights)


def test_a_loaded_network_fine_tunes_in_ordinary_code(data: Path, whole: list[Trained]) -> None:
    network = bcdzoo.load_model("bcdnet-tiny", weights=str(whole[1].weights)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    x, y = torch.randn(20, 3, 28, 28), torch.arange(20) % 10
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_command_prints_a_line_for_each_stage(
    data: Path, whole: list[Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", *command(data, copy(whole[0].weights.parent, tmp_path / "run"))])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert [line.split("\t")[0] for line in printed.splitlines()] == ["step1", "step2"]
    assert "% of 40 images" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such", "--data", "."], "no network named 'no-such'"),
        (["birealnet-18", "--data", "{data}"], "has no recipe of its own"),
        (["bcdnet-tiny", "--data", "{data}", "--set", "lrr=1"], "did you mean 'lr'"),
        (["bcdnet-tiny", "--data", "/nowhere"], "/nowhere"),
        (["bcdnet-tiny", "--data", "{data}", "--device", "cuda:7"], "cannot use device cuda:7"),
    ],
)
def test_bad_input_is_one_line(
    data: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", *(word.format(data=data) for word in words), "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert left.value.code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.glob("run/*.safetensors"))


class Steps(Mean):
    """Somebody's network of two steps."""

    def __init__(self, num_classes: int = 1000, step: int = 2, width: int = 3) -> None:
        super().__init__(num_classes)
        self.step, self.width = step, width


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Arguments of every :class:`Steps` that is made."""
    made = []

    def init(self: Steps, num_classes: int = 1000, step: int = 2, width: int = 3) -> None:
        Mean.__init__(self, num_classes)
        made.append((num_classes, step, width))

    monkeypatch.setattr(Steps, "__init__", init)
    return made


STEPS = "tests.train.test_stages:Steps"


def test_an_own_network_learns_in_two_steps_and_eval_gives_the_accuracy_that_train_gave(
    data: Path, tmp_path: Path, built: list[tuple[int, int, int]]
) -> None:
    settings = QUICK | {"width": 5, "step1.width": 4, "build.step": 2, "step1.step": 1}
    done = train(STEPS, data, tmp_path / "run", recipe="tiny", settings=settings, workers=0)
    assert list(dict.fromkeys(built)) == [(10, 1, 4), (10, 2, 5)]
    built.clear()
    result = bcdzoo.evaluate(STEPS, data, weights=done[-1].weights, check=False)
    assert result.top1 == done[-1].lineage["evaluation"]["top1"]
    assert built == [(10, 2, 5)] and result.build == {"num_classes": 10, "step": 2, "width": 5}


def test_arguments_that_an_own_network_does_not_take_are_named_with_near_ones(data: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"widht": 4}, "unknown option 'widht'; did you mean 'width'"),
        ({"build.widht": 4}, "Steps takes no widht; did you mean width"),
    ):
        with pytest.raises(BcdzooError, match=message):
            train(STEPS, data, tmp_path / "run", recipe="tiny", settings=QUICK | settings, workers=0)
    with pytest.raises(BcdzooError, match="three takes no step; it takes nothing"):
        train("tests.train.test_stages:three", data, tmp_path / "run", recipe="tiny", settings=QUICK, workers=0)


def test_a_start_that_fails_leaves_the_folder_to_the_next(data: Path, tmp_path: Path, whole: list[Trained]) -> None:
    out = tmp_path / "run"
    for settings, weights in (({"step1.lr": 1e30}, None), ({}, str(whole[-1].weights))):
        with pytest.raises(BcdzooError):
            train(STEPS, data, out, recipe="tiny", settings=QUICK | settings, weights=weights, workers=0)
        assert not (out / "run.json").exists()
    assert len(train(STEPS, data, out, recipe="tiny", settings=QUICK, workers=0)) == 2


def test_cifar10s_files_train_a_network_whose_rotations_turn_at_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = []
    turn = RotatedWeight.start_epoch

    def start_epoch(quantizer: RotatedWeight, weight: torch.Tensor) -> None:
        before = quantizer.R1.clone()
        turn(quantizer, weight)
        turned.append(not torch.equal(quantizer.R1, before))

    monkeypatch.setattr(RotatedWeight, "start_epoch", start_epoch)
    folder = cifar.binary_folder(tmp_path / "cifar-10-batches-bin", 4)  # 20 to train on
    settings = {"iterations": 6, "batch_size": 8, "lr": 0.01}  # epochs begin before updates 1, 4 and 6
    (done,) = train("rbnn-resnet20", folder, tmp_path / "run", settings=settings, workers=0)
    assert turned == [True] * (3 * 18)
    assert done.lineage["evaluation"]["n"] == 4
    assert bcdzoo.load_model("rbnn-resnet20", done.weights).class_names == cifar.NAMES
