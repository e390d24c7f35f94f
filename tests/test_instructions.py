"""How many instructions the engine needs for an image: a loss of speed that no clock on a shared machine would show."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bcdzoo.packed import native
from scripts.count_instructions import CASES, FIGURES, INSTRUCTIONS, _of_engine, compiler, slower

ROOT = Path(__file__).parents[1]

DUMP = """\
desc: Trigger: Client Request: 3
ob=/somewhere/_engine.cpython-311-x86_64-linux-gnu.so
fl=units.cpp
fn=unit
12 1000
13 50
cob=/usr/lib/libc.so.6
cfn=memcpy
calls=2 0
14 700
ob=/usr/lib/libc.so.6
fn=memcpy
0 700
ob=/somewhere/_engine.cpython-311-x86_64-linux-gnu.so
fn=pack
7 20
"""


def test_what_the_engine_calls_is_not_counted() -> None:
    assert _of_engine(DUMP) == ("3", 1070)


def test_every_case_has_a_figure() -> None:
    assert json.loads(FIGURES.read_text())["instructions"].keys() == CASES.keys()


def test_what_needs_more_and_what_nobody_knows_is_named() -> None:
    before = {"same": 1000, "a little more": 1000, "more": 1000, "less": 1000}
    found = {"same": 1000, "a little more": 1029, "more": 1031, "less": 10, "new": 1}
    assert slower(found, before) == ["more", "new"]


def test_the_engine_needs_no_more_instructions_than_are_written_down() -> None:
    if not shutil.which("valgrind") or not Path("/usr/include/valgrind/callgrind.h").exists():
        pytest.skip("valgrind is not installed")
    if INSTRUCTIONS not in native.instruction_sets():
        pytest.skip(f"this processor has no {INSTRUCTIONS}")
    known = json.loads(FIGURES.read_text())
    if known["compiler"] != compiler():
        pytest.skip(f"built with {compiler()}, the figures are of {known['compiler']}")
    words = [sys.executable, "-m", "scripts.count_instructions"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(case in done.stdout for case in CASES)
