"""AdaBin: the authors' weights in, the authors' logits out; of the trained network too, where it is at hand."""

from pathlib import Path

import torch
from torch import Tensor

from bcdzoo import create_model, load_model, pack
from bcdzoo.weights.convert import convert_state
from tests.weights import authors

RECORD = authors.record("adabin-resnet20")
TRAINED = "adabin-resnet20-cifar10.th"


def images() -> Tensor:
    return authors.images()[:, :, : RECORD["pixels"], : RECORD["pixels"]]


def assert_gives(model: torch.nn.Module, logits: list[list[float]]) -> None:
    with torch.inference_mode():
        found = model.double().eval()(images().double())
    torch.testing.assert_close(found, torch.tensor(logits, dtype=torch.float64), atol=2e-6, rtol=0)


def test_the_authors_own_code_gives_the_same_logits_for_the_same_weights() -> None:
    model = create_model("adabin-resnet20")
    model.load_state_dict(convert_state(authors.state(RECORD["keys"]), model, "theirs"))
    assert_gives(model, RECORD["logits"])


def test_the_trained_networks_logits_are_those_of_the_authors_code(real_data: Path) -> None:
    assert_gives(load_model("adabin-resnet20", real_data / TRAINED), RECORD["trained"])


def test_the_packed_network_gives_the_same_logits_as_torch(real_data: Path) -> None:
    model = load_model("adabin-resnet20", real_data / TRAINED)
    with torch.inference_mode():
        torch.testing.assert_close(pack(model)(images()), model(images()), atol=5e-5, rtol=0)
