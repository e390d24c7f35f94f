"""Plan files: what is written is read, the same plan gives the same bytes, and nothing else is ever used."""

import os
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdzoo.errors import BcdzooError
from bcdzoo.plan.file import MEMORY_FACTOR, decode, encode, read_plan, write_plan
from bcdzoo.plan.operations import KINDS, Operation, PlanError
from bcdzoo.plan.plan import MOST_OPERATIONS, Plan, shapes_of
from bcdzoo.seal import DamagedError
from scripts.fuzz_plan import at_random, file_of
from tests.plan.examples import IMAGE, bits, chain, examples, real, to_logits, unit

EXAMPLES = examples()
FULL = EXAMPLES["binary_unit with all"]
CONTENT = encode(replace(FULL, model="a", class_names=tuple("abcd"), provenance={"a": "b"}))


def read(content: bytes) -> Plan:
    return decode(np.frombuffer(content, np.uint8))


def resealed(content: bytes) -> bytes:
    """The same description and constants under a header that fits."""
    (begin,) = struct.unpack_from("<Q", content, 24)
    return file_of(content[64:begin], content[begin:])


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def text(word: str) -> bytes:
    return u32(len(word.encode())) + word.encode()


def plain(plan: Plan) -> Any:
    """Everything in a plan, to be compared."""

    def items(table: Mapping[str, Any]) -> list[Any]:
        return sorted((name, type(value), repr(value)) for name, value in table.items())

    operations = [
        (
            each.kind,
            each.name,
            sorted(each.inputs.items()),
            items(each.fields),
            sorted((name, a.dtype.str, a.shape, a.tobytes()) for name, a in each.constants.items()),
        )
        for each in plan.operations
    ]
    return (
        plan.input_shape,
        operations,
        plan.model,
        plan.preprocess,
        plan.class_names,
        sorted(plan.provenance.items()),
    )


def test_there_is_an_example_of_every_kind_with_every_part_that_it_may_have() -> None:
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for plan in EXAMPLES.values():
        for each in plan.operations:
            found[each.kind] |= {*each.inputs, *each.constants}
    for kind, parts in found.items():
        allowed = {name.rstrip("?") for name in (*KINDS[kind].inputs, *KINDS[kind].constants)}
        assert parts == (allowed if "*" not in allowed else {f"x{i}" for i in range(len(parts))}), kind
        assert kind in EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    write_plan(path, EXAMPLES[name])
    for check_hash in (True, False):
        again = read_plan(path, check_hash)
        assert plain(again) == plain(EXAMPLES[name])
    write_plan(tmp_path / "again.bcz", again)
    assert (tmp_path / "again.bcz").read_bytes() == path.read_bytes()


def test_the_bytes_are_those_that_the_layout_describes() -> None:
    """Written by hand from the description of the layout, not by the writer."""

    description = u32(4, 1, 1) + text("nét") + text("") + u32(1) + text("licence") + text("MIT")
    description += u32(2) + text("a") + text("b") + u32(2)
    description += text("reshape") + text("flat") + u32(1) + text("x") + u32(0)
    description += u32(1) + text("shape") + u32(2, 1, 0) + u32(0)
    description += text("linear") + text("fc") + u32(1) + text("x") + u32(1) + u32(0) + u32(2)
    description += text("bias") + u32(1, 1, 2) + struct.pack("<Q", 0)
    description += text("weight") + u32(1, 2, 2, 4) + struct.pack("<Q", 64)
    bias, weight = np.array([1, 2], np.float32), np.arange(8, dtype=np.float32).reshape(2, 4)
    flat = Operation("reshape", {"x": 0}, {"shape": (0,)}, name="flat")
    linear = Operation("linear", {"x": 1}, {}, {"weight": weight, "bias": bias}, "fc")
    plan = Plan((4, 1, 1), (flat, linear), "nét", "", ("a", "b"), {"licence": "MIT"})
    assert encode(plan) == file_of(description, bias.tobytes() + bytes(56) + weight.tobytes())


def test_the_order_of_tables_and_of_memory_does_not_matter() -> None:
    def turned(each: Operation) -> Operation:
        constants = {name: np.asfortranarray(a) for name, a in reversed([*each.constants.items()])}
        inputs, fields = dict(reversed([*each.inputs.items()])), dict(reversed([*each.fields.items()]))
        return replace(each, inputs=inputs, fields=fields, constants=constants)

    for plan in EXAMPLES.values():
        other = replace(plan, operations=tuple(map(turned, plan.operations)))
        other = replace(other, provenance=dict(reversed([*plan.provenance.items()])))
        assert encode(other) == encode(plan)


def test_constants_lie_aligned_in_one_buffer_and_cannot_be_written_to(tmp_path: Path) -> None:
    write_plan(tmp_path / "net.bcz", FULL)
    constants = [a for each in read_plan(tmp_path / "net.bcz").operations for a in each.constants.values()]
    starts = [a.ctypes.data for a in constants]
    assert all(start % 64 == 0 for start in starts) and len(set(starts)) == len(starts)
    assert max(starts) - min(starts) < (tmp_path / "net.bcz").stat().st_size
    for array in constants:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_file_is_read_without_torch_and_fast(tmp_path: Path) -> None:
    units = [
        replace(
            unit({}, {"x": number}, threshold=real(96), alpha=real(96), beta=real(96), slope=real(96), scale=real(96)),
            constants={"planes": bits(96, 9, 2), **{key: real(96) for key in ("threshold", "scale", "alpha", "beta")}},
        )
        for number in range(148)
    ]
    plan = replace(to_logits(*units), input_shape=(96, 7, 7))
    write_plan(tmp_path / "net.bcz", plan)
    assert len(plan.operations) == 150 and (tmp_path / "net.bcz").stat().st_size > 2 << 20
    times = []
    for _ in range(5):
        start = time.process_time()
        read_plan(tmp_path / "net.bcz")
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # about 0.012 on a processor of its own
    code = "import sys; from bcdzoo.plan.file import read_plan; from pathlib import Path; read_plan(Path(sys.argv[1]));"
    code += "assert not {'torch', 'pandas', 'PIL', 'safetensors'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "net.bcz")], check=True, timeout=60)


def test_no_single_flip_and_no_other_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    for bit in range(8 * len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DamagedError, PlanError)):
            read(bytes(damaged))
    for length in range(len(CONTENT)):
        with pytest.raises((DamagedError, PlanError)):
            read(CONTENT[:length])
    for other in (*(CONTENT[:length] for length in range(0, len(CONTENT), 97)), CONTENT + b"\0", CONTENT * 2):
        path.write_bytes(other)
        with pytest.raises(BcdzooError, match=r"^\S+net\.bcz (is damaged|cannot be used).*`bcdzoo export`$"):
            read_plan(path)


def test_whatever_is_changed_under_a_right_hash_is_refused_or_read_as_it_is() -> None:
    """What is accepted gives the very same bytes again, so that nothing in a file is passed over."""
    accepted = 0
    for at in range(64, len(CONTENT)):
        for value in (0, 0xFF, CONTENT[at] ^ 1, CONTENT[at] ^ 0x80):
            content = resealed(CONTENT[:at] + bytes([value]) + CONTENT[at + 1 :])
            try:
                plan = read(content)
            except PlanError:
                continue
            accepted += 1
            assert encode(plan) == content
    assert accepted > 500  # constants, names and fields may be others


@pytest.mark.parametrize("number", [0, 1 << 16, 1 << 24, 0xFFFFFFFF])
def test_no_count_size_or_offset_makes_the_reader_allocate_or_compute(number: int) -> None:
    (begin,) = struct.unpack_from("<Q", CONTENT, 24)
    tracemalloc.start()
    start = time.process_time()
    for at in range(8, begin):
        content = CONTENT[:at] + struct.pack("<I", number) + CONTENT[at + 4 :]
        for sealed in (content, resealed(content) if at >= 64 else content):
            try:
                read(sealed)
            except (PlanError, DamagedError) as error:
                assert len(str(error)) < 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 and time.process_time() - start < 20


def test_headers_that_contradict_the_file_are_refused() -> None:
    size, begin = len(CONTENT), struct.unpack_from("<Q", CONTENT, 24)[0]
    for at, code, number, what in (
        (8, "I", 2, "its format is version 2, and this bcdzoo reads version 1"),
        (8, "I", 0, "its format is version 0"),
        (12, "I", 1, "its header is wrong"),
        (16, "Q", size + 1, f"it has {size} of {size + 1} bytes"),
        (16, "Q", (1 << 64) - 1, f"it has {size} of"),
        (24, "Q", begin + 1, "its header is wrong"),
        (24, "Q", 64, "its header is wrong"),
        (24, "Q", 0, "its header is wrong"),
        (24, "Q", (size // 64 + 1) * 64, "its header is wrong"),
        (24, "Q", 1 << 63, "its header is wrong"),
        (24, "Q", begin - 64, "a constant is not where"),
        (24, "Q", begin + 64, "a constant is not where"),
    ):
        content = bytearray(CONTENT)
        struct.pack_into(f"<{code}", content, at, number)
        with pytest.raises((PlanError, DamagedError), match=what):
            decode(np.frombuffer(content, np.uint8), check_hash=False)


def test_constants_neither_overlap_nor_leave_gaps_nor_lie_elsewhere() -> None:
    (begin,) = struct.unpack_from("<Q", CONTENT, 24)
    offset = CONTENT.index(struct.pack("<IIIQ", 1, 1, 4, 64), 64, begin) + 12
    for start in (0, 4, 32, 63, 128, 1 << 20, (1 << 64) - 64, (1 << 64) - 1):
        with pytest.raises(PlanError, match="a constant is not where the one before it ends"):
            read(resealed(CONTENT[:offset] + struct.pack("<Q", start) + CONTENT[offset + 8 :]))
    with pytest.raises(PlanError, match="does not end with its last constant"):
        read(resealed(CONTENT + b"\0"))
    with pytest.raises(PlanError, match="a constant ends behind the file"):
        read(resealed(CONTENT[:-1]))


SHAPE = u32(1) + text("shape")
SLOPE = u32(1) + text("slope")


@pytest.mark.parametrize(
    ("tables", "what"),
    [
        (u32(2) + (text("x") + u32(0)) * 2, "names do not ascend"),
        (u32(2) + text("b") + u32(0) + text("a") + u32(0), "names do not ascend"),
        (u32(2) + text("x10") + u32(0) + text("x2") + u32(0), "names do not ascend"),
        (u32(1 << 30), "a list ends behind the description"),
        (u32((1 << 30) + 1), "there are 1073741825 items, and at most 1073741824 are allowed"),
        (u32(0) + SHAPE + u32(0), "there is no type 0 of fields"),
        (u32(0) + SHAPE + u32(6), "there is no type 6 of fields"),
        (u32(0) + SHAPE + u32(2, 9, *range(9)), "there are 9 items, and at most 8 are allowed"),
        (u32(0) + SHAPE + u32(5, 9) + text("a") * 9, "there are 9 items, and at most 8 are allowed"),
        (u32(0) + SHAPE + u32(4, 1000), "the description ends too early"),
        (u32(0) + SHAPE + u32(4, 65537), "a text has 65537 bytes, and at most 65536 are allowed"),
        (u32(0, 0) + SLOPE + u32(3, 1, 1, 0, 0), "there is no type 3 of constants"),
        (u32(0, 0) + SLOPE + u32(1, 5, *(1,) * 5, 0, 0), "there are 5 items, and at most 4 are allowed"),
        (u32(0, 0) + SLOPE + u32(1, 4, 0, *(0xFFFFFFFF,) * 3, 0, 0), "a constant is empty or too large"),
        (u32(0, 0) + SLOPE + u32(1, 1, (1 << 24) + 1, 0, 0), "a constant is empty or too large"),
        (u32(0, 0) + SLOPE + u32(1, 4, *(1 << 24,) * 4, 0, 0), "a constant ends behind the file"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tables: bytes, what: str) -> None:
    head = u32(4, 5, 6) + text("") * 2 + u32(0, 0, 1) + text("prelu") + text("")
    with pytest.raises(PlanError, match=what):
        read(file_of(head + tables, b""))


def test_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    for content in (b"", b"\0" * 300, b"PK\3\4" + bytes(100), b'{"a": 1}', CONTENT[:63], b"\xff\xd8" * 99):
        path.write_bytes(content)
        with pytest.raises(BcdzooError, match=r"net\.bcz cannot be used .*: it is not a plan file; make it again"):
            read_plan(path)
    path.unlink()
    with pytest.raises(BcdzooError, match=r"no file .*net\.bcz"):
        read_plan(path)
    path.symlink_to(path)
    with pytest.raises(BcdzooError, match=r"cannot read .*net\.bcz: Too many levels"):
        read_plan(path)
    with pytest.raises(BcdzooError, match="is a folder"):
        read_plan(tmp_path)
    with pytest.raises(BcdzooError, match=r"cannot read .*: Not a directory"):
        read_plan(Path(__file__) / "net.bcz")
    with pytest.raises(BcdzooError, match="is a device"):
        read_plan(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BcdzooError, match="is a named pipe"):
        read_plan(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(BcdzooError, match="is a socket"):
            read_plan(tmp_path / "s")


def test_a_huge_file_is_not_read_before_its_header_is_right(tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    tracemalloc.start()
    for header in (bytes(64), CONTENT[:64], CONTENT[:16] + struct.pack("<QQ", 1 << 40, 128) + bytes(32)):
        path.write_bytes(header)
        os.truncate(path, 1 << 40)  # without a block of its own
        with pytest.raises(BcdzooError, match=r"not a plan file|bytes"):
            read_plan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def hostile_kind(word: str) -> Plan:
    return Plan(IMAGE, (Operation(word, {}, name=word), *EXAMPLES["fill"].operations))


@pytest.mark.parametrize(
    "word", ["os.system", "\x1b[31m\n\r", "../../etc/passwd", "a" * 60_000, "\u202e", "__import__"]
)
def test_a_kind_that_does_not_exist_is_named_in_one_harmless_line(word: str, tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    path.write_bytes(encode(hostile_kind(word)))
    with pytest.raises(BcdzooError, match="there is no such kind of operation; make it again") as caught:
        read_plan(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_images_of_no_size_and_class_names_of_other_logits_are_refused() -> None:
    fill = EXAMPLES["fill"]
    for image in ((0, 5, 6), (4, 0, 6), (4, 5, (1 << 24) + 1)):
        with pytest.raises(PlanError, match="the images are empty"):
            read(encode(replace(fill, input_shape=image)))
    for names in (("a",), tuple("abc"), tuple("abcde")):
        with pytest.raises(PlanError, match="not one class name for each logit"):
            read(encode(replace(fill, class_names=names)))


def test_text_is_utf8_without_zeros_and_bounded(tmp_path: Path) -> None:
    fill = EXAMPLES["fill"]
    content = encode(replace(fill, model="abcd"))
    for word, what in ((b"\xff\xff\xff\xff", "not UTF-8"), (b"\xed\xa0\x80a", "not UTF-8"), (b"ab\0d", "zero byte")):
        with pytest.raises(PlanError, match=what):
            read(resealed(content.replace(b"abcd", word)))
    for plan, what in (
        (replace(fill, model="a\0b"), "a text has a zero byte"),
        (replace(fill, preprocess="a" * 70_000), "a text has 70000 bytes"),
        (replace(fill, operations=fill.operations * (MOST_OPERATIONS // 2)), "a plan has 1 to"),
    ):
        with pytest.raises(BcdzooError, match=f"cannot write .*{what}"):
            write_plan(tmp_path / "net.bcz", plan)
    assert list(tmp_path.iterdir()) == []
    write_plan(tmp_path / "net.bcz", replace(fill, model="caf\udce9", provenance={"\udce9": "\ud800"}))
    again = read_plan(tmp_path / "net.bcz")
    assert (again.model, again.provenance) == ("caf\\xe9", {"\\xe9": "?"})


def test_operations_of_nothing_take_no_more_memory_than_stated() -> None:
    """Twenty bytes each, and as many of Python's objects as any twenty bytes can give."""
    content = file_of(struct.pack("<8I", 1, 1, 1, 0, 0, 0, 0, 20_000) + bytes(20 * 20_000), b"")
    assert traced(content) < MEMORY_FACTOR * len(content)


def traced(content: bytes) -> int:
    """Peak of the memory that reading takes, whether or not it is a plan."""
    tracemalloc.start()
    with suppress(PlanError):
        decode(np.frombuffer(content, np.uint8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


_PRELU = ("slope", "positive", "shift_in", "shift_out")
MANY: dict[str, Callable[[], Plan]] = {
    "operations": lambda: Plan(
        (1, 1, 1),
        (*chain(8_000, lambda n: Operation("add", {"a": n, "b": n})), *_ending(8_000)),
    ),
    "inputs": lambda: Plan(
        (1, 1, 1),
        (*chain(500, lambda n: Operation("concat", {f"x{i}": 0 for i in range(64)})), *_ending(500)),
    ),
    "constants": lambda: Plan(
        (1, 1, 1),
        (*chain(1000, lambda n: Operation("prelu", {"x": n}, {}, {name: real(1) for name in _PRELU})), *_ending(1000)),
    ),
    "class names": lambda: Plan(
        (1, 1, 1),
        (
            *_ending(0),
            Operation("linear", {"x": 2}, {}, {"weight": real(50_000, 1)}),
        ),
        class_names=tuple(f"{i:x}" for i in range(50_000)),
    ),
    "provenance": lambda: replace(EXAMPLES["fill"], provenance={f"{i:x}": "" for i in range(40_000)}),
}


def _ending(value: int) -> tuple[Operation, ...]:
    mean = Operation("mean", {"x": value}, {"axes": (1,), "double": 0})
    return mean, Operation("reshape", {"x": value + 1}, {"shape": (0,)})


@pytest.mark.parametrize("what", MANY)
def test_reading_takes_no_more_memory_than_stated(what: str) -> None:
    content = encode(MANY[what]())
    assert len(content) > 100_000
    assert len(content) < traced(content) < MEMORY_FACTOR * len(content)


def test_what_was_there_stays_if_a_plan_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "net.bcz"
    write_plan(path, FULL)
    with pytest.raises(BcdzooError, match=r"cannot write \S+: operation 0 \(wrong of \\x1b\): there is no such kind"):
        write_plan(path, Plan(IMAGE, (Operation("wrong", {}, name="\x1b"),)))
    assert plain(read_plan(path)) == plain(FULL)
    with pytest.raises(IsADirectoryError):
        write_plan(tmp_path, FULL)
    assert [each.name for each in tmp_path.iterdir()] == ["net.bcz"]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=12), st.lists(TEXT, min_size=4, max_size=4), TEXT)
def test_any_text_is_read_as_it_was_written(
    model: str, preprocess: str, provenance: dict[str, str], names: list[str], layer: str
) -> None:
    operations = tuple(replace(each, name=layer) for each in EXAMPLES["fill"].operations)
    plan = Plan(IMAGE, operations, model, preprocess, tuple(names), provenance)
    assert plain(read(encode(plan))) == plain(plan)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.integers(0, 1 << 24), st.integers(1, 1 << 24))
def test_any_number_is_read_as_it_was_written(low: float, high: float, start: int, stop: int) -> None:
    clip = Operation("clip", {"x": 0}, {"low": low, "high": high})
    cut = Operation("slice", {"x": 1}, {"axis": 0, "start": start, "stop": stop, "step": 1})
    plan = to_logits(clip, cut)
    try:
        shapes_of(plan)
    except PlanError:
        with pytest.raises(PlanError):
            read(encode(plan))
    else:
        assert plain(read(encode(plan))) == plain(plan)


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_no_bytes_under_a_right_header_are_a_fault(description: bytes, constants: bytes) -> None:
    with pytest.raises(PlanError):
        read(file_of(description, constants))


def test_random_changes_under_a_right_hash_are_refused_or_read_as_they_are() -> None:
    campaign = at_random(2000, seed=1)
    assert campaign.inputs == 2000 and campaign.read > 50


@pytest.mark.slow
def test_a_hundred_thousand_random_changes_are_refused_or_read_as_they_are() -> None:
    assert at_random(100_000).read > 3000
