"""What belongs to weights travels with them: preprocessing, class names, and the form of the network."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import bcdzoo
from bcdzoo.cli import main
from bcdzoo.data.classes import names
from bcdzoo.data.preprocess import Preprocess, parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.model import load_eval_model, load_network
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.files import sha256_of
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import assume, convert, resolve
from bcdzoo.weights.metadata import carried_preprocess, read_class_names, read_metadata
from bcdzoo.weights.sources import SHIPPED
from tests.weights import authors

TINY = SHIPPED / "bcdnet-tiny.safetensors"
SPEC = "resize=28,crop=28,mean=0.286,std=0.353"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network that is not the zoo's, as it would be for ``bcdzoo eval``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_tiny.py").write_text("import bcdzoo\ndef net(): return bcdzoo.create_model('bcdnet-tiny')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return "own_tiny:net"


def test_every_way_to_load_a_file_uses_the_preprocessing_in_it(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = bcdzoo.load_model("bcdnet-tiny")
    assert model.preprocess == bcdzoo.pack(model).preprocess == parse(SPEC)
    ways = (model, None), (bcdzoo.create_model("bcdnet-tiny"), TINY), (own, TINY), ("bcdnet-tiny", None)
    for network, weights in ways:
        found = load_eval_model(network, EvalOptions(weights=weights), torch.device("cpu"))
        assert (found.preprocess, found.preprocess_from) == (parse(SPEC), "weights")
    assert "assumed" not in capsys.readouterr().err


def test_a_guess_is_said_in_python_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "0").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "0" / "a.png")
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    assert bcdzoo.evaluate(network, tmp_path, check=False).preprocess_from == "assumed"
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("bcdzoo: Sequential: ") and line.endswith("preprocess=imagenet: assumed")


def test_what_is_assumed_has_the_size_of_the_networks_images(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"resnet-18": 224, "irnet-resnet20": 32, "bmxnet-lenet-mnist": 28, "my.own:network": 224}
    assert {name: assume(name).crop for name in sizes} == sizes
    assert "irnet-resnet20: its preprocessing is not stated; preprocess=resize=32,crop=32: assumed" in (
        capsys.readouterr().err
    )


def test_what_is_given_goes_before_what_a_module_carries(capsys: pytest.CaptureFixture[str]) -> None:
    model = bcdzoo.create_model("bcdnet-tiny")
    model.preprocess = "not one"  # type: ignore[assignment]
    assert load_network(model).preprocess is None
    model.__dict__["preprocess"] = Preprocess(30, 28)
    assert parse(load_network(model).preprocess or "") == Preprocess(30, 28)


def test_a_file_that_says_nothing_is_taken_for_the_usual_form_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = authors.record("birealnet-18")
    torch.save(authors.state(record["keys"]), tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", "birealnet-18", tmp_path / "ours.safetensors")
    said = "step=2, activation=identity, padding=symmetric, bn_eps=1e-05: assumed"
    assert said in capsys.readouterr().err
    build = json.loads(safetensors_metadata(tmp_path / "ours.safetensors")["build"])
    assert build == {"step": 2, "activation": "identity", "padding": "symmetric", "bn_eps": 1e-5}
    assert resolve("birealnet-18", tmp_path / "ours.safetensors").preprocess == "imagenet"  # the layout's
    assert capsys.readouterr().err == ""
    resolve("birealnet-18", tmp_path / "theirs.pth", step=1, padding="symmetric")
    assert "activation=identity, bn_eps=1e-05: assumed" in capsys.readouterr().err


def test_xnor_net_says_that_its_input_scale_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(bcdzoo.create_model("xnornet-r18", num_classes=3).state_dict(), tmp_path / "x.pth")
    resolve("xnornet-r18", tmp_path / "x.pth", num_classes=3)
    assert "step=2, input_scale=True: assumed" in capsys.readouterr().err


def test_class_names_travel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [f"class {number} é" for number in range(10)]
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    torch.save(bcdzoo.create_model("bcdnet-tiny").state_dict(), tmp_path / "x.pth")
    arguments = ["convert", str(tmp_path / "x.pth"), "--model", "bcdnet-tiny", "--out", str(tmp_path / "a.safetensors")]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--class-names", str(tmp_path / "labels.txt"), "--preprocess", SPEC])
    assert not end.value.code, capsys.readouterr().err
    said = read_metadata(tmp_path / "a.safetensors")
    assert said is not None and said.class_names == tuple(labels) and said.preprocess == SPEC
    assert bcdzoo.load_model("bcdnet-tiny", tmp_path / "a.safetensors").class_names == tuple(labels)
    convert(tmp_path / "a.safetensors", "bcdnet-tiny", tmp_path / "again.safetensors")
    assert read_metadata(tmp_path / "again.safetensors").class_names == tuple(labels)  # type: ignore[union-attr]
    assert bcdzoo.load_model("bcdnet-tiny", tmp_path / "x.pth").class_names is None
    with pytest.raises(BcdzooError, match="2 class names are given, but bcdnet-tiny has 10 outputs"):
        convert(tmp_path / "x.pth", "bcdnet-tiny", tmp_path / "b.safetensors", class_names=["a", "b"])


def test_a_published_network_of_a_thousand_classes_has_imagenets_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(bcdzoo.create_model("mobilenet-v1").state_dict(), tmp_path / "x.pth")
    assert bcdzoo.load_model("mobilenet-v1", tmp_path / "x.pth").class_names is None  # nobody said so
    (tmp_path / "m.toml").write_text(
        f"""[[checkpoint]]
        model = "mobilenet-v1"
        tag = "mine"
        source = "manual"
        format = "zoo"
        preprocess = "imagenet"
        sha256 = "{sha256_of(tmp_path / "x.pth")}"
        """
    )
    monkeypatch.setenv("BCDZOO_MANIFEST", str(tmp_path / "m.toml"))
    model = bcdzoo.load_model("mobilenet-v1", tmp_path / "x.pth")
    assert model.class_names == tuple(names())


@pytest.mark.parametrize("content", [b"a\n\nb\n", b"a\n" + b"b" * 1001, b"\xff\xfe"])
def test_a_file_of_class_names_is_checked(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(BcdzooError, match=r"labels\.txt"):
        read_class_names(tmp_path / "labels.txt")


def test_a_form_that_a_file_states_is_overruled_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = bcdzoo.create_model("bcdnet-tiny", step=1).state_dict()
    torch.save(state, tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", "bcdnet-tiny", tmp_path / "step1.safetensors", step=1)
    capsys.readouterr()
    bcdzoo.load_model("bcdnet-tiny", tmp_path / "step1.safetensors")
    assert capsys.readouterr().err == ""
    bcdzoo.load_model("bcdnet-tiny", tmp_path / "step1.safetensors", step=2)
    assert "step1.safetensors is of step=1; step=2 was asked for instead" in capsys.readouterr().err


def test_a_wrapped_network_keeps_its_preprocessing() -> None:
    model = bcdzoo.load_model("bcdnet-tiny")
    for wrapped in (torch.nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert carried_preprocess(wrapped) == parse(SPEC)  # type: ignore[arg-type]
