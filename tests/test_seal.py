import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdzoo.seal import DamagedError, digest, read_json, write_json

PLAIN: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN, PLAIN)
def test_two_contents_have_one_digest_only_if_they_are_the_same_json(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same


def test_no_flipped_bit_of_a_sealed_file_changes_what_is_read(tmp_path: Path) -> None:
    path, record = tmp_path / "x.json", {"top1": 71.8, "n": 50000, "names": ["tench", "é\n"], "none": None}
    write_json(path, record)
    assert read_json(path) == (record, True)
    whole, dice, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            read, checked = read_json(path)
        except DamagedError:
            noticed += 1
        else:
            assert {key: read[key] for key in record} == record, "another figure"
            assert checked or read.keys() > record.keys(), "only the seal's own name was hit"
    assert noticed > 1700


def test_a_file_without_a_seal_is_read_and_said_to_be_unchecked(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"top1": 71.8}')
    assert read_json(tmp_path / "x.json") == ({"top1": 71.8}, False)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe\x00", b"[" * 100_000, b'{"seal": 3}', b"nul"])
def test_what_is_no_sealed_table_is_damaged_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedError, match="damaged"):
        read_json(tmp_path / "x.json")
