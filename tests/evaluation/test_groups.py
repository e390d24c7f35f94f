"""Groups of runs, against scipy's tests and numbers worked out by hand."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from scipy import stats

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.groups import compare_groups, is_group
from bcdzoo.evaluation.stats import mcnemar
from bcdzoo.evaluation.store import run_id
from bcdzoo.seal import read_json, write_json
from tests.command import bcdzoo
from tests.evaluation.test_compare import home, on, saved  # noqa: F401 (home is a fixture)

N = 200


def run(home: Path, name: str, wrong: int, shift: int = 0, **facts: Any) -> Path:  # noqa: F811
    """A run that errs on some images, from one of them on."""
    guesses = [1 if (image - shift) % N < wrong else 0 for image in range(N)]
    path = saved(home, name, guesses)
    record, _ = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), record | {"label": name} | facts)
    return path


@pytest.fixture
def six(home: Path) -> list[str]:  # noqa: F811
    for letter, wrongs in (("a", (20, 22, 27)), ("b", (30, 28, 35))):
        for seed, wrong in enumerate(wrongs):
            run(home, f"{letter}-{seed}", wrong, seed)
    return [f"{letter}-{seed}" for letter, seed in product("ab", range(3))]


def test_means_deviations_and_welchs_test_are_scipys(six: list[str]) -> None:
    facts = compare_groups("a-*", "b-*").to_json()
    first, second = [90.0, 89.0, 86.5], [85.0, 86.0, 82.5]
    assert facts["top1"] == [first, second] and facts["n"] == N
    assert facts["mean"] == [mean(first), mean(second)] and facts["sd"] == [stdev(first), stdev(second)]
    theirs = stats.ttest_ind(first, second, equal_var=False)
    assert (facts["t"], facts["df"], facts["p"]) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))
    assert facts["ci95"] == pytest.approx(list(theirs.confidence_interval()))
    assert len(facts["pairs"]) == 9
    pair = next(pair for pair in facts["pairs"] if pair["runs"] == ["2026-01-01-a-0", "2026-01-01-b-0"])
    assert pair["only_right"] == [10, 0] and pair["p"] == mcnemar(10, 0) and pair["difference"] == 5.0


def test_a_group_is_a_list_a_pattern_or_a_label_of_several_runs(six: list[str], home: Path) -> None:  # noqa: F811
    by_pattern = compare_groups("a-*", "b-*").to_json()
    ids = [",".join(run_id(f"2026-01-01-{name}") for name in six if name[0] == letter) for letter in "ab"]
    for first, second in (
        ids,
        ("a-0,a-1, a-2", "b-[0-2]"),
        ("A-?", str(home / "results/2026-01-01-b-0.json") + ",b-1,b-2"),
    ):
        found = compare_groups(first, second).to_json()
        assert found["runs"] == by_pattern["runs"] and found["p"] == by_pattern["p"]
    run(home, "c-0", 5, label="mine")
    assert not is_group("mine") and is_group("a-*") and is_group("a-0,a-1") and not is_group("a-0")
    run(home, "c-1", 9, label="mine")
    assert is_group("mine")
    assert compare_groups("mine", "a-*").to_json()["mean"][0] == 96.5
    run(home, "d", 9, label="x,y*")
    assert not is_group("x,y*")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a-0,a-1", "b-0", "'b-0' is one run, 2026-01-01-b-0: a group has two or more"),
        ("a-0*", "b-*", "'a-0.' is one run"),
        ("a-*", "a-0,b-0", "have a run in common: 2026-01-01-a-0"),
        ("a-*", "a-*", "have a run in common"),
        ("a-0,a-0", "b-*", "names a run twice"),
        ("a-*,a-1", "b-*", "names a run twice"),
        ("a-0,,a-1", "b-*", "a run is missing beside a comma"),
        (",", "b-*", "a run is missing beside a comma"),
        ("z*", "b-*", "'z.': no run's label, network or name matches"),
        ("a-0,zzz", "b-*", "'zzz': no run is called so"),
    ],
)
def test_what_is_no_group_is_one_line(six: list[str], first: str, second: str, message: str) -> None:
    with pytest.raises(BcdzooError, match=message) as caught:
        compare_groups(first, second)
    assert str(caught.value).isprintable()


def test_runs_of_other_images_labels_files_or_of_the_same_weights_are_refused(six: list[str], home: Path) -> None:  # noqa: F811
    other = saved(home, "c-0", [0] * N, start=7)
    with pytest.raises(BcdzooError, match="differ in 14 images that only one has"):
        compare_groups("a-*", "b-*,c-0")
    saved(home, "c-0", [0] * N, labels=[1] + [0] * (N - 1))
    with pytest.raises(BcdzooError, match="disagree about the labels of 1 images"):
        compare_groups("a-*", "b-*,c-0")
    saved(home, "c-0", [0] * N)
    on(other, "clean", "aa")
    on(home / "results/2026-01-01-a-0.parquet", "fog", "bb")
    with pytest.raises(BcdzooError, match="not of the same files"):
        compare_groups("a-*", "b-*,c-0")
    for seed in (0, 1):
        run(home, f"b-{seed}", 20 + seed, state="ff")
    with pytest.raises(BcdzooError, match="b-0 and 2026-01-01-b-1 are of the same weights"):
        compare_groups("a-*", "b-*")


def test_what_makes_an_answer_doubtful_is_said(six: list[str], home: Path) -> None:  # noqa: F811
    assert compare_groups("a-*", "b-*").notes == [
        "not every run says which images it used: ids and labels agree, the images themselves may differ",
        "one group is of several networks: a-0, a-1, a-2",
        "one group is of several networks: b-0, b-1, b-2",
    ]
    for name in six:
        run(home, name, 20 + int(name[-1]) // 2, model="net", dataset="x", fingerprint="aa")
    (note,) = compare_groups("a-*", "b-*").notes
    assert note == "2026-01-01-a-0 and 2026-01-01-a-1 predict the same for every image: are they two trainings?"


def test_the_command_compares_groups_and_fits_80_columns(six: list[str], home: Path) -> None:  # noqa: F811
    facts = json.loads(bcdzoo("compare", "a-*", "b-*", "--format", "json").stdout)
    assert facts == compare_groups("a-*", "b-*").to_json()
    done = bcdzoo("compare", "a-*", "b-*", "--changed", "x.csv")
    assert done.returncode == 2 and "--changed is for two runs" in done.stderr
    assert bcdzoo("compare", "a-*", "b-0").returncode == 1
    words = [sys.executable, "-m", "bcdzoo", "compare", "a-*", "b-*"]
    code = f"import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn({words!r})))"
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    ).stdout
    assert "Welch          t = 2.7" in shown and "of 9 pairs the first is better in" in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("bcdzoo: ")) <= 80
