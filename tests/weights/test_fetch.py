import errno
import gzip
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bcdzoo.errors import BcdzooError
from bcdzoo.weights import download as download_module
from bcdzoo.weights.download import download
from bcdzoo.weights.fetch import cached, fetch, folder, read_record, verify
from bcdzoo.weights.manifest import Checkpoint
from tests.memory import grows_at_most
from tests.weights.servers import MIB, Page, Server, file_page, google_drive, hub_error, hub_page, serving

BODY = random.Random(0).randbytes(3 * MIB + 17)
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = random.Random(1).randbytes(len(BODY))
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BCDZOO_MIRROR", "BCDZOO_OFFLINE", "BCDZOO_MANIFEST", "HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module, "BACKOFF", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/net.pth": file_page(BODY)}) as server:
        yield server


def entry(source: str = "url", **values: Any) -> Checkpoint:
    return Checkpoint(
        **{"model": "net", "tag": "a", "source": source, "format": "onnx", "preprocess": "imagenet"} | values
    )


def at(server: Server, **values: Any) -> Checkpoint:
    return entry(**{"url": f"{server.url}/net.pth", "filename": "net.pth", "sha256": SHA256} | values)


def names_in(checkpoint: Checkpoint) -> list[str]:
    return sorted(path.name for path in folder(checkpoint).iterdir())


def ranges(server: Server) -> list[str | None]:
    return [wanted for method, _, wanted in server.asked if method == "GET"]


def failure(checkpoint: Checkpoint, from_file: Path | None = None) -> str:
    with pytest.raises(BcdzooError) as error:
        fetch(checkpoint, from_file=from_file)
    message = str(error.value)
    assert "\n" not in message
    return message


def start(checkpoint: Checkpoint, tmp_path: Path, *options: str, **popen: Any) -> "subprocess.Popen[str]":
    """The command itself, in a process of its own."""
    manifest = tmp_path / "manifest.toml"
    values = {key: value for key, value in vars(checkpoint).items() if value not in ("", None, {})}
    manifest.write_text("[[checkpoint]]\n" + "".join(f"{key} = {json.dumps(v)}\n" for key, v in values.items()))
    command = [sys.executable, "-m", "bcdzoo", "fetch", checkpoint.model, "--manifest", str(manifest), *options]
    before = popen.pop("before", [])
    return subprocess.Popen(
        [*before, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
    )


def run(checkpoint: Checkpoint, tmp_path: Path, *options: str, **popen: Any) -> tuple[int, str, str]:
    process = start(checkpoint, tmp_path, *options, **popen)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def wait_until_sent(server: Server, size: int, process: "subprocess.Popen[str]") -> None:
    while server.sent < size:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def run_fails(checkpoint: Checkpoint, tmp_path: Path, **popen: Any) -> str:
    code, out, err = run(checkpoint, tmp_path, **popen)
    assert (code, out, len(err.splitlines())) == (1, "", 1), err
    return err


# --- any URL


def test_a_file_is_fetched_once_and_recorded(server: Server) -> None:
    checkpoint = at(server, size=len(BODY))
    assert cached(checkpoint) is None
    path = fetch(checkpoint)
    assert path.read_bytes() == BODY
    assert names_in(checkpoint) == ["net.pth", "net.pth.json"]
    record = read_record(checkpoint)
    assert record and (record.sha256, record.size, record.trust) == (SHA256, len(BODY), "published")
    assert record.obtained == record.origin == checkpoint.url
    assert fetch(checkpoint) == cached(checkpoint) == path
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "hashes",
    [
        {"sha256": "", "sha256_prefix": SHA256[:8]},
        {"sha256": "", "sha1": hashlib.sha1(BODY).hexdigest()},
        {"sha256": "", "sha384": hashlib.sha384(BODY).hexdigest()},
    ],
)
def test_every_kind_of_published_hash_is_checked(server: Server, hashes: dict[str, str]) -> None:
    fetch(at(server, **hashes))
    server.pages["/net.pth"] = file_page(OTHER)
    assert "is not the published one" in failure(at(server, tag="b", **hashes))


@pytest.mark.parametrize("status", [403, 404, 401, 410])
def test_a_refusal_is_told_at_once(server: Server, status: int) -> None:
    server.faults = [Page(status=status)]
    assert str(status) in failure(at(server))
    assert len(server.asked) == 1


def test_a_server_in_trouble_is_asked_again(server: Server) -> None:
    server.faults = [Page(status=500), Page(status=503, headers={"Retry-After": "1"}), Page(status=429)]
    began = time.monotonic()
    assert fetch(at(server)).read_bytes() == BODY
    assert time.monotonic() - began >= 1
    assert len(server.asked) == 4


def test_a_server_that_stays_in_trouble_is_given_up(server: Server) -> None:
    server.faults = [Page(status=502)] * 10
    assert "502" in failure(at(server))
    assert len(server.asked) == download_module.ATTEMPTS


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server: Server) -> None:
    server.faults = [Page(status=429, headers={"Retry-After": "3600"})]
    assert "asks to wait 3600 s" in failure(at(server))


def test_a_host_that_does_not_answer_is_named() -> None:
    message = failure(entry(url="http://127.0.0.1:9/net.pth", filename="net.pth"))
    assert "127.0.0.1:9" in message and "refused" in message


def test_a_truncated_body_is_resumed_from_where_it_stopped(server: Server) -> None:
    full = server.pages["/net.pth"]
    server.faults = [Page(BODY, headers=full.headers, cut=MIB)]
    assert fetch(at(server)).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={MIB}-"]
    assert server.sent == len(BODY)


def test_a_server_without_validators_is_resumed_where_a_hash_will_tell(server: Server) -> None:
    server.pages["/net.pth"] = Page(BODY)
    server.faults = [Page(BODY, cut=MIB)]
    assert fetch(at(server)).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={MIB}-"]
    assert server.sent == len(BODY)


def test_a_joint_of_two_versions_is_told_by_the_hash_and_not_kept(server: Server) -> None:
    server.pages["/net.pth"] = Page(OTHER)
    server.faults = [Page(BODY, cut=MIB)]
    assert "is not the published one" in failure(at(server))
    server.pages["/net.pth"] = Page(BODY)
    assert fetch(at(server)).read_bytes() == BODY


def test_a_server_that_knows_no_ranges_is_read_from_the_start(server: Server) -> None:
    server.knows_ranges = False
    server.faults = [Page(BODY, headers=server.pages["/net.pth"].headers, cut=MIB)]
    assert fetch(at(server)).read_bytes() == BODY
    assert server.sent == len(BODY) + MIB


@pytest.mark.parametrize("with_length", [True, False])
def test_a_download_complete_but_for_its_name_is_not_fetched_again(server: Server, with_length: bool) -> None:
    server.pages["/net.pth"].with_length = with_length
    checkpoint = at(server)
    folder(checkpoint).mkdir(parents=True)
    part = folder(checkpoint) / "net.pth.part"
    download(checkpoint.url, part)
    assert fetch(checkpoint).read_bytes() == BODY
    # without a length only asking tells that nothing is left: 416
    assert ranges(server) == [None] + ([] if with_length else [f"bytes={len(BODY)}-"])
    assert server.sent == len(BODY)
    assert names_in(checkpoint) == ["net.pth", "net.pth.json"]


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 5000), st.booleans()), max_size=6),
    validator=st.sampled_from(["ETag", "Last-Modified", "weak", "none"]),
    habit=st.sampled_from(["knows_ranges", "knows_if_range", "stamps_parts", "whole_parts", "none"]),
    with_length=st.booleans(),
)
@example([(2000, True)], "ETag", "stamps_parts", True)
@example([(2000, True)], "ETag", "knows_if_range", True)
@example([(2000, False)], "ETag", "whole_parts", True)
def test_whatever_breaks_and_changes_the_bytes_are_one_version_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[tuple[int, bool]],
    validator: str,
    habit: str,
    with_length: bool,
) -> None:
    part = tmp_path_factory.mktemp("part") / "x.part"
    versions = [random.Random(seed).randbytes(5000) for seed in range(len(cuts) + 1)]

    def page(version: int, cut: int | None) -> Page:
        stamp = {
            "ETag": {"ETag": f'"{version}"'},
            "Last-Modified": {"Last-Modified": f"Mon, 01 Jan 2024 00:00:{version:02} GMT"},
            "weak": {"ETag": 'W/"alike"'},
            "none": {},
        }[validator]
        return Page(versions[version], headers=stamp, cut=cut, with_length=with_length or cut is not None)

    with serving() as server:
        setattr(server, habit, False)  # a bad one
        version = 0
        for cut, changes in cuts:
            server.faults = [page(version, cut), Page(status=404)]  # broken off, and not gone on with at once
            with pytest.MonkeyPatch.context() as patch, suppress(BcdzooError):
                patch.setattr(download_module, "PIECE", 100)
                patch.setattr(download_module, "BACKOFF", 0)
                download(f"{server.url}/x", part)
            version += changes
        server.pages["/x"] = page(version, None)
        server.faults = []
        download(f"{server.url}/x", part)
    if validator in ("ETag", "Last-Modified"):
        assert part.read_bytes() in versions
    else:
        assert part.read_bytes() == versions[version]


def test_a_wrong_hash_is_told_and_does_not_poison_the_next_run(server: Server) -> None:
    checkpoint = at(server)
    server.pages["/net.pth"] = file_page(OTHER)
    message = failure(checkpoint)
    assert SHA256 in message and hashlib.sha256(OTHER).hexdigest() in message
    assert cached(checkpoint) is None and not (folder(checkpoint) / "net.pth").exists()
    server.pages["/net.pth"] = file_page(BODY)
    assert fetch(checkpoint).read_bytes() == BODY
    assert ranges(server) == [None, None]


def test_a_wrong_size_is_told(server: Server) -> None:
    assert f"{len(BODY):,} bytes instead of 5" in failure(at(server, size=5))


@pytest.mark.parametrize("source", ["url", "onedrive"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\n<!DOCTYPE html><title>Sign in", "application/octet-stream"), (b"Sign in", "text/html; charset=utf-8")],
)
def test_a_web_page_is_not_taken_for_a_file(server: Server, source: str, body: bytes, kind: str) -> None:
    page = Page(body, headers={"Content-Type": kind})
    server.pages["/net.pth"] = page
    message = failure(at(server, source=source, sha256="", filename="" if source == "onedrive" else "net.pth"))
    assert "web page" in message and "--from FILE" in message and "browser" in message
    server.pages["/net.pth"] = file_page(BODY)
    assert fetch(at(server)).read_bytes() == BODY


def test_a_onedrive_link_is_asked_for_the_file_itself(server: Server) -> None:
    path = fetch(at(server, source="onedrive", url=f"{server.url}/net.pth?e=oyebWy", filename=""))
    assert path.read_bytes() == BODY and path.name == "a.bin"
    assert server.asked[0][1] == "/net.pth?e=oyebWy&download=1"


def test_a_member_of_a_zip_is_hashed_by_its_exact_name(server: Server) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("../net.pth", OTHER)
        writer.writestr("net.pth", BODY)
    server.pages["/net.zip"] = file_page(archive.getvalue())
    zipped: dict[str, Any] = {"url": f"{server.url}/net.zip", "filename": "net.zip", "member": "net.pth"}
    assert fetch(at(server, **zipped)).read_bytes() == archive.getvalue()
    assert verify(at(server, **zipped)) == "ok"
    assert not list(folder(at(server)).parent.rglob("net.pth"))
    assert "without other.pth" in failure(at(server, **zipped | {"member": "other.pth", "tag": "b"}))
    damaged = bytearray(archive.getvalue())
    damaged[len(damaged) * 3 // 4] ^= 255
    for content in (bytes(damaged), BODY):
        server.pages["/net.zip"] = file_page(content)
        assert ".zip" in failure(at(server, **zipped | {"tag": "c"})) or content is damaged


def test_without_a_published_hash_the_first_fetch_is_recorded_and_held_to(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = at(server, sha256="")
    path = fetch(checkpoint)
    assert SHA256 in capsys.readouterr().err
    record = read_record(checkpoint)
    assert record and record.trust == "first fetch"

    path.unlink()
    fetch(checkpoint)
    assert capsys.readouterr().err == ""

    path.unlink()
    server.pages["/net.pth"] = file_page(OTHER)
    message = failure(checkpoint)
    assert SHA256 in message and f"delete {path}.json" in message
    assert not path.exists()
    Path(f"{path}.json").unlink()
    assert fetch(checkpoint).read_bytes() == OTHER


def test_a_hash_published_later_is_checked_without_fetching_again(server: Server) -> None:
    path = fetch(at(server, sha256=""))
    assert fetch(at(server)) == path
    record = read_record(at(server))
    assert record and record.trust == "published"
    assert len(server.asked) == 1


def test_a_cached_file_that_later_fails_its_hash_is_replaced(server: Server) -> None:
    server.pages["/net.pth"] = file_page(OTHER)
    path = fetch(at(server, sha256=""))
    assert "is not the published one" in failure(at(server))
    assert path.read_bytes() == OTHER  # nothing better has come: what was there is not lost
    server.pages["/net.pth"] = file_page(BODY)
    assert fetch(at(server)).read_bytes() == BODY


def test_an_entry_that_points_elsewhere_is_fetched_anew(server: Server) -> None:
    server.pages["/other.pth"] = file_page(OTHER)
    fetch(at(server, sha256=""))
    assert fetch(at(server, sha256="", url=f"{server.url}/other.pth")).read_bytes() == OTHER


def test_names_that_are_no_file_names_stay_inside_the_cache(server: Server, tmp_path: Path) -> None:
    checkpoint = at(server, model="../../pkg.module:net", tag="..", filename="a/b c.pth")
    path = fetch(checkpoint)
    assert path.resolve().is_relative_to(tmp_path / "cache" / "checkpoints")
    assert path.parts[-3:] == ("%2E.%2F..%2Fpkg.module%3Anet", "%2E.", "a%2Fb c.pth")
    assert fetch(checkpoint) == path and len(server.asked) == 1


def damaged(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_damaged_file_is_told_and_fetched_anew(
    server: Server, capsys: pytest.CaptureFixture[str], published: bool, size: int | None
) -> None:
    checkpoint = at(server, size=size) if published else at(server, size=size, sha256="")
    path = fetch(checkpoint)
    told(capsys)
    damaged(path, 5)
    assert fetch(checkpoint).read_bytes() == BODY
    (line,) = told(capsys).splitlines()
    assert f"{path} is damaged" in line and "fetched again" in line
    fetch(checkpoint)
    assert told(capsys) == "" and len(server.asked) == 2


def test_a_damaged_file_that_cannot_be_fetched_again_is_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch(at(server))
    damaged(path, 5)
    monkeypatch.setenv("BCDZOO_OFFLINE", "1")
    message = failure(at(server))
    assert "is damaged" in message and "BCDZOO_OFFLINE" in message and told(capsys) == ""
    monkeypatch.delenv("BCDZOO_OFFLINE")
    assert fetch(at(server)).read_bytes() == BODY


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"{}", b"[" * 99999, b'{"sha256": 1}', None])
def test_a_damaged_record_is_written_anew_where_a_hash_is_published_and_its_file_fetched_where_none_is(
    server: Server, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    for checkpoint, fetches in (at(server), 1), (at(server, tag="b", sha256=""), 2):
        server.asked.clear()
        record = Path(f"{fetch(checkpoint)}.json")
        told(capsys)
        if content is None:
            record.unlink()
            os.mkfifo(record)
        else:
            record.write_bytes(content)
        assert fetch(checkpoint).read_bytes() == BODY
        assert str(record) in told(capsys)
        assert fetch(checkpoint).read_bytes() == BODY and told(capsys) == ""
        assert len(server.asked) == fetches


def test_a_record_of_an_older_version_is_unchecked_once_and_then_sealed(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch(at(server))
    record = Path(f"{path}.json")
    older = json.loads(record.read_text())
    del older["seal"]
    record.write_text(json.dumps(older))
    assert fetch(at(server)) == path
    assert "unchecked" in told(capsys)
    assert fetch(at(server)) == path
    assert told(capsys) == "" and len(server.asked) == 1


@pytest.mark.parametrize("place", ["net.pth.part", "net.pth.part.json", "net.pth.json", "net.pth.copy", "net.pth"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_what_is_no_file_of_ours_is_replaced_and_not_written_through(
    server: Server, tmp_path: Path, place: str, kind: str
) -> None:
    theirs, ours = tmp_path / "theirs", folder(at(server)) / place
    theirs.write_bytes(b"precious")
    ours.parent.mkdir(parents=True)
    if kind == "link":
        ours.symlink_to(theirs)
    elif kind == "hard link":
        ours.hardlink_to(theirs)
    else:
        os.mkfifo(ours)
    (tmp_path / "given").write_bytes(BODY)
    fetch(at(server), from_file=tmp_path / "given" if place.endswith("copy") else None)
    assert names_in(at(server)) == ["net.pth", "net.pth.json"]
    assert theirs.read_bytes() == b"precious"
    assert not any(path.is_symlink() for path in folder(at(server)).iterdir())


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_given_and_is_no_file_is_refused_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    given = tmp_path / "net.pth"
    if kind == "pipe":
        os.mkfifo(given)
    elif kind == "folder":
        given.mkdir()
    else:
        given.symlink_to("/dev/zero")
    assert "not a regular file" in failure(at(server), given)
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path))
    assert "not a regular file" in failure(at(server))
    assert not server.asked


def test_a_given_file_of_another_size_is_not_copied(server: Server, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).free + (1 << 30))  # a hole, which takes no room
    assert "instead of 9" in failure(at(server, size=9), huge)
    assert "too many for" in failure(at(server), huge)
    assert not names_in(at(server))


# --- servers that send too much, or too little


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_another_announced_size_than_the_manifests_is_refused_before_the_body(server: Server, size: int) -> None:
    message = failure(at(server, size=size))
    assert f"has {len(BODY):,} bytes instead of {size:,}" in message
    assert server.sent <= 1 << 20  # what the sockets hold


def test_more_than_the_manifests_size_is_stopped(server: Server) -> None:
    server.pages["/net.pth"] = Page(BODY * 20, with_length=False)
    assert "sends more than the 1,000 bytes that the file should have" in failure(at(server, size=1000))
    assert server.sent < MIB * 4 and not names_in(at(server))


def test_an_endless_body_of_unknown_size_is_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "LARGEST", MIB)
    server.pages["/net.pth"] = Page(BODY * 20, with_length=False)
    assert "sends more than 1,048,576 bytes without announcing a size" in failure(at(server))
    assert server.sent < MIB * 5 and not names_in(at(server))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
@pytest.mark.parametrize("with_length", [True, False])
def test_a_compressed_bomb_is_stopped(
    server: Server, monkeypatch: pytest.MonkeyPatch, encoding: str, with_length: bool
) -> None:
    monkeypatch.setattr(download_module, "LARGEST", 64 * MIB)
    bomb = gzip.compress(bytes(256 * MIB), 9) if "gzip" in encoding else zlib.compress(bytes(256 * MIB), 9)
    bomb = gzip.compress(bomb) if "," in encoding else bomb
    server.pages["/net.pth"] = Page(bomb, headers={"Content-Encoding": encoding}, with_length=with_length)
    with grows_at_most(50_000_000):
        message = failure(at(server))
    assert any(words in message for words in ("unpack to", "sends it compressed"))
    assert not names_in(at(server))


def test_what_a_server_compresses_unlike_asked_is_read(server: Server) -> None:
    server.pages["/net.pth"] = Page(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    assert fetch(at(server)).read_bytes() == BODY


@contextmanager
def dripping(start: bytes) -> Iterator[str]:
    """A server that sends a byte now and then, for ever."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(10_000)
            connection.sendall(start)
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/net.pth"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_drips_is_given_up(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "PATIENCE", 0.5)
    with dripping(start) as url:
        began = time.monotonic()
        assert "bytes came in" in failure(entry(url=url, filename="net.pth"))
        assert time.monotonic() - began < 3


def test_redirects_in_a_circle_and_huge_headers_are_one_line(server: Server) -> None:
    server.pages["/net.pth"] = Page(status=302, headers={"Location": "/net.pth"})
    assert "redirects" in failure(at(server))
    assert len(server.asked) <= download_module.REDIRECTS + 1
    server.pages["/net.pth"] = Page(BODY, headers={"X-Huge": "x" * 100_000})
    assert len(failure(at(server))) < 1000
    server.pages["/net.pth"] = Page(BODY, headers={f"X-{number}": "x" for number in range(200)})
    assert len(failure(at(server))) < 1000


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 5000},
        {"Content-Length": "-5"},
        {"Content-Length": "\u0663"},
        {"Content-Range": f"bytes 0-1/{'9' * 5000}"},
        {"ETag": "\xff" * 1000},
        {"Content-Encoding": "\x1b[2K"},
        {"Location": "http://[::1/"},
        {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +9999999999"},
        {"Retry-After": "9" * 5000},
    ],
)
def test_headers_of_any_kind_are_no_surprise(headers: dict[str, str]) -> None:
    status = 302 if "Location" in headers else 503 if "Retry-After" in headers else 200
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    answer = f"HTTP/1.1 {status} O\x1b[2KK\r\n{lines}\r\nbody".encode("utf-8" if "٣" in lines else "latin-1")

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(10_000)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        checkpoint = entry(url=f"http://127.0.0.1:{listener.getsockname()[1]}/net.pth", filename="net.pth", size=4)
        try:
            path = fetch(checkpoint)
        except BcdzooError as error:
            assert str(error).isprintable() and len(str(error)) < 1500
        else:
            assert path.read_bytes() == b"body"


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://host:99999999/x", "http://" + "a" * 70 + ".invalid/x", "http://a..b/x", "http://%/"]
)
def test_addresses_that_are_none_are_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "ATTEMPTS", 1)
    failure(entry(url=url, filename="net.pth"))
    monkeypatch.setenv("BCDZOO_MIRROR", url)
    failure(entry(url="http://127.0.0.1:9/net.pth", filename="net.pth"))


# --- passwords, tokens, and text of others


def test_passwords_and_tokens_are_neither_stored_nor_printed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_token(token: str) -> str:
        return f"{server.url.replace('//', '//me:secret@')}/net.pth?token={token}"

    checkpoint = at(server, url=with_token("secret1"), sha256="")
    path = fetch(checkpoint)
    fetch(at(server, url=with_token("secret2"), sha256=""))  # the same place
    assert len(server.asked) == 1
    server.faults = [Page(BODY, cut=MIB, headers=server.pages["/net.pth"].headers), Page(status=404)]
    messages = [failure(at(server, url=with_token("secret3"), tag="b"))]
    messages.append(failure(at(server, url=with_token("secret4"), tag="c", sha256="0" * 64)))
    messages.append(failure(at(server, url=with_token("secret5"), tag="d", size=5)))
    server.pages["/net.pth"] = Page(
        status=301, headers={"Location": f"http://127.0.0.1:9/x?Signature=secret{BODY[:0]!r}"}
    )
    messages.append(failure(at(server, url=with_token("secret6"), tag="e")))
    monkeypatch.setenv("BCDZOO_MIRROR", "http://me:secret@127.0.0.1:9/m?token=secret")
    messages.append(failure(at(server, tag="f")))
    stored = [file.read_text() for file in (tmp_path / "cache").rglob("*.json")]
    assert len(stored) >= 2 and path.exists()
    assert "secret" not in "".join([*stored, *messages, told(capsys)])


def test_a_record_of_an_older_version_loses_its_password_and_is_not_fetched_again(server: Server) -> None:
    checkpoint = at(server, url=server.url.replace("//", "//me:secret@") + "/net.pth")
    record = Path(f"{fetch(checkpoint)}.json")
    older = json.loads(record.read_text()) | {"origin": checkpoint.url, "obtained": checkpoint.url}
    del older["seal"]
    record.write_text(json.dumps(older))
    fetch(checkpoint)
    assert len(server.asked) == 1 and "secret" not in record.read_text()


# --- archives


def zipped(kind: int, content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", kind) as writer:
        writer.writestr("net.pth", content)
    return archive.getvalue()


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_unpacks_to_too_much_is_refused(server: Server, kind: int) -> None:
    server.pages["/net.pth"] = file_page(zipped(kind, bytes(64 * MIB)))
    began = time.monotonic()
    message = failure(at(server, member="net.pth"))
    assert "times its size" in message or "unusual kind" in message
    assert time.monotonic() - began < 2


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3), st.booleans())
def test_a_broken_archive_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], ends: bool
) -> None:
    content = bytearray(zipped(zipfile.ZIP_DEFLATED, BODY[:1000]))
    for place, change in flips:
        content[-(place % 120) - 1 if ends else place % len(content)] ^= change
    path = tmp_path_factory.mktemp("zip") / "net.zip"
    path.write_bytes(content)
    checkpoint = entry("manual", member="net.pth", sha256=hashlib.sha256(BODY[:1000]).hexdigest())
    try:
        fetched = fetch(checkpoint, from_file=path)
    except BcdzooError as error:
        assert "\n" not in str(error)
    else:
        assert fetched.read_bytes() == content


# --- what killed fetches leave


def test_leftovers_of_a_killed_fetch_of_a_file_that_is_there_go_at_the_next_run(server: Server, tmp_path: Path) -> None:
    path = fetch(at(server))
    for suffix in (".copy", ".part", ".part.json", ".drive12345678.part"):
        path.with_name(path.name + suffix).write_bytes(b"left")
    (path.parent / f".{path.name}.json.bcdzoo-x.tmp").write_bytes(b"left")
    assert fetch(at(server)) == path
    assert names_in(at(server)) == ["net.pth", "net.pth.json"]


def test_verify_finds_what_changed_on_disk(server: Server) -> None:
    checkpoint = at(server, sha256="")
    assert verify(checkpoint) == "missing"
    path = fetch(checkpoint)
    assert verify(checkpoint) == "ok"
    path.write_bytes(OTHER)
    assert verify(checkpoint) == "differs"
    path.write_bytes(BODY[:-1])
    assert verify(checkpoint) == "differs"
    assert fetch(checkpoint).read_bytes() == BODY


# --- files, mirrors, offline


def test_a_file_from_a_browser_is_checked_and_copied(server: Server, tmp_path: Path) -> None:
    checkpoint = entry("manual", url="https://example.org/page", sha256=SHA256)
    assert "https://example.org/page" in failure(checkpoint)
    file = tmp_path / "Downloads.pth"
    file.write_bytes(OTHER)
    assert str(file) in failure(checkpoint, file) and file.read_bytes() == OTHER
    file.write_bytes(BODY)
    assert fetch(checkpoint, from_file=file).read_bytes() == BODY
    assert file.exists() and names_in(checkpoint) == ["a.bin", "a.bin.json"]
    record = read_record(checkpoint)
    assert record and record.obtained == str(file)
    file.unlink()
    assert cached(checkpoint)
    assert str(file) in failure(checkpoint, file)


def test_a_mirror_folder_is_looked_up_before_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "net" / "a").mkdir(parents=True)
    monkeypatch.setenv("BCDZOO_MIRROR", str(mirror))
    assert fetch(at(server, tag="elsewhere")).read_bytes() == BODY
    assert len(server.asked) == 1
    (mirror / "net" / "a" / "net.pth").write_bytes(BODY)
    checkpoint = at(server)
    fetch(checkpoint)
    record = read_record(checkpoint)
    assert record and record.obtained == str(mirror / "net" / "a" / "net.pth")
    (mirror / "net.pth").write_bytes(BODY)
    fetch(at(server, tag="flat"))
    assert len(server.asked) == 1
    (mirror / "net.pth").write_bytes(OTHER)
    fetch(at(server, tag="nameless", sha256=""))  # without a hash a bare name proves nothing
    assert len(server.asked) == 2
    assert str(mirror / "net.pth") in failure(at(server, tag="wrong"))
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path / "typo"))
    assert "typo" in failure(at(server, tag="b"))


def test_one_caches_folder_is_a_mirror_for_another(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = at(server, model="pkg.module:net", filename="a/b.pth", sha256="")
    fetch(checkpoint)
    with serving({"/m/pkg.module%253Anet/a/a%252Fb.pth": file_page(BODY)}) as mirror:
        monkeypatch.setenv("BCDZOO_MIRROR", f"{mirror.url}/m/")
        monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "second"))
        assert fetch(checkpoint).read_bytes() == BODY
        assert len(server.asked) == 1
        monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "third"))
        assert fetch(at(server)).read_bytes() == BODY  # not in the mirror: 404, 404, the origin
        assert [path for _, path, _ in mirror.asked[1:]] == ["/m/net/a/net.pth", "/m/net.pth"]
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path / "cache" / "checkpoints"))
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "fourth"))
    assert fetch(checkpoint).read_bytes() == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize("variable", ["BCDZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_uses_only_what_is_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    fetch(at(server))
    monkeypatch.setenv(variable, "YES")
    assert fetch(at(server)).read_bytes() == BODY
    assert variable in failure(at(server, tag="b"))
    monkeypatch.setenv("BCDZOO_MIRROR", server.url)
    assert variable in failure(at(server, tag="b"))
    assert variable in failure(entry("hf", hf_repo="o/r", filename="model.safetensors"))
    (tmp_path / "net.pth").write_bytes(BODY)
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path))
    assert fetch(at(server, tag="b")).read_bytes() == BODY
    assert len(server.asked) == 1
    monkeypatch.delenv("BCDZOO_MIRROR")
    monkeypatch.setenv(variable, "0")
    assert fetch(at(server, tag="c")).read_bytes() == BODY


# --- disks, kills, company


def test_a_full_disk_is_told_and_what_has_arrived_is_kept(server: Server, tmp_path: Path) -> None:
    def at_most_one_mib() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    checkpoint = at(server)
    assert "File too large" in run_fails(checkpoint, tmp_path, preexec_fn=at_most_one_mib)
    assert names_in(checkpoint) == ["net.pth.part", "net.pth.part.json"]
    code, out, _ = run(checkpoint, tmp_path)
    assert code == 0 and SHA256 in out
    assert ranges(server)[-1] == f"bytes={MIB}-"
    assert names_in(checkpoint) == ["net.pth", "net.pth.json"]


@pytest.mark.parametrize("with_length", [True, False])
def test_a_really_full_file_system_is_told(server: Server, tmp_path: Path, with_length: bool) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small file system")
    server.pages["/net.pth"].with_length = with_length
    small = tmp_path / "cache"
    small.mkdir()
    before = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=2m none "$0" && exec "$@"', str(small)]
    message = run_fails(at(server), tmp_path, before=before)
    assert "free some space" in message
    assert os.strerror(errno.ENOSPC) not in message  # the disk is never filled to the last byte
    assert server.sent < len(BODY)


def test_a_cache_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert str(tmp_path / "cache") in failure(at(server))
    assert not server.asked


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_without_permission_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert "Permission denied" in failure(at(server))


def test_three_kills_lose_next_to_nothing(tmp_path: Path) -> None:
    body = random.Random(2).randbytes(24 * MIB)
    with serving({"/net.pth": file_page(body)}) as server:
        checkpoint = at(server, sha256=hashlib.sha256(body).hexdigest(), size=len(body))
        server.bytes_per_second = 30 * MIB
        for mark in (6, 12, 18):
            process = start(checkpoint, tmp_path)
            wait_until_sent(server, mark * MIB, process)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            time.sleep(0.1)  # the server notices
            assert not (folder(checkpoint) / "net.pth").exists()
        code, out, err = run(checkpoint, tmp_path)
        assert (code, err) == (0, "")
        assert hashlib.sha256((folder(checkpoint) / "net.pth").read_bytes()).hexdigest() in out
        assert names_in(checkpoint) == ["net.pth", "net.pth.json"]
        assert len(body) <= server.sent <= len(body) + 3 * MIB
        assert ranges(server)[0] is None and None not in ranges(server)[1:]


def test_two_processes_download_once(server: Server, tmp_path: Path) -> None:
    server.gate = threading.Event()
    first = start(at(server), tmp_path)
    wait_until_sent(server, 1, first)
    second = start(at(server), tmp_path)
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    server.gate.set()
    outputs = [process.communicate(timeout=100)[0] for process in (first, second)]
    assert outputs[0] == outputs[1] and SHA256 in outputs[0]
    assert server.sent == len(BODY)


def test_one_failure_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    code, out, err = run(at(server), tmp_path, "bcdnet-b", "no-such-net")
    assert code == 1
    assert out.startswith("net\ta\t") and out.endswith(f"net.pth\t{SHA256}\tpublished\n")
    assert [line.split()[1] for line in err.splitlines()] == ["bcdnet-b", "no"]


def test_the_command_verifies(server: Server, tmp_path: Path) -> None:
    run(at(server), tmp_path)
    command = [sys.executable, "-m", "bcdzoo", "verify", "net", "--manifest", str(tmp_path / "manifest.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "net\ta\tok\n", "")
    (folder(at(server)) / "net.pth").write_bytes(OTHER)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "net\ta\tdiffers\n")
    assert "`bcdzoo fetch` replaces it" in done.stderr and len(done.stderr.splitlines()) == 1


# --- the hub


def test_a_file_of_the_hub_stays_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = entry("hf", hf_repo="org/net", filename="model.safetensors", sha256=SHA256)
    with serving({"/org/net/resolve/main/model.safetensors": hub_page(BODY)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        code, out, err = run(checkpoint, tmp_path)
        assert (code, err) == (0, "")
        path = Path(out.split("\t")[2])
        assert path.read_bytes() == BODY and path.is_relative_to(tmp_path / "hf")
        assert names_in(checkpoint) == ["model.safetensors.json"]
        assert cached(checkpoint) == path and verify(checkpoint) == "ok"
        assert server.sent == len(BODY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(checkpoint, tmp_path)[:2] == (0, out)
    shutil.rmtree(folder(checkpoint))  # known to the hub's cache only
    assert run(checkpoint, tmp_path)[:2] == (0, out)
    shutil.rmtree(tmp_path / "hf")
    assert cached(checkpoint) is None
    assert "HF_HUB_OFFLINE" in run_fails(checkpoint, tmp_path)


def test_a_wrong_file_of_the_hub_is_told_and_a_damaged_one_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/org/net/resolve/main/model.safetensors"
    checkpoint = entry("hf", hf_repo="org/net", filename="model.safetensors", sha256=SHA256)
    with serving({path: hub_page(OTHER)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert "is not the published one" in run_fails(checkpoint, tmp_path)
        server.pages[path] = hub_page(BODY)
        code, out, _ = run(checkpoint, tmp_path)
        assert code == 0
        Path(out.split("\t")[2]).write_bytes(BODY[:-1] + b"!!")
        code, again, err = run(checkpoint, tmp_path)
        assert (code, again) == (0, out) and "is damaged" in err and "fetched again" in err
        assert Path(out.split("\t")[2]).read_bytes() == BODY


def test_more_from_the_hub_than_the_manifests_size_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = hub_page(BODY * 8)
    with serving({"/org/net/resolve/main/model.safetensors": page}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        checkpoint = entry("hf", hf_repo="org/net", filename="model.safetensors", size=1000)
        assert "more than 1,000 bytes arrive" in run_fails(checkpoint, tmp_path)
        assert server.sent < len(page.body)


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (404, "RepoNotFound", "has no repository org/net"),
        (404, "EntryNotFound", "org/net has no file model.safetensors at revision main"),
        (404, "RevisionNotFound", "org/net has no revision main"),
        (403, "GatedRepo", "org/net is gated: accept its terms"),
        (401, "GatedRepo", "org/net is gated: accept its terms"),
    ],
)
def test_what_the_hub_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, told: str
) -> None:
    with serving({"/org/net/resolve/main/model.safetensors": hub_error(status, code)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert told in run_fails(entry("hf", hf_repo="org/net", filename="model.safetensors"), tmp_path)


# --- Google Drive, played by a server behind a proxy

FILE_ID = "1abcdefghijklmnopqrstuvwxyz012345"
CONFIRM = (  # on one line, as Google sends it
    "<html><title>Google Drive - Virus scan warning</title>"
    '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    '<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="{id}">'
    '<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t"></form></html>'
)
QUOTA = """<html><title>Google Drive - Quota exceeded</title><body>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body></html>"""


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with google_drive(tmp_path) as (server, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        attachment = file_page(BODY)
        attachment.headers["Content-Disposition"] = 'attachment; filename="../checkpoint.pth.tar"'
        html = {"Content-Type": "text/html; charset=utf-8"}

        def answer(host: str, path: str) -> Page | None:
            if host.startswith("drive.usercontent.google.com") and "confirm=t" in path and FILE_ID in path:
                return attachment
            if host.startswith("drive.google.com") and path == f"/uc?id={FILE_ID}":
                return Page(CONFIRM.format(id=FILE_ID).encode(), headers=html)
            if path == "/uc?id=quota":
                return Page(QUOTA.encode(), headers=html)
            if path == "/uc?id=private":
                return Page(b"<html><title>Sign in</title></html>", headers=html)
            if path == "/uc?id=strange":
                return Page(b"?")
            return None

        server.answer = answer
        yield server


def test_a_large_file_of_drive_is_fetched_past_the_virus_scan_page(drive: Server, tmp_path: Path) -> None:
    checkpoint = entry("gdrive", gdrive_id=FILE_ID)
    code, out, err = run(checkpoint, tmp_path)
    assert code == 0, (err, drive.asked)
    assert out.endswith(f"{SHA256}\tfirst fetch\n") and "no hash is published" in err
    assert names_in(checkpoint) == ["a.bin", "a.bin.json"]
    assert (folder(checkpoint) / "a.bin").read_bytes() == BODY


def test_more_from_drive_than_the_manifests_size_is_stopped(drive: Server, tmp_path: Path) -> None:
    checkpoint = entry("gdrive", gdrive_id=FILE_ID, size=1000)
    assert "more than 1,000 bytes arrive" in run_fails(checkpoint, tmp_path)
    assert not names_in(checkpoint)


def test_a_link_where_drives_file_would_be_collected_is_not_followed(drive: Server, tmp_path: Path) -> None:
    checkpoint, theirs = entry("gdrive", gdrive_id=FILE_ID, sha256=SHA256), tmp_path / "theirs"
    theirs.write_bytes(BODY[:1000])
    folder(checkpoint).mkdir(parents=True)
    for name in ("a.bin.drive", "a.bin.drive12345678.part"):
        (folder(checkpoint) / name).symlink_to(theirs)
    assert run(checkpoint, tmp_path)[0] == 0
    assert theirs.read_bytes() == BODY[:1000] and names_in(checkpoint) == ["a.bin", "a.bin.json"]


def test_a_killed_download_from_drive_goes_on(drive: Server, tmp_path: Path) -> None:
    checkpoint = entry("gdrive", gdrive_id=FILE_ID, sha256=SHA256)
    drive.bytes_per_second = 2 * MIB
    process = start(checkpoint, tmp_path)
    wait_until_sent(drive, 2 * MIB, process)
    process.kill()
    process.communicate()
    assert not (folder(checkpoint) / "a.bin").exists()
    drive.bytes_per_second = None
    assert run(checkpoint, tmp_path)[0] == 0
    assert int((ranges(drive)[-1] or "").removeprefix("bytes=").removesuffix("-")) >= MIB
    assert names_in(checkpoint) == ["a.bin", "a.bin.json"]


def test_a_drive_that_cannot_resume_is_read_from_the_start_next_time(drive: Server, tmp_path: Path) -> None:
    checkpoint = entry("gdrive", gdrive_id=FILE_ID, sha256=SHA256)
    folder(checkpoint).mkdir(parents=True)
    (folder(checkpoint) / "a.bin.drive12345678.part").write_bytes(BODY[:1000])
    drive.knows_ranges = False
    assert "byte range" in run_fails(checkpoint, tmp_path)
    assert run(checkpoint, tmp_path)[0] == 0
    assert names_in(checkpoint) == ["a.bin", "a.bin.json"]


@pytest.mark.parametrize(
    ("file_id", "told"),
    [
        ("quota", "Too many users have viewed or downloaded this file recently."),
        ("private", "Anyone with the link"),
        ("strange", "an answer without 'content-type'"),
    ],
)
def test_what_drive_refuses_is_told_with_the_way_out(drive: Server, tmp_path: Path, file_id: str, told: str) -> None:
    message = run_fails(entry("gdrive", gdrive_id=file_id), tmp_path)
    assert told in message
    assert f"https://drive.google.com/file/d/{file_id}/view" in message and "--from FILE" in message


def folder_page(*names: str) -> Page:
    ids = [f"{FILE_ID[:-1]}{number}" for number in range(len(names))]
    ids[0] = FILE_ID
    links = "".join(
        f'<a href="https://drive.google.com/file/d/{file_id}/view"><div>{name}</div></a>'
        for file_id, name in zip(ids, names, strict=True)
    )
    return Page(f"<html><title>folder</title>{links}</html>".encode(), headers={"Content-Type": "text/html"})


def test_the_only_checkpoint_of_a_drive_folder_is_taken(drive: Server, tmp_path: Path) -> None:
    drive.pages["/embeddedfolderview"] = folder_page("model_best.pth.tar", "log.txt")
    checkpoint = entry("gdrive-folder", gdrive_id="x" * 30, sha256=SHA256)
    code, out, err = run(checkpoint, tmp_path)
    assert (code, err) == (0, "") and SHA256 in out

    drive.pages["/embeddedfolderview"] = folder_page("model_best.pth.tar", "last.pth.tar")
    message = run_fails(entry("gdrive-folder", gdrive_id="x" * 30, tag="b"), tmp_path)
    assert "it has last.pth.tar, model_best.pth.tar" in message
    named = entry("gdrive-folder", gdrive_id="x" * 30, tag="b", sha256=SHA256, filename="model_best.pth.tar")
    assert run(named, tmp_path)[0] == 0
