"""Conventions as data: the shipped ones, those of a user's file, and files that are none."""

import json
import os
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import nn

from bcdzoo import count_ops
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.models.pokebnn import PokeBNN
from bcdzoo.ops.conventions import BINARY, CONVENTIONS, KINDS, Convention, find_convention
from bcdzoo.report.counts import counts
from tests.command import bcdzoo
from tests.docs.blocks import ROOT

ACE = """
name = "bits"
description = "multiply-accumulates, times the bits of both operands"
bops_per_op = 1
[cost]
mac_bits = 1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_copy_of_a_shipped_file_under_another_name_counts_the_same(tmp_path: Path) -> None:
    for name, shipped in CONVENTIONS.items():
        text = (files("bcdzoo") / "ops" / "shipped" / f"{name}.toml").read_text(encoding="utf-8")
        mine = written(tmp_path, text.replace(f'name = "{name}"', 'name = "mine"'))
        ours, theirs = count_ops("bcdnet-tiny", mine), count_ops("bcdnet-tiny", shipped)
        assert (ours.bops, ours.flops, ours.ops) == (theirs.bops, theirs.flops, theirs.ops)
        assert (ours.convention, theirs.convention) == ("mine", name)


def test_macs_times_bits_of_both_operands_can_be_said(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), LowBitConv2d(4, 4, 1), LowBitConv2d(4, 4, 1, a_bits=2), LowBitConv2d(4, 4, 1, a_bits=32)
    )
    real, binary, two, one_real = 12 * 32 * 32, 16, 16 * 2, 16 * 32
    report = count_ops(net, written(tmp_path, ACE), input_size=5)
    assert report.ops == 25 * (real + binary + two + one_real)
    assert report.bops == 25 * (binary + two)


ACE_OF_POKEBNN = json.loads((Path(__file__).parent / "pokebnn_ace.json").read_text())["ace"]


@pytest.mark.parametrize(
    "width", [width if width == "0.5" else pytest.param(width, marks=pytest.mark.slow) for width in ACE_OF_POKEBNN]
)
def test_ace_is_what_pokebnns_own_code_counts_layer_by_layer(width: str) -> None:
    with torch.device("meta"):
        network = PokeBNN(float(width), 1000)
    report = count_ops(network, "ace", input_size=224)
    assert [layer.bops for layer in report.layers if layer.bops] == ACE_OF_POKEBNN[width]
    assert (report.flops, report.ops) == (0, sum(ACE_OF_POKEBNN[width]))


def test_ace_is_what_pokebnns_abstract_prints() -> None:
    printed = {"reactnet-a": "7.9", "pokebnn-0.75x": "2.6"}
    assert {name: f"{counts()[name]['ace']['ops'] / 1e9:.1f}" for name in printed} == printed


def test_ace_takes_real_numbers_for_bfloat16_whatever_is_beside_them() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), LowBitConv2d(4, 4, 1), LowBitConv2d(4, 4, 1, a_bits=2), LowBitConv2d(4, 4, 1, a_bits=32)
    )
    report = count_ops(net, "ace", input_size=5)
    assert report.flops == 25 * (12 * 16 * 16 + 16 * 16) and report.ops == report.flops + 25 * (16 + 16 * 2)
    assert [name for name, _ in report.shorts()] == ["BOPs", "real-valued ACE", "ACE"]
    assert report.under(CONVENTIONS["full"]).shorts()[2][0] == "OPs"


def test_layers_are_headed_by_what_the_convention_calls_their_numbers() -> None:
    text = bcdzoo("count-ops", "bcdnet-tiny", "--convention", "ace", "--format", "text", COLUMNS="120").stdout
    assert text.splitlines()[0].split()[:4] == ["layer", "type", "W", "A"]
    assert " real-valued ACE " in text.splitlines()[0] and "FLOPs" not in text and "BOPs/64" not in text


def test_a_convention_says_what_its_totals_are_called_and_their_unit(tmp_path: Path) -> None:
    text = 'name = "m"\ntotal = "work"\nreal = "rest"\npower = 6\n[cost]\nmac = 1'
    done = bcdzoo("count-ops", "bcdnet-tiny", "--convention", str(written(tmp_path, text)), "--total")
    count = count_ops("bcdnet-tiny", "dagger")
    assert f"work {count.ops:>17,}  {count.ops / 1e6:.4f}e6" in done.stdout and "work = rest + BOPs/64" in done.stdout
    assert "FLOPs" not in done.stdout


def test_a_convention_may_be_an_object_a_path_or_its_text(tmp_path: Path) -> None:
    path = written(tmp_path, ACE)
    made = Convention("bits", "multiply-accumulates, times the bits of both operands", {"mac_bits": 1}, 1)
    assert find_convention(path) == find_convention(str(path)) == find_convention(made) == made
    assert find_convention("full") is CONVENTIONS["full"]
    with pytest.raises(BcdzooError, match="name: full is a shipped convention"):
        find_convention(Convention("full", "", {"mac": 1}))
    with pytest.raises(BcdzooError, match="name: Dagger is a shipped convention"):
        find_convention(Convention("Dagger", "", {"mac": 2}))


def test_costs_are_exact_whatever_their_digits(tmp_path: Path) -> None:
    report = count_ops("bcdnet-tiny", written(tmp_path, 'name = "m"\nbops_per_op = 3\n[cost]\nsign = 0.1\nmac = 0.7'))
    total = report.counts
    assert report.flops == round((total["sign"] + 7 * total["mac"]) / Decimal(10))
    assert report.ops == report.flops + round(report.bops / 3)
    assert report.under(CONVENTIONS["full"]).flops == count_ops("bcdnet-tiny").flops


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name is missing"),
        ('name = "m"', "cost is missing"),
        ("[cost]\nmac = 1", "name is missing"),
        ('name = "m"\ncosts = 1\n[cost]', "unknown key 'costs'; did you mean cost?"),
        ('name = "m"\n"\\u001b" = 1\n[cost]', r"unknown key '.x1b'; it has name"),
        ('name = ""\n[cost]', "name: must not be empty"),
        ('name = " m"\n[cost]', "name: must be one line"),
        ('name = "a\\nb"\n[cost]', "name: must be one line"),
        (f'name = "{"m" * 41}"\n[cost]', "name: must be one line of 40"),
        ("name = 1\n[cost]", "name: must be one line"),
        ('name = "m"\ndescription = ["x"]\n[cost]', "description: must be one line"),
        (f'name = "m"\ndescription = "{"x" * 501}"\n[cost]', "description: must be one line of 500"),
        ('name = "full"\n[cost]', "full is a shipped convention"),
        ('name = "FULL"\n[cost]', "FULL is a shipped convention"),
        ('name = "m"\ncost = 1', "cost: must be a table"),
        ('name = "m"\n[[cost]]\nmac = 1', "cost: must be a table"),
        ('name = "m"\n[cost]\nmacs = 1', "cost: unknown kind 'macs'; did you mean mac"),
        ('name = "m"\n[cost]\n"" = 1', "cost: unknown kind ''; there are binary_mac"),
        ('name = "m"\n[cost]\nbinary_mac = 1', "its price is bops_per_op"),
        ('name = "m"\n[cost]\nmac = "1"', "mac must be a number from 0 to 1000000, not '1'"),
        ('name = "m"\n[cost]\nmac = true', "mac must be a number"),
        ('name = "m"\n[cost]\nmac = nan', "mac must be a number from 0 to 1000000, not NaN"),
        ('name = "m"\n[cost]\nmac = -inf', "mac must be a number from 0 to 1000000, not -Infinity"),
        ('name = "m"\n[cost]\nmac = -1', "mac must be a number"),
        ('name = "m"\n[cost]\nmac = -0.0001', "mac must be a number"),
        ('name = "m"\n[cost]\nmac = 1000001', "mac must be a number"),
        ('name = "m"\n[cost]\nmac = 1e-99', "mac must be a number"),
        ('name = "m"\n[cost]\nmac = 1e9999999999999999999', "is no number that can be held"),
        ('name = "m"\n[cost.mac]\nx = 1', "mac must be a number"),
        ('name = "m"\n[cost]\nmac = ' + "9" * 5000, "is not a counting convention"),
        ('name = "m"\nbops_per_op = 0\n[cost]', "bops_per_op: must be a whole number from 1"),
        ('name = "m"\nbops_per_op = 64.0\n[cost]', "bops_per_op: must be a whole number from 1 to 1000000, not 64.0"),
        ('name = "m"\nbops_per_op = true\n[cost]', "bops_per_op: must be"),
        ('name = "m"\ntotal = ""\n[cost]', "total: must not be empty"),
        (f'name = "m"\nreal = "{"x" * 21}"\n[cost]', "real: must be one line of 20"),
        ('name = "m"\npower = 1.5\n[cost]', "power: must be a whole number from 0 to 15, not 1.5"),
        ('name = "m"\npower = 16\n[cost]', "power: must be a whole number from 0 to 15, not 16"),
        ("mac = = 1", "is not a counting convention"),
        ("#" * (1 << 18) + "\n", "it has more than"),
        ("x = " + "[" * 5000, "is not a counting convention"),
    ],
)
def test_a_file_that_is_wrong_is_one_line_that_says_what(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BcdzooError, match=message) as caught:
        find_convention(path)
    assert str(caught.value).isprintable() and str(path) in str(caught.value)


def test_the_kinds_of_the_documents_are_those_of_the_counter() -> None:
    page = (ROOT / "docs" / "counting.md").read_text(encoding="utf-8")
    table = page.split("The kinds:")[1].split("\n\n")[1].splitlines()[2:]
    assert dict(line.strip("| ").split(" | ") for line in table) == {
        f"`{kind}`": text for kind, text in KINDS.items() if kind != BINARY
    }


def test_what_is_no_file_is_said_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name, message in (
        ("pipe.toml", "is a named pipe, not a regular file"),
        ("", "is a folder, not a regular file"),
        ("absent.toml", "cannot read the counting convention"),
        ("bytes.toml", "is not a counting convention"),
        ("/dev/zero", "is a device, not a regular file"),
    ):
        with pytest.raises(BcdzooError, match=message):
            find_convention(str(tmp_path / name))


@pytest.mark.parametrize("given", ["", "ful", "a" * 5000, "a\0b", "\x1b[1m", None, 1, [], True])
def test_a_name_that_no_convention_has_is_one_line(given: object) -> None:
    with pytest.raises(BcdzooError, match="no convention named") as caught:
        count_ops("bcdnet-tiny", given)  # type: ignore[arg-type]
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_each_command_refuses_a_wrong_file_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "m"\n[cost]\nmac = nan')
    for words in (("count-ops", "bcdnet-tiny"), ("table", "bcdnet-a"), ("explain", "bcdnet-tiny")):
        done = bcdzoo(*words, "--convention", str(path))
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert "mac must be a number" in done.stderr
        for name in ("thirds", ""):
            assert bcdzoo(*words, "--convention", name).returncode == 2
