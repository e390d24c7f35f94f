"""Checkpoints of several files: fetched from their folder, from what somebody has, and checked file by file."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from bcdzoo.errors import BcdzooError
from bcdzoo.weights import download as download_module
from bcdzoo.weights.bundle import read_files
from bcdzoo.weights.fetch import cached, fetch, folder, read_record, verify
from bcdzoo.weights.links import probe
from bcdzoo.weights.manifest import Checkpoint
from tests.weights import finn
from tests.weights.servers import Page, Server, file_page, serving

ROOT = Path(__file__).parents[2]
CONTENT = {f"{i // 4}-{i % 4}-weights.bin": random.Random(i).randbytes(5000 + i) for i in range(11)}
CONTENT |= {"more/a name.bin": b"", "0-0-weights.bin": random.Random(99).randbytes(100_000)}
CONTENT = dict(sorted(CONTENT.items()))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module, "BACKOFF", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({f"/net/{name.replace(' ', '%20')}": file_page(body) for name, body in CONTENT.items()}) as server:
        yield server


def entry(url: str, content: dict[str, bytes] = CONTENT) -> Checkpoint:
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in content.items()}
    return Checkpoint("net", "a", "files", "onnx", "imagenet", url=url, filename="net.tar", files=hashes)


def at(server: Server) -> Checkpoint:
    return entry(f"{server.url}/net/")


def asked(server: Server) -> list[str]:
    return [unquote(path).removeprefix("/net/") for method, path, _ in server.asked if method == "GET"]


def failure(checkpoint: Checkpoint, from_file: Path | None = None) -> str:
    with pytest.raises(BcdzooError) as error:
        fetch(checkpoint, from_file=from_file)
    message = str(error.value)
    assert "\n" not in message and len(message) < 700
    return message


def test_each_file_is_asked_for_once_and_all_are_one_archive(server: Server) -> None:
    checkpoint = at(server)
    path = fetch(checkpoint)
    assert asked(server) == list(CONTENT)
    assert read_files(path) == CONTENT
    record = read_record(checkpoint)
    assert record and (record.trust, record.origin) == ("published", checkpoint.url)
    assert fetch(checkpoint) == cached(checkpoint) == path
    assert verify(checkpoint) == "ok"
    assert len(asked(server)) == len(CONTENT)
    assert sorted(found.name for found in folder(checkpoint).iterdir()) == ["net.tar", "net.tar.json"]


def test_one_connection_serves_all_files(server: Server) -> None:
    accept, connections = server.get_request, []

    def counted() -> Any:
        connections.append(accepted := accept())
        return accepted

    server.get_request = counted  # type: ignore[method-assign]
    fetch(at(server))
    assert len(connections) == 1


def test_what_has_arrived_is_not_asked_for_again(server: Server) -> None:
    missing = list(CONTENT)[7]
    page = server.pages.pop(f"/net/{missing}")
    assert f"/net/{missing}: the server has no such file (404" in failure(at(server))
    server.pages[f"/net/{missing}"] = page
    server.asked.clear()
    assert read_files(fetch(at(server))) == CONTENT
    assert asked(server) == list(CONTENT)[7:]


def test_a_file_that_was_cut_off_is_gone_on_with(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "ATTEMPTS", 1)
    first = next(iter(CONTENT))
    server.faults = [Page(CONTENT[first], headers=server.pages[f"/net/{first}"].headers, cut=60_000), Page(status=503)]
    assert "gave up" in failure(at(server))
    server.faults.clear()
    server.asked.clear()
    fetch(at(server))
    assert server.asked[0][2] == "bytes=49152-"  # whole pieces are kept
    assert asked(server) == list(CONTENT)


def test_a_file_that_is_not_the_published_one_is_named_and_asked_for_again(server: Server) -> None:
    wrong = list(CONTENT)[3]
    page = server.pages[f"/net/{wrong}"]
    server.pages[f"/net/{wrong}"] = file_page(b"another")
    assert f"/net/{wrong} is not the published file: its sha256 differs" in failure(at(server))
    server.pages[f"/net/{wrong}"] = page
    server.asked.clear()
    fetch(at(server))
    assert asked(server) == list(CONTENT)[3:]


def test_a_file_without_end_is_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcdzoo.weights.collect.LARGEST", 200_000)
    first = next(iter(CONTENT))
    for with_length in False, True:
        server.pages[f"/net/{first}"] = Page(bytes(1 << 20), with_length=with_length)
        assert "more than" in failure(at(server))


def test_a_web_page_in_place_of_a_file_is_told(server: Server) -> None:
    server.pages[f"/net/{next(iter(CONTENT))}"] = Page(b"<html>", headers={"Content-Type": "text/html"})
    assert "answers with a web page" in failure(at(server))


def manifest(checkpoint: Checkpoint, path: Path) -> Path:
    lines = [f'{key} = "{getattr(checkpoint, key)}"' for key in ("tag", "source", "url", "filename", "format")]
    files = [f'"{name}" = "{sha256}"' for name, sha256 in checkpoint.files.items()]
    head = ["[[checkpoint]]", 'model = "finn-lfc-w1a1"', 'preprocess = "imagenet"', "default = true"]
    path.write_text("\n".join([*head, *lines, "[checkpoint.files]", *files]) + "\n")
    return path


def start(checkpoint: Checkpoint, tmp_path: Path, *options: str) -> "subprocess.Popen[str]":
    """The command itself, in a process of its own."""
    file = manifest(checkpoint, tmp_path / "manifest.toml")
    command = [sys.executable, "-m", "bcdzoo", "fetch", "finn-lfc-w1a1", "--tag", "a", "--manifest", str(file)]
    return subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def test_a_killed_fetch_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.bytes_per_second = 1 << 20  # 1/16 s a file
    process = start(at(server), tmp_path)
    while len(server.asked) < 6:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # what it has still asked for is seen
    before = asked(server)
    server.asked.clear()
    out, err = start(at(server), tmp_path).communicate(timeout=100)
    assert (len(err), out.count("net.tar")) == (0, 1), err
    first = list(CONTENT).index(asked(server)[0])
    assert len(before) - 1 <= first <= len(before)  # at most the one that was on its way
    assert asked(server) == list(CONTENT)[first:]


def test_two_processes_fetch_it_once(server: Server, tmp_path: Path) -> None:
    server.bytes_per_second = 1 << 20
    both = [start(at(server), tmp_path) for _ in range(2)]
    assert [process.wait(100) for process in both] == [0, 0], [process.communicate() for process in both]
    assert asked(server) == list(CONTENT)


@pytest.mark.parametrize("form", ["folder", "x.tar", "x.tar.gz", "x.zip"])
@pytest.mark.parametrize("place", ["", "bnn/params/lfc/"])
def test_what_somebody_has_is_taken_with_other_files_around_it(form: str, place: str, tmp_path: Path) -> None:
    content = {f"{place}{name}": body for name, body in CONTENT.items()} | {"README": b"x", "z/0-0-weights.bin": b"y"}
    write = finn.write_folder if form == "folder" else finn.write_archive
    given = write(content, tmp_path / form)
    checkpoint = entry("https://nowhere.invalid/net/")
    assert read_files(fetch(checkpoint, from_file=given)) == CONTENT
    record = read_record(checkpoint)
    assert record and record.obtained == str(given)


def test_the_archive_is_the_same_whatever_it_was_made_from(server: Server, tmp_path: Path) -> None:
    made = fetch(at(server)).read_bytes()
    given = finn.write_archive(dict(reversed(CONTENT.items())), tmp_path / "x.zip")
    assert fetch(entry("https://nowhere.invalid/net/"), from_file=given).read_bytes() == made


def test_a_folder_that_lacks_a_file_or_has_another_is_refused_by_its_name(tmp_path: Path) -> None:
    checkpoint = entry("https://nowhere.invalid/net/")
    wrong = list(CONTENT)[3]
    given = finn.write_folder(CONTENT | {wrong: b"another"}, tmp_path / "x")
    assert failure(checkpoint, given).endswith(f"does not hold the published files: {wrong}")
    (given / wrong).unlink()
    assert failure(checkpoint, given).endswith(f"does not hold the published files: {wrong}")
    (tmp_path / "empty").mkdir()
    assert "does not hold the published files" in failure(checkpoint, tmp_path / "empty")
    assert "nowhere" in failure(checkpoint, tmp_path / "nowhere")
    (tmp_path / "text").write_text("no archive")
    assert "text" in failure(checkpoint, tmp_path / "text")
    assert cached(checkpoint) is None


@pytest.mark.parametrize("place", ["net/a/net.tar", "net.tar"])
@pytest.mark.parametrize("kind", ["folder", "server"])
def test_a_mirror_has_the_archive(kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = fetch(entry("https://nowhere.invalid/net/"), from_file=finn.write_folder(CONTENT, tmp_path / "x"))
    body = archive.read_bytes()
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "another"))
    with serving({f"/{place}": file_page(body)}) as mirror:
        (tmp_path / "mirror" / place).parent.mkdir(parents=True)
        (tmp_path / "mirror" / place).write_bytes(body)
        monkeypatch.setenv("BCDZOO_MIRROR", mirror.url if kind == "server" else str(tmp_path / "mirror"))
        assert read_files(fetch(entry("https://nowhere.invalid/net/"))) == CONTENT


def test_a_mirror_with_other_files_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net" / "a").mkdir(parents=True)
    wrong = list(CONTENT)[3]
    finn.write_archive(CONTENT | {wrong: b"another"}, tmp_path / "net" / "a" / "net.tar")
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path))
    assert f"does not hold the published files: {wrong} differs" in failure(entry("https://nowhere.invalid/net/"))


def test_without_a_network_only_what_is_there_is_had(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BCDZOO_OFFLINE", "1")
    assert "is not in the cache and BCDZOO_OFFLINE is set" in failure(at(server))
    path = fetch(at(server), from_file=finn.write_folder(CONTENT, tmp_path / "x"))
    assert fetch(at(server)) == path
    assert server.asked == []


def test_damage_in_the_cache_is_noticed_and_mended(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = at(server)
    path = fetch(checkpoint)
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    assert verify(checkpoint) == "differs"
    assert fetch(checkpoint).read_bytes() == whole
    assert "is damaged" in capsys.readouterr().err
    path.unlink()
    assert verify(checkpoint) == "missing"


def test_a_cut_off_archive_of_an_unfinished_fetch_is_no_obstacle(server: Server) -> None:
    checkpoint = at(server)
    whole = fetch(checkpoint).read_bytes()
    for size in 0, 100, 512, 6000, len(whole) - 3000:
        for file in folder(checkpoint).iterdir():
            file.unlink()
        (folder(checkpoint) / "net.tar.part").write_bytes(whole[:size])
        assert fetch(checkpoint).read_bytes() == whole
    os.mkfifo(folder(checkpoint) / "net.tar.part.one")
    (folder(checkpoint) / "net.tar").unlink()
    (folder(checkpoint) / "net.tar.part").symlink_to("/dev/zero")
    assert fetch(checkpoint).read_bytes() == whole


def test_a_list_of_other_files_makes_it_be_fetched_again(server: Server) -> None:
    fetch(at(server))
    fewer = {name: body for name, body in CONTENT.items() if not name.startswith("2-")}
    checkpoint = entry(f"{server.url}/net/", fewer)
    assert cached(checkpoint) is None
    assert read_files(fetch(checkpoint)) == fewer


def test_the_first_file_is_asked_for_when_links_are_looked_at(server: Server) -> None:
    assert probe(at(server)).verdict == "ok"
    assert server.asked == [("HEAD", f"/net/{next(iter(CONTENT))}", None)]
    server.pages.clear()
    assert probe(at(server)).verdict == "gone"


def test_progress_is_shown_of_the_files_and_only_on_a_terminal(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(at(server))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("BCDZOO_HOME", str(folder(at(server)).parents[3] / "another"))
    fetch(at(server))
    shown = capsys.readouterr().err
    assert f"{len(CONTENT)}/{len(CONTENT)}" in shown and shown.count("\n") == 1


def test_the_archive_is_a_plain_tar(server: Server) -> None:
    with tarfile.open(fetch(at(server))) as archive:
        assert archive.getnames() == list(CONTENT)
        assert all(member.isreg() and member.mode == 0o644 and member.mtime == 0 for member in archive)
