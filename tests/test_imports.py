"""The order of the rooms, as the import statements have it: those inside functions too, those for types alone not."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bcdzoo"
ORDER = (
    *(
        "errors",
        "text",
        "text_table",
        "bits",
        "files",
        "seal",
        "toml",
        "unpickle",
        "processes",
        "plan",
        "layers",
        "models",
        "registry",
    ),
    *(
        "custom_model",
        "data",
        "weights",
        "graph",
        "packed",
        "interchange",
        "trace",
        "observe",
        "ops",
        "push",
        "versions",
        "bench",
        "evaluation",
    ),
    *("audit", "report", "train", "storage", "doctor", "cli", "__main__"),
)
"""No room imports a later one."""


def modules() -> dict[str, Path]:
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def statements(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below a node, but for those under ``if TYPE_CHECKING``, and unless ``lazy`` those in functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(child, lazy)


def imported(source: str, known: dict[str, Path], lazy: bool) -> set[str]:
    names = []
    for found in statements(ast.parse(source), lazy):
        if isinstance(found, ast.Import):
            names += [alias.name for alias in found.names]
        else:
            assert not found.level, "relative imports are not looked at here"
            names += [f"{found.module}.{alias.name}" for alias in found.names]
    return {name if name in known else name.rpartition(".")[0] for name in names} & known.keys()


def graph(lazy: bool) -> dict[str, set[str]]:
    known = modules()
    return {name: imported(path.read_text(), known, lazy) for name, path in known.items()}


@pytest.mark.parametrize("lazy", [False, True])
def test_no_modules_import_each_other_in_a_circle(lazy: bool) -> None:
    try:
        TopologicalSorter(graph(lazy)).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_room_imports_a_later_one() -> None:
    def room(name: str) -> int:
        return ORDER.index(name.split(".")[1])

    edges = {(name, other) for name, others in graph(lazy=True).items() for other in others if name != "bcdzoo"}
    assert len(edges) > 500
    assert sorted(edge for edge in edges if room(edge[0]) < room(edge[1])) == []


def test_every_kind_of_import_statement_is_seen() -> None:
    known = dict.fromkeys(("bcdzoo.a", "bcdzoo.a.b", "bcdzoo.c", "bcdzoo.d", "bcdzoo.e"), PACKAGE)
    source = """
import numpy, bcdzoo.c
from bcdzoo.a import b, name
if TYPE_CHECKING:
    from bcdzoo.e import Type
class Class:
    def method(self):
        with open("x"):
            from bcdzoo.d import function
"""
    assert imported(source, known, lazy=False) == {"bcdzoo.a", "bcdzoo.a.b", "bcdzoo.c"}
    assert imported(source, known, lazy=True) == {"bcdzoo.a", "bcdzoo.a.b", "bcdzoo.c", "bcdzoo.d"}
