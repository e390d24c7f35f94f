"""The built site: complete, and without anything from elsewhere; and figures of the pages against their sources."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

import bcdzoo
from bcdzoo.cli import COMMANDS
from bcdzoo.weights.manifest import load_manifest
from scripts.make_reference import with_reference
from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_line_and_the_python_interface_are_on_their_pages(site: Path) -> None:
    cli, api = (site / "cli.html").read_text(), (site / "api.html").read_text()
    for command in COMMANDS:
        assert f'id="bcdzoo-{command}"' in cli
    for name in bcdzoo.__all__:
        home = getattr(bcdzoo, name).__module__
        assert f'id="{home}.{name}"' in api
    assert not re.search(r":(func|class|mod|data|meth|attr):", api)


def test_the_pages_of_commands_and_functions_are_as_the_code_is_now() -> None:
    for name in ("cli.md", "api.md"):
        page = (ROOT / "docs" / name).read_text()
        assert with_reference(page) == page, f"docs/{name} is old: run python -m scripts.make_reference"


def test_the_search_finds_options_functions_and_words_of_the_pages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"]: f"{entry['title']} {entry['text']}" for entry in index["docs"]}
    for word, page in (("--check-stability", "cli"), ("create_model", "api"), ("McNemar", "evaluating")):
        assert any(word in text and place.startswith(page) for place, text in found.items()), word


def test_the_weights_page_has_every_entry_of_the_manifest(site: Path) -> None:
    page = (site / "weights.html").read_text()
    assert "<!-- table" not in page
    for checkpoint in load_manifest().checkpoints:
        assert re.search(rf"<code>{checkpoint.model}</code></td>\s*<td>(<a [^>]*>)?{checkpoint.tag}<", page)
    for missing in load_manifest().missing:
        assert f"<td><code>{missing.model}</code></td>" in page


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"([^\"]+)\"", page.read_text())
        assert loaded
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page.name


def test_what_the_counting_page_says_of_fvcore_is_what_fvcore_counts() -> None:
    network = bcdzoo.create_model("birealnet-18").eval()
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 224, 224)).unsupported_ops_warnings(False)
    page = (ROOT / "docs" / "counting.md").read_text()
    assert f"| fvcore | flops | {analysis.total():,} |" in page
    for operator in ("batch_norm", "adaptive_avg_pool2d"):
        assert f"({analysis.by_operator()[operator]:,})" in page


def test_the_block_worked_by_hand_has_the_operations_that_are_counted() -> None:
    page = (ROOT / "docs" / "counting.md").read_text()
    shown = re.search(r"\| \*\*sum\*\* \| \*\*([\d,]+)\*\* \| \*\*([\d,]+)\*\* \| \*\*([\d,]+)\*\*", page)
    assert shown
    bops, full, dagger = (int(number.replace(",", "")) for number in shown.groups())
    for convention, flops in (("full", full), ("dagger", dagger)):
        layers = [
            layer for layer in bcdzoo.count_ops("reactnet-a", convention).layers if layer.name.startswith("blocks.3.")
        ]
        assert (sum(layer.bops for layer in layers), sum(layer.flops for layer in layers)) == (bops, flops)
