"""The command line as a user meets it: its output, its exit code, and where it matters its process."""

import importlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from safetensors.torch import load_file

from bcdzoo.cli import COMMANDS
from bcdzoo.packed import native
from bcdzoo.text_table import columns_wide
from tests.command import bcdzoo
from tests.weights import authors


def process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bcdzoo", *arguments], capture_output=True, text=True, timeout=120, cwd=cwd
    )


@pytest.mark.parametrize("command", ["--help", "--version", "list", "table"])
def test_help_version_list_and_table_never_import_torch(command: str) -> None:
    code = (
        "import sys; from bcdzoo.cli import main\n"
        f"try: main(['{command}'])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'pandas', 'numpy', 'huggingface_hub'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {"--help": "count-ops", "--version": "bcdzoo ", "list": "bcdnet-a", "table": "BCDNet-A"}
    assert expected[command] in done.stdout


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("", f"kernels {native.instruction_sets()[0]} (of {', '.join(native.instruction_sets())})"),
        ("portable", "kernels portable (of "),
        ("mmx", "kernels none (BCDZOO_KERNELS=mmx: this processor has "),
        ("none", "kernels none (BCDZOO_KERNELS is none)"),
    ],
)
def test_the_version_names_torch_and_the_kernels(wanted: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if wanted:
        monkeypatch.setenv(native.VARIABLE, wanted)
    done = process("--version")
    own, torchs, kernels, python = done.stdout.splitlines()
    assert own == f"bcdzoo {importlib.metadata.version('bcdzoo')}"
    assert torchs == f"torch {importlib.metadata.version('torch')}"
    assert kernels.startswith(shown)
    assert python == f"Python {platform.python_version()}"
    assert done.stderr == ""


def test_the_version_says_why_there_are_no_kernels() -> None:
    code = "import sys; sys.modules['bcdzoo.packed._engine'] = None; from bcdzoo.cli import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "kernels none (import of bcdzoo.packed._engine halted" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = bcdzoo(command, "--help")
    assert done.returncode == 0
    assert "Usage: bcdzoo " + command in done.stdout


def test_count_ops_prints_the_totals_of_birealnet() -> None:
    done = bcdzoo("count-ops", "birealnet-18", "--convention", "dagger", "--total")
    assert done.returncode == 0
    assert "1,676,279,808" in done.stdout
    assert "137,793,536" in done.stdout


def test_count_ops_takes_a_networks_own_arguments() -> None:
    done = bcdzoo("count-ops", "bcdnet-a", "--set", "step=1", "--format", "json", "--total")
    assert json.loads(done.stdout)["bops"] == 0


def test_count_ops_takes_anybodys_network_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\ndef net():\n    return torch.nn.Conv2d(3, 4, 3)\n")
    done = process("count-ops", "mine:net", "--format", "csv", "--input-size", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "(network),Conv2d,32,32,4×8×8,0,6912,112"


def test_the_third_table_is_asked_for_by_name() -> None:
    table = json.loads(bcdzoo("table", "--which", "beyond", "--format", "json").stdout)
    (row,) = [row for row in table if row["model"] == "bnext-l"]
    assert (row["table"], row["top1"], row["computed_bops"]) == ("beyond", 80.57, 52_150_927_360)
    papers = json.loads(bcdzoo("table", "--format", "json").stdout)
    assert {row["table"] for row in papers} == {1, 2}


def test_list_narrows_to_a_pattern_and_says_what_can_be_had() -> None:
    done = bcdzoo("list", "bcdnet-?", "--format", "json")
    entries = {entry["model"]: entry for entry in json.loads(done.stdout)}
    assert list(entries) == ["bcdnet-a", "bcdnet-b"]
    assert entries["bcdnet-a"]["checkpoint"] == "public"
    assert entries["bcdnet-b"]["checkpoint"] == "none"
    assert entries["bcdnet-a"]["params"] == 46_146_384
    assert entries["bcdnet-a"]["license"] == "none stated"


def test_info_tells_where_the_weights_are_and_what_to_do_without() -> None:
    assert "12jL6SzBppXJry0fLq0AzhY1dYFVGyfp5" in bcdzoo("info", "bcdnet-a").stdout
    assert "--weights" in bcdzoo("info", "bcdnet-b").stdout


def test_convert_writes_a_file_that_states_its_network(tmp_path: Path) -> None:
    torch.save({"model": authors.state(authors.record("reactnet-r18")["keys"])}, tmp_path / "theirs.pth.tar")
    out = tmp_path / "ours.safetensors"
    done = bcdzoo("convert", str(tmp_path / "theirs.pth.tar"), "--model", "reactnet-r18", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "stages.3.3.activation.slope" in load_file(out)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["count-ops", "bcdnet-c"], 1, "did you mean"),
        (["count-ops", "nowhere.to.be:found"], 1, "nowhere"),
        (["count-ops", "bcdnet-a", "--convention", "thirds"], 2, "--convention"),
        (["count-ops", "bcdnet-a", "--set", "step"], 2, "KEY=VALUE"),
        (["convert", "missing.pth", "--model", "bcdnet-a", "--out", "x.safetensors"], 1, "missing.pth"),
        (["frobnicate"], 2, "No such command"),
        (["info", "bcdnet-c"], 1, "did you mean"),
        (["list", "bcdnet-c"], 1, "did you mean"),
        (["list", "nothing-*"], 1, "no network's name matches"),
        (["count-ops", "bcdnet-a", "--set", "stepp=1"], 1, "did you mean step?"),
        (["count-ops", "bcdnet-a", "--conventoin", "full"], 2, "--convention"),
        (["coutn-ops", "bcdnet-a"], 2, "Did you mean count-ops?"),
        (["train", "bcdnet-a", "--data", "x", "--recipe", "tinny"], 1, "did you mean tiny"),
        (["results", "rm"], 2, "name a run"),
        (["results", "rm", "none"], 1, "no run is called so"),
        (["results", "a", "b"], 2, "one PATTERN"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_the_right_exit_code(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = bcdzoo(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert code == 2 or len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    ["list", "table --which all", "table --which beyond", "count-ops bcdnet-tiny", "audit bcdnet-tiny --images 2"],
)
def test_a_table_on_a_terminal_of_80_columns_does_not_wrap(arguments: str) -> None:
    shown = bcdzoo(*arguments.split(), "--format", "text", COLUMNS="80")
    assert shown.returncode == 0, shown.stderr
    assert max(map(columns_wide, shown.stdout.splitlines())) <= 80
    assert "| " not in shown.stdout


@pytest.mark.parametrize("command", ["list", "table", "count-ops bcdnet-tiny"])
def test_what_is_piped_is_markdown_which_has_an_older_name_too(command: str) -> None:
    piped = bcdzoo(*command.split()).stdout
    assert "|---" in piped
    assert piped == bcdzoo(*command.split(), "--format", "github").stdout


def test_a_terminal_gets_text_in_its_own_width() -> None:
    code = (
        "import os, pty, sys; os.environ |= {'COLUMNS': '90', 'TERM': 'xterm'}; os.environ.pop('NO_COLOR', None)\n"
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, '-m', 'bcdzoo', 'list', 'bcdnet-?'])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert done.stdout.startswith("\x1b[1mmodel") and "|" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 90 + len("\x1b[1m\x1b[0m")


def test_names_are_found_as_papers_print_them_in_every_command() -> None:
    assert bcdzoo("info", "BCDNet-A").stdout == bcdzoo("info", "bcdnet-a").stdout
    assert "bcdnet-tiny" in bcdzoo("verify", "BCDNet-Tiny").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_format_set_and_out_mean_the_same_in_every_command(command: str) -> None:
    found = importlib.import_module(f"bcdzoo.cli.{COMMANDS[command][0]}").command
    for each in found.commands.values() if isinstance(found, click.Group) else [found]:
        for option in (one for one in each.params if isinstance(one, click.Option)):
            if "--format" in option.opts:
                assert option.name == "style" and "json" in option.type.choices  # type: ignore[attr-defined]
            if "--out" in option.opts:
                assert option.opts == ["-o", "--out"]
            if "--set" in option.opts:
                assert option.multiple and option.metavar == "KEY=VALUE"


def test_a_figures_file_is_called_by_its_network(tmp_path: Path) -> None:
    done = bcdzoo("plot", "layers", "BCDNet-Tiny", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "layers-bcdnet-tiny.png\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["layers-bcdnet-tiny.png"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("bcdnet-tiny --images 2", 0),
        ("torch.nn:Identity --images 2", 1),
    ],
)
def test_check_asks_whether_a_network_has_the_bits_it_claims(arguments: str, code: int) -> None:
    assert bcdzoo("audit", *arguments.split(), "--check").returncode == code


def test_debug_shows_the_traceback() -> None:
    done = process("--debug", "info", "bcdnet-c")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [("list", 0), ("info bcdnet-c", 1), ("frobnicate", 2)])
def test_the_exit_code_is_that_of_the_process(arguments: str, code: int) -> None:
    done = process(*arguments.split())
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0) and bool(done.stderr) == (code != 0)
