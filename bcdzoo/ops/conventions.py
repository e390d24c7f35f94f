"""Counting conventions: a convention is data, a cost for each kind of operation; anybody's file can add one.

docs/counting.md explains those of ``bcdzoo/ops/shipped``, and what a file of one's own may say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable
from bcdzoo.toml import decimal, is_number, read_toml

# Multiply-accumulates whose two operands are binary, times the bits of both; these are the BOPs under any convention.
BINARY = "binary_mac"

# kind -> description. Whatever the counter finds is one of these, or listed as unsupported.
KINDS = {
    BINARY: "multiply-accumulate of two low-bit numbers, times the bits of both",
    "mac": "multiply-accumulate with a real-valued operand, in a convolution or linear layer",
    "mac_bits": "the same, times the bits of both operands, of which a real-valued one has 32",
    "mac_bits16": "the same, of which a real-valued one has 16",
    "distillation_head_mac": "multiply-accumulate of a second classifier that is averaged with the first",
    "sign": "1-bit quantization of an element (a threshold folds into it)",
    "add": "addition of two maps: a shortcut",
    "rprelu": "RPReLU of an element",
    "activation": "any other activation function of an element",
    "gate": "multiplication of a map by a gate",
    "global_pool": "one input element of a pooling over the whole map",
    "context_pool": "one input element of a dynamic embedding's own pooling",
    "pool": "one output element of a pooling over a window",
    "norm": "batch normalization of an element (folds into a neighbour)",
}

MACS_AGAIN = ("mac_bits", "mac_bits16")
"""Kinds that are those of ``mac`` in another measure."""

_MOST = 10**6  # of a cost, and of BOPs in an operation
_LONGEST = {"name": 40, "description": 500, "total": 20, "real": 20}


class UnknownConventionError(BcdzooError):
    """A name that no convention has."""


@dataclass(frozen=True)
class Convention:
    """What counts as a FLOP, and how many BOPs are one operation.

    Attributes:
        name: Name, as it is printed.
        description: What is counted.
        cost: Cost in FLOPs of each kind of operation but binary ones; a kind without a cost is free.
        bops_per_op: BOPs that are one of the OPs.
        total: What the OPs under it are called.
        real: What the FLOPs under it are called, their real-valued part.
        power: Power of ten that both are printed in.

    Raises:
        BcdzooError: One of them cannot be.
    """

    name: str
    description: str
    cost: Mapping[str, int | float | Decimal]
    bops_per_op: int = 64
    total: str = "OPs"
    real: str = "FLOPs"
    power: int = 8

    def __post_init__(self) -> None:
        for key, most in _LONGEST.items():
            text = getattr(self, key)
            if not isinstance(text, str) or len(text) > most or not text.isprintable() or text != text.strip():
                raise BcdzooError(f"{key}: must be one line of {most} characters at most")
        for key in ("name", "total", "real"):
            if not getattr(self, key):
                raise BcdzooError(f"{key}: must not be empty")
        if type(self.bops_per_op) is not int or not 1 <= self.bops_per_op <= _MOST:
            raise BcdzooError(f"bops_per_op: must be a whole number from 1 to {_MOST}, not {_shown(self.bops_per_op)}")
        if type(self.power) is not int or not 0 <= self.power <= 15:
            raise BcdzooError(f"power: must be a whole number from 0 to 15, not {_shown(self.power)}")
        if not isinstance(self.cost, Mapping):
            raise BcdzooError(f"cost: must be a table of kinds, not {_shown(self.cost)}")
        for kind, cost in self.cost.items():
            _check_cost(kind, cost)

    def flops(self, counts: Mapping[str, int]) -> int:
        """Compute the FLOPs of counted operations."""
        costs = ((number, self.cost.get(kind, 0)) for kind, number in counts.items())
        return round(sum(number * (cost if isinstance(cost, int) else Fraction(cost)) for number, cost in costs))

    def totals(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Compute ``bops``, ``flops`` and ``ops`` of counted operations."""
        bops, flops = counts.get(BINARY, 0), self.flops(counts)
        return {"bops": bops, "flops": flops, "ops": flops + round(Fraction(bops, self.bops_per_op))}

    @property
    def line(self) -> str:
        """Its name and what it counts, in one line: what each kind costs if it has no description."""
        costs = ", ".join(f"{kind} {cost}" for kind, cost in self.cost.items()) or "nothing but BOPs"
        return f"{self.name}: {self.description.rstrip('.') or costs}"

    @property
    def formula(self) -> str:
        """How its OPs are made of its FLOPs and BOPs."""
        return f"{self.total} = {self.real} + {self.price}"

    @property
    def price(self) -> str:
        """What BOPs count as in its OPs."""
        return f"BOPs/{self.bops_per_op}" if self.bops_per_op > 1 else "BOPs"

    @property
    def called(self) -> dict[str, str]:
        """What its totals are called."""
        return {"bops": "BOPs", "flops": self.real, "ops": self.total}

    @property
    def units(self) -> dict[str, int]:
        """The powers of ten that its totals are printed in."""
        return {"bops": 9, "flops": self.power, "ops": self.power}


def _check_cost(kind: object, cost: object) -> None:
    if kind == BINARY:
        raise BcdzooError(f"cost: {BINARY} is in no FLOPs; its price is bops_per_op, the BOPs that are one operation")
    if kind not in KINDS:
        near = near_ones(str(kind), KINDS)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(KINDS)}"
        raise BcdzooError(f"cost: unknown kind {_shown(kind)}; {hint}")
    if not is_number(cost, _MOST):
        raise BcdzooError(f"cost: {kind} must be a number from 0 to {_MOST}, not {_shown(cost)}")


def _shown(value: object) -> str:
    return printable(str(value) if isinstance(value, Decimal) else repr(value), 60)


def read_convention(path: Path) -> Convention:
    """Read a convention from a TOML file (docs/counting.md).

    Raises:
        BcdzooError: It cannot be read, or something in it is wrong; the message says what.
    """
    content = read_toml(path, "counting convention", parse_float=decimal)
    known = ("name", "description", "bops_per_op", "total", "real", "power", "cost")
    if unknown := content.keys() - set(known):
        near = near_ones(min(unknown), known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise BcdzooError(f"{path}: unknown key {_shown(min(unknown))}; {hint}")
    if missing := [key for key in ("name", "cost") if key not in content]:
        raise BcdzooError(f"{path}: {missing[0]} is missing: a counting convention has a name and a table [cost]")
    try:
        return Convention(**{"description": "", **content})
    except BcdzooError as error:
        raise BcdzooError(f"{path}: {error}") from None


def _shipped(name: str) -> Convention:
    return read_convention(Path(str(files("bcdzoo") / "ops" / "shipped" / f"{name}.toml")))


FULL, DAGGER, ACE = _shipped("full"), _shipped("dagger"), _shipped("ace")
CONVENTIONS = {convention.name: convention for convention in (FULL, DAGGER, ACE)}
OF_PAPERS = (FULL, DAGGER)
"""Those that the figures in published.toml are under."""


def is_of_papers(convention: Convention) -> bool:
    """Whether published figures can be compared with those under a convention."""
    return convention in OF_PAPERS


def find_convention(given: str | Path | Convention) -> Convention:
    """A convention by its name, or of a file.

    Args:
        given: Name of a shipped one, path of a TOML file, or the convention itself.

    Raises:
        UnknownConventionError: It is neither a name nor a file.
        BcdzooError: The file is wrong, or another convention has the name of a shipped one.
    """
    if isinstance(given, str) and given in CONVENTIONS:
        return CONVENTIONS[given]
    if isinstance(given, str) and not may_be_file(given):
        near = near_ones(given, CONVENTIONS)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(CONVENTIONS)}, and TOML files of your own"
        raise UnknownConventionError(f"no convention named {_shown(given)}; {hint}")
    if not isinstance(given, str | Path | Convention):
        raise UnknownConventionError(f"no convention named {_shown(given)}; there are {', '.join(CONVENTIONS)}")
    found = given if isinstance(given, Convention) else read_convention(Path(given))
    if found.name.lower() in CONVENTIONS and found != CONVENTIONS[found.name.lower()]:
        where = "" if isinstance(given, Convention) else f"{given}: "
        raise BcdzooError(f"{where}name: {found.name} is a shipped convention; call yours otherwise")
    return found


def may_be_file(given: str) -> bool:
    """Whether what is not the name of a shipped convention stands for a file of one's own."""
    try:
        return given != "" and (bool(Path(given).suffix) or "/" in given or Path(given).exists())
    except (OSError, ValueError):  # no path at all, such as one that is too long
        return False
