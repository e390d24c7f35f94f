import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.cli import main
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.store import find_run, read_results, run_id
from bcdzoo.files import results_dir
from bcdzoo.seal import SEAL, write_json


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
    assert read_results() == [result(day) | {"run": day, "checked": True} for day in sorted(days)]


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


BAD = [
    {"top1": "high"},
    {"top1": float("nan")},
    {"top1": 1e300},
    {"top1": True},
    {"top5": None},
    {"n": [50_000]},
    {"n": 10**40},
    {"n": 0},
    {"n": -1},
    {"n": 2.5},
    {"ci95": {"top1": [1]}},
    {"ci95": 7},
    {"model": None},
    {"model": ["a"]},
    {"weights": {"a": 1}},
    {"dataset": 5},
    {"started": 2026},
    {"build": "step=1"},
    {"build": {"step": {"step": 1}}},
    {"hits": {"top1": 60_000, "top5": 60_000}},
    {"hits": {"top1": 35_901, "top5": 45_150}},
    {"hits": {}},
    {"predictions_file": "../../secret.parquet"},
    {"predictions_file": "a\0b"},
    {"compiled": "yes"},
    {"precision": 32},
    {"notes": nested(400)},
    {"model": "\ud800x"},
    {"dataset": "\udcff"},
    {"notes": ["\ud800"]},
    {"build": {"\ud800": 1}},
    {"versions": {"torch": "\udfff"}},
    {"skipped": [1]},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_a_field_that_cannot_be_is_named_and_breaks_no_command(
    home: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    store(result("2026-01-01T10:00:00+00:00"), "whole")
    store(result("2026-01-02T10:00:00+00:00") | change, "broken")
    for words in (["results"], ["table", "--which", "2"], ["info", "bcdnet-a"], ["results", "--format", "json"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        output = capsys.readouterr()
        assert left.value.code == 0
        assert "broken.json is left out: not a result of bcdzoo eval: its " in output.err
        assert output.err.count("\n") == 1 and len(output.err) < 400
        assert "broken" not in output.out


def test_what_has_no_hash_is_read_and_counted_as_unchecked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(result("2026-01-01T10:00:00+00:00"), "new")
    old = home / "results" / "old.json"
    old.write_text(json.dumps(result("2026-01-02T10:00:00+00:00")))
    assert [found["checked"] for found in read_results()] == [True, False]
    assert "1 of 2 results are unchecked" in capsys.readouterr().err


def test_text_of_a_result_reaches_the_terminal_escaped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(result("2026-01\nforged") | {"weights": "\x1b[2J", "dataset": "a\x9b2Jb"}, "odd")
    for style in ("github", "csv", "json"):
        with pytest.raises(SystemExit):
            main(["results", "--format", style])
        shown = capsys.readouterr().out
        assert "forged" in shown and all(line.isprintable() for line in shown.splitlines()), style


@pytest.mark.parametrize("content", ["{", "[1]", '{"model": "bcdnet-a"}', "\xff", "[" * 100_000, "1" * 5000])
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
    kept = json.loads((home / "result.json").read_text())
    assert {key: value for key, value in kept.items() if key != SEAL} == result("a")
    assert [path.name for path in home.iterdir()] == ["result.json"]


def test_the_store_is_read_without_torch_or_pandas() -> None:
    code = (
        "import sys, bcdzoo.evaluation.store as store; store.read_results();"
        "sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def runs(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(["results", *words])
    assert not left.value.code
    return capsys.readouterr().out


def test_a_run_is_a_line_of_100_columns_with_an_id_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    long = {"weights": "/a/very/long/path/to/somebodys/checkpoints/model.safetensors", "label": "lr " * 15 + "0.1"}
    for day in range(1, 8):
        store(result(f"2026-01-0{day}T10:00:00+00:00", "my_package.networks:small_network") | long, f"day{day}")
    lines = runs("--format", "text", "--limit", "5", capsys=capsys).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[1:6]] == [run_id(f"day{day}") for day in range(3, 8)]


def test_runs_are_found_by_id_label_name_and_beginning() -> None:
    store(result("2026-01-01T10:00:00+00:00") | {"label": "baseline"}, "2026-01-01-one")
    store(result("2026-01-02T10:00:00+00:00") | {"label": "2026"}, "2026-01-02-two")
    for reference in (run_id("2026-01-01-one"), run_id("2026-01-01-one").upper(), "baseline", "2026-01-01"):
        assert find_run(reference)["run"] == "2026-01-01-one"
    assert find_run("2026")["run"] == "2026-01-02-two"
    for reference in ("", "absent", "2026-01-0", "*"):
        with pytest.raises(BcdzooError, match=r"runs? (is|are) called so"):
            find_run(reference)


def test_rm_deletes_a_run_with_its_predictions_and_nothing_else(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two", "three"):
        store(result("2026-01-01T10:00:00+00:00") | {"predictions_file": f"{name}.parquet"}, name)
        (home / "results" / f"{name}.parquet").touch()
    shared = result("2026-01-01T10:00:00+00:00") | {"predictions_file": "three.parquet"}
    store(shared, "fourth")
    assert runs("rm", run_id("one"), "three", capsys=capsys).count("deleted") == 3
    left = {path.name for path in (home / "results").iterdir()}
    assert left == {"two.json", "two.parquet", "three.parquet", "fourth.json"}
