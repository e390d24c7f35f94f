"""The engine's own reader and reference, in C++: they read what Python's read, and compute what Python's compute."""

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdzoo.plan.bounds import check_bounds
from bcdzoo.plan.file import decode, encode
from bcdzoo.plan.operations import END, KINDS, Array, Operation, PlanError, Shape
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import RUN
from bcdzoo.seal import DamagedError
from scripts.fuzz_plan import array_of, changed, changed_bytes, changed_plan, file_of, parts_of, split
from tests.graph.test_plans import images, network, recorded
from tests.plan.examples import GEOMETRY, LOW_BIT, POOL, bits, examples, real, to_logits

ENGINE = Path(__file__).parents[2] / "engine"
EXAMPLES = examples()
INEXACT = ("conv", "linear", "mean", "context", "function")  # sums of real numbers, and functions
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-40, 3.4e38, -3.4e38, float("inf"), -float("inf"), float("nan"))
ENDING = (  # what makes logits of the image, whatever the operations before it give
    Operation("mean", {"x": 0}, {"axes": (1, 2), "double": 0}),
    Operation("reshape", {"x": 3}, {"shape": (0,)}),
)
LARGEST = 20_000  # numbers of a value, or of weights, of a plan that is run in numpy and slowly in C++


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the engine's tests, built once."""
    if not shutil.which("cmake") or not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("there is no C++ compiler, or no cmake")
    folder = tmp_path_factory.mktemp("engine")
    targets = ["--parallel", "2", "--target", "plan_tool", "plan_test"]
    for command in (["-S", str(ENGINE), "-B", str(folder)], ["--build", str(folder), *targets]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0 and "warning:" not in done.stderr, done.stdout + done.stderr
    return folder


class Tool:
    """``plan_tool``, on many plans in one process."""

    def __init__(self, build: Path, folder: Path) -> None:
        self._program, self._folder = build / "plan_tool", folder

    def check(self, contents: Sequence[bytes]) -> list[str]:
        """What it says of files."""
        return self._ask("check", contents)

    def run(self, verb: str, plans: Sequence[Plan], given: Sequence[Sequence[Array]]) -> list[Array]:
        """What every operation of each plan gives, one number after the other."""
        for number, arrays in enumerate(given):
            path = self._folder / f"{number}.in"
            path.write_bytes(b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays))
        assert set(self._ask(verb, [encode(plan) for plan in plans])) == {"OK"}
        return [np.fromfile(self._folder / f"{number}.out", "<f4") for number in range(len(plans))]

    def _ask(self, verb: str, contents: Sequence[bytes]) -> list[str]:
        paths = [self._folder / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        lines = "".join(f"{path}\n" for path in paths)
        done = subprocess.run([self._program, verb], input=lines, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
        answers = done.stdout.splitlines()
        assert len(answers) == len(contents)
        return answers


@pytest.fixture
def tool(build: Path, tmp_path: Path) -> Tool:
    return Tool(build, tmp_path)


def python_says(content: bytes) -> str:
    try:
        shapes = check_bounds(decode(array_of(content)))
    except (PlanError, DamagedError) as error:
        return str(error)
    return " ".join(["OK", *(",".join(map(str, shape)) for shape in shapes)])


def many_files(count: int) -> list[bytes]:
    """Files of the examples, and changed ones, most of them under a header that fits."""
    dice = random.Random(0)
    contents = [encode(plan) for plan in EXAMPLES.values()]
    given = [parts_of(content) for content in contents]
    while len(contents) < count:
        parts = dice.choice(given)
        for _ in range(dice.choice((1, 1, 2, 4))):
            parts = changed(parts, dice, lambda content: changed_bytes(content, dice))
        content = file_of(*split(parts))
        contents.append(changed_bytes(content, dice) if dice.random() < 0.05 else content)
    return contents


def some_plans(count: int) -> list[Plan]:
    """Plans of all kinds that are small enough to be run slowly, with fields and constants that nobody chose."""
    dice, plans = random.Random(1), list(EXAMPLES.values())
    while len(plans) < count:
        content = encode(changed_plan(dice.choice(plans), dice))
        try:
            plan = decode(array_of(content))
        except PlanError:
            continue
        weights = max((array.size for each in plan.operations for array in each.constants.values()), default=0)
        largest = max(int(np.prod(shape)) for shape in check_bounds(plan))
        taps = [int(np.prod(each.fields.get("kernel", 1))) for each in plan.operations]  # type: ignore[arg-type]
        if max(weights, largest, *taps) <= LARGEST and len(plan.operations) <= 8:
            plans.append(plan)
    return plans


def any_operation(kind: str, shape: Shape, dice: random.Random) -> Operation:
    """An operation on a map that may well be wrong, but hardly ever by far; its sizes are around each limit."""

    def few(*numbers: int) -> tuple[int, ...]:
        return tuple(dice.choice(numbers) for _ in range(2))

    def length(right: int) -> int:
        return right if dice.random() < 0.95 else dice.choice((1, right + 1, max(right - 1, 1)))

    fields: dict[str, Any]
    channels, groups, kernel = shape[0], dice.choice((1, 1, 2, 3)), few(1, 1, 2, 3, 4)
    geometry: dict[str, Any] = {
        "stride": few(1, 1, 2, 3),
        "padding": (*few(0, 1, 2), *few(0, 1, 2)),
        "same": dice.choice((0, 0, 1)),
        "pad_value": dice.choice((-1.0, 0.0, 0.5)),
        "dilation": few(1, 1, 2),
        "groups": groups,
    }
    words, taps = -(-(channels // groups) // 64), length(kernel[0] * kernel[1])
    match kind:
        case "conv":
            c_out = groups * dice.randrange(1, 3)
            constants = {"weight": real(c_out, max(channels // groups, 1), *kernel)}
            extras = {name: real(length(c_out)) for name in ("bias", "alpha", "beta") if dice.random() < 0.7}
            return Operation(kind, {"x": 0}, geometry | {"relu": dice.choice((0, 1))}, constants | extras)
        case "pool":
            fields = {"kernel": kernel, "stride": few(1, 2, 3), "padding": few(0, 1, 2), "ceil": dice.choice((0, 1))}
            word = {"name": dice.choice(("max", "average")), "count_padding": dice.choice((0, 1))}
            return Operation(kind, {"x": 0}, fields | word)
        case "low_bit_conv":
            w_bases, w_bits = dice.choice((1, 1, 2)), dice.choice((1, 2, 8, 9))
            rows = length(w_bases * groups * dice.randrange(1, 3))
            constants = {"planes": bits(w_bits, rows, taps, words), "scale": real(length(rows)), "a_scale": real(1)}
            fields = geometry | {"kernel": kernel, "w_bases": w_bases, "a_bits": 2}
            return Operation(kind, {"x": 0}, fields, constants)
        case "binary_unit":
            shortcut = dice.choice(("none", "same", "same", "average-pool", "duplicate", "given"))
            wide = {"duplicate": 2 * channels, "same": dice.choice((channels, channels - 1, channels + 1, 1))}
            c_out = wide.get(shortcut, channels)
            samplings = dice.choice((("none",), ("none",), ("long-range",), ("none", "short-range", "long-range")))
            if shortcut != "average-pool" and dice.random() < 0.8:
                geometry |= {"stride": (1, 1), "same": 1}
            elif dice.random() < 0.9:
                geometry |= {"stride": (2, 2), "same": 1}
            rows = c_out * len(samplings)
            optional = ("alpha", "beta", "inner_slope", "shift_in", "slope", "shift_out")
            constants = {name: real(length(c_out)) for name in optional if dice.random() < 0.4 and c_out > 0}
            constants |= {"planes": bits(max(rows, 1), taps, words), "scale": real(max(rows, 1))}
            given = {name: 1 for name in ("threshold", "gate", "offset") if dice.random() < 0.3}
            if "threshold" not in given or dice.random() < 0.05:
                constants["threshold"] = real(length(channels))
            inputs = {"x": 0} | given | ({"shortcut": 0} if shortcut == "given" else {})
            fields = {"kernel": kernel, "samplings": samplings, "shortcut": shortcut, "append": 0, "limit": 2.5}
            if shortcut == "none":
                fields["append"] = dice.choice((0, 1))
            return Operation(kind, inputs, geometry | fields | {"activation_first": dice.choice((0, 1))}, constants)
        case "slice":
            fields = {"axis": dice.randrange(3), "start": dice.randrange(4), "stop": dice.choice((1, 2, 3, END))}
            return Operation(kind, {"x": 0}, fields | {"step": dice.randrange(1, 4)})
        case "quantize":
            fields = {"low": -2.0, "high": dice.choice((-3.0, 1.0, 2.5)), "step": dice.choice((0.5, 1.0, 3.0))}
            return Operation(kind, {"x": 0}, fields | {"divide": dice.choice((0, 1)), "offset": 3, "bits": 4})
        case "encode":
            basis = dice.choices((-1.0, 0.5, 0.25, 2.0, float("inf")), k=dice.choice((1, 2, 3, 4, 9)))
            return Operation(kind, {"x": 0}, {}, {"basis": np.array(basis, np.float32)})
    return Operation(kind, {f"x{i}": 0 for i in range(dice.choice((1, 2, 63, 64, 65)))})


def any_plans(count: int) -> list[Plan]:
    """Plans of one operation each, and of its input's mean."""
    dice = random.Random(2)
    kinds = ("conv", "pool", "low_bit_conv", "binary_unit", "binary_unit", "slice", "quantize", "encode", "concat")
    plans = []
    for number in range(count):
        shape = (dice.choice((1, 2, 3, 4, 8)), dice.randrange(1, 7), dice.randrange(1, 7))
        mean = Operation("mean", {"x": 0}, {"axes": (1, 2), "double": 0})
        operation = any_operation(kinds[number % len(kinds)], shape, dice)
        plans.append(Plan(shape, (mean, operation, *ENDING)))
    return plans


def values_of(plan: Plan, image: Array) -> list[Array]:
    """All values of a plan for an image, (C, H, W)."""
    values = [image[None]]
    with np.errstate(all="ignore"):
        for each in plan.operations:
            values.append(RUN[each.kind](each, **{role: values[value] for role, value in each.inputs.items()}))
    return [value[:, 0] if value.ndim == 5 else value[0] for value in values]


def compare(plan: Plan, got: Array, values: Sequence[Array]) -> None:
    """Bit for bit, but for the sign of zero; sums of real numbers are close, and nearly all rounded alike."""
    assert got.size == sum(value.size for value in values[1:])
    for each, expected in zip(plan.operations, values[1:], strict=True):
        found, got = got[: expected.size].reshape(expected.shape), got[expected.size :]
        if each.kind in INEXACT:
            finite = np.abs(expected[np.isfinite(expected)])
            tolerance = 1e-6 * float(finite.max(initial=0))
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=str(each))
            alike = (found == expected) | np.isnan(expected)
            assert alike.mean() > 0.9, each
        else:
            np.testing.assert_array_equal(found, expected, err_msg=str(each))


def test_the_engine_tests_of_its_own_pass(build: Path) -> None:
    done = subprocess.run([build / "plan_test"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def agree(tool: Tool, contents: Sequence[bytes]) -> tuple[int, int]:
    """Ask both about files; how many are read, and of how many they say the very same."""
    expected, said = [python_says(content) for content in contents], tool.check(contents)
    pairs = list(zip(expected, said, strict=True))
    different = [pair for pair in pairs if pair[0] != pair[1] and any(one.startswith("OK") for one in pair)]
    assert not different, different[:3]
    return sum(one.startswith("OK") for one in said), sum(map(str.__eq__, expected, said))


def test_a_file_is_read_or_refused_as_python_does_it(tool: Tool) -> None:
    read, alike = agree(tool, many_files(6000))
    assert read > 500
    # The same reason too, unless there are several: of those either may be named.
    assert alike > 0.99 * 6000


def test_operations_whose_sizes_hardly_fit_are_read_or_refused_as_python_does_it(tool: Tool) -> None:
    read, alike = agree(tool, [encode(plan) for plan in any_plans(3000)])
    assert 1000 < read < 2500 and alike > 0.95 * 3000


def test_names_in_tables_and_their_bytes_are_read_or_refused_as_python_does_it(tool: Tool) -> None:
    dice = random.Random(3)
    content = encode(EXAMPLES["clip"])
    description, constants = split(parts_of(content))

    def text(encoded: bytes) -> bytes:
        return struct.pack("<I", len(encoded)) + encoded

    def any_bytes() -> bytes:
        first = dice.choice((0x61, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF, 0x80, 0))
        length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        others = (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0x7F, 0xC0)
        cut = dice.choice((0, 0, 0, 0, 1))
        tail = bytes(dice.choice(others[: dice.choice((6, 8))]) for _ in range(length - 1 - cut))
        return bytes([first]) + tail + dice.choice((b"", b"b"))

    contents = []
    for _ in range(3000):
        names = [any_bytes() for _ in range(2)] if dice.random() < 0.3 else dice.choices((b"", b"a", b"b", b"ab"), k=2)
        table = struct.pack("<I", 2) + b"".join(text(name) + text(b"") for name in names)
        head = description[:12] + text(any_bytes() if dice.random() < 0.5 else b"net") + text(b"")
        contents.append(file_of(head + table + description[24:].rstrip(b"\0") + bytes(4), constants))
    read, alike = agree(tool, contents)
    assert 100 < read < 2500 and alike == 3000


def test_bytes_between_things_must_be_zero_as_in_python(tool: Tool) -> None:
    dice, contents = random.Random(4), []
    for content in map(encode, EXAMPLES.values()):
        description, constants = split(parts_of(content))
        gaps = [at for at, byte in enumerate(constants) if byte == 0][-60:]
        contents += [file_of(description, constants[:at] + b"\1" + constants[at + 1 :]) for at in gaps]
        gaps = list(range(len(description.rstrip(b"\0")), len(description)))
        contents += [file_of(description[:at] + b"\1" + description[at + 1 :], constants) for at in gaps]
        contents.append(file_of(description + bytes(64), constants))
        contents.append(file_of(description, constants + bytes(dice.choice((1, 64)))))
    read, alike = agree(tool, contents)
    assert 10 < read < len(contents) / 2 and alike == len(contents)


def growing() -> dict[str, Callable[[int], Plan]]:
    """Plans that ask for more and more, by the width of their images."""
    clip: dict[str, Any] = {"low": 0.0, "high": 1.0}
    window = GEOMETRY | {"padding": (3, 0, 5, 1), "dilation": (4, 1), "stride": (2, 1), "relu": 0, "groups": 4}
    same = window | {"same": 1, "stride": (3, 2)}
    weight = {"weight": real(4, 1, 3, 3)}
    planes = {"planes": bits(8, 4, 49, 1), "scale": real(4)}
    low_bit = LOW_BIT | {"kernel": (7, 7), "padding": (3, 3, 3, 3)}

    def of(height: int, *operations: Operation) -> Callable[[int], Plan]:
        plan = to_logits(*operations)
        return lambda width: replace(plan, input_shape=(4, height, width))

    return {
        "a chain": of(32, *(Operation("clip", {"x": i}, clip) for i in range(3))),
        "what nothing reads": of(32, *(Operation("clip", {"x": 0}, clip) for _ in range(3))),
        "an input given twice": of(32, Operation("add", {"a": 0, "b": 0}), Operation("add", {"a": 0, "b": 1})),
        "a long concat": of(32, Operation("concat", {f"x{i}": 0 for i in range(64)})),
        "a pool": of(32, Operation("pool", {"x": 0}, POOL | {"padding": (1, 1), "kernel": (5, 3)})),
        "a padded window": of(3, Operation("conv", {"x": 0}, window, weight)),
        "padding as TensorFlow's": of(3, Operation("conv", {"x": 0}, same, weight)),
        "work of a wide kernel": of(
            256,
            Operation("encode", {"x": 0}, {}, {"basis": real(3)}),
            Operation("low_bit_conv", {"x": 1}, low_bit, planes | {"a_scale": real(3)}),
        ),
        "work of much": of(
            4096,
            Operation("slice", {"x": 0}, {"axis": 0, "start": 0, "stop": 1, "step": 1}),
            Operation(
                "context", {"x": 1}, {"hidden": "none", "output": "none"}, {"first": real(2, 1), "second": real(4, 2)}
            ),
            Operation("conv", {"x": 1}, GEOMETRY | {"relu": 0}, {"weight": real(1024, 1, 9, 9)}),
        ),
    }


@pytest.mark.parametrize("name", growing())
def test_the_largest_plan_that_is_read_is_the_same_as_in_python(name: str, tool: Tool) -> None:
    plan_of = growing()[name]
    most, refused = 1, 1 << 25
    while refused - most > 1:
        middle = (most + refused) // 2
        try:
            check_bounds(plan_of(middle))
            most = middle
        except PlanError:
            refused = middle
    accepted, said = tool.check([encode(plan_of(most)), encode(plan_of(refused))])
    assert most > 8 and accepted.startswith("OK") and "an image would need more than" in said
    assert said == python_says(encode(plan_of(refused)))


def test_text_in_a_file_cannot_break_the_line_of_a_refusal(tool: Tool) -> None:
    plan = EXAMPLES["clip"]
    operations = [type(each)(each.kind, each.inputs, {}, {}, "a\nb\x1b[2J" + "ä" * 500) for each in plan.operations]
    (said,) = tool.check([encode(Plan(plan.input_shape, tuple(operations)))])
    assert said.startswith("operation 0 (clip of a?b?[2Jä") and len(said) < 300
    assert said.endswith("ä…): its fields are not those of its kind")


def numbers_for(plan: Plan, dice: np.random.Generator) -> Array:
    """An image, often with numbers on thresholds and steps, or with special ones."""
    image: Array = (2 * dice.normal(size=plan.input_shape)).astype(np.float32)
    if dice.random() < 0.4:
        image = np.round(4 * image) / np.float32(4)
    if dice.random() < 0.3:
        image[dice.random(image.shape) < 0.2] = dice.choice(SPECIAL)
    return image


def is_good(plan: Plan) -> bool:
    return python_says(encode(plan)).startswith("OK")


def test_every_operation_gives_what_it_gives_in_python(tool: Tool) -> None:
    plans = some_plans(400) + [plan for plan in any_plans(1200) if is_good(plan)]
    assert {each.kind for plan in plans for each in plan.operations} == KINDS.keys()
    dice = np.random.default_rng(0)
    values = [values_of(plan, numbers_for(plan, dice)) for plan in plans]
    for plan, got, expected in zip(plans, tool.run("steps", plans, values), values, strict=True):
        compare(plan, got, expected)


@pytest.mark.parametrize("name", ["bcdnet-tiny", "finn-cnv-w1a1", "adabin-resnet20"])
def test_a_real_network_gives_what_it_gives_in_python(name: str, tool: Tool) -> None:
    image = images(name, 1).numpy()[0]
    plans = recorded(network(name), name)
    values = [values_of(plan, image) for plan in plans]
    for plan, got, expected in zip(plans, tool.run("run", plans, [[image]] * 2), values, strict=True):
        compare(plan, got, expected)
