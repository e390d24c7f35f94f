import csv
import io
import json
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.ops.conventions import DAGGER, FULL, find_convention
from bcdzoo.report.counts import counts
from bcdzoo.report.own_rows import counted_row, rows_of_file
from bcdzoo.report.tables import HEADERS, best_results, cells, differs, fields, legend, render, rows
from tests.command import bcdzoo as zoo
from tests.ops.test_conventions import ACE, written


def run(**changes: Any) -> dict[str, Any]:
    result = {
        "model": "bcdnet-a",
        "dataset": "imagenet",
        "n": 50000,
        "top1": 71.812,
        "top5": 90.31,
        "started": "2026-01-01T00:00:00Z",
        "build": {},
    }
    return result | changes


def test_both_tables_have_every_row_in_the_papers_order() -> None:
    everything = rows((1, 2), ())
    first = [row["method"] for row in everything if row["table"] == 1]
    second = [row["method"] for row in everything if row["table"] == 2]
    assert (len(first), len(second)) == (20, 14)
    assert first[:3] == ["Mobile-V1", "Mobile-V2", "ResNet-18"]
    assert first[-2:] == ["BCDNet-A", "BCDNet-B"]
    assert second[0] == "ResNet-18"
    assert second[-1] == "BCDNet-B (R18)"


def test_the_table_beyond_the_papers_has_bnext_first_and_says_where_its_numbers_are_from() -> None:
    table = rows(("beyond",), ())
    assert [row["method"] for row in table][:4] == ["BNext-T", "BNext-S", "BNext-M", "BNext-L"]
    assert {row["table"] for row in table} == {"beyond"}
    assert not {row["model"] for row in table} & {row["model"] for row in rows((1, 2), ())}
    assert "larq-zoo" in render(table, "markdown")
    assert "larq-zoo" not in render(rows((1, 2), ()), "markdown")


def test_bnexts_readme_counts_an_eighth_of_the_real_valued_layers() -> None:
    bnext = [row for row in rows(("beyond",), ()) if row["model"].startswith("bnext-")]
    assert len(bnext) == 4
    for row in bnext:
        eighth = row["computed_flops_dagger"] / 8 + row["computed_bops"] / 64
        assert eighth / 1e8 == pytest.approx(float(row["ops"]), abs=0.01)


def test_peers_that_add_up_no_ops_have_none_published() -> None:
    peers = [row for row in rows(("beyond",), ()) if row["flops"] is not None]
    assert len(peers) == 11
    assert all(row["ops"] is None and row["computed_ops_dagger"] is not None for row in peers)


def test_larq_zoos_networks_are_sorted_by_backbone_then_top_1_and_their_counts_agree() -> None:
    peers = [row for row in rows(("beyond",), ()) if row["flops"] is not None]
    backbones = ["AlexNet", "DenseNet", "QuickNet", "ResNet"]
    places = [(next(b for b in backbones if b in row["method"]), row["top1"]) for row in peers]
    assert places == sorted(places) and len(places) == 11
    assert not any(differs(row, key) for row in peers for key in ("bops", "flops", "ops"))


def test_published_numbers_keep_the_printed_digits() -> None:
    (row,) = [row for row in rows((1,), ()) if row["model"] == "reactnet-c"]
    assert str(row["flops_dagger"]) == "1.40"
    assert cells(row)[4] == "1.57 (1.40†)"


def test_only_numbers_that_differ_in_the_last_digit_are_marked() -> None:
    marked = {
        (row["model"], key)
        for row in rows((1, 2), ())
        for key in ("bops", "flops", "flops_dagger", "ops", "ops_dagger")
        if differs(row, key)
    }
    ours = {"bcdnet-a", "bcdnet-b", "reactnet-a", "reactnet-b", "reactnet-c", "resnet-18", "mobilenet-v1"}
    assert not {model for model, _ in marked} & ours
    assert ("mobilenet-v2", "flops") in marked  # 300.8 M, printed as 3.00


def test_a_number_off_by_one_in_the_last_digit_is_marked() -> None:
    (row,) = [row for row in rows((1,), ()) if row["model"] == "bcdnet-a"]
    assert not differs(row, "ops")
    assert differs(row | {"ops": Decimal("1.07")}, "ops")
    assert "≠" in cells(row | {"ops": Decimal("1.07")})[7]


def test_an_unknown_number_is_a_dash_and_never_a_zero() -> None:
    (row,) = [row | {"computed_bops": None, "computed_flops": None} for row in rows((1,), ()) if row["method"] == "BWN"]
    assert cells(row)[2:5] == ["–", "–", "–"]


def test_measured_accuracy_comes_from_the_run_on_most_images() -> None:
    results = [
        run(n=100, top1=99.0, started="2026-03-01T00:00:00Z"),
        run(),
        run(top1=71.9, started="2026-02-01T00:00:00Z"),
        run(dataset="flowers", n=10**6, top1=1.0),
        run(build={"step": 1}, n=60000, top1=75.0),
        run(precision="bf16", n=60000, top1=72.2),
        run(compiled=True, n=60000, top1=72.3),
        run(build={"mlp_groups": 4}, n=60000, top1=72.4),
        run(build={"num_classes": 1000, "step": 2}, n=50, top1=1.0),
        run(model="somebody:net", top1=12.0),
    ]
    assert best_results(results)["bcdnet-a"]["top1"] == 71.9
    (row,) = [row for row in rows((1,), results) if row["model"] == "bcdnet-a"]
    assert cells(row)[-3:] == ["71.90", "90.31", "50000"]
    assert row["measured_n"] == 50000


@pytest.mark.parametrize(
    ("model", "build", "own"),
    [
        ("birealnet-18", {"activation": "hardtanh"}, False),
        ("birealnet-18", {"padding": "tensorflow", "bn_eps": 0.001}, True),
        ("birealnet-18", {"padding": "tensorflow"}, False),
        ("xnornet-r18", {"input_scale": False}, False),
        ("xnornet-r18", {"input_scale": True, "num_classes": 1000}, True),
        ("bcdnet-a", {"step": 1}, False),
        ("bcdnet-b", {"reduction": 8}, False),
        ("reactnet-a", {}, True),
        ("mine:net", {}, True),
        ("mine:net", {"width": 2}, False),
    ],
)
def test_a_run_of_another_form_of_a_network_is_not_the_networks(model: str, build: dict[str, Any], own: bool) -> None:
    assert (model in best_results([run(model=model, build=build)])) is own


def test_json_has_the_published_keys_and_raw_counts() -> None:
    table = json.loads(render(rows((1, 2), [run()]), "json"))
    (row,) = [row for row in table if row["model"] == "bcdnet-a"]
    assert row == {
        "table": 1,
        "method": "BCDNet-A",
        "model": "bcdnet-a",
        "wa": "1/1",
        "bops": 4.82,
        "flops": 0.32,
        "flops_dagger": 0.12,
        "ops": 1.08,
        "ops_dagger": 0.87,
        "top1": 71.8,
        "top5": 90.3,
        "computed_bops": 4816896000,
        "computed_flops": 32253952,
        "computed_ops": 107517952,
        "computed_bops_dagger": 4816896000,
        "computed_flops_dagger": 11862016,
        "computed_ops_dagger": 87126016,
        "measured_top1": 71.812,
        "measured_top5": 90.31,
        "measured_n": 50000,
        "measured_ms": None,
        "measured_by": None,
    }


def test_csv_reads_back() -> None:
    table = list(csv.DictReader(io.StringIO(render(rows((1, 2), ()), "csv"))))
    assert len(table) == 34
    (row,) = [row for row in table if row["model"] == "reactnet-c"]
    assert (row["flops_dagger"], row["computed_bops"], row["top5"]) == ("1.40", "4688445440", "")


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed_and_has_a_row_for_each() -> None:
    parser = _Cells()
    parser.feed(render(rows((1, 2), ()), "html"))
    assert parser.open == []
    assert parser.rows == 34 + 2  # and two headers


def test_markdown_has_the_legend_and_equally_many_columns() -> None:
    text = render(rows((1,), ()), "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(HEADERS) + 1}
    assert "dagger (ReActNet's): convolutions and linear layers only" in text


def test_latex_is_plain_ascii_with_booktabs_rules() -> None:
    text = render(rows((1, 2), [run()]), "latex")
    assert text.isascii()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") >= 2
    for panel in text.split(r"\begin{tabular}")[1:]:
        lines = [line for line in panel.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len({line.count("&") for line in lines}) == 1


ROWS = """
[[row]]
method = "Ours #1 & {more}"
wa = "1/1"
bops = 1.680
ops_dagger = 1.6
top1 = 70.00
[[row]]
method = "ReActNet-A, again"
model = "ReActNet-A"
flops_dagger = 0.12
"""


def own(tmp_path: Path, text: str) -> list[dict[str, Any]]:
    (tmp_path / "rows.toml").write_text(text)
    return rows_of_file(tmp_path / "rows.toml", ())


def test_rows_of_a_file_keep_their_printed_digits_and_stand_beside_what_is_counted(tmp_path: Path) -> None:
    ours, again = own(tmp_path, ROWS)
    assert (str(ours["bops"]), str(ours["top1"]), ours["computed_ops"]) == ("1.680", "70.00", None)
    (paper,) = [row for row in rows((1,), ()) if row["model"] == "reactnet-a"]
    assert again["model"] == "reactnet-a" and again["computed_ops"] == paper["computed_ops"]
    assert list(ours) == list(paper)
    table = [*rows((1,), ()), ours, again]
    for style in ("text", "markdown", "csv", "json", "html", "latex"):
        assert "ReActNet-A, again" in render(table, style)
    assert r"Ours \#1 \& \{more\}" in render(table, "latex")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[row]]\nmethod = 'a'\ntop = 1", "row 1: unknown key 'top'; did you mean top"),
        ("[[row]]\ntop1 = 1", "row 1: method must be"),
        ("[[row]]\nmethod = ' '", "row 1: method must be"),
        ("[[row]]\nmethod = 'a'\n[[row]]\nmethod = 'b'\ntop1 = 101", "row 2: top1 is"),
        ("[[row]]\nmethod = 'a'\nops = nan", "row 1: ops is"),
        ("[[row]]\nmethod = 'a'\nops = -1", "row 1: ops is"),
        ("[[row]]\nmethod = 'a'\nops = true", "row 1: ops is"),
        ("[[row]]\nmethod = 'a'\nops = '1'", "row 1: ops is"),
        ("[[row]]\nmethod = 'a'\nops = 1e-99", "row 1: ops is"),
        ("[[row]]\nmethod = 'a'\nops = 1e99999999999999999999", "is no number that can be held"),
        ("[[rows]]\nmethod = 'a'", r"write each row below \[\[row\]\]"),
        ("row = 1", r"write each row below \[\[row\]\]"),
        ("row = [1]", r"write each row below \[\[row\]\]"),
        ("", r"write each row below \[\[row\]\]"),
        ("[", "is not a file of rows"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BcdzooError, match=message) as caught:
        own(tmp_path, text)
    assert str(caught.value).isprintable()


def test_a_network_of_ones_own_is_a_row_counted_by_the_counter_and_measured_as_built() -> None:
    name = "tests.own_networks:named"
    runs = [
        {"model": name, "build": {"outputs": outputs}, "dataset": "imagenet", "n": 50_000, "started": "2026",
         "top1": float(outputs), "top5": 90.0}
        for outputs in (7, 8)
    ]  # fmt: skip
    row = counted_row(name, {"outputs": 7}, runs)
    report = bcdzoo.count_ops(name, outputs=7)
    assert (row["computed_ops"], row["computed_bops"], row["wa"]) == (report.ops, 0, "32/32")
    assert (row["measured_top1"], row["measured_n"], row["top1"]) == (7.0, 50_000, None)
    assert counted_row(name, {"outputs": 9}, runs)["measured_top1"] is None
    small = runs[0] | {"dataset": "mine", "n": 60_000, "top1": 99.0, "preprocess": "resize=28,crop=28"}
    assert counted_row(name, {"outputs": 7}, [*runs, small])["measured_top1"] == 7.0
    row, report = counted_row(name, {"outputs": 7}, [small]), bcdzoo.count_ops(name, input_size=28, outputs=7)
    assert (row["computed_ops"], row["measured_top1"]) == (report.ops, 99.0)
    assert row["method"] == f"{name} (outputs=7, mine, 28×28)" and "measured on those images" in legend([row])[-1]
    counted, (paper,) = counted_row("bcdnet-a", {}, ()), [row for row in rows((1,), ()) if row["model"] == "bcdnet-a"]
    assert counted["wa"] == "1/1" and all(counted[key] == paper[key] for key in paper if key.startswith("computed"))


def test_the_command_adds_own_rows_below_the_papers(tmp_path: Path) -> None:
    (tmp_path / "rows.toml").write_text(ROWS)
    words = ["--row", "tests.own_networks:named", "--set", "outputs=7", "--rows", str(tmp_path / "rows.toml")]
    found = json.loads(zoo("table", "--which", "1", *words, "--format", "json").stdout)
    assert [row["method"] for row in found if row["table"] == "own"] == [
        "tests.own_networks:named (outputs=7)", "Ours #1 & {more}", "ReActNet-A, again"
    ]  # fmt: skip
    assert zoo("table", "--set", "outputs=7").returncode == 2


def test_columns_are_chosen_and_ordered_by_the_keys_of_json() -> None:
    words = ("table", "--which", "1", "--columns", "top1, Computed-OPs,method")
    keys = ["top1", "computed_ops", "method"]
    found = json.loads(zoo(*words, "--format", "json").stdout)
    assert all(list(row) == keys for row in found) and len(found) == 20
    assert found == [{key: row[key] for key in keys} for row in json.loads(render(rows((1,), ()), "json"))]
    assert zoo(*words, "--format", "csv").stdout.splitlines()[0] == ",".join(keys)
    heads = ["Top-1", "computed OPs (1e8)", "Method"]
    markdown = zoo(*words, "--format", "markdown").stdout
    assert [cell.strip() for cell in markdown.splitlines()[2].strip("|").split("|")] == heads
    page = zoo(*words, "--format", "html").stdout
    assert all(f">{head} " in page or f">{head}<" in page for head in heads)
    assert zoo(*words, "--format", "latex").stdout.count("&") >= 2 * 20
    known = {key for row in rows((1,), ()) for key in row}
    assert known == set(fields(None))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--columns", "method,opss"), "no column 'opss'; did you mean ops"),
        (("--columns", "method,method"), "a column is named twice"),
        (("--columns", ""), "no column ''; there are table, method"),
        (("--columns", "\x1b[1m"), r"no column '\x1b[1m'"),
        (("--sort", "tpo1"), "no column 'tpo1'; did you mean top1"),
        (("--sort", "top1:down"), "'down' is neither asc nor desc"),
        (("--sort", ""), "no column ''"),
        (("--convention", "full", "--sort", "computed_ops_dagger"), "no column"),
        (("--which", "reproduced", "--sort", "model"), "--which reproduced takes MODEL and --format"),
    ],
)
def test_a_choice_that_is_none_is_wrong_usage(words: tuple[str, ...], message: str) -> None:
    done = zoo("table", *words)
    assert done.returncode == 2 and message in done.stderr and not done.stdout


def test_rows_are_sorted_within_each_table_with_missing_values_last() -> None:
    for key, direction in (("top5", ""), ("computed_flops", ":desc"), ("method", ""), ("flops_dagger", ":desc")):
        found = json.loads(zoo("table", "--sort", key + direction, "--format", "json").stdout)
        assert [row["table"] for row in found] == [1] * 20 + [2] * 14
        for part in (found[:20], found[20:]):
            values = [row[key] for row in part]
            known = [value for value in values if value is not None]
            assert values == known + [None] * (len(values) - len(known))
            by = [value.casefold() if isinstance(value, str) else value for value in known]
            assert by == sorted(by, reverse=direction == ":desc")


def test_patterns_choose_rows_of_every_table_as_the_zoo_finds_them() -> None:
    def models(*words: str) -> list[str]:
        done = zoo("table", *words, "--format", "json")
        assert done.returncode == 0, done.stderr
        return [row["model"] for row in json.loads(done.stdout)]

    assert models("BCDNet-?", "bnext-t") == ["bcdnet-a", "bcdnet-b", "bnext-t"]
    assert models("bcdnet*", "--which", "2") == ["bcdnet-a-r18", "bcdnet-b-r18"]
    assert models("Bi-Real-34") == ["birealnet-34"]
    assert models("resnet-18") == ["resnet-18", "resnet-18"]
    assert models("finn-*", "--which", "reproduced") == ["finn-lfc-w1a1", "finn-cnv-w1a1"]
    for words, message in (
        (("bcdnet-c",), "did you mean bcdnet-b"),
        (("zz*",), "no row of the tables matches 'zz*'"),
        (("bcdnet-tiny",), "bcdnet-tiny has no row in these tables"),
        (("bcdnet-a", "--which", "mnist"), "bcdnet-a has no row in these tables"),
    ):
        done = zoo("table", *words)
        assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_network_of_ones_own_may_be_named_among_the_rows(tmp_path: Path) -> None:
    words = ("table", "tests.own_networks:named", "--set", "outputs=7", "--format", "json")
    (row,) = json.loads(zoo(*words).stdout)
    assert row["table"] == "own" and row["computed_ops"] == bcdzoo.count_ops("tests.own_networks:named", outputs=7).ops
    assert len(json.loads(zoo(*words, "--which", "2").stdout)) == 15
    assert len(json.loads(zoo("table", "reactnet-a", *words[1:]).stdout)) == 2
    (tmp_path / "rows.toml").write_text(ROWS)
    of_file = zoo("table", "ours*", "bcdnet-a", "--rows", str(tmp_path / "rows.toml"), "--format", "json").stdout
    assert [row["method"] for row in json.loads(of_file)] == ["BCDNet-A", "Ours #1 & {more}", "ReActNet-A, again"]


def test_computed_columns_are_under_the_convention_that_is_asked_for(tmp_path: Path) -> None:
    both = {row["model"]: row for row in rows((1,), ())}
    for row in rows((1,), (), DAGGER):
        known = both[row["model"]]
        assert row["convention"] == "dagger" and "computed_ops_dagger" not in row
        assert row["computed_ops"] == known["computed_ops_dagger"] and row["ops_dagger"] == known["ops_dagger"]
    ace = find_convention(written(tmp_path, ACE))
    (row,) = rows((1,), (), ace)[18:19]
    assert row["model"] == "bcdnet-a" and row["computed_ops"] == bcdzoo.count_ops("bcdnet-a", ace).ops
    own = counted_row("tests.own_networks:named", {"outputs": 7}, (), ace)
    assert (
        list(own) == list(row)
        and own["computed_ops"] == bcdzoo.count_ops("tests.own_networks:named", ace, outputs=7).ops
    )


@pytest.mark.parametrize("style", ["text", "markdown", "html", "latex"])
def test_figures_of_somebodys_convention_bear_its_name_and_stand_beside_no_published_ones(
    style: str, tmp_path: Path
) -> None:
    words = ("table", "--which", "1", "--convention", str(written(tmp_path, ACE)), "--format", style)
    text = zoo(*words, COLUMNS="200").stdout
    assert "bits" in text and "not comparable with published ones" in " ".join(text.split())
    assert "≠" not in text and "neq" not in text and "†" not in text
    assert "1.57" not in text  # ReActNet-C's published FLOPs
    assert "148.37" not in text and "1483.69" in text  # its OPs in 1e8: MACs of 32 by 32 bits


def test_under_ace_nothing_is_called_flops_or_ops(tmp_path: Path) -> None:
    for words in (("--which", "1"), ("--which", "beyond")):
        for style in ("text", "markdown", "html", "latex"):
            text = zoo("table", *words, "--convention", "ace", "--format", style, COLUMNS="200").stdout
            shown = text.split("Top-1: published")[0].split("Unmarked columns")[0].split("BOPs in 1e9")[0]
            assert "real-valued ACE" in shown and "FLOPs" not in shown and " OPs" not in shown, style
            assert "BOPs/64" not in text and "≠" not in shown
    (row,) = json.loads(zoo("table", "reactnet-a", "--which", "1", "--convention", "ace", "--format", "json").stdout)
    assert (row["convention"], row["computed_ops"]) == ("ace", 4_816_896_000 + 256 * 11_862_016)


def test_the_table_beyond_is_grouped_by_backbone_and_then_sorted_by_top_1() -> None:
    found = json.loads(zoo("table", "--which", "beyond", "--format", "json").stdout)
    assert set(found[0]) == set(rows(("beyond",), ())[0]) | {"backbone", "year", "params", "weights"}
    groups = [row["backbone"] for row in found]
    assert len({*groups}) == 1 + sum(one != other for one, other in pairwise(groups))  # each together
    for backbone in groups:
        known = [row["top1"] for row in found if row["backbone"] == backbone]
        assert known == sorted(known, key=lambda top1: (top1 is None, top1 or 0))
    (one,) = [row for row in found if row["model"] == "quicknet"]
    assert (one["year"], one["params"], one["weights"]) == (2021, counts()["quicknet"]["params"], "public")
    assert not {row["backbone"] for row in found} & {None, "", "other"}


def test_a_row_of_ones_own_is_the_last_of_the_table_beyond_and_what_is_unknown_of_it_a_dash(tmp_path: Path) -> None:
    (tmp_path / "rows.toml").write_text(ROWS)
    words = ("table", "quicknet", "--which", "beyond", "--rows", str(tmp_path / "rows.toml"))
    text = zoo(*words, "--format", "markdown").stdout
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert [line[:3] for line in lines[1:]] == [
        ["QuickNet", "QuickNet", "2021"], ["your own", "Ours #1 & {more}", "–"], ["", "ReActNet-A, again", "2020"]
    ]  # fmt: skip
    for style in ("text", "csv", "json", "html", "latex"):
        assert zoo(*words, "--format", style).returncode == 0


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_beyond_fits_a_terminal_with_whole_names_of_networks(width: int) -> None:
    lines = zoo("table", "--which", "beyond", "--format", "text", COLUMNS=str(width)).stdout.splitlines()
    assert max(map(len, lines)) <= width
    names = [row["method"] for row in rows(("beyond",), ())]
    assert sum(any(name in line for line in lines) for name in names) >= len(names) - 1  # but for the longest


def test_columns_of_the_table_beyond_can_be_chosen() -> None:
    words = ("table", "--which", "beyond", "--columns", "year,model,weights", "--sort", "year:desc", "--format", "json")
    found = json.loads(zoo(*words).stdout)
    assert list(found[0]) == ["year", "model", "weights"]
    assert [row["year"] for row in found] == sorted((row["year"] for row in found), reverse=True)
    assert zoo("table", "--which", "1", "--columns", "year").returncode == 2


def test_marks_are_the_same_under_one_convention_as_under_both() -> None:
    both = {row["model"] for row in rows((1,), ()) if differs(row, "ops")}
    for convention in (FULL, DAGGER):
        field = fields(convention)["computed_ops"]
        assert {row["model"] for row in rows((1,), (), convention) if "≠" in field.cell(row)} == both
