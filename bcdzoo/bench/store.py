"""Stored benchmarks: a sealed JSON file for each run of ``bcdzoo bench --store``. Reading them imports no torch."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bcdzoo.errors import BcdzooError
from bcdzoo.files import results_dir
from bcdzoo.seal import DamagedError, read_json, write_json
from bcdzoo.text import as_utf8, printable, say


def folder() -> Path:
    """Where they are: in the results store, beside the evaluations."""
    return results_dir() / "bench"


def store(benchmark: dict[str, Any]) -> Path:
    """Store a benchmark, and return its file.

    Raises:
        BcdzooError: It cannot be written.
    """
    names = "-".join(models_of(benchmark))
    path = folder() / re.sub(r"[^\w.-]", "_", f"{benchmark['started']}-{names[:80]}.json")
    try:
        write_json(path, benchmark)
    except OSError as error:
        raise BcdzooError(f"cannot store {path}: {error.strerror}") from None
    return path


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read a benchmark; adds its file's name as ``run``.

    Raises:
        BcdzooError: It is damaged, or no benchmark.
        OSError: It cannot be read.
    """
    found, checked = read_json(path)
    named = None if _text(path.stem) else "its file's name is not UTF-8"
    if problem := (None if checked else "it has no hash") or _problem(found) or named:
        raise DamagedError(f"{path} is no benchmark of bcdzoo bench: {problem}")
    return found | {"run": path.stem}


def read_benchmarks() -> list[dict[str, Any]]:
    """Read all stored benchmarks, oldest first; a file that is none is named on stderr and left out."""
    found = []
    for path in sorted(folder().glob("*.json")):
        try:
            found.append(read_benchmark(path))
        except (BcdzooError, OSError) as error:
            say(f"{path} is left out: {str(error).removeprefix(f'{path} ').removeprefix('is ')}")
    return sorted(found, key=lambda benchmark: str(benchmark["started"]))


def models_of(benchmark: dict[str, Any]) -> list[str]:
    """The networks that were measured, each once."""
    return list(dict.fromkeys(record["model"] for record in benchmark["records"]))


def remove_benchmark(benchmark: dict[str, Any]) -> Path:
    """Delete a stored benchmark; its file, which is gone.

    Raises:
        BcdzooError: It cannot be deleted.
    """
    path = folder() / f"{benchmark['run']}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BcdzooError(f"cannot delete {path}: {error.strerror}") from None
    return path


def _problem(found: dict[str, Any]) -> str | None:
    for where, value, rights in _parts(found):
        for key, right in rights.items():
            if key not in value:
                return f"{where} has no {key}"
            if not right(value[key]):
                return f"{where} says {key} {printable(repr(value[key]), 60)}"
    return None


def _parts(found: dict[str, Any]) -> Any:
    """Each table in it, with what its values must be; those inside others after them, which are lists by then."""
    yield "it", found, _OF_BENCHMARK
    yield "its machine", found["machine"], _OF_MACHINE
    for number, record in enumerate(found["records"], 1):
        yield f"record {number}", record, _OF_RECORD
        for result in record["results"]:
            yield f"a result of record {number}", result, _OF_RESULT


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 10_000 and value == as_utf8(value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e300


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _table(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_text, value)) and all(map(right, value.values()))


_OF_BENCHMARK: dict[str, Callable[[Any], bool]] = {
    "started": _text,
    "versions": _table(_text),
    "rounds": _count,
    "machine": lambda value: isinstance(value, dict),
    "records": _tables,
}
_OF_MACHINE: dict[str, Callable[[Any], bool]] = {
    "processor": _text,
    "instructions": lambda value: isinstance(value, list) and all(map(_text, value)),
    "cores": _count,
    "kernels": _text,
    "limits": _table(_text),
    "load_before": _number,
    "load_after": _number,
}
_OF_RECORD: dict[str, Callable[[Any], bool]] = {
    "model": _text,
    "build": lambda value: isinstance(value, dict),
    "input_size": _count,
    "batch_size": _count,
    "threads": _count,
    "results": _tables,
}
_OF_RESULT: dict[str, Callable[[Any], bool]] = {
    "backend": _text,
    "precision": _text,
    **dict.fromkeys(("ms_per_image", "ms_per_image_median"), _positive),
    **dict.fromkeys(("cpu_ms_per_image", "cpu_ms_per_image_median"), _positive),
    **dict.fromkeys(("images_per_second", "images_per_second_median"), _positive),
}
