"""What commands do with packed networks: those that run it take a plan, those that look inside need the network."""

import json
from pathlib import Path

import pytest
from torch import nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.packed.checkpoint import write_packed
from bcdzoo.weights.load import resolve
from tests.command import bcdzoo as command

TINY = "bcdnet-tiny"
OWN = {name: f"tests.packed.test_commands:{name}" for name in ("packed", "plan", "wrapped")}

_files: dict[str, str] = {}


def packed() -> nn.Module:
    return bcdzoo.pack(bcdzoo.load_model(TINY))


def plan() -> nn.Module:
    return bcdzoo.load_packed(_files["plan"])


def wrapped() -> nn.Module:
    return nn.Sequential(packed())


@pytest.fixture(scope="module", params=[".bcz", ".safetensors"], autouse=True)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("plan") / f"net{request.param}"
    write_packed(resolve(TINY), path)
    _files["plan"] = str(path)
    return path


def test_commands_that_run_a_network_take_a_plan(file: Path) -> None:
    net = str(file)
    done = command("eval", net, "--data", "demo", "--no-store", "--workers", "0", "--format", "json")
    result = json.loads(done.stdout)
    assert (result["top1"], result["backend"]) == (92.0, "packed")
    done = command("bench", net, "--batch-size", "1", "--format", "json")
    assert [each["backend"] for each in json.loads(done.stdout)["results"]] == ["packed"]
    done = command("explain", "--plan", net, "--format", "json")
    assert len(json.loads(done.stdout)["layers"]) == 8
    for wrong in (("--backend", "torch"), ("--input-size", "32"), ("--set", "step=1")):
        assert command("bench", net, *wrong).returncode == 2


@pytest.mark.parametrize("words", [("count-ops",), ("audit",), ("explain",)])
@pytest.mark.parametrize("form", ["file", "plan", "wrapped"])
def test_commands_that_look_inside_need_the_network(file: Path, words: tuple[str, ...], form: str) -> None:
    if form == "file" and file.suffix == ".safetensors" and words != ("audit",):
        pytest.skip("they take no other weights either")
    done = command(*words, str(file) if form == "file" else OWN[form])
    assert done.returncode == 1
    assert any(said in done.stderr for said in ("name its network", "needs the network itself", "is a packed file")), (
        done
    )
    assert "unexpected" not in done.stderr


def test_a_packed_module_counts_and_explains_like_its_network() -> None:
    network = bcdzoo.load_model(TINY)
    counted = bcdzoo.count_ops(bcdzoo.pack(network), input_size=28)
    assert (counted.bops, counted.flops) == (bcdzoo.count_ops(TINY).bops, bcdzoo.count_ops(TINY).flops)
    explained = [
        json.loads(command("explain", name, "--plan", "--input-size", "28", "--format", "json").stdout)["layers"]
        for name in (TINY, OWN["packed"], OWN["plan"])
    ]
    assert explained[0] == explained[1] == explained[2]


@pytest.mark.parametrize("form", ["packed", "plan"])
def test_a_packed_module_is_measured_and_evaluated_as_packed(form: str) -> None:
    words = (
        "bench",
        OWN[form],
        "--batch-size",
        "1",
        "--format",
        "json",
        *(("--input-size", "28") * (form == "packed")),
    )
    assert [each["backend"] for each in json.loads(command(*words).stdout)["results"]] == ["packed"]
    assert command(*words, "--backend", "torch").returncode == 2
    network = packed() if form == "packed" else plan()
    for device in ("cpu", "meta"):  # wherever the images of other networks would be
        found = bcdzoo.evaluate(network, "demo", device=device, workers=0)
        assert (found.top1, found.backend, found.device) == (92.0, "packed", "cpu")
    for faster in ({"amp": "bf16"}, {"compile": True}, {"channels_last": True}):
        with pytest.raises(BcdzooError, match="is packed, and runs in strict float32"):
            bcdzoo.evaluate(network, "demo", **faster)
