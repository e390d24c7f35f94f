import hashlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.weights.links import probe
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from tests.weights.servers import Page, Server, file_page, google_drive, serving

BODY = random.Random(0).randbytes(4099)
WEB_PAGE = Page(b"<!doctype html>", headers={"Content-Type": "text/html; charset=utf-8"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving({"/net.pth": file_page(BODY)}) as server:
        yield server


def entry(source: str, **values: Any) -> Checkpoint:
    return Checkpoint(model="net", tag="a", source=source, format="onnx", preprocess="imagenet", **values)


def at(server: Server, **values: Any) -> Checkpoint:
    return entry("url", url=f"{server.url}/net.pth", filename="net.pth", **values)


def moved_to(place: str, status: int) -> Page:
    return Page(status=status, headers={"Location": place})


def closed_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        return port


def test_a_file_of_the_stated_size_is_ok_and_none_of_it_is_sent(server: Server) -> None:
    found = probe(at(server, size=len(BODY)))
    assert (found.verdict, found.text) == ("ok", "4,099 bytes")
    assert [method for method, _, _ in server.asked] == ["HEAD"]
    assert server.sent == 0


def test_another_size_than_the_manifests_is_told(server: Server) -> None:
    found = probe(at(server, size=4098))
    assert (found.verdict, found.text) == ("differs", "it has 4,099 bytes instead of 4,098")


@pytest.mark.parametrize(
    ("page", "verdict", "text"),
    [
        (Page(status=404), "gone", "404"),
        (Page(status=410), "gone", "410"),
        (Page(status=401), "refused", "401"),
        (Page(status=403), "refused", "403"),
        (WEB_PAGE, "refused", "web page"),
        (Page(status=429), "unreachable", "429"),
        (Page(status=503), "unreachable", "503"),
        (moved_to("/elsewhere.pth", 301), "moved", "/elsewhere.pth; 4,099 bytes"),
        (moved_to("/elsewhere.pth", 308), "moved", "/elsewhere.pth; 4,099 bytes"),
        (moved_to("/elsewhere.pth", 302), "ok", "4,099 bytes"),
        (moved_to("/nowhere.pth", 301), "gone", "404"),
        (moved_to("/net.pth", 302), "unreachable", "redirects"),
    ],
)
def test_a_link_is_judged_by_where_it_ends(page: Page, verdict: str, text: str, server: Server) -> None:
    server.pages = {"/net.pth": page, "/elsewhere.pth": file_page(BODY)}
    found = probe(at(server))
    assert found.verdict == verdict
    assert text in found.text


def test_a_server_that_knows_no_head_is_asked_with_get(server: Server) -> None:
    server.pages["/net.pth"] = Page(status=405)
    server.faults = [file_page(BODY)]  # served to GET alone
    assert probe(at(server, size=len(BODY))).verdict == "ok"


def test_a_share_link_is_asked_for_its_file_not_its_page(server: Server) -> None:
    server.answer = lambda host, path: None if "download=1" in path else WEB_PAGE
    assert probe(entry("onedrive", url=f"{server.url}/net.pth?e=x")).verdict == "ok"


def test_a_closed_port_is_unreachable() -> None:
    found = probe(entry("url", url=f"http://127.0.0.1:{closed_port()}/net.pth", filename="net.pth"))
    assert found.verdict == "unreachable"
    assert "refused" in found.text
    assert "\n" not in found.text


def test_google_drives_page_tells_public_private_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with google_drive(tmp_path) as (server, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server.pages = {
            "/file/d/public/view": WEB_PAGE,
            "/drive/folders/public": WEB_PAGE,
            "/file/d/private/view": moved_to("https://docs.google.com/login", 302),
            "/login": WEB_PAGE,
        }
        monkeypatch.setattr("bcdzoo.weights.links._LOGIN", ("docs.google.com",))  # the certificate has no accounts.…
        assert probe(entry("gdrive", gdrive_id="public")).verdict == "ok"
        assert probe(entry("gdrive-folder", gdrive_id="public")).verdict == "ok"
        assert probe(entry("gdrive", gdrive_id="private")).verdict == "refused"
        assert probe(entry("gdrive", gdrive_id="gone")).verdict == "gone"


def test_what_has_no_link_is_for_the_hand_and_what_is_shipped_is_there() -> None:
    assert probe(entry("manual")).verdict == "by hand"
    assert probe(load_manifest().find("bcdnet-tiny")).verdict == "ok"
    assert probe(entry("package", filename="net.safetensors")).verdict == "gone"


def test_a_hash_of_the_file_is_no_size(server: Server) -> None:
    assert probe(at(server, sha256=hashlib.sha256(b"another").hexdigest())).verdict == "ok"
