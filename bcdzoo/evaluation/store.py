"""The results store: one JSON file per run. Reading it imports neither torch nor pandas."""

import json
import re
import secrets
import sys
from pathlib import Path
from typing import Any

from bcdzoo.files import atomic_write, results_dir

_KEYS = {"model", "weights", "backend", "n", "top1", "top5", "ci95", "dataset", "started"}


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def store_result(result: dict[str, Any]) -> Path:
    """Add a result to the store.

    Returns:
        Its file; the names sort by the time that the run started.

    Raises:
        OSError: The store cannot be written to.
    """
    name = re.sub(r"[^\w.-]", "_", f"{result['started']}-{result['model']}-{secrets.token_hex(4)}.json")
    path = results_dir() / name
    write_json(path, result)
    return path


def read_results() -> list[dict[str, Any]]:
    """All results in the store, oldest first; a file that is not a whole result is named on stderr and left out."""
    results = []
    for path in sorted(results_dir().glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(result, dict) or not result.keys() >= _KEYS:
                raise ValueError("not a result of bcdzoo eval")
        except (OSError, ValueError) as error:
            print(f"bcdzoo: {path} is left out: {error}", file=sys.stderr)
            continue
        results.append(result)
    return results
