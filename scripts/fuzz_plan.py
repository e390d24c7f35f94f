"""Gives the reader of plan files what a fuzzer makes of small plans, each under a hash that is right.

    python -m scripts.fuzz_plan [INPUTS]

With atheris (``pip install atheris``; it looks for what reaches new code) or, without it, random changes alone. Every
input must be refused by a PlanError, or be read and written again as the same bytes; reading an input must not take
more memory than the stated factor of its size. What breaks that is written to ``fuzz_plan.bcz`` and ends the run with
a traceback. Otherwise it prints inputs, how many of them were read, and the peak of memory.
"""

import importlib
import importlib.util
import os
import random
import resource
import struct
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

HAS_ATHERIS = __name__ == "__main__" and importlib.util.find_spec("atheris") is not None
ATHERIS: Any = importlib.import_module("atheris") if HAS_ATHERIS else None

with ATHERIS.instrument_imports(include=["bcdzoo.plan"]) if ATHERIS else nullcontext():
    from bcdzoo.plan.file import MEMORY_FACTOR, decode, encode
    from bcdzoo.plan.operations import KINDS, Operation, PlanError
    from bcdzoo.plan.plan import Plan
    from tests.plan.examples import examples

EXAMPLES = tuple(examples().values())
MARK = b"<constants>"  # of an input, between description and constants, so that both can grow
NUMBERS = (0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 1 << 24, (1 << 24) + 1, (1 << 32) - 1)
REALS = (0.0, -0.0, 1.0, 1e-45, 1e308, float("inf"), -float("inf"), float("nan"))


def file_of(description: bytes, constants: bytes) -> bytes:
    """A file with a header that fits."""
    content = description + bytes(-len(description) % 64)
    begin = 64 + len(content)
    content += constants
    head = struct.pack("<8sIIQQ", b"\x89BCZ\r\n\x1a\n", 1, 0, 64 + len(content), begin)
    return head + sha256(content).digest() + content


def parts_of(content: bytes) -> bytes:
    """The input that gives a file."""
    (begin,) = struct.unpack_from("<Q", content, 24)
    return content[64:begin] + MARK + content[begin:]


def array_of(content: bytes) -> Any:
    """What the reader reads."""
    return np.frombuffer(content, np.uint8)


def changed_plan(plan: Plan, dice: random.Random) -> Plan:
    """The same plan with one thing changed."""
    operations = list(plan.operations)
    at = dice.randrange(len(operations))
    one = operations[at]
    match dice.randrange(9):
        case 0:
            operations.insert(at, one)
        case 1:
            del operations[at]
        case 2:
            other = dice.choice(EXAMPLES).operations
            operations.insert(at, dice.choice(other))
        case 3:
            operations[at] = replace(one, kind=dice.choice([*KINDS, "system", ""]))
        case 4 if one.inputs:
            value = dice.choice((at, max(at - 1, 0), dice.choice(NUMBERS)))
            operations[at] = replace(one, inputs={**one.inputs, dice.choice([*one.inputs, "x1", "gate"]): value})
        case 5 if one.constants:
            operations[at] = replace(one, constants=_changed_constants(one, dice))
        case 6:
            shape = list(plan.input_shape)
            shape[dice.randrange(3)] = dice.choice(NUMBERS)
            plan = replace(plan, input_shape=tuple(shape))
        case _ if one.fields:
            name = dice.choice([*one.fields])
            operations[at] = replace(one, fields={**one.fields, name: _changed_field(one.fields[name], dice)})
    return replace(plan, operations=tuple(operations))


def _changed_field(value: Any, dice: random.Random) -> Any:
    if isinstance(value, tuple):
        items = [_changed_number(each, dice) if dice.random() < 0.5 else each for each in value]
        return tuple(items * dice.choice((1, 1, 1, 2)))[dice.choice((0, 0, 0, 1)) :]
    if dice.random() < 0.1:
        return dice.choice((1, 1.0, "max", (1, 1), ("none", "none"), ()))
    return _changed_number(value, dice)


def _changed_number(value: Any, dice: random.Random) -> Any:
    others: dict[type, tuple[Any, ...]] = {int: NUMBERS, float: REALS, str: ("none", "max", "same", "given", "")}
    return dice.choice(others[type(value)])


def _changed_constants(one: Operation, dice: random.Random) -> dict[str, Any]:
    name = dice.choice([*one.constants])
    array = one.constants[name]
    match dice.randrange(4):
        case 0:
            return {key: each for key, each in one.constants.items() if key != name}
        case 1:
            shape = [*array.shape, 1]
            dice.shuffle(shape)
            array = array.reshape(shape)
        case 2:
            array = array[: dice.randrange(1, len(array) + 1)]
        case 3:
            array = np.concatenate([array, array])
    return {**one.constants, dice.choice((name, name, "threshold", "bias")): array}


def changed_bytes(content: bytes, dice: random.Random) -> bytes:
    """The same bytes with one thing changed."""
    at, size = dice.randrange(len(content) + 1), dice.choice((1, 1, 4, 4, 8, dice.randrange(1, 64)))
    match dice.randrange(4):
        case 0:
            return content[:at] + struct.pack("<I", dice.choice(NUMBERS)) + content[at + 4 :]
        case 1:
            return content[:at] + content[at + size :]
        case 2:
            return content[:at] + dice.randbytes(size) + content[at + dice.choice((0, size)) :]
    other = dice.randrange(len(content) + 1)
    return content[:at] + content[other : other + size] + content[at:]


def changed(given: bytes, dice: random.Random, change: Callable[[bytes], bytes]) -> bytes:
    """An input made of another: a change of the plan in it, if there is one, or of its bytes."""
    if dice.random() < 0.5:
        try:
            return parts_of(encode(changed_plan(decode(array_of(file_of(*split(given)))), dice)))
        except PlanError:
            pass
    return change(given)


def split(given: bytes) -> tuple[bytes, bytes]:
    """Description and constants of an input."""
    description, _, constants = given.partition(MARK)
    return description, constants


class Campaign:
    """Counts what happens to inputs."""

    def __init__(self) -> None:
        self.inputs = self.read = self.traced = self.peak = 0

    def __call__(self, given: bytes) -> None:
        """Read an input; anything but what may happen is raised."""
        content = file_of(*split(given))
        try:
            self._check(content)
        except BaseException:
            Path("fuzz_plan.bcz").write_bytes(content)
            raise
        self.inputs += 1

    def _check(self, content: bytes) -> None:
        trace = self.inputs % 8 == 0
        if trace:
            tracemalloc.start()
        plan = None
        try:
            plan = decode(array_of(content))
        except PlanError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        if trace:
            self.traced += 1
            self.peak = max(self.peak, peak)
            assert peak <= MEMORY_FACTOR * len(content) + (1 << 20), f"{peak} bytes of memory for {len(content)}"
        if plan is not None:
            self.read += 1
            assert encode(plan) == content, "it is read as something else"

    def summary(self) -> str:
        """Figures of all inputs so far."""
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        counts = f"{self.inputs} inputs, {self.read} read and the others refused, no crash"
        memory = f"at most {self.peak >> 10} KiB to read one ({self.traced} traced), {resident} MiB in all"
        return f"{counts}; {memory}"


def at_random(inputs: int, seed: int = 0) -> Campaign:
    """A campaign of random changes alone; an input that is read may be changed again."""
    dice, campaign = random.Random(seed), Campaign()
    seeds = [parts_of(encode(plan)) for plan in EXAMPLES]
    while campaign.inputs < inputs:
        given = dice.choice(seeds)
        for _ in range(dice.choice((1, 1, 2, 4))):
            given = changed(given, dice, lambda content: changed_bytes(content, dice))
        before = campaign.read
        campaign(given)
        if campaign.read > before and len(given) < 1 << 14:
            seeds[dice.randrange(len(seeds)) if len(seeds) > 500 else len(seeds) :][:1] = [given]
    return campaign


def with_atheris(inputs: int) -> None:
    """A campaign of atheris, which ends the process."""
    campaign = Campaign()

    def one_input(given: bytes) -> None:
        campaign(given)
        if campaign.inputs >= inputs:
            print(f"atheris: {campaign.summary()}", flush=True)
            os._exit(0)

    def mutator(given: bytes, largest: int, seed: int) -> bytes:
        return changed(given, random.Random(seed), lambda content: ATHERIS.Mutate(content, len(content) + 64))[:largest]

    with tempfile.TemporaryDirectory() as corpus:
        for number, plan in enumerate(EXAMPLES):
            Path(corpus, str(number)).write_bytes(parts_of(encode(plan)))
        options = ["-max_len=4096", "-len_control=0", "-timeout=20"]
        ATHERIS.Setup([sys.argv[0], *options, corpus], one_input, custom_mutator=mutator)
        ATHERIS.Fuzz()


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    if ATHERIS:
        with_atheris(wanted)
    else:
        print(f"random changes: {at_random(wanted).summary()}")
