"""The doctor on real folders and servers; unreachable is a closed port."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.doctor import folders, network, software
from bcdzoo.doctor.finding import Finding
from bcdzoo.packed import native
from bcdzoo.weights.fetch import fetch
from bcdzoo.weights.manifest import Checkpoint, Manifest, load_manifest
from tests.weights.servers import Page, file_page, hub_error, hub_page, serving
from tests.weights.test_links import closed_port

BODY = b"weights" * 100
NET = Checkpoint("net", "a", "url", "onnx", "imagenet", url="http://127.0.0.1:9/net.pth", filename="net.pth")
OTHER = Checkpoint("other", "a", "manual", "onnx", "imagenet", filename="other.pth", sha256="0" * 64)
MANIFEST = Manifest((NET, OTHER), ())


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def doctor(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the findings by subject."""
    done = subprocess.run(
        [sys.executable, "-m", "bcdzoo", "doctor", "--format", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    assert done.stderr == ""
    return done.returncode, {finding["subject"]: finding for finding in json.loads(done.stdout)}


# --- the command


def test_a_healthy_machine_has_no_problem_and_says_what_it_has(tmp_path: Path) -> None:
    with serving({"/": Page(b"hub")}) as hub:
        code, found = doctor(HF_ENDPOINT=hub.url, BCDZOO_MIRROR=str(tmp_path))
        assert hub.asked == [("HEAD", "/", None)]
    import torch

    assert code == 0
    assert (found["hub"]["state"], found["hub"]["text"]) == ("ok", f"{hub.url} answers")
    assert torch.__version__ in found["torch"]["text"]
    assert native.chosen() in found["kernels"]["text"]
    assert found["cache"]["text"].startswith(os.environ["BCDZOO_HOME"])
    assert found["mirror"]["state"] == "note"
    assert not any("link" in subject for subject in found)


def test_what_stops_work_is_a_problem_each_and_a_silent_hub_a_note(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[checkpoint]]\n")
    environment = {
        "BCDZOO_HOME": f"{tmp_path}/own.toml/cache",
        "BCDZOO_MANIFEST": f"{tmp_path}/own.toml",
        "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bcdzoo", "doctor"], capture_output=True, text=True, env=os.environ | environment
    )
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert done.returncode == 1
    assert lines["cache"].startswith("problem")
    assert "→ set BCDZOO_HOME" in lines["cache"]
    assert lines["manifest"].startswith("problem")
    assert "model: missing" in lines["manifest"]
    assert lines["hub"].startswith("note")
    assert "cannot be reached" in lines["hub"]
    assert len([line for line in lines.values() if line.startswith("problem")]) == 3  # the results, too


def test_links_of_the_manifest_are_probed_on_request(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(BODY).hexdigest()
    with serving({"/net.pth": file_page(BODY), "/me/net/resolve/main/net.st": hub_page(BODY)}) as server:
        server.answer = lambda host, path: hub_error(404, "EntryNotFound") if path not in server.pages else None
        url: dict[str, Any] = {"source": "url", "url": f"{server.url}/net.pth", "filename": "net.pth"}
        hub: dict[str, Any] = {"source": "hf", "hf_repo": "me/net", "filename": "net.st"}
        entries = {
            "right": url | {"size": len(BODY)},
            "gone": url | {"url": f"{server.url}/gone.pth"},
            "hub": hub | {"size": len(BODY), "sha256": sha256},
            "hub-gone": hub | {"filename": "gone.st"},
            "hub-size": hub | {"size": 1},
            "hub-hash": hub | {"sha256": "0" * 64},
        }
        manifest = tmp_path / "own.toml"
        for tag, values in entries.items():
            values |= {"model": "net", "tag": tag, "format": "onnx", "preprocess": "imagenet"}
            lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
            with manifest.open("a") as file:
                file.write("\n".join(["[[checkpoint]]", *lines, ""]))
        nowhere = f"http://127.0.0.1:{closed_port()}"
        code, found = doctor(
            "--links",
            BCDZOO_MANIFEST=str(manifest),
            HF_ENDPOINT=server.url,
            HTTPS_PROXY=nowhere,
            https_proxy=nowhere,
        )
        fetched = [path for method, path, _ in server.asked if method == "GET"]
        assert all(path.startswith("/api/") for path in fetched)  # the hub's client asks for itself
    verdicts = {subject: finding["text"].partition(":")[0] for subject, finding in found.items() if "link" in subject}
    assert {verdicts[f"link net/{tag}"] for tag in ("right", "hub")} == {"ok"}
    assert {verdicts[f"link net/{tag}"] for tag in ("gone", "hub-gone")} == {"gone"}
    assert {verdicts[f"link net/{tag}"] for tag in ("hub-size", "hub-hash")} == {"differs"}
    assert len(verdicts) == len(load_manifest().checkpoints) + len(entries)
    assert verdicts["link bcdnet-a/step2"] == "unreachable"
    assert found["link bcdnet-a/step2"]["state"] == "note"
    assert code == 1


# --- software


def test_a_package_of_an_older_version_or_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "bcdzoo-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: bcdzoo\nVersion: 9\nRequires-Dist: click>=99\nRequires-Dist: no-such-package\n"
        'Provides-Extra: more\nRequires-Dist: nor-this; extra == "more"\n'
        'Provides-Extra: here\nRequires-Dist: requests; extra == "here"\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    always, more, here = software.packages()
    assert always.state == "problem"
    assert "click>=99 is needed, 8" in always.text
    assert "no-such-package is needed, none installed" in always.text
    assert (more.state, more.advice) == ("note", "pip install 'bcdzoo[more]'")
    assert here.state == "ok"


@pytest.mark.parametrize(("wanted", "state"), [("portable", "note"), ("mmx", "problem"), ("none", "note")])
def test_the_choice_of_kernels_is_explained(wanted: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, wanted)
    found = software.kernels()
    assert found.state == state
    assert wanted in found.text
    assert native.VARIABLE in found.text


def test_without_a_compiler_there_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert software.compiler().state == "note"
    (tmp_path / "own++").write_text("#!/bin/sh\necho own 1.0")
    (tmp_path / "own++").chmod(0o755)
    monkeypatch.setenv("CXX", "own++ -m64")
    assert software.compiler().text == f"{tmp_path}/own++: own 1.0"


# --- folders


def test_settings_are_told_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("BCDZOO_MIRROR", "https://me:secret@example.org/zoo")
    told = [finding.text for finding in folders.settings()]
    assert "HF_TOKEN=…" in told
    assert "BCDZOO_MIRROR=https://…@example.org/zoo" in told
    assert f"BCDZOO_HOME={os.environ['BCDZOO_HOME']}" in told
    assert "secret" not in "".join(told)


def test_checkpoints_and_runs_are_counted_and_damaged_ones_named(own_home: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(BODY * 1000)
    path = fetch(NET, from_file=tmp_path / "net.pth")
    (own_home / "results" / "unfinished" / "net-1").mkdir(parents=True)
    (own_home / "results" / "unfinished" / "net-1" / "run.json").write_text("{}")
    (own_home / "results" / "bad.json").write_text("{")
    found = {finding.subject: finding for finding in folders.folders(MANIFEST) if "left out" not in finding.text}
    assert found["checkpoints"].text == "1 of 2 cached, 0.7 MB"
    assert found["runs"].text == "0 in the results store, 1 unfinished"
    (damaged,) = [finding for finding in folders.folders(MANIFEST) if "left out" in finding.text]
    assert damaged.state == "note"
    assert "bad.json" in damaged.text
    path.with_name("net.pth.json").write_text("{")
    (note,) = [finding for finding in folders.folders(MANIFEST) if "net.pth.json is damaged" in finding.text]
    assert (note.state, note.advice) == ("note", "bcdzoo fetch net --tag a")


def test_an_examination_makes_no_folder(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCDZOO_HOME", str(own_home / "new" / "home"))
    assert "problem" not in {finding.state for finding in folders.folders(MANIFEST)}
    assert list(own_home.iterdir()) == []


# --- the network


def test_offline_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCDZOO_OFFLINE", "1")
    with serving() as server:
        monkeypatch.setenv("BCDZOO_MIRROR", server.url)
        found = [network.hub(), *network.mirror_health(MANIFEST), *network.links(MANIFEST)]
        assert server.asked == []
    assert [finding.state for finding in found] == ["note"] * 3
    assert all("BCDZOO_OFFLINE is set" in finding.text for finding in found)


def mirror() -> Finding:
    (finding,) = network.mirror_health(MANIFEST)
    return finding


def test_without_a_mirror_there_is_nothing_to_say() -> None:
    assert list(network.mirror_health(MANIFEST)) == []


def test_a_mirror_folder_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path))
    assert (mirror().state, mirror().text) == ("note", f"{tmp_path} has 0 of 2 files of the manifest")
    (tmp_path / "other.pth").write_bytes(BODY)  # found by its bare name, for it has a hash
    (tmp_path / "net" / "a").mkdir(parents=True)
    (tmp_path / "net" / "a" / "net.pth").write_bytes(BODY)
    assert (mirror().state, mirror().text) == ("ok", f"{tmp_path} has 2 of 2 files of the manifest")
    monkeypatch.setenv("BCDZOO_MIRROR", str(tmp_path / "nowhere"))
    assert mirror().state == "problem"


def test_a_mirror_at_a_url_is_counted_without_downloading(monkeypatch: pytest.MonkeyPatch) -> None:
    web_page = Page(b"<html>", headers={"Content-Type": "text/html"})
    with serving({"/zoo/net/a/net.pth": file_page(BODY), "/zoo/other.pth": web_page}) as server:
        monkeypatch.setenv("BCDZOO_MIRROR", f"{server.url}/zoo/")
        assert (mirror().state, mirror().text) == ("ok", f"{server.url}/zoo has 1 of 2 files of the manifest")
        assert server.sent == 0
        server.pages["/zoo"] = Page(status=503)
        assert mirror().state == "problem"


def test_a_mirror_that_cannot_be_reached_is_a_problem_for_nothing_can_be_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BCDZOO_MIRROR", f"http://127.0.0.1:{closed_port()}/zoo")
    assert mirror().state == "problem"
    assert "cannot be reached" in mirror().text
