"""Every command and every piece of Python in README.md and docs/*.md is run, with stand-ins for what is not here.

A page is a story: its commands run one after the other in one folder. A block of ``text`` behind them, or behind
Python, is what they print, but for lines of "…". Whoever writes a page need do nothing here, unless a command needs a
file that is not there (``standins.FILES``), takes long (``SLOW``) or cannot run (``NOT_RUN``).
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from bcdzoo.cli import COMMANDS, cli, main
from bcdzoo.weights.manifest import load_manifest
from tests import numpy_package
from tests.docs import standins
from tests.docs.blocks import PAGES, ROOT, Block, blocks, commands, inline
from tests.weights.hub import hub

# The beginning of a command -> why it is not run at all.
NOT_RUN = {
    "python3 -m venv .venv": "the environment that these tests run in: .ci/run makes it by the same words",
    ".venv/bin/pip install": "as above",
    ".venv/bin/pytest": "as above",
    "python -m build": "it takes minutes, in an environment of its own; scripts/smoke.sh tries out what it gives",
    "cibuildwheel": "it needs Docker",
    "bcdzoo eval hf-hub:OWNER/NAME": "nobody has published there: tests/weights/test_hub.py has such addresses",
    "bcdzoo eval my_package.nets:small --weights hf-hub:OWNER/NAME": "as above",
    "pip install ./engine": "tests/engine/test_python_package.py does it, in an environment of its own",
    "bcdzoo export bcdnet-tiny --as openvino": "it needs OpenVINO: tests/interchange/test_openvino.py runs it",
    "bcdzoo bench bcdnet-a mobilenet-v2": "it needs OpenVINO and ONNX Runtime: tests/bench runs them where they are",
    "bcdzoo bench bcdnet-a bcdnet-b": "as above; and it takes minutes",
    "pip install .": "it would install into the environment that these tests run in",
}

# Beginnings of commands that take long: run with -m slow.
SLOW = (
    "torchrun",
    "bcdzoo bench bcdnet-a",  # compiles it
    "bcdzoo plot tradeoff",  # counts a family of networks
    "bcdzoo report",  # counts every network
    "python scripts/make_counts.py",
    "pytest",
)

# Commands whose answer is about the large networks themselves; others run on small ones, without -m slow.
LARGE = ("count-ops", "explain", "list", "info", "table", "plot", "report")

APART = ("push",)  # reads its settings (the hub's address) once for the process
_ON_SMALL = "from tests.docs.standins import small_networks; from bcdzoo.cli import main\nwith small_networks(): main()"

ALL = [command for page in PAGES for command in commands(page)]
OF_BCDZOO = [command for command in dict.fromkeys(ALL) if "bcdzoo" in map(os.path.basename, shlex.split(command))]
MENTIONED = [command for page in PAGES for command in inline(page)]
TOLD = [page for page in PAGES if any(block.commands or block.language == "python" for block in blocks(page))]


def starts(command: str, beginnings: Sequence[str]) -> bool:
    return any(command == start or command.startswith(start + " ") for start in beginnings)


class Story:
    """A folder in which the commands of a page run, one after the other."""

    def __init__(self, folder: Path, publisher: standins.Publisher, environment: dict[str, str]) -> None:
        self.folder, self.publisher, self.environment = folder, publisher, environment
        self.names: dict[str, object] = {"__name__": "page"}

    def tell(self, page: Path, slow: bool) -> None:
        """Run a page, the commands that take long only if asked to."""
        printed = ""
        for block in blocks(page):
            if block.title:
                write(block, self.folder)
            elif block.language == "python":
                out = io.StringIO()
                with self._networks(), redirect_stdout(out):
                    exec(compile(self._local(block.text), f"{page}:{block.line}", "exec"), self.names)
            elif block.language == "text" and printed:
                lines = {line.strip() for line in printed.splitlines()} | {"…"}
                missing = [line for line in block.text.splitlines() if line.strip() not in lines]
                assert not missing, f"{page}:{block.line}: not printed: {missing[0]!r}, but:\n{printed}"
            printed = out.getvalue() if block.language == "python" and not block.title else ""
            for command in block.commands:
                if not starts(command, tuple(NOT_RUN)) and (slow or not starts(command, SLOW)):
                    printed += self.run(command)

    def run(self, command: str) -> str:
        """What a command prints."""
        words = self.words(command)
        # several pages have the same evaluation, into the same results store, or publish the same file
        known = tuple(words) if {"eval", "push"} & {*words} and not self.apart else ()
        if known in self.publisher.printed:
            return self.publisher.printed[known]
        if words[:3] == [sys.executable, "-m", "bcdzoo"] and words[3] not in APART and not self.apart:
            out, err = io.StringIO(), io.StringIO()
            with (
                redirect_stdout(out),
                redirect_stderr(err),
                self._networks(words[3]),
                pytest.raises(SystemExit) as left,
            ):
                main(words[3:])
            code, stdout, stderr = left.value.code, out.getvalue(), err.getvalue()
        else:
            if words[3:4] == ["push"] and self.publisher.small:
                words = [sys.executable, "-c", _ON_SMALL, *words[3:]]
            code, stdout, stderr = self._apart(words)
        assert code == 0, f"{command}\n(run as: {shlex.join(words)})\n{stdout}\n{stderr}"
        if known:
            self.publisher.printed[known] = stdout
        return stdout

    def _apart(self, words: list[str]) -> tuple[int, str, str]:
        """Exit code and output of processes of their own: as many as there are machines to run the command on."""
        machines = int(words[words.index("--nnodes") + 1]) if "--nnodes" in words else 1
        if self.apart:  # without site, where an editable installation puts its package before the copy
            words = [words[0], "-S", *words[1:]]
        started = [
            subprocess.Popen(
                words,
                cwd=self.folder,
                env=os.environ | self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(machines)
        ]
        said = [process.communicate(timeout=900) for process in started]
        code = max(abs(process.returncode) for process in started)
        return code, "".join(out for out, _ in said), "".join(err for _, err in said)

    def words(self, command: str) -> list[str]:
        """What is really run."""
        for documented, local in standins.REWRITTEN.items():
            command = command.replace(documented, local)
        program, *arguments = shlex.split(self._local(command))
        words = [program, *arguments]
        if "bcdzoo" in words:  # torchrun's is behind -m
            arguments += standins.QUICKER.get(words[words.index("bcdzoo") + 1], ())
        if program == "bcdzoo":
            return [sys.executable, "-m", "bcdzoo", *arguments]
        modules = {"torchrun": ["-m", "torch.distributed.run"], "pytest": ["-m", "pytest", "-n", "0"]}
        return [sys.executable, *modules.get(program, ()), *arguments]

    @property
    def apart(self) -> bool:
        """Whether the folder is a copy of the repository, whose package these commands must use."""
        return (self.folder / "bcdzoo").exists()

    def _networks(self, command: str = "") -> AbstractContextManager[None]:
        return standins.small_networks() if self.publisher.small and command not in LARGE else nullcontext()

    def _local(self, text: str) -> str:
        """A command or piece of Python with the stand-ins' paths, which are made on first use."""
        for documented in (*standins.FILES, *standins.DOWNLOADED):
            pattern = rf"(?<![\w./~-]){re.escape(documented)}(?![\w-])"
            if not re.search(pattern, text):
                continue
            path = self.folder / documented.lstrip("~/")
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                if documented in standins.FILES:
                    with self._networks():
                        standins.FILES[documented](path)
                else:
                    shutil.copy(self.publisher.checkpoint(*standins.DOWNLOADED[documented]), path)
            if documented[0] in "/~":
                text = re.sub(pattern, str(path), text)
        return text


def write(block: Block, folder: Path) -> None:
    """Make the edit of the repository that a block is, in a copy: a new file, or what is added to one."""
    if not (folder / "bcdzoo").exists():
        for name in ("bcdzoo", "tests", "scripts"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        for name in ("pyproject.toml", "weights.toml"):
            shutil.copy(ROOT / name, folder)
    path = folder / block.title
    if not path.exists():
        path.write_text(block.text)
    elif path.suffix == ".py":  # a line of a table
        start = re.compile(r"^_(SPECS|FILES) = [\[(]\n", re.MULTILINE)
        path.write_text(start.sub(lambda found: found[0] + block.text, path.read_text(), count=1))
    else:
        path.write_text(path.read_text() + "\n" + block.text)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> standins.Publisher:
    return standins.Publisher(tmp_path_factory.mktemp("small"), small=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> standins.Publisher:
    return standins.Publisher(tmp_path_factory.mktemp("large"), small=False)


@contextmanager
def beginning(folder: Path, publisher: standins.Publisher) -> Iterator[Story]:
    modules, path, threads = set(sys.modules), list(sys.path), torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are small, and other tests may run beside these
    with (
        publisher.serving() as manifest,
        hub("hf_ofthetest") as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        numpy_package.make_importable(patch)
        patch.setenv("BCDZOO_HOME", str(publisher.folder / "home"))
        patch.setenv("BCDZOO_MANIFEST", str(manifest))
        environment = {
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), *filter(None, path)]),
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": server.token,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }
        try:
            yield Story(folder, publisher, environment)
        finally:
            torch.set_num_threads(threads)
            sys.path[:] = path  # a network of the current folder's was imported
            for name in set(sys.modules) - modules:
                if name.split(".")[0] == "my_package":
                    del sys.modules[name]


# Those whose commands take longest are run in the slow tests alone, on the networks that they name.
QUICK = [page for page in TOLD if page.stem not in ("auditing", "figures", "speed")]


@pytest.mark.parametrize("page", QUICK, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path, small: standins.Publisher) -> None:
    with beginning(tmp_path, small) as story:
        story.tell(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs_on_the_network_that_it_names(
    page: Path, tmp_path: Path, large: standins.Publisher
) -> None:
    with beginning(tmp_path, large) as story:
        story.tell(page, slow=True)


@pytest.mark.parametrize("command", OF_BCDZOO)
def test_every_command_is_one_that_the_command_line_takes(command: str) -> None:
    words = shlex.split(command)
    arguments = words[[Path(word).name for word in words].index("bcdzoo") + 1 :]
    with cli.make_context("bcdzoo", arguments) as context:
        name, subcommand, rest = cli.resolve_command(context, list(arguments))
        assert subcommand is not None
        subcommand.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", dict.fromkeys(MENTIONED))
def test_what_is_mentioned_in_a_sentence_exists(command: str) -> None:
    _, *words = command.split()
    options = {"--debug", "--help", "--version"}
    name = next((word for word in words if not word.startswith("-")), "COMMAND")
    if not name.isupper():
        assert name in COMMANDS
        subcommand = cli.get_command(cli.make_context("bcdzoo", [name]), name)
        assert subcommand is not None
        options |= {
            option for parameter in subcommand.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_block_is_overlooked(page: Path) -> None:
    fences = re.findall(r"^\s*(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))


def test_the_entries_shown_are_entries_that_a_manifest_can_have(tmp_path: Path) -> None:
    shown = [
        block.text for page in PAGES for block in blocks(page) if "[[checkpoint]]" in block.text and not block.title
    ]
    assert shown
    for number, text in enumerate(shown):
        (tmp_path / f"{number}.toml").write_text(text)
        load_manifest(tmp_path / f"{number}.toml")


@pytest.mark.parametrize("start", [*NOT_RUN, *SLOW])
def test_each_exception_is_still_needed(start: str) -> None:
    assert any(starts(command, (start,)) for command in ALL)


@pytest.mark.parametrize("text", [*standins.REWRITTEN, *standins.FILES, *standins.DOWNLOADED])
def test_each_stand_in_is_still_needed(text: str) -> None:
    assert any(text in block.text for page in PAGES for block in blocks(page))
