"""The results store: a JSON file per run, and beside it the predictions as Parquet.

Reading it imports neither torch nor pandas.
"""

import json
from pathlib import Path
from typing import Any

from bcdzoo.files import atomic_write, results_dir
from bcdzoo.text import say

_KEYS = {"model", "weights", "backend", "n", "top1", "top5", "ci95", "dataset", "started"}


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_results() -> list[dict[str, Any]]:
    """All results in the store, oldest first, each with its name there as ``run``.

    A file that is not a whole result is named on stderr and left out.
    """
    results, damaged = read_store()
    for path, reason in damaged.items():
        say(f"{path} is left out: {reason}")
    return results


def read_store() -> tuple[list[dict[str, Any]], dict[Path, str]]:
    """All results as :func:`read_results` gives them, and the files that are none, with the reason."""
    results, damaged = [], {}
    for path in sorted(results_dir().glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(result, dict) or not result.keys() >= _KEYS:
                raise ValueError("not a result of bcdzoo eval")
        except (OSError, ValueError) as error:
            damaged[path] = str(error)
        else:
            results.append(result | {"run": path.stem})
    return results, damaged
