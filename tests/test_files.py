import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, open_regular, require_regular, sha256_of


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def test_a_file_is_written_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "file", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    _write(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_link_that_leads_to_nothing_yet_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    _write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"


def test_a_device_is_written_to_and_stays_a_device() -> None:
    _write(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()


def test_a_named_pipe_gets_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    _write(pipe, "through")
    reader.join(10)
    assert got == ["through"] and pipe.is_fifo()


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        _write(tmp_path, "text")


def test_what_a_killed_process_leaves_goes_at_the_next_write_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    killed = (
        "import os, sys; from pathlib import Path; from bcdzoo.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "other")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(tmp_path / "living") as temporary:
        temporary.write_text("living")
        _write(tmp_path / "file", "new")
        assert {path.name for path in tmp_path.iterdir()} == {"file", temporary.name}
    assert (tmp_path / "living").read_text() == "living"


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device", "a folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(BcdzooError, match=kind):
        require_regular(path)
    with pytest.raises(BcdzooError, match=kind):
        sha256_of(path)


def test_a_regular_file_is_opened_as_ever(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with open_regular(tmp_path / "x") as file:
        assert file.read() == b"abc"


def test_a_pipe_among_the_leftovers_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".x.bcdzoo-1.tmp")
    _write(tmp_path / "file", "new")
    assert (tmp_path / ".x.bcdzoo-1.tmp").is_fifo() and (tmp_path / "file").read_text() == "new"


def test_a_shells_pipe_is_written_to(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from bcdzoo.files import atomic_write\n"
        "with atomic_write(Path('/dev/stdout')) as temporary: temporary.write_text('through')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "through"


def test_a_file_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(0o600)
    _write(tmp_path / "secret", "new")
    _write(tmp_path / "other", "new")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "other").stat().st_mode & 0o444 == 0o444
