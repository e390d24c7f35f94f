"""Families of checkpoints: one table of them, which the manifest's ``format`` selects from."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorchcv.model_provider import get_model

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.registry import REGISTRY, default_arguments
from bcdzoo.weights import keys
from bcdzoo.weights.keys import FORMATS
from bcdzoo.weights.keys.family import Container, Family, Layout
from bcdzoo.weights.load import load_into, resolve
from bcdzoo.weights.manifest import load_manifest
from tests.weights import authors


def entry(path: Path, model: str, format: str, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    """Let the manifest describe a file, by its hash."""
    facts = {"model": model, "tag": "mine", "source": "manual", "format": format, "preprocess": "imagenet"} | more
    facts["sha256"] = sha256_of(path)
    text = "\n".join(f'{key} = "{value}"' for key, value in facts.items())
    manifest = path.with_name("manifest.toml")
    manifest.write_text(f"[[checkpoint]]\n{text}\n")
    monkeypatch.setenv("BCDZOO_MANIFEST", str(manifest))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    torch.save(bcdzoo.create_model("bcdnet-tiny").state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def test_every_file_of_a_family_is_in_the_table() -> None:
    files = {path.stem.replace("_", "-") for path in Path(keys.__file__).parent.glob("*.py")}
    assert files - {"--init--", "family"} == FORMATS.keys()


def test_looking_formats_up_imports_neither_torch_nor_h5py() -> None:
    code = "import sys, bcdzoo.weights.keys; assert not {'torch', 'h5py', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_entry_selects_by_its_format_and_says_when_the_file_is_anothers(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for format in "zoo", "torchvision":
        entry(tiny, "bcdnet-tiny", format, monkeypatch)
        assert resolve("bcdnet-tiny", tiny).preprocess == "imagenet"
    entry(tiny, "bcdnet-tiny", "bnext", monkeypatch)
    with pytest.raises(
        BcdzooError, match="has the keys of the format 'zoo', but its entry in the manifest says 'bnext'"
    ):
        resolve("bcdnet-tiny", tiny)


def test_a_file_that_is_of_no_format_is_refused_by_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a.weight": torch.ones(1)}, tmp_path / "x.pth")
    entry(tmp_path / "x.pth", "bcdnet-tiny", "bnext", monkeypatch)
    with pytest.raises(BcdzooError, match=r"does not fit BCDNet: missing .*; left over a\.weight"):
        resolve("bcdnet-tiny", tmp_path / "x.pth")


@pytest.mark.parametrize("format", [name for name, family in FORMATS.items() if not family.layouts])
def test_a_format_that_is_fetched_only_is_said_to_be(format: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tiny, "bcdnet-tiny", format, monkeypatch)
    with pytest.raises(BcdzooError, match=f"bcdnet-tiny/mine has the format '{format}', which is only fetched"):
        resolve("bcdnet-tiny", tiny)


def test_the_shipped_entries_agree_with_their_formats() -> None:
    for checkpoint in load_manifest().checkpoints:
        layouts = FORMATS[checkpoint.format].layouts
        built = dict(checkpoint.build)
        built.pop("num_classes", 0)  # 0 in files without a classifier
        if built and any(layout.build for layout in layouts):
            assert built in [layout.build for layout in layouts]
        known = {layout.preprocess for layout in layouts} - {""}
        assert not known or any(not layout.preprocess for layout in layouts) or checkpoint.preprocess in known


def theirs(name: str, path: Path) -> Path:
    if name == "mobilenet-v1":
        torch.save(get_model("mobilenet_w1").state_dict(), path)
    else:
        torch.save(authors.state(authors.record(name)["keys"]), path)
    return path


@pytest.mark.parametrize(("name", "assumed"), [("mobilenet-v1", ""), ("meliusnet-22", "step=2")])
def test_what_a_family_determines_is_not_said_to_be_assumed(
    name: str, assumed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolve(name, theirs(name, tmp_path / "x.pth"))
    said = capsys.readouterr().err
    assert (f"is built; {assumed}: assumed" in said) if assumed else not said


def outline(name: str, **arguments: Any) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in bcdzoo.create_model(name, **arguments).state_dict().items()}


@pytest.mark.parametrize(
    "name", ["abcnet-r18-5x5", "bcdnet-a", "bcdnet-b", "bcdnet-b-r18", "birealnet-18", "mobilenet-v1"]
)
def test_the_arguments_that_tensors_show_are_those_that_change_them(name: str) -> None:
    others: dict[str, Any] = {"step": 1, "stem_pool": 2, "mlp_groups": 2, "reduction": 8, "num_classes": 7}
    others |= {"mixing": "conv", "branches": "local,short"}
    usual = outline(name)
    for key, value in default_arguments(name).items():
        if isinstance(value, bool) or key in others:
            other = (not value) if isinstance(value, bool) else others[key]
            changed = outline(name, **{key: other}) != usual
            assert changed == (key in ("num_classes", *REGISTRY[name].shown)), key


def load_arrays(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def test_a_new_family_brings_its_own_kind_of_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout([(r"arg:(\d)_", r"\1.")])
    container = Container(lambda path, head: path.suffix == ".params" and head.startswith(b"PK"), load_arrays)
    monkeypatch.setitem(FORMATS, "invented", Family((layout,), container))
    arrays: dict[str, Any] = {"arg:0_weight": np.ones((2, 3), np.float32), "arg:0_bias": np.full(2, 5, np.float32)}
    with (tmp_path / "x.params").open("wb") as file:
        np.savez(file, **arrays)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    load_into(module, tmp_path / "x.params")
    assert module.get_parameter("0.bias").tolist() == [5, 5]
    assert replace(load_manifest().checkpoints[0], format="invented").convertible
