"""``bcdzoo count-ops`` of several networks, conventions and sizes."""

import csv
import io
import json
from pathlib import Path

import pytest

from bcdzoo import count_ops, list_models
from bcdzoo.text_table import columns_wide
from tests.command import bcdzoo
from tests.ops.test_conventions import ACE, written

OWN = "tests.ops.strangers:Net"


def counted(*words: str) -> list[dict[str, object]]:
    done = bcdzoo("count-ops", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_every_combination_is_a_line_and_each_number_that_of_its_own_count(tmp_path: Path) -> None:
    ace = str(written(tmp_path, ACE))
    words = ["--convention", "full", "--convention", ace, "--input-size", "28", "--input-size", "32"]
    lines = counted("*-tiny", "bcdnet-tiny", *words)
    assert [(line["model"], line["input_size"], line["convention"]) for line in lines] == [
        (model, size, convention)
        for model in list_models("*-tiny")
        for size in (28, 32)
        for convention in ("full", "bits")
    ]
    for line in lines:
        report = count_ops(
            str(line["model"]), ace if line["convention"] == "bits" else "full", int(str(line["input_size"]))
        )
        assert [line[key] for key in ("bops", "flops", "ops", "params")] == [
            report.bops, report.flops, report.ops, report.params
        ]  # fmt: skip
        assert line["layers"] == []
    layered = counted("bcdnet-tiny", *words, "--per-layer")
    assert all(sum(layer["flops"] for layer in line["layers"]) == line["flops"] for line in layered)  # type: ignore[attr-defined]


def test_one_count_stays_what_it_was_and_a_pattern_is_always_a_list() -> None:
    one = json.loads(bcdzoo("count-ops", "bcdnet-tiny", "--format", "json").stdout)
    assert one["model"] == "bcdnet-tiny" and one["layers"][0]["counts"]
    assert {**one, "layers": []} == counted("bcdnet-tin?")[0]
    assert json.loads(bcdzoo("count-ops", "bcdnet-tiny", "BCDNet-Tiny", "--format", "json").stdout) == one


def test_a_network_of_ones_own_stands_among_them() -> None:
    lines = counted(OWN, "bcdnet-tiny", "--input-size", "32", "--total")
    assert [line["model"] for line in lines] == [OWN, "bcdnet-tiny"]
    assert lines[0]["ops"] == count_ops(OWN, input_size=32).ops


def test_csv_is_a_row_for_each_and_layers_name_what_they_are_of() -> None:
    words = ("count-ops", "bcdnet-tiny", "--convention", "full", "--convention", "dagger", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(bcdzoo(*words).stdout)))
    assert [(row["convention"], int(row["flops"])) for row in rows] == [
        (name, count_ops("bcdnet-tiny", name).flops) for name in ("full", "dagger")
    ]
    layers = list(csv.DictReader(io.StringIO(bcdzoo(*words, "--per-layer").stdout)))
    total = sum(int(layer["flops"]) for layer in layers if layer["convention"] == "full")
    assert total == count_ops("bcdnet-tiny").flops


def test_what_cannot_be_counted_is_named_beside_the_others() -> None:
    done = bcdzoo("count-ops", "bcdnet-tiny", "nowhere.to:be", "--total")
    assert done.returncode == 1 and "bcdnet-tiny" in done.stdout
    assert len(done.stderr.splitlines()) == 1 and "nowhere" in done.stderr
    assert "no network's name matches 'zz*'" in bcdzoo("count-ops", "zz*").stderr


def test_two_conventions_of_one_name_are_refused(tmp_path: Path) -> None:
    one = written(tmp_path, ACE)
    other = tmp_path / "other.toml"
    other.write_text(ACE.replace("mac_bits = 1", "mac_bits = 2"))
    done = bcdzoo("count-ops", "bcdnet-tiny", "--convention", str(one), "--convention", str(other))
    assert done.returncode == 2 and "two conventions are called bits" in done.stderr


@pytest.mark.parametrize("columns", ["80", "120"])
def test_lines_fit_the_terminal_and_say_whose_convention_they_are_under(columns: str, tmp_path: Path) -> None:
    ace = str(written(tmp_path, ACE))
    words = ("bcdnet-?", "--convention", "full", "--convention", ace, "--format", "text")
    done = bcdzoo("count-ops", *words, COLUMNS=columns)
    assert max(map(columns_wide, done.stdout.splitlines())) <= int(columns)
    assert "4,816,896,000" in done.stdout and "\nbits: multiply-accumulates" in done.stdout
    assert "OPs = FLOPs + BOPs." in done.stdout
