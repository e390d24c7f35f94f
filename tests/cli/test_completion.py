"""Completion as the shells do it: their own processes, the script that bcdzoo prints, and its answers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bcdzoo.registry import list_models

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a ``bcdzoo`` on the PATH that is this tree's."""
    program = tmp_path / "bin" / "bcdzoo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bcdzoo "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell}")


def bash(line: str, environment: dict[str, str]) -> list[str]:
    """What bash offers at the end of a line; "(files)" where it offers its own."""
    script = f"""
        eval "$(_BCDZOO_COMPLETE=bash_source bcdzoo)"
        compopt() {{ echo "(files)"; }}
        COMP_WORDS=({line}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        complete -p bcdzoo >/dev/null && _bcdzoo_completion bcdzoo && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stderr == ""
    return done.stdout.split()


@needs("bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bcdzoo ta", ["table"]),
        ("bcdzoo eval bcdnet-t", list_models("bcdnet-t*")),
        ("bcdzoo eval bcdnet-a reactnet-t", ["reactnet-tiny"]),
        ("bcdzoo eval my_package.nets:sm", []),
        ("bcdzoo fetch resnet-18 --tag ti", ["timm"]),
        ("bcdzoo eval birealnet-18 --weights da", ["dabnn"]),
        ("bcdzoo eval birealnet-18 --weights ./", ["(files)"]),
        ("bcdzoo eval birealnet-18 --data /", ["(files)"]),
        ("bcdzoo eval birealnet-18 --preprocess inc", ["inception-bicubic"]),
        ("bcdzoo train bcdnet-a --recipe reactnet-", ["reactnet-r18"]),
        ("bcdzoo table --which be", ["beyond"]),
        ("bcdzoo table --sort computed_op", ["computed_ops", "computed_ops_dagger"]),
        ("bcdzoo count-ops bcdnet-a --convention d", ["dagger"]),
        ("bcdzoo explain bcdnet-a --convention ./", ["(files)"]),
        ("bcdzoo --ver", ["--version"]),
    ],
)
def test_bash_offers_what_fits(line: str, offered: list[str], environment: dict[str, str]) -> None:
    assert bash(line, environment) == offered


@needs("bash")
def test_tags_are_those_of_the_users_manifest_too_and_a_broken_one_is_silent(
    environment: dict[str, str], tmp_path: Path
) -> None:
    manifest = tmp_path / "own.toml"
    environment["BCDZOO_MANIFEST"] = str(manifest)
    entry = {"model": "bcdnet-b", "tag": "ours", "source": "manual", "format": "zoo", "preprocess": "imagenet"}
    manifest.write_text("[[checkpoint]]\n" + "".join(f'{key} = "{value}"\n' for key, value in entry.items()))
    assert bash("bcdzoo fetch bcdnet-b --tag o", environment) == ["ours"]
    manifest.write_text("[[checkpoint]]\n")
    assert bash("bcdzoo fetch bcdnet-b --tag o", environment) == []


@needs("fish")
def test_fish_offers_what_fits(environment: dict[str, str]) -> None:
    script = "_BCDZOO_COMPLETE=fish_source bcdzoo | source; complete -C 'bcdzoo eval bcdnet-t'"
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.split() == list_models("bcdnet-t*")


@needs("zsh")
def test_zsh_takes_the_script_and_asks_for_what_fits(environment: dict[str, str]) -> None:
    script = """
        compdef() { registered=$1 }
        eval "$(_BCDZOO_COMPLETE=zsh_source bcdzoo)"
        compadd() { for last; do :; done; eval "print -l \\$$last" }
        _describe() { print -l ${(P)4} }
        words=(bcdzoo eval bcdnet-t) CURRENT=3
        $registered
    """
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.split() == list_models("bcdnet-t*"), done.stderr


def test_offering_imports_no_torch(environment: dict[str, str]) -> None:
    code = """if True:
        import atexit, sys
        atexit.register(lambda: print("torch" in sys.modules))
        from bcdzoo.cli import main
        main()"""
    asked = {"_BCDZOO_COMPLETE": "bash_complete", "COMP_WORDS": "bcdzoo train ", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | asked)
    assert done.stdout.splitlines()[-1] == "False"
    assert len(done.stdout.splitlines()) == len(list_models()) + 1
