"""The authors' own code on ResNet-18, ResNet-34, ReActNet-A and BinaryViT: the same weights in, the same logits out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bcdzoo import create_model, load_model
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import convert_state
from tests.weights import authors

NAMES = [
    *("irnet-r18", "rbnn-r18", "recu-r18", "recu-react-r18", "adabin-r18", "abbnn-r18", "abbnn-a"),
    *("reste-r18", "rbonn-r18", "rebnn-r18", "siman-r18", "biper-r18", "binaryvit", "boolnet-k4", "basenet-k1"),
    *(pytest.param(f"{name}-r34", marks=pytest.mark.slow) for name in ("recu", "adabin", "abbnn", "siman", "biper")),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("binaryvit-real-embeddings", "boolnet-star-k4", "basenet-k4")
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_own_code_gives_the_same_logits_for_the_same_weights(name: str) -> None:
    record = authors.record(name)
    model = create_model(name)
    model.load_state_dict(convert_state(authors.state(record["keys"]), model, name))
    model, side = model.double().eval(), record.get("pixels", 224)
    with torch.inference_mode():
        logits = model(authors.images()[:, :, :side, :side].double())
    expected = torch.tensor(record["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-5, rtol=0)
    assert logits.argmax(1).tolist() == record["top1"]


@pytest.fixture(scope="module")
def rbnn_state() -> dict[str, torch.Tensor]:
    return authors.state(authors.record("rbnn-r18")["keys"])


def test_rbnns_training_checkpoint_loads_with_its_rotation_and_without_its_unused_batch_norm(
    rbnn_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    assert "bn3.weight" in rbnn_state
    file: dict[str, Any] = {
        "epoch": 150,
        "model": "resnet18_1w1a",
        "state_dict": rbnn_state,
        "best_prec1": torch.tensor(59.9),
        "parameters": [torch.nn.Parameter(torch.ones(2))],
    }
    torch.save(file, tmp_path / "model_best.pth.tar")
    model = load_model("rbnn-r18", tmp_path / "model_best.pth.tar")
    second = model.get_submodule("stages.3.0.second.conv.quantizer")
    for key in ("alpha", "rotate", "R1", "R2"):
        assert torch.equal(getattr(second, key), rbnn_state[f"layer4.0.conv2.{key}"])


def test_ir_nets_weights_are_not_rbnns(rbnn_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(rbnn_state, tmp_path / "rbnn.pth")
    with pytest.raises(BcdzooError, match=r"left over layer1\.0\.conv1\.(alpha|rotate|R1)"):
        load_model("irnet-r18", tmp_path / "rbnn.pth")


@pytest.mark.slow
def test_a_training_checkpoint_of_binaryvit_is_read_and_is_of_one_form_alone(tmp_path: Path) -> None:
    tensors = authors.state(authors.record("binaryvit")["keys"])
    torch.save({"model": tensors, "optimizer": {"state": {}}, "epoch": 299}, tmp_path / "best.pth")
    model = load_model("binaryvit", tmp_path / "best.pth")
    assert str(model.preprocess) == "imagenet-bicubic"
    assert torch.equal(model.get_parameter("fc.weight"), tensors["classifier.weight"])
    moved = tensors["vit.encoder.layer.15.attention.attention.rpreluk.move1"]  # the first layer of the last stage
    assert torch.equal(model.get_parameter("stages.3.blocks.0.attend.key.activation.shift_in"), moved)
    with pytest.raises(BcdzooError, match=r"left over vit\.encoder\.patch_embed1\.move, .*it fits binaryvit"):
        load_model("binaryvit-real-embeddings", tmp_path / "best.pth")
