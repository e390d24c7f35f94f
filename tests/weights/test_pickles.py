"""PyTorch's checkpoints, read without running them, against torch's own reader."""

import io
import os
import pickle
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import load_state
from bcdzoo.weights.pickles import Pickle, Stored

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip
SHARED = torch.arange(24.0).reshape(2, 3, 4)

CONTENTS: dict[str, Any] = {
    "a state dict": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(),
    "every dtype": {str(dtype): torch.ones(2, 3).to(dtype) for dtype in DTYPES},
    "views of one storage": {"all": SHARED, "part": SHARED[1, 1:], "turned": SHARED.permute(2, 0, 1), "again": SHARED},
    "a repeated number": {"a": torch.zeros(1).expand(3, 1)[:1], "none": torch.zeros(0, 3), "scalar": torch.tensor(2.0)},
    "parameters": OrderedDict(w=nn.Parameter(torch.randn(3)), b=nn.Buffer(torch.randn(2))),
    "tables in tables": {
        "epoch": 3,
        "best": 71.5,
        "name": "x",
        "state_dict": OrderedDict(a=torch.eye(2)),
        "l": [1, (2,)],
    },
}


def read(content: bytes) -> Any:
    pickled = Pickle(io.BytesIO(content), "x.pth")

    def plain(value: Any) -> Any:
        if isinstance(value, Stored):
            return pickled.tensor(value)
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return value

    return plain(pickled.content)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    return bool(ours == theirs)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("content", CONTENTS)
def test_a_checkpoint_is_read_as_torch_reads_it(content: str, protocol: int, new: bool) -> None:
    saved = io.BytesIO()
    torch.save(CONTENTS[content], saved, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    theirs = torch.load(io.BytesIO(saved.getvalue()), weights_only=False)
    assert same(read(saved.getvalue()), theirs)


@given(st.data())
def test_a_damaged_checkpoint_is_one_line_or_other_numbers(data: st.DataObject) -> None:
    saved = io.BytesIO()
    torch.save(CONTENTS["tables in tables"], saved, _use_new_zipfile_serialization=data.draw(st.booleans()))
    damaged = bytearray(saved.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    except BcdzooError as error:
        assert "\n" not in str(error)


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["zip", "before 1.6", "plain pickle"])
def test_no_code_of_a_checkpoint_is_run(tmp_path: Path, how: str) -> None:
    saved, content = io.BytesIO(), {"state_dict": {"b": Runs(tmp_path / "canary")}}
    if how == "plain pickle":
        pickle.dump(content, saved)
    else:
        torch.save(content, saved, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(BcdzooError, match=r"mkdir.*would run code"):
        read(saved.getvalue())
    assert not (tmp_path / "canary").exists()


def test_tables_that_are_shared_are_walked_once(tmp_path: Path) -> None:
    table: dict[str, Any] = {"w": torch.zeros(1)}
    for _ in range(3):
        table = {f"k{i}": table for i in range(300)}
    torch.save(table, tmp_path / "shared.pth")
    clock = time.process_time()
    assert load_state(tmp_path / "shared.pth").keys() == {"w"}
    assert time.process_time() - clock < 10
