import json
from pathlib import Path

import pytest
from filelock import FileLock

from bcdzoo.data.cache import library_versions
from bcdzoo.seal import write_json
from tests.command import bcdzoo


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path))
    for name, size in {
        "checkpoints/bcdnet-a/step2/net.pth": 4_000_000,
        "checkpoints/bcdnet-a/step2/net.pth.json": 10,
        "checkpoints/bcdnet-a/step1/net.pth.part": 2_000_000,
        "checkpoints/bcdnet-a/step1/net.pth.part.json": 10,
        "checkpoints/bcdnet-a/step1/.bcdzoo.safetensors.bcdzoo-x1.tmp": 10,
        "prepared/new/pixels": 3_000_000,
        "prepared/old/pixels": 1_000_000,
        "prepared/.old.abc/pixels": 5,
        "prepared/broken/pixels": 5,
        "results/unfinished/run/000000.parquet": 7,
        "results/kept.json": 3,
        "locks/x": 0,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    write_json(tmp_path / "prepared/new/facts.json", {"versions": library_versions()})
    write_json(tmp_path / "prepared/old/facts.json", {"versions": {"pillow": "1"}})
    return tmp_path


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_what_takes_the_space_is_listed_largest_first_with_its_bytes(home: Path) -> None:
    found = json.loads(bcdzoo("cache", "--format", "json").stdout)
    assert [(each["kind"], each["name"]) for each in found[:3]] == [
        ("checkpoint", "bcdnet-a/step2"),
        ("prepared images", "new"),
        ("leftover", "bcdnet-a/step1"),
    ]
    listed = sum(each["size"] for each in found)
    there = sum((home / name).stat().st_size for name in files(home) - {"results/kept.json", "locks/x"})
    assert listed == there
    assert "MB in " in bcdzoo("cache").stdout


def test_prune_deletes_what_has_a_reason_and_nothing_else(home: Path) -> None:
    before = files(home)
    gone = {each["name"] for each in json.loads(bcdzoo("cache", "--prune", "--format", "json").stdout)}
    assert gone == {"bcdnet-a/step1", "old", "broken"}
    assert files(home) == {
        name for name in before if not name.startswith(("checkpoints/bcdnet-a/step1/", "prepared/old", "prepared/.old"))
    } - {"prepared/broken/pixels"}
    assert json.loads(bcdzoo("cache", "--prune", "--format", "json").stdout) == []


def test_what_another_process_is_at_stays(home: Path) -> None:
    with FileLock(home / "prepared" / "old.lock"), FileLock(home / "locks" / "bcdnet-a%2Fstep1.lock"):
        done = bcdzoo("cache", "--prune")
    assert {"prepared/old/pixels", "checkpoints/bcdnet-a/step1/net.pth.part"} <= files(home)
    assert done.stderr.count("another process is at it") == 3


def test_links_are_not_followed_out_of_the_cache(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("x")
    (home / "prepared" / ".link.abc").symlink_to(outside)
    (home / "checkpoints" / "bcdnet-a" / "step1" / "more.part").symlink_to(outside / "precious")
    (home / "prepared" / "broken" / "below").symlink_to(outside)
    assert bcdzoo("cache", "--prune").returncode == 0
    assert (outside / "precious").read_text() == "x"


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    done = bcdzoo("cache", BCDZOO_HOME=str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (0, "") and "0.0 MB" in done.stdout
    assert not (tmp_path / "none").exists()
