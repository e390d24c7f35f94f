"""BNext: the authors' weights in, the authors' logits out."""

import math
from pathlib import Path

import pytest
import torch

from bcdzoo import create_model, load_model
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import convert_state
from bcdzoo.weights.load import convert
from tests.weights import authors


def state(keys: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights under the authors' keys; batch norms fit sums of ±1 without a scale, so that maps stay of order 1."""
    tensors = authors.state(keys)
    for key in tensors:
        if key.endswith("norm1.running_var"):
            tensors[key] *= math.prod(keys[key.replace("norm1.running_var", "binary_conv.weight")][1:])
        elif key.endswith("norm2.weight"):
            tensors[key] *= 0.3
    return tensors


@pytest.mark.parametrize("size", ["t", *(pytest.param(size, marks=pytest.mark.slow) for size in "sml")])
@pytest.mark.usefixtures("two_threads")
def test_the_authors_own_code_gives_the_same_logits_for_the_same_weights(size: str) -> None:
    record = authors.record(f"bnext-{size}")
    with torch.device("meta"):
        model = create_model(f"bnext-{size}")
    model.load_state_dict(convert_state(state(record["keys"]), model, size), assign=True)
    images = authors.images()[:, :, : record["pixels"], : record["pixels"]]
    with torch.inference_mode():
        logits = model.double().eval()(images.double())
    expected = torch.tensor(record["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-3, rtol=1e-5)
    assert logits.argmax(1).tolist() == record["top1"]


def test_their_training_checkpoint_loads(tmp_path: Path) -> None:
    weights = state(authors.record("bnext-t")["keys"])
    content = {
        "epoch": 511,
        "train_loss": [2.5, 2.4],
        "state_dict": {"module." + key: tensor for key, tensor in weights.items()},
        "temp": [0.9**epoch for epoch in range(512)],
        "alpha": torch.ones(2, 1),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
    }
    torch.save(content, tmp_path / "model_best.pth.tar")
    model = load_model("bnext-t", tmp_path / "model_best.pth.tar")
    # the even-numbered of their blocks multiply by the shortcut, whose PReLU is activation1
    slope = model.get_parameter("blocks.1.spatial.shortcut_activation.weight")
    assert torch.equal(slope, weights["feature.2.Attention.activation1.weight"])
    mix = model.get_parameter("blocks.1.pointwise.1.mix.weight")
    assert torch.equal(mix, weights["feature.2.FFN_2.scale"])


def test_a_missing_or_foreign_tensor_is_named(tmp_path: Path) -> None:
    weights = state(authors.record("bnext-t")["keys"])
    weights["feature.3.Attention.extra.weight"] = weights.pop("feature.3.FFN.norm2.weight")
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(BcdzooError, match=r"missing blocks\.2\.pointwise.*left over feature\.3\.Attention\.extra"):
        convert(tmp_path / "w.pth", "bnext-t", tmp_path / "out.safetensors")


def test_weights_that_are_not_signs_yet_are_refused(tmp_path: Path) -> None:
    weights = state(authors.record("bnext-t")["keys"])
    for key in weights:
        if key.endswith(".temperature"):
            weights[key] = torch.full_like(weights[key], 0.9**100)
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(BcdzooError, match=r"its temperature is 2\.7e-05, as before epoch 153"):
        convert(tmp_path / "w.pth", "bnext-t", tmp_path / "out.safetensors")
