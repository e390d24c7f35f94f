"""Campaigns on a cache: flips in what is stored, and kills while it is being filled.

The long ones print their figures: pytest -n 0 -m slow -s tests/weights/test_damage.py
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.weights.fetch import converted_path, folder
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from bcdzoo.weights.sources import SHIPPED
from tests.weights.servers import Server, file_page, serving

ROOT = Path(__file__).parents[2]
TINY = SHIPPED / "bcdnet-tiny.safetensors"
ENTRY = """[[checkpoint]]
model = "bcdnet-tiny"
tag = "served"
source = "url"
url = "{url}/tiny.safetensors?token=secret"
filename = "tiny.safetensors"
format = "zoo"
preprocess = "resize=28,crop=28,mean=0.286,std=0.353"
default = true
{hash}
"""


@pytest.fixture(params=["published", "first fetch"])
def manifest(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that has the shipped weights, and a manifest that leads to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving({"/tiny.safetensors": file_page(TINY.read_bytes())}) as server:
        known = f'sha256 = "{sha256_of(TINY)}"' if request.param == "published" else ""
        path = tmp_path / "manifest.toml"
        path.write_text(ENTRY.format(url=server.url, hash=known))
        yield path


def served(manifest: Path) -> Checkpoint:
    return load_manifest(manifest).find("bcdnet-tiny")


def state(manifest: Path) -> dict[str, torch.Tensor]:
    return bcdzoo.load_model("bcdnet-tiny", manifest=manifest).state_dict()


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def outcomes(manifest: Path, what: str, flips: int, capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """What became of the flips in one of the three files."""
    right = state(manifest)
    final = folder(served(manifest)) / "tiny.safetensors"
    path = {"original": final, "converted": converted_path(served(manifest)), "record": Path(f"{final}.json")}[what]
    whole = path.read_bytes()
    draw, found = random.Random(what), Counter[str]()
    for _ in range(flips):
        path.write_bytes(whole)
        flip(path, draw)
        capsys.readouterr()
        try:
            same = all(torch.equal(tensor, right[key]) for key, tensor in state(manifest).items())
            told = capsys.readouterr().err
            found["mended and told" if same and told else "SILENT" if same else "WRONG WEIGHTS"] += 1
        except BcdzooError:
            found["refused"] += 1
        try:
            again = state(manifest)
            if not all(torch.equal(tensor, right[key]) for key, tensor in again.items()):
                found["WRONG AFTERWARDS"] += 1
        except BcdzooError:
            found["STUCK"] += 1
        if capsys.readouterr().err:
            found["TOLD TWICE"] += 1
    return found


@pytest.mark.parametrize("what", ["original", "converted", "record"])
def test_flips_in_the_cache_are_told_and_mended(manifest: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcomes(manifest, what, 4, capsys) == {"mended and told": 4}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["original", "converted", "record"])
def test_two_hundred_flips_in_the_cache(manifest: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcomes(manifest, what, 200, capsys)
    with capsys.disabled():
        print(f"\n200 flips of the {what}: {dict(found)}")
    assert found == {"mended and told": 200}


def test_flips_in_the_cache_are_told_offline_and_nothing_is_used(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = state(manifest)
    original = folder(served(manifest)) / "tiny.safetensors"
    whole = original.read_bytes()
    monkeypatch.setenv("BCDZOO_OFFLINE", "1")
    flip(original, random.Random(0))
    with pytest.raises(BcdzooError, match=r"is damaged.*BCDZOO_OFFLINE is set"):
        state(manifest)
    original.write_bytes(whole)
    flip(converted_path(served(manifest)), random.Random(0))  # which needs no network to be mended
    assert all(torch.equal(tensor, right[key]) for key, tensor in state(manifest).items())


def fetch_command(manifest: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "bcdzoo", "fetch", "bcdnet-tiny", "--manifest", str(manifest)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("manifest", ["published"], indirect=True)
def test_sixty_kills_of_fetch(manifest: Path, own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stored() -> dict[str, bytes]:
        files = folder(served(manifest)).rglob("*")
        return {path.name: path.read_bytes() for path in files if not path.name.endswith(".json")}

    began = time.monotonic()
    assert fetch_command(manifest).wait() == 0
    took = time.monotonic() - began
    expected, draw, killed = stored(), random.Random(0), 0
    for number in range(60):
        if number % 3 == 0:
            shutil.rmtree(own_home / "checkpoints", ignore_errors=True)
        process = fetch_command(manifest)
        time.sleep(took * draw.uniform(0.2, 1.1))
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
        if number % 3 == 2:
            again = fetch_command(manifest)
            _, said = again.communicate()
            assert again.returncode == 0, said
            assert stored() == expected
            assert len(list(folder(served(manifest)).iterdir())) == 3
    with capsys.disabled():
        print(f"\n60 kills of fetch, of which {killed} came in time: the same bytes, nothing left over")


def test_the_server_is_asked_again_only_for_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server: Server
    with serving({"/tiny.safetensors": file_page(TINY.read_bytes())}) as server:
        manifest = tmp_path / "manifest.toml"
        manifest.write_text(ENTRY.format(url=server.url, hash=f'sha256 = "{sha256_of(TINY)}"'))
        state(manifest)
        flip(converted_path(served(manifest)), random.Random(1))
        state(manifest)
        record = folder(served(manifest)) / "tiny.safetensors.json"
        record.write_text("{")
        state(manifest)
        assert len(server.asked) == 1
        assert "secret" not in record.read_text()
        flip(folder(served(manifest)) / "tiny.safetensors", random.Random(1))
        state(manifest)
        assert len(server.asked) == 2
