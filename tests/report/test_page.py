"""The report: one file, opened in a real browser."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from bcdzoo.bench.store import store
from bcdzoo.cli import main
from bcdzoo.report.counts import counts
from bcdzoo.report.tables import rows
from tests.report.test_speeds import MANY

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000",
    "--enable-logging=stderr", "--v=0", "--window-size=1280,900",
]  # fmt: skip

OTHER = "bcdzoo.models.tiny:reactnet_tiny"  # with random weights

# What a reader does: sort a column by its head, twice, filter by name, and follow a computed number to its layers.
READER = """
<script>addEventListener("load", () => {
  const column = (table, n) => Array.from(table.tBodies[0].rows, (row) => row.cells[n].dataset.sort);
  const table = document.querySelector("#table1 table");
  const seen = {columns: table.tHead.rows[0].cells.length};
  const head = table.tHead.rows[0].cells[7].querySelector("button");
  head.click(); seen.up = column(table, 7);
  head.click(); seen.down = column(table, 7);
  table.tHead.rows[0].cells[10].querySelector("button").click(); seen.measured = column(table, 10);
  const filter = document.getElementById("filter");
  filter.focus();
  filter.value = "BCD  r18"; filter.dispatchEvent(new Event("input"));
  const shown = (all) => Array.from(all).filter((one) => one.checkVisibility());
  seen.filtered = shown(document.querySelectorAll("#table2 tbody tr")).map((row) => row.cells[0].textContent.trim());
  seen.networks = shown(document.querySelectorAll("details")).map((one) => one.id);
  seen.said = document.querySelector("output").value;
  const fits = (box) => box.scrollWidth <= box.clientWidth;
  location.hash = document.querySelector("#table1 a[href='#bcdnet-a']").hash;
  seen.images = Array.from(document.images, (image) => image.complete && image.naturalWidth > 0);
  setTimeout(() => {
    seen.opened = document.getElementById("bcdnet-a").open;
    seen.unfiltered = shown(document.querySelectorAll("details")).length;
    seen.wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    seen.width = document.documentElement.clientWidth;
    const boxes = Array.from(document.querySelectorAll("section > .scroll"));
    seen.sideways = boxes.filter((box) => !fits(box)).map((box) => box.ariaLabel);
    const box = boxes[0], first = box.querySelector("tbody tr").cells[0];
    box.scrollLeft = 200;
    seen.moved = Math.round(first.getBoundingClientRect().left - box.getBoundingClientRect().left);
    const note = document.createElement("pre"); note.id = "seen"; note.textContent = JSON.stringify(seen);
    document.body.append(note);
  }, 100);
});</script>
"""
OUT_OF_FRAME = """
<script>const waiting = setInterval(() => {
  const note = document.querySelector("iframe").contentDocument.getElementById("seen");
  if (note) { document.body.append(note.cloneNode(true)); clearInterval(waiting); }
}, 50);</script>
"""
OWN_ROWS = """
[[row]]
method = "Mine"
model = "bcdnet-a"
top1 = 74.5
[[row]]
method = "Only operations <b>"
ops = 2
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCDZOO_HOME", str(folder / "home"))
        images = str(_few_demo_images(folder))
        for network in ("bcdnet-tiny", OTHER):
            spec = ["--preprocess", "resize=28,crop=28"] if ":" in network else []
            with pytest.raises(SystemExit, match="0"):
                main(["eval", network, "--data", images, "--workers", "0", *spec])
        (folder / "home" / "results" / "imagenet.json").write_text(json.dumps(_imagenet_run()))
        of = MANY["machine"] | {"processor": "<i>P</i>"}
        store(MANY | {"machine": of})
        (folder / "rows.toml").write_text(OWN_ROWS)
        own = ["--rows", str(folder / "rows.toml"), "--row", "bcdnet-tiny", "--row", OTHER, "--set", "step=1"]
        with pytest.raises(SystemExit, match="0"):
            main(["report", *own, "-o", str(folder / "report.html")])
    return (folder / "report.html").read_text(encoding="utf-8")


def _few_demo_images(folder: Path) -> Path:
    from bcdzoo.data.imagenet import open_dataset

    images = open_dataset("demo", 10)
    for index in range(30):
        sample = images.samples[index]
        (folder / "few" / str(sample.label)).mkdir(parents=True, exist_ok=True)
        images.image(index).save(folder / "few" / str(sample.label) / f"{index}.png")
    return folder / "few"


def _imagenet_run() -> dict[str, Any]:
    run = {"model": "bcdnet-a", "weights": "<b>authors</b>", "backend": "torch", "dataset": "imagenet", "n": 50000}
    run |= {"top1": 71.81, "top5": 90.32, "ci95": {"top1": [71.41, 72.2], "top5": [90.06, 90.58]}}
    run |= {"hits": {"top1": 35905, "top5": 45160}, "started": "2026-11-01T00:00:00+00:00", "fingerprint": "f"}
    return run | {"build": {}, "preprocess": "imagenet", "precision": "float32", "device": "cpu"}


def browse(page: str, tmp_path: Path) -> tuple[dict[str, Any], str]:
    """What a reader sees, and what the browser says."""
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    address = (tmp_path / "report.html").as_uri()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, profile, "--dump-dom", address],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    note = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert note, done.stderr
    return json.loads(note[1]), done.stderr


browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@browser
def test_a_column_is_sorted_by_its_value_and_what_is_unknown_stays_last(page: str, tmp_path: Path) -> None:
    seen, log = browse(page.replace("</body>", READER + "</body>"), tmp_path)
    computed = sorted(counts()[row["model"]]["full"]["ops"] for row in rows((1,), ()))
    assert [int(value) for value in seen["up"]] == computed
    assert [int(value) for value in seen["down"]] == computed[::-1]
    assert seen["measured"] == ["71.81", *[""] * 19]
    assert seen["opened"] is True
    assert seen["images"] == [True] * 6
    assert "CONSOLE" not in log


@browser
def test_names_filter_rows_and_networks_and_a_link_shows_what_it_leads_to(page: str, tmp_path: Path) -> None:
    seen, _ = browse(page.replace("</body>", READER + "</body>"), tmp_path)
    assert seen["filtered"] == ["BCDNet-A (R18)", "BCDNet-B (R18)"]
    assert seen["networks"] == ["bcdnet-a-r18", "bcdnet-b-r18"] and seen["said"] == "2 networks"
    assert seen["unfiltered"] == len(counts()) + 2  # those of one's own


@browser
def test_every_table_fits_a_window_of_1280_pixels(page: str, tmp_path: Path) -> None:
    seen, _ = browse(page.replace("</body>", READER + "</body>"), tmp_path)
    assert 1260 <= seen["width"] <= 1280  # less the scroll bar
    assert seen["sideways"] == [] and seen["wider"] <= 0


@browser
def test_the_page_fits_a_phone_and_the_first_column_stays(page: str, tmp_path: Path) -> None:
    # a browser's window is wider than a phone: the page is looked at in a frame
    inside = html.escape(page.replace("</body>", READER + "</body>"))
    frame = f'<iframe style="width: 400px; height: 800px" srcdoc="{inside}"></iframe>'
    seen, log = browse(f"<!doctype html><body>{frame}{OUT_OF_FRAME}</body>", tmp_path)
    assert seen["wider"] <= 0
    assert "ImageNet, all networks (table 1)" in seen["sideways"]  # in its own box
    assert seen["moved"] == 0
    assert "CONSOLE" not in log


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.inner: set[str] = set()
        self.outer: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id":
                assert value not in self.ids, f"{value} twice"
                self.ids.add(value or "")
            if key in ("href", "src"):
                if (value or "").startswith("#"):
                    self.inner.add((value or "")[1:])
                else:
                    self.outer.append((value or "")[:30])


def test_the_page_needs_nothing_but_itself_and_every_link_leads_somewhere(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.inner and links.inner <= links.ids
    assert links.outer and all(link.startswith("data:") for link in links.outer)
    assert "@import" not in page and "url(" not in page


def test_every_number_of_the_tables_says_where_it_comes_from(page: str) -> None:
    table = page[page.index('id="table1"') : page.index('id="table2"')]
    assert re.search(r'data-sort="4.82"><span class="published" title="published: table 1 of the paper">4.82<', table)
    ops = counts()["bcdnet-a"]["full"]["ops"]
    assert (
        f'data-sort="{ops}"><a class="computed" title="computed: layer by layer" href="#bcdnet-a">1.08 (0.87†)<'
        in table
    )
    assert 'data-sort="71.81"><a class="measured" title="measured: the run" href="#imagenet">71.81<' in table


def test_rows_of_ones_own_lead_to_their_layers_and_what_no_figure_shows_is_said(page: str) -> None:
    own = page[page.index("<h2>Rows of your own") : page.index('id="figures"')]
    assert re.search(r'>bcdnet-tiny \(step=1\)<(?s:.*?)href="#own-1"', own)
    assert 'title="published: your file">74.5<' in own and 'href="#bcdnet-a"' in own and 'href="#imagenet"' in own
    assert page.count("Only operations &lt;b&gt; is not in the figure: no accuracy of it") == 3  # of each convention
    layers = page[page.index('<details id="own-2"') :]
    assert f"<b>{OTHER} (step=1)</b>" in layers and ">blocks.0.spatial.conv<" in layers


def test_the_page_can_be_read_without_a_browser_that_runs_its_script(page: str) -> None:
    assert page.count('<div class="scroll" tabindex="0" role="region" aria-label=') == page.count("<table")
    assert "td:first-child, th:first-child { position: sticky; left: 0;" in page
    assert '<label for="filter">' in page and '<input id="filter" type="search"' in page
    assert "from 3 evaluation runs." in page
    names = re.findall(r'data-names="([^"]*)"', page)
    assert "BCDNet-A bcdnet-a" in names and "bcdnet-a" in names


def test_one_run_is_no_plural() -> None:
    environment = Environment(trim_blocks=True)
    macros = (files("bcdzoo") / "report" / "page" / "page.html").read_text(encoding="utf-8")
    macro = re.search(r"{% macro plural.*?endmacro %}", macros)
    assert macro
    said = [environment.from_string(macro[0] + '{{ plural(n, "run") }}').render(n=n).strip() for n in (0, 1, 2, 1000)]
    assert said == ["0 runs", "1 run", "2 runs", "1,000 runs"]


def test_runs_have_their_intervals_and_pairs_their_answer(page: str) -> None:
    assert "71.81 <small>71.41 to 72.20</small>" in page
    assert "&lt;b&gt;authors&lt;/b&gt;" in page  # what a user wrote is text
    pairs = page[page.index('id="pairs"') : page.index('id="networks"')]
    assert ">bcdnet-tiny</a>" in pairs and f">{OTHER}</a>" in pairs
    assert "is better" in pairs  # trained weights than random ones


def test_times_are_shown_with_their_machine_and_in_two_figures(page: str) -> None:
    speed = page[page.index('id="speed"') : page.index('id="networks"')]
    assert speed.count("<tr data-names=") == sum(len(record["results"]) for record in MANY["records"])
    assert '<tr data-names="mobilenet-v2">' in speed and '<td class="number" data-sort="2.7">2.70</td>' in speed
    assert "&lt;i&gt;P&lt;/i&gt;, 2 cores, avx2, kernels avx2; load 0.5 before, 1 after" in speed
    assert {"Accuracy over measured time", "Measured time over operations"} <= {
        *re.findall('img [^>]*alt="([^"]*)"', page)
    }


def test_every_network_has_its_layers_and_their_sum(page: str) -> None:
    for name, known in counts().items():
        part = page[page.index(f'<details id="{name}"') :]
        totals = [known["full"]["bops"], known["full"]["flops"], known["dagger"]["flops"], known["params"]]
        assert part[part.index("<tfoot>") :].startswith(
            '<tfoot><tr><td colspan="4">all</td>'
            + "".join(f'<td class="number" data-sort="{value}">{value:,}</td>' for value in totals)
        )
