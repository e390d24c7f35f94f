import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcdzoo.cli import main
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import compare
from bcdzoo.evaluation.predictions import read_predictions, write_predictions
from bcdzoo.evaluation.stats import mcnemar
from bcdzoo.evaluation.store import run_id
from bcdzoo.files import sha256_of
from bcdzoo.seal import DamagedError, read_json, write_json
from tests.memory import grows_at_most


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path))
    (tmp_path / "results").mkdir()
    return tmp_path


def saved(home: Path, name: str, guesses: list[int], labels: list[int] | None = None, start: int = 0) -> Path:
    path = home / "results" / f"2026-01-01-{name}.parquet"
    ids = [f"{number:05}.png" for number in range(start, start + len(guesses))]
    pd.DataFrame({"id": ids, "label": labels or [0] * len(guesses), "top1": guesses}).to_parquet(path)
    record: dict[str, object] = {
        "model": name,
        "weights": None,
        "backend": "torch",
        "n": len(ids),
        "top1": 0.0,
        "top5": 0.0,
        "ci95": {"top1": [0, 50], "top5": [0, 50]},
    }
    record |= {"dataset": "list", "started": "2026-01-01", "predictions_file": path.name}
    path.with_suffix(".json").write_text(json.dumps(record))
    return path


def test_two_networks_of_the_same_accuracy_differ_in_no_significant_way(home: Path) -> None:
    saved(home, "one", [0, 0, 1, 1, 2])
    saved(home, "two", [0, 1, 0, 2, 2])
    found = compare("one", "two")
    assert (found.n, found.hits, found.only) == (5, (2, 2), (1, 1))
    assert found.changed.to_dict("list") == {
        "id": ["00001.png", "00002.png", "00003.png"],
        "label": [0, 0, 0],
        "first": [0, 1, 1],
        "second": [1, 0, 2],
        "right": ["first", "second", "neither"],
    }
    assert found.to_json()["p"] == 1
    assert "not significant: the difference may be chance" in found.summary()


def test_three_tenths_of_a_point_on_fifty_thousand_images_get_a_straight_answer(home: Path) -> None:
    n, both = 50_000, 34_000
    first = [0] * both + [0] * 1650 + [1] * (n - both - 1650)
    for only_second, verdict in ((1500, "one is better: a difference this large"), (1560, "not significant")):
        gap = 1650 - only_second
        second = [0] * both + [1] * 1650 + [0] * only_second + [1] * (n - both - 1650 - only_second)
        saved(home, "one", first)
        saved(home, "two", second)
        found = compare("one", "two")
        assert found.difference == pytest.approx(100 * gap / n)
        assert found.to_json()["p"] == mcnemar(1650, only_second)
        assert verdict in found.summary()
        low, high = found.to_json()["ci95"]
        assert low < found.difference < high
        assert found.detectable is not None
        assert (low > 0) == (found.difference >= found.detectable) == verdict.startswith("one")


def test_five_to_nothing_is_not_enough_and_six_to_nothing_is(home: Path) -> None:
    saved(home, "one", [0] * 1000)
    for misses, answer in ((5, "not significant"), (6, "one is better")):
        saved(home, "two", [1] * misses + [0] * (1000 - misses))
        found = compare("one", "two")
        assert answer in found.summary()
        assert "(between these two, on 1000 images, 0.60 points would be significant)" in found.summary()
        assert found.to_json()["detectable"] == 0.6


def test_where_interval_and_test_part_it_is_said(home: Path) -> None:
    # 3.2 points of 250, whose interval leaves 0 out, and p = 0.057
    for only_first, only_second, n, sentence in ((11, 3, 250, True), (30, 10, 250, False)):
        saved(home, "one", [0] * (n - only_second) + [1] * only_second)
        saved(home, "two", [1] * only_first + [0] * (n - only_first))
        found = compare("one", "two")
        low, _ = found.to_json()["ci95"]
        assert ((low > 0) != (mcnemar(only_first, only_second) < 0.05)) == sentence
        assert ("but it is an approximation: the exact test decides" in found.summary()) == sentence


def test_too_few_images_for_any_difference_are_said(home: Path) -> None:
    saved(home, "one", [0, 0, 0])
    saved(home, "two", [1, 0, 0])
    found = compare("one", "two")
    assert found.to_json()["detectable"] is None
    assert "on 3 images, no difference would be" in found.summary()


def sealed(home: Path, name: str) -> Path:
    """A run as it is stored now, with the hash of its predictions in its result."""
    path = saved(home, name, [0, 1, 2, 0])
    write_predictions(path, [pq.read_table(path).replace_schema_metadata(None)])
    record, _ = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), record | {"predictions_sha256": sha256_of(path)})
    return path


def test_damage_is_named_and_files_without_a_hash_are_said_to_be_unchecked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = sealed(home, "one"), sealed(home, "two")
    compare("one", "two")
    assert capsys.readouterr().err == ""
    content = bytearray(one.read_bytes())
    content[30:60] = bytes(30)
    one.write_bytes(content)
    for reference in ("one", str(one), str(one.with_suffix(".json"))):
        with pytest.raises(BcdzooError, match=r"is damaged|is not the file"):
            compare(reference, "two")
    saved(home, "one", [0, 1, 2, 0])
    compare(str(one), str(two))
    assert capsys.readouterr().err.count("is unchecked") == 1


def test_predictions_that_are_not_their_results_are_refused(home: Path) -> None:
    one, two = sealed(home, "one"), sealed(home, "two")
    write_predictions(two, [pa.table({"id": ["a"], "label": [1], "top1": [1]})])
    with pytest.raises(BcdzooError, match=r"two.parquet is not the file from which its result was computed"):
        compare(str(one), "two")


@pytest.mark.parametrize(
    "table",
    [
        {"id": ["a", "a"], "label": [0, 0], "top1": [0, 0]},
        {"id": ["a", "b"], "label": ["x", "y"], "top1": [0, 0]},
        {"id": ["a", "b"], "label": [[0], [0]], "top1": [0, 0]},
        {"id": ["a", "b"], "label": [0, 0], "top1": [float("inf"), 1.0]},
        {"id": [{"a": 1}, {"a": 2}], "label": [0, 0], "top1": [0, 1]},
        {"label": [0, 0], "top1": [0, 0]},
    ],
)
def test_a_parquet_file_of_something_else_is_one_line(home: Path, table: dict[str, list[object]]) -> None:
    one = sealed(home, "one")
    pq.write_table(pa.table(table), home / "other.parquet")
    with pytest.raises(BcdzooError) as caught:
        compare(str(home / "other.parquet"), str(one))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        (20_000_000, "a", "20,000,000 rows, more than 2,000,000"),
        (1_900_000, "a" * 2000, "its id has 3,800,000,000 bytes, more than"),
    ],
)
def test_equal_rows_that_take_no_room_in_a_file_take_none_in_memory(
    home: Path, rows: int, name: str, message: str
) -> None:
    zeros = pa.repeat(pa.scalar(0, pa.int8()), rows)
    names = pa.DictionaryArray.from_arrays(zeros, [name])
    path = home / "many.parquet"
    pq.write_table(pa.table({"id": names, "label": zeros}), path, store_schema=False)
    del names, zeros
    assert path.stat().st_size < 1_000_000
    with grows_at_most(200_000_000), pytest.raises(DamagedError, match=message):
        read_predictions(path)


def test_other_columns_are_not_read(home: Path) -> None:
    path = home / "more.parquet"
    pq.write_table(pa.table({"id": ["a"], "label": [0], "top1": [0], "note": [[{"a": "x"}]]}), path)
    table, checked = read_predictions(path)
    assert (table.to_pydict(), checked) == ({"id": ["a"], "label": [0], "top1": [0]}, False)


def test_what_is_no_regular_file_is_not_waited_for(home: Path) -> None:
    for name in ("pipe.parquet", "pipe.json", "twin.parquet", "twin.json"):
        os.mkfifo(home / name)
    for name in ("pipe.parquet", "pipe.json"):
        with pytest.raises(BcdzooError, match="is a named pipe, not a regular file"):
            compare(str(home / name), str(home / name.replace("pipe", "twin")))


def test_images_that_only_one_run_has_are_left_out_and_counted(home: Path) -> None:
    saved(home, "one", [0, 0, 0])
    saved(home, "two", [0, 1, 1, 1], start=1)
    assert (compare("one", "two").n, compare("one", "two").left_out) == (2, 3)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("absent", "'absent': no run is called so: `bcdzoo results` lists them"),
        ("2026", "'2026': 2 runs are called so, the latest [0-9a-f]{6}, [0-9a-f]{6}: `bcdzoo results`"),
        ("other", "one and other have no image in common: compare runs on the same data"),
    ],
)
def test_runs_that_cannot_be_compared_are_one_line(home: Path, second: str, message: str) -> None:
    saved(home, "one", [0, 1])
    saved(home, "other", [0, 1], start=9)
    with pytest.raises(BcdzooError, match=message):
        compare("one", second)


def test_runs_with_other_labels_are_not_compared(home: Path) -> None:
    saved(home, "one", [0, 1])
    saved(home, "two", [0, 1], labels=[0, 1])
    with pytest.raises(BcdzooError, match=r"disagree about the labels of 1 images, the first 00001.png"):
        compare("one", "two")


def test_the_command_takes_names_files_and_beginnings_and_writes_the_images_that_changed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = saved(home, "one", [0, 0, 1]), saved(home, "two", [0, 1, 2])
    for pair in (("one", "two"), (str(one), str(two.with_suffix(".json"))), ("2026-01-01-one", "2026-01-01-two.json")):
        with pytest.raises(SystemExit) as left:
            main(["compare", *pair, "--changed", str(home / "changed.csv")])
        assert left.value.code == 0
        assert "00001.png: label 0, 0 → 1, right: first" in capsys.readouterr().out
        assert pd.read_csv(home / "changed.csv")["id"].tolist() == ["00001.png", "00002.png"]
    with pytest.raises(SystemExit):
        main(["compare", "one", "two", "--format", "json"])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["only_right"], facts["changed"], len(facts["images"])) == ([1, 0], 2, 2)


def on(path: Path, dataset: str, fingerprint: str) -> None:
    record, _ = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), record | {"dataset": dataset, "fingerprint": fingerprint})


def test_that_the_images_differ_is_said_beside_the_answer(home: Path) -> None:
    one, two = saved(home, "one", [0] * 50), saved(home, "two", [1] * 50)
    on(one, "clean", "aa")
    for dataset, fingerprint, same, words in (
        ("clean", "aa", True, None),
        ("fog", "bb", False, "the images differ (clean and fog): same ids and labels, different files"),
        ("fog", "aa", None, "the data are called clean and fog: ids, labels and sizes of files agree, the pixels may"),
    ):
        on(two, dataset, fingerprint)
        found = compare("one", "two")
        assert found.to_json()["same_data"] is same
        assert "one is better" in found.summary()
        assert (words or "") in found.summary() and (found.doubt is None) == (words is None)


def test_parts_of_a_set_are_not_called_other_images(home: Path) -> None:
    on(saved(home, "one", [0] * 50), "clean", "aa")
    on(saved(home, "two", [1] * 40), "clean", "bb")
    found = compare("one", "two")
    assert (found.same_data, found.left_out) == (None, 10)
    assert "the data differ (both called clean): parts of one set, or different images" in found.summary()


def test_predictions_alone_do_not_say_which_images_they_are_of(home: Path) -> None:
    one, two = saved(home, "one", [0] * 50), saved(home, "two", [1] * 50)
    on(one, "clean", "aa")
    for first, second, words in (
        (str(one), str(two), "neither run says which images"),
        ("one", str(two), "the second run does not say which images"),
        (str(two), "one", "the first run does not say which images"),
    ):
        found = compare(first, second)
        assert found.same_data is None
        assert words in found.summary()


def test_a_network_twice_is_its_two_latest_runs_and_one_run_twice_is_an_error(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(home, "one", [0, 0, 1])
    with pytest.raises(BcdzooError, match="one and one are one run, 2026-01-01-one"):
        compare("one", "one")
    later = saved(home, "two", [0, 1, 2]).with_suffix(".json")
    later.write_text(json.dumps(json.loads(later.read_text()) | {"model": "one"}))
    latest = later.stem
    comparison = compare("one", "one")
    assert comparison.names == ("2026-01-01-one", latest)
    assert comparison.only == (1, 0)
    assert "the latest two runs of one" in capsys.readouterr().err
    with pytest.raises(BcdzooError, match="are one run"):
        compare("one", run_id(latest))
    assert compare(run_id("2026-01-01-one"), run_id(latest)).only == (1, 0)


def test_on_a_terminal_of_80_columns_the_answer_does_not_wrap(home: Path) -> None:
    one, two = saved(home, "a_network_of_a_name_that_is_long", [0] * 60), saved(home, "another", [1] * 60)
    words = [sys.executable, "-m", "bcdzoo", "compare", str(one), str(two)]
    code = f"import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn({words!r})))"
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    )
    assert done.returncode == 0 and "answer         2026-01-01-a_network" in done.stdout
    notes = "bcdzoo: "  # of stderr, which this terminal shows too
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith(notes)) <= 80
