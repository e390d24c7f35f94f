"""Weights as people save them: behind prefixes, in wrappers, beside averages and plain data, by any torch."""

import argparse
import collections
import datetime
import decimal
import fractions
import pathlib
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import convert_state, load_state
from bcdzoo.weights.load import convert, load_into, resolve
from tests.weights import authors

State = dict[str, torch.Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        collections.OrderedDict(stem=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(4, 2, bias=False))
    )


@pytest.fixture
def state() -> State:
    torch.manual_seed(1)
    return {key: torch.rand_like(t) if t.is_floating_point() else t + 3 for key, t in network().state_dict().items()}


def behind(state: State, *prefixes: str) -> State:
    return {"".join(prefixes) + key: tensor for key, tensor in state.items()}


def average(state: State) -> State:
    return {key: tensor * 2 for key, tensor in state.items()}


def loaded(weights: str | Path, into: nn.Module | None = None) -> State:
    module = into or network()
    load_into(module, weights)
    return module.state_dict()


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


PLAIN = {
    "namespace": argparse.Namespace(lr=0.1, betas=(0.9, 0.99)),
    "path": pathlib.PurePosixPath("/data/x"),
    "date": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    "span": datetime.timedelta(seconds=3),
    "array": np.ones((3, 4)),
    "array of text": np.array(["a", "b"]),
    "scalar": np.float64(71.2),
    "type": np.dtype("float32"),
    "generator": np.random.RandomState(0).get_state(),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abca"),
    "queue": collections.deque([1, 2], maxlen=5),
    "set": {1, (2, 3)},
    "frozen set": frozenset("ab"),
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "simple": types.SimpleNamespace(a=1),
    "complex": 1 + 2j,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"abc"),
    "range": range(5),
    "slice": slice(1, 2),
    "large": 10**30,
    "device": torch.device("cpu"),
    "torch type": torch.float16,
    "size": torch.Size([1, 2]),
    "keys that are no text": {1: 2, None: 3, (1, 2): 4},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "as before torch 1.6"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_data_may_stand_beside_the_weights(zipped: bool, protocol: int, state: State, tmp_path: Path) -> None:
    content = PLAIN | {"state_dict": state, "optimizer": torch.optim.Adam(network().parameters()).state_dict()}
    path = tmp_path / "x.pth"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert same(loaded(path), state)


def test_tensors_come_as_torch_would_load_them(tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    content = {
        "transposed": whole.reshape(4, 6).T,
        "part": whole[3:9:2],
        "the whole": whole,
        "expanded": torch.ones(1).expand(1),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "parameter": nn.Parameter(torch.ones(2)),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "new": torch.ones(3).to(torch.float8_e4m3fn),
        "words": torch.arange(3).to(torch.uint16),
    }
    for zipped in True, False:
        if not zipped:  # torch cannot read back what it wrote of these
            del content["new"], content["words"]
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        expected = torch.load(tmp_path / "x.pth", weights_only=True)
        read = load_state(tmp_path / "x.pth")
        assert read.keys() == expected.keys()
        for key, tensor in expected.items():
            assert read[key].dtype == tensor.dtype and read[key].shape == tensor.shape
            assert read[key].tolist() == tensor.tolist(), key


PREFIXES = [
    ("_orig_mod.",),
    ("module.",),
    ("model.",),
    ("module.", "_orig_mod."),
    ("net.", "module.", "model."),
    ("anything_at_all.",),
]


@pytest.mark.parametrize("prefixes", PREFIXES)
def test_a_prefix_that_all_keys_share_is_taken_off(prefixes: tuple[str, ...], state: State, tmp_path: Path) -> None:
    torch.save(behind(state, *prefixes), tmp_path / "x.pth")
    save_file(behind(state, *prefixes), tmp_path / "x.safetensors")
    assert same(loaded(tmp_path / "x.pth"), state)
    assert same(loaded(tmp_path / "x.safetensors"), state)


def test_the_networks_own_prefix_stays(state: State, tmp_path: Path) -> None:
    module = nn.ModuleDict({"model": network()})
    torch.save(behind(state, "model."), tmp_path / "x.pth")
    assert same(loaded(tmp_path / "x.pth", module), behind(state, "model."))
    torch.save(behind(state, "module.", "model."), tmp_path / "x.pth")
    assert same(loaded(tmp_path / "x.pth", module), behind(state, "model."))


def test_parts_that_were_compiled_have_a_prefix_in_the_middle(state: State, tmp_path: Path) -> None:
    torch.save({key.replace("stem.", "stem._orig_mod."): tensor for key, tensor in state.items()}, tmp_path / "x.pth")
    assert same(loaded(tmp_path / "x.pth"), state)
    torch.save(state, tmp_path / "x.pth")
    module = network()
    module.bn = torch.compile(module.get_submodule("bn"))  # type: ignore[assignment]  # a wrapper alone: nothing is compiled before it runs
    assert "bn._orig_mod.weight" in loaded(tmp_path / "x.pth", module)


WRAPPED: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {}, "args": argparse.Namespace(lr=0.1)},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "two levels": lambda s: {"model": {"state_dict": s, "epoch": 1}},
    "network": lambda s: {"network": s},
    "a name of one's own": lambda s: {"my_resnet": s, "loss": 0.3},
    "lightning": lambda s: {"epoch": 3, "state_dict": behind(s, "model."), "hyper_parameters": {"lr": 0.1}},
    "a number in the table": lambda s: {**s, "epoch": 3, "version": "a"},
    "a tensor beside the table": lambda s: {"rng_state": torch.zeros(9), "net": s},
    "averaged alone": lambda s: {"ema": s},
    "torch's AveragedModel": lambda s: {"n_averaged": torch.tensor(3)} | behind(s, "module."),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_usual_wrapper_is_taken_off(
    name: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(WRAPPED[name](state), tmp_path / "x.pth")
    assert same(loaded(tmp_path / "x.pth"), state)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("key", ["state_dict_ema", "ema", "model_ema", "averaged_model", "swa_state_dict"])
def test_averaged_weights_are_said_to_be_there_and_can_be_taken(
    key: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pth"
    torch.save({key: average(state), "state_dict": state}, path)
    assert same(loaded(path), state)
    assert f"its state_dict is used; it also holds {key}: {path}#NAME selects that" in capsys.readouterr().err
    assert same(loaded(f"{path}#{key}"), average(state))
    assert capsys.readouterr().err == ""
    with pytest.raises(BcdzooError, match=f"holds no weights called 'nothing', but state_dict, {key}"):
        loaded(f"{path}#nothing")


def test_of_several_tables_without_a_usual_name_none_is_guessed(state: State, tmp_path: Path) -> None:
    torch.save({"generator": state, "critic": average(state)}, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=r"several state dicts: select one, as in .*x\.pth#generator, critic"):
        loaded(tmp_path / "x.pth")
    assert same(loaded(f"{tmp_path / 'x.pth'}#critic"), average(state))


def test_of_several_networks_in_one_table_none_is_guessed(state: State, tmp_path: Path) -> None:
    both = behind(state, "model.") | behind(average(state), "model_ema.")
    torch.save({"state_dict": both}, tmp_path / "x.pth")
    save_file(both, tmp_path / "x.safetensors")
    for file in "x.pth", "x.safetensors":
        with pytest.raises(BcdzooError, match=rf"{file}#NAME selects the tensors of model, model_ema"):
            loaded(tmp_path / file)
        assert same(loaded(f"{tmp_path / file}#model_ema"), average(state))


def test_they_are_offered_whatever_their_keys_and_prefixes_are(tmp_path: Path) -> None:
    weights = authors.state(authors.record("reactnet-r18")["keys"])
    both = behind(weights, "module.", "model.") | behind(weights, "module.", "model_ema.", "module.")
    torch.save({"state_dict": both, "lr": 0.1}, tmp_path / "x.pth")
    with torch.device("meta"):
        model = bcdzoo.create_model("reactnet-r18")
    for source in f"{tmp_path / 'x.pth'}", f"{tmp_path / 'x.pth'}#state_dict":
        with pytest.raises(BcdzooError, match=r"selects the tensors of module\.model, module\.model_ema"):
            convert_state(load_state(source), model, source)
        assert (
            convert_state(load_state(f"{source}#module.model_ema"), model, source).keys() == model.state_dict().keys()
        )


def test_the_table_that_fits_the_network_is_taken_whatever_it_is_called(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {f"layer{i}.weight": torch.ones(2) for i in range(50)}
    torch.save({"model": other, "mine": state, "grads": average(state)}, tmp_path / "x.pth")
    assert same(loaded(tmp_path / "x.pth"), state)
    assert capsys.readouterr().err == ""
    torch.save({"model": state, "teacher": average(state)}, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=r"several state dicts: select one, as in .*x\.pth#model, teacher"):
        loaded(tmp_path / "x.pth")


def test_a_file_may_really_be_called_so(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "run#3.pth")
    assert same(loaded(tmp_path / "run#3.pth"), state)


def test_a_part_can_be_converted_and_loaded_by_the_networks_name(tmp_path: Path) -> None:
    weights = bcdzoo.create_model("bcdnet-tiny").state_dict()
    doubled = {key: tensor * 2 for key, tensor in weights.items()}
    torch.save({"model": weights, "model_ema": doubled}, tmp_path / "x.pth")
    source = f"{tmp_path / 'x.pth'}#model_ema"
    convert(source, "bcdnet-tiny", tmp_path / "out.safetensors", preprocess="resize=28,crop=28")
    for path in source, str(tmp_path / "out.safetensors"):
        assert same(resolve("bcdnet-tiny", path).model.state_dict(), doubled)


def test_a_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match=r"torch\.save\(model\.state_dict\(\)"):
        load_state(tmp_path / "x.pth")
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "x.pt")
    with pytest.raises(BcdzooError, match="a TorchScript program"):
        load_state(tmp_path / "x.pt")


def test_a_damaged_archive_is_noticed(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    content = bytearray((tmp_path / "x.pth").read_bytes())
    place = content.index(state["fc.weight"].numpy().tobytes())
    content[place] ^= 1
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(BcdzooError, match="Bad CRC-32"):
        load_state(tmp_path / "x.pth")


class Unusual(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"a": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_module_that_weights_cannot_be_loaded_into_is_said_to_be_one(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match="its _extra_state is not a tensor"):
        load_into(Unusual(1, 1), tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match="its weight has no size before the first image"):
        load_into(nn.LazyLinear(1), tmp_path / "x.pth")
