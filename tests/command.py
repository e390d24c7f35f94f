"""The command line within this process, for what is not about the process itself: importing torch takes seconds."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from bcdzoo.cli import main


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


ROOT = Path(__file__).parents[1]

_TWICE = """
import shutil, subprocess, sys
from bcdzoo.cli import main
folder, first, second, *words = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={first}", "none", folder], check=True)
try:
    main(words)
except SystemExit as left:
    assert left.code == 1
subprocess.run(["mount", "-o", f"remount,size={second}", folder], check=True)
try:
    main(words)
finally:
    shutil.copytree(folder, folder + ".kept")
"""


def bcdzoo(*words: str, cwd: Path | None = None, **environment: str) -> Done:
    """Run a command in a folder, with further variables of the environment."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        if cwd:
            patch.chdir(cwd)
        main(list(words))
    return Done(int(left.value.code or 0), out.getvalue(), err.getvalue())


def on_a_full_disk(
    folder: Path, sizes: tuple[str, str], words: Sequence[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that fails where a folder is a file system too small for it, and again when that has grown.

    What it leaves in the folder is in its neighbour of the same name and ``.kept``.
    """
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small file system")
    folder.mkdir()
    twice = [sys.executable, "-c", _TWICE, str(folder), *sizes, *words]
    return subprocess.run(
        ["unshare", "-rm", *twice], env=os.environ | environment, cwd=ROOT, capture_output=True, text=True
    )
