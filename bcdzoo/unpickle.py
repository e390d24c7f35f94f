"""Follow a pickle without running any code in it.

A pickle is a program. Its steps are followed here, but no name in it is looked up and nothing is called: what a step
would make is only noted (:class:`Made`), except for tables and lists of plain data.
"""

import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MOST_STEPS = 5_000_000  # takes seconds; a training checkpoint has a hundred thousand
MOST_ARGUMENTS = 16
"""Of a call that is looked at: no function here has so many, and they would be copied each time."""

# Plain data that may accompany weights: whole modules, and single names. None of them is called either.
_PLAIN_MODULES = {
    *("torch", "numpy", "collections", "argparse", "pathlib", "datetime", "zoneinfo", "decimal", "fractions", "uuid"),
    *("_codecs", "omegaconf", "ml_collections", "yacs", "easydict", "addict"),
}
_PLAIN_BUILTINS = (
    *("set", "frozenset", "list", "dict", "tuple", "int", "long", "float", "complex", "bool", "str", "unicode"),
    *("bytes", "bytearray", "range", "xrange", "slice", "object"),
)
_PLAIN_NAMES = {
    *("copyreg._reconstructor", "copy_reg._reconstructor", "types.SimpleNamespace"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _PLAIN_BUILTINS),
}

_TABLES = {"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict"}


@dataclass(frozen=True, eq=False)
class Made:
    """An object that the pickle would make by calling a name, or the name itself."""

    name: str


@dataclass(frozen=True, eq=False)
class OtherKey:
    """A key of a table that is not text; it is not hashed, because that can take forever."""

    value: Any


class Machine:
    """Follows the steps of a pickle.

    Attributes:
        foreign: First name that is not plain data; empty if there is none.
        states: State that the pickle would give to an object that it has made.
    """

    def __init__(self) -> None:
        self.foreign = ""
        self.states: dict[Made, Any] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps = 0

    def run(self, program: Any) -> Any:
        """Follow a program to its end, and return its result."""
        self._memo = {}
        for opcode, argument, _ in pickletools.genops(program):
            self._count(1)
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise ValueError(f"its program has more than {_MOST_STEPS} steps")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self._marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(Made("builtins.set"))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "LIST":
                stack.append(self._since_mark())
            case "DICT":
                stack.append(_table(self._since_mark()))
            case "FROZENSET":
                self._since_mark()
                stack.append(Made("builtins.frozenset"))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if name == "APPEND" else self._since_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if name == "SETITEM" else self._since_mark()
                if isinstance(stack[-1], dict):
                    stack[-1].update(_table(items))
            case "ADDITEMS":
                self._since_mark()
            case "GLOBAL" | "STACK_GLOBAL":
                parts = argument.split(" ", 1) if name == "GLOBAL" else self._pop(2)
                stack.append(self._name(*parts))
            case "INST":
                self._since_mark()
                stack.append(self._name(*argument.split(" ", 1)))
            case "OBJ":
                stack.append(self._since_mark()[0])
            case "REDUCE" | "NEWOBJ":
                made, arguments = self._pop(2)
                stack.append(self.make(made, arguments))
            case "NEWOBJ_EX":
                made, arguments, _ = self._pop(3)
                stack.append(self.make(made, arguments))
            case "BUILD":
                (state,) = self._pop(1)
                if isinstance(stack[-1], Made):
                    self.states[stack[-1]] = state
            case "PERSID" | "BINPERSID":
                (identity,) = self._pop(1) if name == "BINPERSID" else (argument,)
                stack.append(self.storage(identity))
            case "POP":
                if self._marks and self._marks[-1] == len(stack):
                    self._marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise ValueError(f"{name} is not a step of a checkpoint")
            case _:  # a text or number
                stack.append(argument)

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("a step takes more from the stack than there is")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _name(self, module: str, name: str) -> Made:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.", 1)
        if module.split(".")[0] not in _PLAIN_MODULES and f"{module}.{name}" not in _PLAIN_NAMES:
            self.foreign = self.foreign or full
        return Made(full)

    def make(self, made: Any, arguments: Any) -> Any:
        """Return what calling a name would make."""
        name = made.name if isinstance(made, Made) else ""
        if name in _TABLES and len(arguments) <= MOST_ARGUMENTS:
            pairs = arguments[-1] if arguments and isinstance(arguments[-1], list | tuple) else ()
            self._count(len(pairs))  # the same list may be copied again and again
            return _table([part for key, value in pairs for part in (key, value)])
        return Made(name)

    def storage(self, identity: Any) -> Any:
        """Return what is stored outside of the program; nothing is, except for torch's."""
        raise ValueError("it refers to something outside of itself")


def _table(items: Sequence[Any]) -> dict[Any, Any]:
    keys = (key if isinstance(key, str) else OtherKey(key) for key in items[::2])
    return dict(zip(keys, items[1::2], strict=True))
