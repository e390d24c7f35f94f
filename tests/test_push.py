"""Publishing on the hub: what goes there, what must not, and that it comes back."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.push import prepare_publication
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import FORMAT, convert
from bcdzoo.weights.manifest import load_manifest
from bcdzoo.weights.sources import SHIPPED
from bcdzoo.weights.tensors import write_tensors
from tests.own_networks import named
from tests.weights.hub import Hub, hub

TOKEN = "hf_ofthetest"
BASIC = {"HF_HUB_DISABLE_XET": "1"}  # the Xet transfer needs a server of its own
TINY = SHIPPED / "bcdnet-tiny.safetensors"


def run(server: Hub, home: Path, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_TOKEN": token, "HF_HOME": str(home / "hf"), **BASIC}
    command = [sys.executable, "-m", "bcdzoo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=home)


def test_weights_that_are_pushed_can_be_fetched_back_by_the_entry_that_is_printed(tmp_path: Path) -> None:
    with hub(TOKEN) as server:
        pushed = run(server, tmp_path, "push", str(TINY), "--repo", "me/tiny", "--private")
        assert pushed.returncode == 0, pushed.stderr
        assert server.private == {"me/tiny": True}
        assert server.files["me/tiny/main", "model.safetensors"] == TINY.read_bytes()
        (entry,) = tomllib.loads(pushed.stdout)["checkpoint"]
        assert entry["sha256"] == sha256_of(TINY)
        assert len(entry["hf_revision"]) == 40
        (tmp_path / "mine.toml").write_text(pushed.stdout)
        fetched = run(server, tmp_path, "fetch", "bcdnet-tiny", "--tag", "me", "--manifest", "mine.toml")
        assert fetched.returncode == 0, fetched.stderr
        (original,) = (tmp_path / "hf").rglob("model.safetensors")
        assert original.read_bytes() == TINY.read_bytes()
    network = bcdzoo.load_model("bcdnet-tiny", "me", manifest=tmp_path / "mine.toml")  # with no server to ask any more
    shipped = bcdzoo.load_model("bcdnet-tiny")
    assert network.preprocess == shipped.preprocess
    for tensor, other in zip(network.state_dict().values(), shipped.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)


def test_the_model_card_has_the_evaluation_the_operations_and_the_lineage() -> None:
    card = prepare_publication(TINY, "me/tiny").card
    _, front, text = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "apache-2.0"
    (model,) = metadata["model-index"]
    assert [metric["value"] for metric in model["results"][0]["metrics"]] == [91.51, 99.8]
    assert f"| BOPs | {bcdzoo.count_ops('bcdnet-tiny').bops:,} |" in text
    assert safetensors_metadata(TINY)["lineage"][:20].split('"')[1] in text


def test_a_dry_run_asks_nobody(tmp_path: Path) -> None:
    with hub(TOKEN) as server:
        done = run(server, tmp_path, "push", str(TINY), "--repo", "me/tiny", "--dry-run")
        assert "model-index" in done.stdout
        assert not server.files and not server.private


def test_who_may_not_write_is_told_in_one_line(tmp_path: Path) -> None:
    with hub(TOKEN) as server:
        done = run(server, tmp_path, "push", str(TINY), "--repo", "me/tiny", token="hf_another")
        assert done.returncode == 1
        assert "cannot publish to me/tiny" in done.stderr and "hf auth login" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not server.files


@pytest.fixture
def unlicensed(tmp_path: Path) -> Path:
    """As converted from somebody's file whose licence nobody has stated."""
    network = bcdzoo.create_model("bcdnet-tiny")
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", "bcdnet-tiny", tmp_path / "converted.safetensors")
    return tmp_path / "converted.safetensors"


def test_converted_weights_without_a_licence_are_refused_whatever_is_said(unlicensed: Path) -> None:
    for license in (None, "MIT"):
        with pytest.raises(BcdzooError, match="has no licence that allows publishing it"):
            prepare_publication(unlicensed, "me/tiny", license)


def test_what_was_trained_from_unlicensed_weights_in_two_steps_is_refused(tmp_path: Path) -> None:
    lineage = '{"parent": {"sha256": "aa"}, "initial": {"sha256": "bb", "source_sha256": "cc", "license": ""}}'
    metadata = safetensors_metadata(TINY) | {"lineage": lineage, "license": ""}
    write_tensors(tmp_path / "tuned.safetensors", bcdzoo.create_model("bcdnet-tiny").state_dict(), metadata)
    with pytest.raises(BcdzooError, match="has no licence that allows publishing it"):
        prepare_publication(tmp_path / "tuned.safetensors", "me/tiny", "MIT")


def test_the_manifest_decides_for_a_published_file_and_for_what_was_trained_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = next(
        entry for entry in load_manifest().checkpoints if entry.sha256 and entry.license not in ("Apache-2.0",)
    )
    tensors = bcdzoo.create_model("bcdnet-tiny").state_dict()
    base = {"format": safetensors_metadata(TINY)["format"], "model": "bcdnet-tiny", "build": "{}", "preprocess": ""}
    for more in (
        {"source_sha256": known.sha256, "source": "x.pth", "license": "MIT"},
        {"lineage": f'{{"parent": {{"sha256": "{known.sha256}"}}}}', "license": "MIT"},
        {"lineage": f'{{"parent": {{}}, "initial": {{"source_sha256": "{known.sha256}"}}}}', "license": "MIT"},
    ):
        write_tensors(tmp_path / "model.safetensors", tensors, base | more)
        if known.license:
            assert prepare_publication(tmp_path / "model.safetensors", "me/tiny").license == known.license
        else:
            with pytest.raises(BcdzooError, match="has no licence"):
                prepare_publication(tmp_path / "model.safetensors", "me/tiny")


def test_weights_of_ones_own_need_a_licence_that_can_be_given(tmp_path: Path) -> None:
    metadata = safetensors_metadata(TINY) | {"license": ""}
    write_tensors(tmp_path / "mine.safetensors", bcdzoo.create_model("bcdnet-tiny").state_dict(), metadata)
    with pytest.raises(BcdzooError, match="state one with --license"):
        prepare_publication(tmp_path / "mine.safetensors", "me/tiny")
    assert prepare_publication(tmp_path / "mine.safetensors", "me/tiny", "MIT").license == "MIT"
    with pytest.raises(BcdzooError, match="it must be one of Apache"):
        prepare_publication(tmp_path / "mine.safetensors", "me/tiny", "CC-BY-NC-4.0")


@pytest.mark.parametrize(("file", "repo"), [("none.safetensors", "me/tiny"), (str(TINY), "tiny"), (str(TINY), "a/b/c")])
def test_what_cannot_be_published_is_said(file: str, repo: str) -> None:
    with pytest.raises(BcdzooError, match=r"no file none|write OWNER/NAME"):
        prepare_publication(Path(file), repo)


def test_a_network_of_ones_own_is_published_if_it_is_named(tmp_path: Path) -> None:
    path, own = tmp_path / "net.safetensors", "tests.own_networks:named"
    metadata = {"format": FORMAT, "model": own, "build": '{"outputs": 7}', "preprocess": "resize=36,crop=32"}
    write_tensors(path, named(outputs=7).state_dict(), metadata)
    publication = prepare_publication(path, "me/net", "MIT", own)
    assert f"bcdzoo eval {own} --weights hf-hub:me/net --data PATH" in publication.card
    assert f"| FLOPs | {bcdzoo.count_ops(own, input_size=32, outputs=7).flops:,} |" in publication.card
    with pytest.raises(BcdzooError, match=r"holds tests.own_networks:named, which is .*: name it by --model"):
        prepare_publication(path, "me/net", "MIT")
    with pytest.raises(BcdzooError, match=r"holds tests.own_networks:named, not tests.own_networks:Wide"):
        prepare_publication(path, "me/net", "MIT", "tests.own_networks:Wide")
    write_tensors(path, named(outputs=8).state_dict(), metadata)
    with pytest.raises(BcdzooError):
        prepare_publication(path, "me/net", "MIT", own)
