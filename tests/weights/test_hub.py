"""Weights by their address on the hub, and torch.hub: what was pushed is loaded again, as users of timm expect."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.registry import REGISTRY
from bcdzoo.weights.hub import from_address
from bcdzoo.weights.load import FORMAT
from bcdzoo.weights.tensors import write_tensors
from tests.own_networks import named
from tests.test_push import BASIC, TINY, TOKEN, run
from tests.weights.hub import Hub, hub

ROOT = Path(__file__).parents[2]
OWN = "tests.own_networks:named"

PROGRAM = f"""
import json, torch, bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.model import load_network
from bcdzoo.audit.audit import audit

def told(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except BcdzooError as error:
        return str(error)

tiny, shipped = bcdzoo.load_model("hf-hub:me/tiny"), bcdzoo.load_model("bcdnet-tiny")
images = torch.rand(2, 3, 28, 28)
found = load_network("hf-hub:me/tiny")
again = load_network("bcdnet-tiny", found.label)
own = load_network("{OWN}", "hf-hub:me/net")
print(json.dumps({{
    "same": torch.equal(tiny(images), shipped(images)) and str(tiny.preprocess) == str(shipped.preprocess),
    "name": found.name, "label": found.label, "again": again.label, "own": [own.name, own.build, own.preprocess],
    "audited": audit("hf-hub:me/tiny").model,
    "code": told(bcdzoo.load_model, "hf-hub:me/net"),
    "other": told(bcdzoo.load_model, "hf-hub:me/other"),
    "nobody": told(bcdzoo.load_model, "hf-hub:you/none"),
    "two": told(bcdzoo.load_model, "hf-hub:me/tiny", "default"),
    "wrong": told(bcdzoo.load_model, "bcdnet-a", "hf-hub:me/tiny"),
}}))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    """A hub with bcdnet-tiny as it was pushed, a network of somebody's own, and a file of other origin."""
    write_tensors(tmp_path / "other", named(outputs=7).state_dict(), {})
    write_tensors(
        tmp_path / "own",
        named(outputs=7).state_dict(),
        {"format": FORMAT, "model": OWN, "build": '{"outputs": 7}', "preprocess": "resize=36,crop=32"},
    )
    with hub(TOKEN) as found:
        for revision in ("main", "c0ffee"):
            found.files[f"me/tiny/{revision}", "model.safetensors"] = TINY.read_bytes()
        found.files["me/net/main", "model.safetensors"] = (tmp_path / "own").read_bytes()
        found.files["me/other/main", "model.safetensors"] = (tmp_path / "other").read_bytes()
        yield found


def test_what_was_pushed_is_loaded_by_its_address_and_what_was_not_is_told(server: Hub, tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), **BASIC}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"]
    assert found["name"] == found["audited"] == "bcdnet-tiny"
    assert found["label"] == found["again"] == "hf-hub:me/tiny@main"  # this server's commits have the names of branches
    assert found["own"][:2] == [OWN, {"outputs": 7}] and found["own"][2].startswith("resize=36,crop=32,")
    assert found["code"] == (
        f"hf-hub:me/net has weights of {OWN}, whose code is not here: name the network, and give hf-hub:me/net as its "
        "weights"
    )
    assert found["other"].startswith("the weights of hf-hub:me/other do not say which network they are of")
    assert found["nobody"].startswith("hf-hub:you/none: ")
    assert found["two"] == "hf-hub:me/tiny has weights of its own: omit the others"
    assert "holds weights of bcdnet-tiny, not of bcdnet-a" in found["wrong"]


def test_a_pushed_network_is_evaluated_by_its_address(server: Hub, tmp_path: Path) -> None:
    done = run(server, tmp_path, "eval", "hf-hub:me/tiny@c0ffee", "--data", "demo", "--format", "json")
    assert done.returncode == 0 and "commit" not in done.stderr, done.stderr
    result = json.loads(done.stdout)
    assert (result["model"], result["weights"]) == ("bcdnet-tiny", "hf-hub:me/tiny@c0ffee")


@pytest.mark.parametrize(
    "address", ["hf-hub:", "hf-hub:tiny", "hf-hub:a/b/c", "hf-hub:../..", "hf-hub:a/b@", "hf-hub:a/b@../x"]
)
def test_what_is_no_address_is_told_before_anybody_is_asked(address: str) -> None:
    with pytest.raises(BcdzooError, match="is not an address on the hub: write hf-hub:OWNER/NAME"):
        from_address(address)


def test_torch_hub_lists_every_network_and_builds_them_with_and_without_weights() -> None:
    listed = [name for name, value in runpy.run_path(str(ROOT / "hubconf.py")).items() if callable(value)]
    public = sorted(name for name in listed if not name.startswith("_"))  # what torch.hub.list shows
    assert public == sorted(name.replace("-", "_") for name in REGISTRY)
    images = torch.rand(2, 3, 28, 28)
    trained = torch.hub.load(str(ROOT), "bcdnet_tiny", source="local", pretrained=True)
    assert torch.equal(trained(images), bcdzoo.load_model("bcdnet-tiny")(images))
    assert torch.hub.load(str(ROOT), "bcdnet_tiny", source="local", num_classes=3)(images).shape == (2, 3)
