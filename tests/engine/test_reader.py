"""The engine's own reader and reference, in C++: they read what Python's read, and compute what Python's compute."""

import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bcdzoo.plan.bounds import check_bounds
from bcdzoo.plan.file import decode, encode
from bcdzoo.plan.operations import KINDS, Array, PlanError
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import RUN
from bcdzoo.seal import DamagedError
from scripts.fuzz_plan import array_of, changed, changed_bytes, changed_plan, file_of, parts_of, split
from tests.graph.test_plans import images, network, recorded
from tests.plan.examples import examples

ENGINE = Path(__file__).parents[2] / "engine"
EXAMPLES = examples()
INEXACT = ("conv", "linear", "mean", "context", "function")  # sums of real numbers, and functions
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-40, 3.4e38, -3.4e38, float("inf"), -float("inf"), float("nan"))
LARGEST = 20_000  # numbers of a value, or of weights, of a plan that is run in numpy and slowly in C++


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the engine's tests, built once."""
    if not shutil.which("cmake") or not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("there is no C++ compiler, or no cmake")
    folder = tmp_path_factory.mktemp("engine")
    commands: tuple[list[str | Path], ...] = (
        ["-S", ENGINE, "-B", folder],
        ["--build", folder, "--parallel", "2", "--target", "plan_tool", "plan_test"],
    )
    for command in commands:
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0 and "warning:" not in done.stderr, done.stdout + done.stderr
    return folder / "tests"


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


def values_of(plan: Plan, image: Array) -> list[Array]:
    """All values of a plan for an image, (C, H, W)."""
    values = [image[None]]
    with np.errstate(all="ignore"):
        for each in plan.operations:
            values.append(RUN[each.kind](each, **{role: values[value] for role, value in each.inputs.items()}))
    return [value[:, 0] if value.ndim == 5 else value[0] for value in values]


def compare(plan: Plan, got: Array, values: Sequence[Array]) -> None:
    """Bit for bit, but for the sign of zero, and for sums of real numbers close."""
    assert got.size == sum(value.size for value in values[1:])
    for each, expected in zip(plan.operations, values[1:], strict=True):
        found, got = got[: expected.size].reshape(expected.shape), got[expected.size :]
        if each.kind in INEXACT:
            finite = np.abs(expected[np.isfinite(expected)])
            tolerance = 1e-6 * float(finite.max(initial=0))
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=str(each))
        else:
            np.testing.assert_array_equal(found, expected, err_msg=str(each))


def test_the_engine_tests_of_its_own_pass(build: Path) -> None:
    done = subprocess.run([build / "plan_test"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_a_file_is_read_or_refused_as_python_does_it(tool: Tool) -> None:
    contents = many_files(6000)
    expected = [python_says(content) for content in contents]
    read = [one for one in expected if one.startswith("OK")]
    assert len(read) > 500
    said = tool.check(contents)
    different = [
        pair
        for pair in zip(expected, said, strict=True)
        if pair[0] != pair[1] and any(one.startswith("OK") for one in pair)
    ]
    assert not different, different[:3]
    # The same reason too, unless there are several: of those either may be named.
    assert sum(map(str.__eq__, expected, said)) > 0.99 * len(contents)


def test_text_in_a_file_cannot_break_the_line_of_a_refusal(tool: Tool) -> None:
    plan = EXAMPLES["clip"]
    operations = [type(each)(each.kind, each.inputs, {}, {}, "a\nb\x1b[2J" + "ä" * 500) for each in plan.operations]
    (said,) = tool.check([encode(Plan(plan.input_shape, tuple(operations)))])
    assert said.startswith("operation 0 (clip of a?b?[2Jä") and len(said) < 300
    assert said.endswith("ä…): its fields are not those of its kind")


def test_every_operation_gives_what_it_gives_in_python(tool: Tool) -> None:
    plans = some_plans(400)
    assert {each.kind for plan in plans for each in plan.operations} == KINDS.keys()
    dice = np.random.default_rng(0)
    values = []
    for plan in plans:
        image = (2 * dice.normal(size=plan.input_shape)).astype(np.float32)
        if dice.random() < 0.3:
            image[dice.random(image.shape) < 0.2] = dice.choice(SPECIAL)
        values.append(values_of(plan, image))
    for plan, got, expected in zip(plans, tool.run("steps", plans, values), values, strict=True):
        compare(plan, got, expected)


@pytest.mark.parametrize("name", ["bcdnet-tiny", "finn-cnv-w1a1", "adabin-resnet20"])
def test_a_real_network_gives_what_it_gives_in_python(name: str, tool: Tool) -> None:
    image = images(name, 1).numpy()[0]
    plans = recorded(network(name), name)
    values = [values_of(plan, image) for plan in plans]
    for plan, got, expected in zip(plans, tool.run("run", plans, [[image]] * 2), values, strict=True):
        compare(plan, got, expected)
