"""PokeBNN against its authors' code, beyond the logits (``test_small.py``): gradients, and what its files may hold."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bcdzoo import create_model, load_model
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import convert_state
from bcdzoo.weights.keys.pokebnn import FAMILY
from tests.weights import authors

NAME = "pokebnn-0.5x"
RECORD = authors.record(NAME)


def loaded() -> nn.Module:
    network = create_model(NAME)
    network.load_state_dict(convert_state(authors.state(RECORD["keys"]), network, "theirs"))
    return network.double().eval()


def renamed(key: str) -> str:
    found = ((re.match(pattern, key), ours) for pattern, ours in FAMILY.layouts[0].rules)
    return next(ours(match) for match, ours in found if match and callable(ours))


def test_the_authors_own_code_gives_the_same_gradients() -> None:
    network = loaded()
    factors = torch.from_numpy(np.random.RandomState(3).standard_normal((1, 1000)))
    (network(authors.images()[:1, :, :32, :32].double()) * factors).sum().backward()
    for key, norm in RECORD["gradients"].items():
        found = network.get_parameter(renamed(key)).grad
        assert found is not None and float(found.norm()) == pytest.approx(norm, rel=1e-9), key


def test_a_file_whose_1_bit_activations_have_another_bound_is_refused(tmp_path: Path) -> None:
    state = authors.state(RECORD["keys"])
    torch.save(state, tmp_path / "x.pth")
    assert load_model(NAME, tmp_path / "x.pth").get_buffer("stem.patches.steps.bound").shape == (3,)
    state["get_bounds.conv-resblock4-2.GetBounds_0.bounds"][7] = 2.5
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=r"resblock4-2.* is not 3, the bound of 1-bit activations"):
        load_model(NAME, tmp_path / "x.pth")


@pytest.mark.slow
def test_the_file_of_another_width_is_refused(tmp_path: Path) -> None:
    torch.save(authors.state(RECORD["keys"]), tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match="has shape"):
        load_model("pokebnn-1.0x", tmp_path / "x.pth")
