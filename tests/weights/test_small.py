"""Networks for 32×32 images: the authors' weights in, the authors' logits out; what their files say and do not say."""

from pathlib import Path

import pytest
import torch

from bcdzoo import create_model, load_model
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import convert_state
from tests.weights import authors

NAMES = (
    *("irnet-resnet20", "irnet-r18-cifar10", "irnet-vgg-small"),
    *("rbnn-resnet20", "rbnn-resnet20-bireal", "rbnn-r18-cifar10", "rbnn-vgg-small"),
    *("recu-resnet20", "recu-r18-cifar10", "recu-vgg-small"),
    *("reste-resnet20", "reste-resnet20-bireal"),
    *("siman-resnet20", "siman-r18-cifar10", "siman-vgg-small"),
    *("biper-resnet20", "biper-r18-cifar10", "biper-vgg-small"),
    "adabin-r18-cifar10",
    *("fracbnn", "fracbnn-resnet20", "pokebnn-0.5x"),
    *("bnas-d", "expert-bnn"),
)


def state(name: str) -> dict[str, torch.Tensor]:
    """Weights under the authors' keys."""
    return authors.state(authors.record(name)["keys"])


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_own_code_gives_the_same_logits_for_the_same_weights(name: str) -> None:
    record = authors.record(name)
    model = create_model(name)
    model.load_state_dict(convert_state(state(name), model, "theirs"))
    images = authors.images()[:1, :, :32, :32]
    with torch.inference_mode():
        found = model.double().eval()(images.double())
    torch.testing.assert_close(found, torch.tensor(record["logits"][:1], dtype=torch.float64), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["irnet-resnet20", "rbnn-resnet20", "rbnn-vgg-small", "recu-resnet20"])
def test_a_training_checkpoint_of_theirs_is_read_with_its_preprocessing(name: str, tmp_path: Path) -> None:
    tensors = {f"module.{key}": tensor for key, tensor in state(name).items()}
    torch.save({"epoch": 7, "state_dict": tensors, "best_prec1": 80.0}, tmp_path / "model_best.pth.tar")
    model = load_model(name, tmp_path / "model_best.pth.tar")
    assert str(model.preprocess).startswith("resize=32,crop=32,")
    assert torch.equal(model.state_dict()["fc.weight"], tensors[f"module.{'fc' if 'vgg' in name else 'linear'}.weight"])


@pytest.mark.parametrize(
    ("theirs", "other"),
    [
        ("rbnn-resnet20", "irnet-resnet20"),
        ("irnet-resnet20", "rbnn-resnet20"),
        ("irnet-resnet20", "adabin-resnet20"),
        ("adabin-r18-cifar10", "irnet-r18-cifar10"),
        ("irnet-r18-cifar10", "rbnn-r18-cifar10"),
        ("irnet-r18-cifar10", "irnet-r18"),
        ("rbnn-vgg-small", "irnet-vgg-small"),
        ("recu-resnet20", "rbnn-resnet20-bireal"),
        ("rbnn-vgg-small", "recu-vgg-small"),
        ("recu-vgg-small", "irnet-vgg-small"),
        ("recu-resnet20", "biper-resnet20"),
        ("biper-vgg-small", "recu-vgg-small"),
        ("siman-resnet20", "rbnn-resnet20-bireal"),
        ("rbnn-r18-cifar10", "siman-r18-cifar10"),
    ],
)
def test_the_file_of_another_method_is_refused(theirs: str, other: str, tmp_path: Path) -> None:
    torch.save(state(theirs), tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=r"does not fit|has shape"):
        load_model(other, tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rbnn-resnet20", "ResNet-20 with a shortcut around two convolutions; its entry model says which it is"),
        ("rbnn-resnet20-bireal", "ResNet-20 with a shortcut around each convolution"),
        ("irnet-resnet20", ""),
        ("recu-resnet20", ""),
        ("siman-resnet20", ""),
        (
            "biper-resnet20",
            "the frequency of its weights, which its authors' config.txt says; freq=20 is taken",
        ),
    ],
)
def test_what_a_file_does_not_say_of_its_network_is_said(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(state(name), tmp_path / "x.pth")
    load_model(name, tmp_path / "x.pth")
    told = capsys.readouterr().err
    assert said in told and bool(told) == bool(said)


def test_of_a_shortcuts_experts_the_first_is_used(tmp_path: Path) -> None:
    key, tensors = "layer2.0.downsample.1.weight", state("expert-bnn")
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "x.pth.tar")
    model = load_model("expert-bnn", tmp_path / "x.pth.tar")
    assert torch.equal(model.get_parameter("stages.1.0.shortcut.1.weight"), tensors[key][0])
    for wrong in (tensors[key][:0], tensors[key][:, :1], tensors[key][0, 0]):
        torch.save(tensors | {key: wrong}, tmp_path / "x.pth.tar")
        with pytest.raises(BcdzooError, match=r"downsample\.1\.weight has shape"):
            load_model("expert-bnn", tmp_path / "x.pth.tar")


def test_weights_of_simans_that_are_neither_0_nor_1_are_refused(tmp_path: Path) -> None:
    tensors = state("siman-resnet20")
    tensors["layer2.0.conv1.B"][3, 0, 7] = 0.5
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=r"layer2\.0\.conv1\.B holds other values than 0 and 1"):
        load_model("siman-resnet20", tmp_path / "x.pth")


def test_simans_weights_are_read_in_both_shapes_of_their_trainers(tmp_path: Path) -> None:
    tensors = state("siman-resnet20")
    flat = {key: tensor.flatten(1) if key.endswith(".B") else tensor for key, tensor in tensors.items()}
    assert flat["layer1.0.conv1.B"].ndim != tensors["layer1.0.conv1.B"].ndim
    model = create_model("siman-resnet20")
    one, other = convert_state(tensors, model, "x"), convert_state(flat, model, "x")
    assert all(torch.equal(one[key], other[key]) for key in one)
