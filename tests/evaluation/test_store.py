import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.evaluation.store import read_results, write_json
from bcdzoo.files import results_dir


def result(started: str, model: str = "bcdnet-a") -> dict[str, Any]:
    return {
        "model": model,
        "weights": "step2",
        "backend": "torch",
        "n": 50_000,
        "top1": 71.8,
        "top5": 90.3,
        "ci95": {"top1": [71.4, 72.2], "top5": [90.0, 90.6]},
        "dataset": "imagenet",
        "started": started,
    }


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path))
    return tmp_path


def store(entry: dict[str, Any], name: str) -> None:
    write_json(results_dir() / f"{name}.json", entry)


def test_results_come_back_oldest_first_whatever_the_order_of_writing_and_with_their_names() -> None:
    days = [f"2026-01-0{day}T10:00:00+00:00" for day in (3, 1, 2)]
    for day in days:
        store(result(day), day)
    assert read_results() == [result(day) | {"run": day} for day in sorted(days)]


@pytest.mark.parametrize("content", ["{", "[1]", '{"model": "bcdnet-a"}', "\xff"])
def test_a_broken_file_is_named_and_the_rest_is_read(
    home: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store(result("2026-01-01T10:00:00+00:00"), "whole")
    (home / "results" / "broken.json").write_bytes(content.encode("latin-1"))
    assert len(read_results()) == 1
    error = capsys.readouterr().err
    assert f"{home / 'results' / 'broken.json'} is left out" in error
    assert error.count("\n") == 1


def test_an_empty_store_has_no_results() -> None:
    assert read_results() == []


def test_a_result_that_cannot_be_written_leaves_the_old_file_whole(home: Path) -> None:
    write_json(home / "result.json", result("a"))
    with pytest.raises(TypeError):
        write_json(home / "result.json", {"model": object()})
    assert json.loads((home / "result.json").read_text()) == result("a")
    assert [path.name for path in home.iterdir()] == ["result.json"]


def test_the_store_is_read_without_torch_or_pandas() -> None:
    code = (
        "import sys, bcdzoo.evaluation.store as store; store.read_results();"
        "sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
