"""``bcdzoo explain --plan`` and ``bench --layers``: what is fused, what stands alone, and why."""

import json
from pathlib import Path

import pytest

from bcdzoo.cli import main
from bcdzoo.packed.checkpoint import export
from tests.graph.test_plans import table


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("name", ["bcdnet-tiny", "real-to-binary-r18", "lqnet-r18-w1a2", "resnet-18"])
def test_the_facts_are_those_of_the_table_of_all_networks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    side = "28" if name == "bcdnet-tiny" else "64"
    code, printed, _ = run(["explain", name, "--plan", "--format", "json", "--input-size", side], capsys)
    facts, line = json.loads(printed), table()[name]
    assert code == 0
    assert (facts["operations_recorded"], facts["operations"]) == (int(line["operations"]), int(line["fused"]))
    slow = sum(int(each.rsplit("×", 1)[1]) for each in line["slow"].split("; ") if each)
    assert (facts["steps"]["kernels"], facts["steps"]["reference"]) == (facts["operations"] - slow, slow)
    assert sum(not layer["why_alone"] for layer in facts["layers"]) == int(line["units"])
    assert {layer["why_alone"] for layer in facts["layers"]} - {""} == set(filter(None, line["why"].split("; ")))
    assert all(bool(layer["unit"]) != bool(layer["why_alone"]) for layer in facts["layers"])


def test_a_unit_is_put_into_words(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(["explain", "bcdnet-tiny", "--plan"], capsys)[1]
    assert "12 operations, 65 before fusing; 12 on the kernels\n" in printed
    assert "sign, 3×3 by 2, normalization, its input averaged 2×2 and added, PReLU" in printed
    assert "sign, 1×1, with short-range and long-range samples, normalization, its input added, PReLU" in printed
    printed = run(["explain", "real-to-binary-r18", "--plan", "--input-size", "64"], capsys)[1]
    assert "sign, 3×3, gate, PReLU, its input added" in printed


def test_a_file_of_a_plan_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export("bcdnet-tiny", tmp_path / "net.bcz")
    code, printed, _ = run(["explain", str(tmp_path / "net.bcz"), "--plan", "--format", "json"], capsys)
    facts = json.loads(printed)
    assert code == 0
    assert facts["model"] == "bcdnet-tiny" and facts["operations_recorded"] is None
    whole = json.loads(run(["explain", "bcdnet-tiny", "--plan", "--format", "json"], capsys)[1])
    assert facts["layers"] == whole["layers"]
    for more, code in (["--input-size", "32"], 2), (["--convention", "full"], 2):
        assert run(["explain", str(tmp_path / "net.bcz"), "--plan", *more], capsys)[0] == code
    (tmp_path / "net.bcz").write_bytes(b"\x89BCZ" + bytes(90))
    code, _, error = run(["explain", str(tmp_path / "net.bcz"), "--plan"], capsys)
    assert code == 1 and error.count("\n") == 1


OWN = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, odd=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.odd = odd

    def forward(self, x):
        x = torch.where(self.conv(x) >= 0, 1.0, -1.0)
        x = nn.functional.conv2d(x, torch.ones(8, 8, 3, 3))
        return (x.cumsum(1) if self.odd else x).mean((2, 3))
"""


def test_somebodys_network_is_explained_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_plan.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    common = ["--input-size", "32"]
    code, printed, _ = run(["explain", "own_plan:Own", "--plan", *common], capsys)
    assert code == 0 and "layers of few bits: 1 fused, 0 alone" in printed
    code, printed, _ = run(["explain", "own_plan:Own", "--plan", "--set", "odd=true", *common], capsys)
    assert code == 0 and "no plan" in printed and "Tensor.cumsum is no operation of a plan" in printed
    code, printed, _ = run(["bench", "own_plan:Own", "--layers", *common, "--format", "json"], capsys)
    assert code == 0 and len(json.loads(printed)["layers"]) == 1


def test_bench_names_what_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "lqnet-r18-w1a2", "--layers", "--input-size", "32"]
    assert "activations of several bits or bases" in run(words, capsys)[1]
    alone = json.loads(run([*words, "--format", "json"], capsys)[1])["alone"]
    assert len(alone) == int(table()["lqnet-r18-w1a2"]["alone"])
