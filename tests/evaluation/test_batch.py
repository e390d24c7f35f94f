"""Accuracy that is not the network's alone is said, and rounding is no reason to say it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.batch import batch_notes
from bcdzoo.evaluation.model import load_eval_model
from bcdzoo.evaluation.options import EvalOptions
from tests.noise import noise

RANDOM, OTHERS, TRAINING = "two passes of one image", "depend on the rest of its batch", "stayed in training mode"


class Net(nn.Module):
    def __init__(self, between: nn.Module | None = None, after: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.between, self.fc = nn.Conv2d(3, 16, 5, stride=4), between or nn.Identity(), nn.Linear(16, 10)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.fc(self.between(self.conv(x).sign() + self.conv(x)).mean((2, 3))))


class AlwaysTraining(Net):
    def train(self, mode: bool = True) -> "AlwaysTraining":
        return super().train(True)


def found(network: nn.Module, size: int = 16, batch_size: int = 32) -> list[str]:
    spec = f"resize={size},crop={size}"
    model = load_eval_model(network, EvalOptions(preprocess=spec), torch.device("cpu"))
    with torch.inference_mode():
        return batch_notes(model, batch_size)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (AlwaysTraining(nn.BatchNorm2d(16)), [OTHERS, TRAINING]),
        (AlwaysTraining(nn.Dropout(0.1)), [RANDOM, TRAINING]),
        (AlwaysTraining(), []),
        (Net(nn.BatchNorm2d(16, track_running_stats=False)), [OTHERS]),
        (Net(after=lambda x: F.dropout(x, 0.5)), [RANDOM]),
        (Net(after=lambda x: x + torch.rand_like(x)), [RANDOM]),
        (Net(after=lambda x: x - x.mean(0) * 0.1), [OTHERS]),
        (Net(after=lambda x: x / x.abs().max()), [OTHERS]),
        (Net(after=lambda x: x / len(x)), [OTHERS]),
        (Net(after=lambda x: x * 0), []),
        (Net(nn.InstanceNorm2d(16)), []),
        (Net(nn.Sequential(nn.BatchNorm2d(16), nn.Dropout(0.5))), []),
    ],
)
def test_chance_and_the_other_images_of_a_batch_are_noticed(network: nn.Module, words: list[str]) -> None:
    notes = found(network)
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize("name", ["bcdnet-tiny", "reactnet-tiny", "bcdnet-tiny-real"])
def test_small_networks_of_the_zoo_give_no_reason(name: str) -> None:
    network = bcdzoo.load_model(name) if name == "bcdnet-tiny" else bcdzoo.create_model(name)
    assert found(network, 28) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", bcdzoo.list_models())
def test_no_network_of_the_zoo_gives_a_reason(name: str) -> None:
    size = 28 if "tiny" in name else 224 if "alexnet" in name or "vit" in name else 96
    assert found(bcdzoo.create_model(name), size) == []


def test_looking_leaves_the_network_and_the_random_numbers_as_they_were() -> None:
    network = Net(after=lambda x: F.dropout(x, 0.5))
    before, state = torch.get_rng_state(), {key: value.clone() for key, value in network.state_dict().items()}
    found(network)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_network_for_one_image_at_a_time_is_told_how() -> None:
    network = Net(after=lambda x: x.reshape(1, 10))
    with pytest.raises(BcdzooError, match=r"processes one image but fails on 2: .*use --batch-size 1"):
        found(network)
    assert found(network, batch_size=1) == []


def test_the_result_has_the_note_and_it_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = noise(tmp_path / "images", 40)
    result = bcdzoo.evaluate(AlwaysTraining(nn.BatchNorm2d(16)), images, preprocess="resize=16,crop=16", workers=0)
    assert [OTHERS in note for note in result.notes] == [True, False]
    assert capsys.readouterr().err.count(OTHERS) == 1
