"""Evaluations by several processes, which torchrun starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.processes import Processes, joined, speaks
from tests.command import bcdzoo
from tests.noise import noise

ROOT = Path(__file__).parents[1]


def words(images: Path) -> list[str]:
    arguments = ["eval", "tests.own_networks:Steady", "--data", str(images), "--preprocess", "resize=16,crop=16"]
    return [*arguments, "--batch-size", "8", "--workers", "0", "--format", "json"]


def torchrun(processes: int, images: Path) -> list[str]:
    alone = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *alone, "-m", "bcdzoo", *words(images)]


def result_of(processes: int, images: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(torchrun(processes, images), env=environment, cwd=ROOT, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["processes"] == processes
    return result


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pids").mkdir()
    return {**os.environ, "BCDZOO_HOME": str(tmp_path / "home"), "PIDS": str(tmp_path / "pids"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return noise(tmp_path / "images", 1100)  # five chunks, the last of 76 images


@pytest.fixture
def alone(images: Path, tmp_path: Path) -> dict[str, Any]:
    """What one process finds."""
    done = bcdzoo(*words(images), BCDZOO_HOME=str(tmp_path / "alone"))
    result: dict[str, Any] = json.loads(done.stdout)
    assert (result["n"], result["processes"]) == (1100, 1)
    return result


def test_a_killed_process_ends_the_run_of_all_which_another_number_of_processes_finishes_as_one_would(
    tmp_path: Path, images: Path, alone: dict[str, Any], environment: dict[str, str]
) -> None:
    slow = {**environment, "PAUSE": "0.03"}
    process = subprocess.Popen(torchrun(2, images), env=slow, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    unfinished = tmp_path / "home" / "results" / "unfinished"
    while not list(unfinished.glob("*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int((tmp_path / "pids" / "1").read_text()), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list((tmp_path / "home" / "results").glob("*.json")) == []
    last = result_of(3, images, environment)
    assert last["resumed"] >= 256
    assert (last["n"], last["predictions_sha256"]) == (1100, alone["predictions_sha256"])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_gives_the_same_predictions(
    processes: int, images: Path, alone: dict[str, Any], environment: dict[str, str]
) -> None:
    result = result_of(processes, images, environment)
    assert (result["n"], result["resumed"]) == (1100, 0)
    assert result["predictions_sha256"] == alone["predictions_sha256"]


def test_processes_that_torchrun_did_not_start_work_alone_and_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4\x1b[2K")
    monkeypatch.setenv("RANK", "3")
    with joined() as processes:
        assert processes == Processes()
    assert speaks()
    assert capsys.readouterr().err == (
        "bcdzoo: WORLD_SIZE is 4\\x1b[2K, but torchrun did not start this process: it runs alone\n"
    )
