"""Why published and computed figures differ: data, documents and command say the same, and what is true."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

import bcdzoo
from bcdzoo.ops.conventions import Convention
from bcdzoo.registry import REGISTRY
from bcdzoo.report.counts import counts
from bcdzoo.report.explain import explain, reasons, show
from bcdzoo.report.tables import SHIPPED, differs, rows
from bcdzoo.text_table import columns_wide
from tests.command import bcdzoo as zoo
from tests.docs.blocks import ROOT
from tests.ops.test_conventions import ACE, written
from tests.report.test_tables import run

FIGURES = ("bops", "flops", "flops_dagger", "ops", "ops_dagger")
ROWS = [row for row in rows(SHIPPED, ()) if row["model"] in REGISTRY]
MARKED = {(row["model"], key) for row in ROWS for key in FIGURES if differs(row, key)}


def test_the_documents_list_is_the_data() -> None:
    page = (ROOT / "docs" / "counting.md").read_text(encoding="utf-8")
    section = page.split("## Where computed and published numbers differ\n")[1].split("\n## ")[0]
    bullets = [" ".join(bullet.split()) for bullet in section.split("\n- ")[1:]]
    assert bullets == [f"**{reason['title']}** {reason['text']}" for reason in reasons()]


def test_every_figure_that_differs_has_its_reason_and_every_reason_a_figure_that_differs() -> None:
    explained = [(model, key) for reason in reasons() for model in reason["models"] for key in reason["figures"]]
    assert sorted(explained) == sorted(MARKED)
    for reason in reasons():
        assert reason.keys() <= {"title", "models", "figures", "text", "cost"}
        assert set(reason["models"]) <= REGISTRY.keys()


def test_every_large_number_in_a_reason_is_a_count_of_its_networks() -> None:
    large = re.compile(r"\d{1,3}(?:,\d{3}){2,}")
    found = [(reason, number) for reason in reasons() for number in large.findall(reason["text"])]
    assert len(found) >= 6
    for reason, number in found:
        known = {total for model in reason["models"] for total in counts()[model]["kinds"].values()}
        assert int(number.replace(",", "")) in known, number


def test_costs_that_are_said_to_give_the_published_figures_do() -> None:
    checked = 0
    for reason in reasons():
        rules = Convention("as published", "", reason.get("cost", {}))
        for row in ROWS:
            if "cost" in reason and row["model"] in reason["models"]:
                totals = rules.totals(counts()[row["model"]]["kinds"])
                assert totals["ops"] / 1e8 == pytest.approx(float(row["ops"]), abs=0.01)
                checked += 1
    assert checked == 4  # BNext's


@pytest.mark.parametrize("model", ["bcdnet-a", "birealnet-34", "meliusnet-22", "resnet-18", "bnext-t", "irnet-r18"])
def test_answers_are_those_of_the_tables_marks(model: str) -> None:
    facts = explain(model)
    text = show(facts, "markdown")
    (row,) = [row for row in ROWS if row["model"] == model and (row["table"] != 2 or model == "irnet-r18")]
    assert [figure["computed"] for figure in facts["figures"]] == [
        counts()[model][convention][what]
        for what, convention in (
            ("bops", "full"), ("flops", "full"), ("flops", "dagger"), ("ops", "full"), ("ops", "dagger")
        )
    ]  # fmt: skip
    for what in ("bops", "flops", "ops"):
        figures = [figure for figure in facts["figures"] if figure["figure"] == what]
        single = row["flops_dagger"] is None
        wanted = [row[what], row[what] if single or what == "bops" else row[f"{what}_dagger"]][: len(figures)]
        assert [figure["published"] for figure in figures] == wanted
        for figure, key in zip(figures, (what, f"{what}_dagger"), strict=False):
            if figure["published"] is not None:
                unit = 10**9 if what == "bops" else 10**8
                assert figure["difference"] == figure["computed"] - int(figure["published"] * unit)
                marked = differs(row, key if not single and key in row else what)
                lines = [line for line in text.splitlines() if f"{figure['computed']:,}" in line and "|" in line]
                assert any("differs" in line for line in lines) is marked
    assert bool(facts["reasons"]) is (model in {name for reason in reasons() for name in reason["models"]})


def test_layers_and_kinds_add_up_to_the_figures() -> None:
    facts = explain("birealnet-34")
    dagger = next(one for one in facts["figures"] if (one["figure"], one["convention"]) == ("flops", "dagger"))
    assert sum(layer["number"] for layer in dagger["layers"]) == dagger["computed"] == 137_793_536
    for name in ("full", "dagger"):
        total = next(one for one in facts["figures"] if (one["figure"], one["convention"]) == ("flops", name))
        assert sum(kind["flops"][name] for kind in facts["kinds"]) == total["computed"]
    assert {kind["kind"]: kind["layers"] for kind in facts["kinds"]}["mac"] == 5


def test_whose_accuracy_is_which_is_said() -> None:
    found = explain("finn-lfc-w1a1")["top1"]
    assert [(one["kind"], str(one["top1"])) for one in found] == [
        ("published", "98.35"), ("checkpoint bnn-pynq", "98.35"), ("measured", "98.34")
    ]  # fmt: skip
    assert "BNN-PYNQ" in found[1]["source"] and "10000 images" in found[2]["source"]
    text = show(explain("meliusnet-22", results=[run(model="meliusnet-22", run="r", top1=61.5)]), "markdown")
    assert "Its top-1 differs by 2.10 points between sources" in text and "your run r, 50000 images" in text


def test_another_form_or_size_is_not_compared_with_what_is_published() -> None:
    for facts in (explain("reactnet-a", input_size=192), explain("reactnet-a", step=1)):
        assert {figure["published"] for figure in facts["figures"]} == {None}
        assert not facts["top1"] and "not compared" in facts["notes"][0]
    assert explain("reactnet-a", num_classes=1000)["figures"][0]["published"] == Decimal("4.82")


def test_a_network_of_ones_own_is_what_is_counted_and_where() -> None:
    facts = explain("tests.ops.strangers:Net", input_size=32)
    report = bcdzoo.count_ops("tests.ops.strangers:Net", input_size=32)
    assert facts["figures"][0]["computed"] == report.bops and facts["warnings"] == report.warnings
    assert [layer["name"] for layer in facts["figures"][0]["layers"]] == ["first", "second"]
    text = show(facts, "text")
    assert "nothing published to compare with" in text and "in first +" in text
    assert zoo("explain", "nowhere.at:all").returncode == zoo("explain", "bcdnet-c").returncode == 1


def test_a_convention_of_ones_own_is_named_and_has_nothing_published(tmp_path: Path) -> None:
    done = zoo("explain", "reactnet-a", "--convention", str(written(tmp_path, ACE)), "--format", "json")
    facts = json.loads(done.stdout)
    mine = [figure for figure in facts["figures"] if figure["convention"] == "bits"]
    assert [(one["figure"], one["published"], one["agrees"]) for one in mine] == [
        ("flops", None, None), ("ops", None, None)
    ]  # fmt: skip
    assert facts["figures"][0]["published"] == 4.82 and facts["source"] == "table 1 of the paper"
    one = json.loads(zoo("explain", "reactnet-a", "--convention", "dagger", "--format", "json").stdout)
    assert {figure["convention"] for figure in one["figures"]} == {None, "dagger"}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("model", ["bnext-t", "meliusnet-22", "tests.ops.strangers:Net"])
def test_no_line_is_wider_than_the_terminal(model: str, columns: int) -> None:
    done = zoo("explain", model, "--format", "text", COLUMNS=str(columns))
    assert done.returncode == 0, done.stderr
    assert max(map(columns_wide, done.stdout.splitlines())) <= columns
    assert "  difference  " in done.stdout
