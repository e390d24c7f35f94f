"""Checkpoints that mean harm, or are not what they seem: refused in one line, at once and without memory."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import bcdzoo
from bcdzoo import unpickle
from bcdzoo.errors import BcdzooError
from bcdzoo.push import prepare_publication
from bcdzoo.weights.convert import load_state
from bcdzoo.weights.load import checkpoint_argument, convert
from bcdzoo.weights.metadata import read_metadata
from bcdzoo.weights.sources import SHIPPED
from tests.weights.hostile import FILES


@pytest.mark.parametrize("name", FILES)
def test_it_is_refused_at_once_and_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    monkeypatch.setattr(unpickle, "_MOST_STEPS", 200_000)  # seconds less; the next test has the real one
    write, message = FILES[name]
    write(Path("x"))
    start = time.monotonic()
    with pytest.raises(BcdzooError, match=message) as error:
        load_state(Path("x"))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_all_of_them_together_take_little_memory(tmp_path: Path) -> None:
    program = """
import os, resource, sys
from pathlib import Path
import h5py, safetensors.torch
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import load_state
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_state(path)
    except BcdzooError:
        pass
    else:
        sys.exit(path.name)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    for number, (name, (write, _)) in enumerate(FILES.items()):
        if name != "socket":
            write(tmp_path / str(number))
    limits = (16 << 30, 16 << 30)  # of addresses: torch alone takes some
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limits),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1 << 20  # KiB


GOOD = {"format": "bcdzoo 1", "model": "bcdnet-tiny", "build": "{}", "preprocess": "", "license": ""}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return load_file(SHIPPED / "bcdnet-tiny.safetensors")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"model": None}, "model is missing"),
        ({"build": None}, "build is missing"),
        ({"model": "evil_module:x"}, "holds weights of evil_module:x, not of bcdnet-tiny"),
        ({"model": "a\x1b[2K\n" * 1000}, "holds weights of a"),
        ({"build": "[]"}, "build is a list and not a dict"),
        ({"build": "{"}, "build is not JSON"),
        ({"build": "[" * 100_000}, "build is not JSON"),
        ({"build": '{"num_classes": 1' + "0" * 5000 + "}"}, "build is not JSON|must be"),
        ({"build": '{"num_classes": 20000000}'}, "needs \\(20000000, 128\\)"),
        ({"build": '{"num_classes": 1000000000000000000}'}, "cannot be built|needs"),
        ({"build": '{"num_classes": -1}'}, "num_classes must be at least 0"),
        ({"build": '{"num_classes": true}'}, "num_classes must be of type int"),
        ({"build": '{"num_classes": "10"}'}, "num_classes must be of type int"),
        ({"build": '{"num_classes": 1e400}'}, "num_classes must be of type int"),
        ({"build": '{"step": [2]}'}, "step is not a plain value"),
        ({"build": '{"step": null}'}, "step is not a plain value"),
        ({"build": '{"step": 1000000000}'}, "step must be 1"),
        ({"build": '{"__class__": 1}'}, "unexpected keyword argument|does not take"),
        ({"build": '{"self": 1}'}, "unexpected keyword argument|does not take"),
        ({"preprocess": "nonsense"}, "no preprocessing preset"),
        ({"preprocess": "resize=0,crop=0"}, "crop=0"),
        ({"lineage": "7"}, "lineage is a int and not a dict"),
        ({"class_names": '"abc"'}, "class_names is a str and not a list"),
        ({"class_names": "[1]"}, "class_names, line 1: '1' is not a class name"),
        ({"format": "bcdzoo 99"}, "another version"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(
    said: dict[str, Any], message: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {key: value for key, value in (GOOD | said).items() if value is not None})
    with pytest.raises(BcdzooError, match=message) as error:
        bcdzoo.load_model("bcdnet-tiny", path)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("model", "build", "message"),
    [
        ("bcdnet-a", {"mlp_groups": 10**9}, "mlp_groups must be 0 to 5"),
        ("bcdnet-b", {"reduction": 0}, "cannot be built with .*reduction=0"),
        ("meliusnet-22", {"stem_pool": 10**6}, "stem_pool must be 3"),
        ("birealnet-18", {"bn_eps": float("nan")}, "bn_eps must be between 0 and 1"),
        ("birealnet-18", {"padding": "p" * 10**6}, "padding is not a plain value"),
    ],
)
def test_a_file_cannot_ask_for_a_network_that_makes_no_sense(
    model: str, build: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, GOOD | {"model": model, "build": json.dumps(build)})
    with pytest.raises(BcdzooError, match=message) as error:
        bcdzoo.load_model(model, path)
    assert len(str(error.value)) < 700


def test_a_name_in_a_file_is_never_imported(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil_module.py").write_text('open("CANARY", "w")')
    for name in ("evil_module:x", "evil_module", "bcdnet:bcdnet_a", "../evil_module", "torch.hub:load"):
        path = tmp_path / "evil.safetensors"
        save_file(tensors, path, GOOD | {"model": name})
        with pytest.raises(BcdzooError, match="which is not a network of this zoo"):
            checkpoint_argument(str(path))
        with pytest.raises(BcdzooError, match="is no network of this zoo: name it by --model"):
            prepare_publication(path, "me/x", "MIT")
    assert not Path("CANARY").exists()


@pytest.mark.parametrize("lineage", ['{"parent": "x"}', '{"initial": [1]}'])
def test_what_was_trained_from_something_unreadable_is_not_published(
    lineage: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors", GOOD | {"lineage": lineage})
    with pytest.raises(BcdzooError, match="does not say what it was trained from"):
        prepare_publication(tmp_path / "x.safetensors", "me/x", "MIT")


@pytest.mark.parametrize(
    "lineage", ['{"evaluation": 3}', '{"evaluation": {"data": 1}}', '{"evaluation": {"data": {}}}']
)
def test_a_model_card_leaves_out_an_evaluation_that_is_none(
    lineage: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors", GOOD | {"lineage": lineage})
    assert "% top-1" not in prepare_publication(tmp_path / "x.safetensors", "me/x", "MIT").card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to(torch.int8), "holds int8 without the scales"),
        (lambda t: t.bool(), "holds bool without the scales"),
        (lambda t: t.to(torch.float8_e4m3fn), "holds float8_e4m3fn without the scales"),
        (lambda t: t.to(torch.complex64), "holds complex numbers"),
        (lambda t: t * float("nan"), "holds numbers that are not finite"),
        (lambda t: t.double() + 1e300, "holds numbers that are not finite"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(
    change: Any, message: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(tensors | {"head.fc.weight": change(tensors["head.fc.weight"])}, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=f"head.fc.weight {message}"):
        convert(tmp_path / "x.pth", "bcdnet-tiny", tmp_path / "out.safetensors")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_real_numbers_are_weights(kind: torch.dtype, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({key: t.to(kind) if t.is_floating_point() else t for key, t in tensors.items()}, tmp_path / "x.pth")
    loaded = bcdzoo.load_model("bcdnet-tiny", tmp_path / "x.pth").state_dict()
    for key, tensor in tensors.items():
        assert torch.equal(loaded[key], tensor.to(kind).to(tensor.dtype) if tensor.is_floating_point() else tensor)


def test_the_shipped_file_says_what_it_holds() -> None:
    said = read_metadata(SHIPPED / "bcdnet-tiny.safetensors")
    assert said is not None and said.model == "bcdnet-tiny" and said.lineage["evaluation"]
