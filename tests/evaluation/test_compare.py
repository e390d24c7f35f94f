import json
from pathlib import Path

import pandas as pd
import pytest

from bcdzoo.cli import main
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import compare
from bcdzoo.evaluation.stats import mcnemar


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
    assert "not significant: chance alone makes such a difference" in found.summary()


def test_three_tenths_of_a_point_on_fifty_thousand_images_get_a_straight_answer(home: Path) -> None:
    n, both = 50_000, 34_000
    first = [0] * both + [0] * 1650 + [1] * (n - both - 1650)
    for only_second, verdict in ((1500, "one is better: so large"), (1560, "not significant")):
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
        assert (low > 0) == (found.difference > found.detectable) == verdict.startswith("one")


def test_images_that_only_one_run_has_are_left_out_and_counted(home: Path) -> None:
    saved(home, "one", [0, 0, 0])
    saved(home, "two", [0, 1, 1, 1], start=1)
    assert (compare("one", "two").n, compare("one", "two").left_out) == (2, 3)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("absent", "no run is called 'absent': `bcdzoo results` lists them"),
        ("2026", "2 runs begin with '2026': `bcdzoo results` lists them"),
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
