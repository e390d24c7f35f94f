import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bcdzoo.processes import Processes, joined, speaks
from tests.noise import noise

ROOT = Path(__file__).parents[1]


def torchrun(processes: int, images: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *(
            "-m",
            "bcdzoo",
            "eval",
            "tests.own_networks:Steady",
            "--data",
            str(images),
            "--preprocess",
            "resize=16,crop=16",
        ),
        *("--batch-size", "8", "--workers", "0", "--format", "json"),
    ]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pids").mkdir()
    return {**os.environ, "BCDZOO_HOME": str(tmp_path / "home"), "PIDS": str(tmp_path / "pids"), "OMP_NUM_THREADS": "1"}


def test_one_two_and_three_processes_give_the_same_predictions_and_a_killed_one_ends_the_run_which_then_goes_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    images = noise(tmp_path / "images", 1100)  # five chunks, the last of 76 images
    results = {}
    for processes in (1, 2, 3):
        done = subprocess.run(torchrun(processes, images), env=environment, cwd=ROOT, capture_output=True, check=True)
        results[processes] = json.loads(done.stdout)
    assert {result["predictions_sha256"] for result in results.values()} == {results[1]["predictions_sha256"]}
    assert [result["processes"] for result in results.values()] == [1, 2, 3]
    assert {result["n"] for result in results.values()} == {1100}

    before = len(list((tmp_path / "home" / "results").glob("*.json")))
    for old in (tmp_path / "pids").iterdir():
        old.unlink()
    slow = {**environment, "PAUSE": "0.03"}
    process = subprocess.Popen(torchrun(2, images), env=slow, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    unfinished = tmp_path / "home" / "results" / "unfinished"
    while not list(unfinished.glob("*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int((tmp_path / "pids" / "1").read_text()), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(list((tmp_path / "home" / "results").glob("*.json"))) == before
    done = subprocess.run(torchrun(3, images), env=environment, cwd=ROOT, capture_output=True, check=True)
    last = json.loads(done.stdout)
    assert last["resumed"] >= 256
    assert last["predictions_sha256"] == results[1]["predictions_sha256"]


def test_processes_that_torchrun_did_not_start_work_alone_and_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4\x1b[2K")
    monkeypatch.setenv("RANK", "3")
    with joined() as processes:
        assert processes == Processes()
    assert speaks()
    assert capsys.readouterr().err == (
        "bcdzoo: WORLD_SIZE is 4\\x1b[2K, and torchrun did not start this process: it works alone\n"
    )
