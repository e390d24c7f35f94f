"""Published accuracies that were measured again."""

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.cli import main
from bcdzoo.data.imagenet import open_dataset
from bcdzoo.evaluation.stats import wilson
from bcdzoo.registry import REGISTRY
from bcdzoo.report import tables
from bcdzoo.report.reproduced import render, reproduced
from bcdzoo.report.sheets import STYLES, Row
from bcdzoo.weights.manifest import load_manifest
from tests.report.test_tables import run

ROOT = Path(__file__).parents[2]
ENTRIES = tomllib.loads((ROOT / "bcdzoo/report/reproduced.toml").read_text())["measured"]
MNIST = tables._FINGERPRINTS["mnist"]


def row_of(model: str, *results: dict[str, Any]) -> list[Row]:
    return [row for row in reproduced(results) if row["model"] == model]


def on_mnist(**changes: Any) -> dict[str, Any]:
    facts = {"model": "finn-lfc-w1a1", "weights": "bnn-pynq", "dataset": "digits", "fingerprint": MNIST, "n": 10000}
    return run(**facts | {"top1": 98.34, "run": "mine"} | changes)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["model"])
def test_what_is_published_is_what_the_manifest_and_the_table_say(entry: dict[str, Any]) -> None:
    published = entry.get("published")
    assert load_manifest().find(entry["model"], entry["checkpoint"]).top1 == published
    (row,) = [row for row in tables.rows(("mnist",), ()) if row["model"] == entry["model"]]
    assert row["top1"] == (None if published is None else Decimal(str(published)))


def test_lfc_is_first_and_reproduced_within_its_interval() -> None:
    first = reproduced()[0]
    assert (first["model"], first["verdict"]) == ("finn-lfc-w1a1", "reproduced")
    assert (first["measured"], first["difference"]) == (Decimal("98.34"), Decimal("-0.01"))
    low, high = wilson(9834, 10000)
    assert first["ci95"] == [round(low, 2), round(high, 2)] and low < 98.35 < high


def test_a_larger_difference_is_no_reproduction_and_is_explained() -> None:
    rows = [row for row in reproduced() if row["measured"] is not None]
    for row in rows:
        if row["published"] is not None:
            is_near = abs(row["measured"] - row["published"]) <= Decimal("0.02")
            assert row["verdict"] == ("reproduced" if is_near else "differs")
        assert row["verdict"] == "reproduced" or row["explanation"]
        assert row["command"].startswith(f"bcdzoo eval {row['model']} ") and row["date"]


def test_every_network_with_public_weights_has_a_row_or_a_reason() -> None:
    public = {entry.model for entry in load_manifest().checkpoints if entry.source != "package"}
    rows = reproduced()
    assert {row["model"] for row in rows} == public & set(REGISTRY)
    assert all(row["explanation"] for row in rows if row["verdict"] == "not measured")
    assert {row["dataset"] for row in rows if row["verdict"] == "not measured"} == {"imagenet", "cifar10"}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "reproduced"),
        ({"top1": 98.33}, "reproduced"),  # 0.02 less
        ({"top1": 98.32}, "differs"),
        ({"weights": "mine.tar", "state": ENTRIES[0]["state"]}, "reproduced"),
        ({"weights": "mine.tar", "state": "0" * 64}, None),
        ({"fingerprint": tables._FINGERPRINTS["fashion-mnist"]}, None),
        ({"dataset": "mnist", "fingerprint": "f"}, None),  # a folder of that name
        ({"precision": "bf16"}, None),
        ({"build": {"num_classes": 11}}, None),
    ],
)
def test_a_run_of_ones_own_counts_if_it_is_of_these_weights_and_images(
    changes: dict[str, Any], verdict: str | None
) -> None:
    _, *own = row_of("finn-lfc-w1a1", on_mnist(**changes))
    assert [row["verdict"] for row in own] == ([verdict] if verdict else [])
    assert all(row["command"] == "your run mine" for row in own)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "reproduced"),  # 71.812 is 71.8
        ({"top1": 71.9}, "differs"),
        ({"n": 49999}, "not measured"),
        ({"sha256": "0" * 64, "weights": "own.pth"}, "not measured"),
    ],
)
def test_a_run_on_all_of_imagenet_is_compared_in_the_published_digits(changes: dict[str, Any], verdict: str) -> None:
    weights = {"weights": "step2", "run": "mine"}
    (row,) = row_of("bcdnet-a", run(**weights | changes))
    assert row["verdict"] == verdict


def test_a_file_with_a_published_hash_must_have_that() -> None:
    known = load_manifest().find("qonnx-tfc-w1a1")
    facts = {"model": known.model, "weights": known.tag, "top1": 92.96, "state": "0" * 64}
    for sha256, number in ((known.sha256, 2), ("0" * 64, 1)):
        assert len(row_of(known.model, on_mnist(**facts, sha256=sha256))) == number


@pytest.mark.parametrize("style", STYLES)
def test_the_table_has_a_row_for_each_in_every_format(style: str) -> None:
    rows = reproduced()
    text = render(rows, style)
    assert text.count("finn-cnv-w1a1") == 1
    if style != "text":  # which has no room for the commands
        assert text.replace("\\_", "_").count("bcdzoo eval ") == len(ENTRIES)
    if style == "json":
        (tfc,) = [row for row in json.loads(text) if row["model"] == "qonnx-tfc-w1a1"]
        assert (tfc["published"], tfc["measured"], tfc["difference"], tfc["n"]) == (93.17, 92.96, -0.21, 10000)


def test_what_a_stored_run_says_does_not_command_the_terminal() -> None:
    text = render(reproduced([on_mnist(run="\x1b[2Jmine")]), "markdown")
    assert "mine" in text and "\x1b" not in text


def test_the_command_prints_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path))
    with pytest.raises(SystemExit, match="0"):
        main(["table", "--which", "reproduced"])
    assert "98.34 | 98.07 to 98.57 |" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("name", "folder"), [("fashion-mnist", "/usr/share/datasets/fashion-mnist")])
def test_a_test_set_is_known_by_what_is_in_it(name: str, folder: str) -> None:
    if not Path(folder).is_dir():
        pytest.skip(f"{folder} is not here")
    assert open_dataset(folder, 10).fingerprint == tables._FINGERPRINTS[name]


@pytest.mark.parametrize(("model", "measured"), [("finn-lfc-w1a1", 98.34), ("bcdnet-a", None), ("finn-cnv-w1a1", None)])
def test_only_a_networks_own_test_set_counts_in_its_table(model: str, measured: float | None) -> None:
    table = tables.rows(tables.SHIPPED, [on_mnist(model=model)])
    assert {row["measured_top1"] for row in table if row["model"] == model} == {measured}
