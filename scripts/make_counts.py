"""Count every network of the zoo and write bcdzoo/report/counts.json, so that `list` and `table` need no torch.

Run it after adding or changing a network: ``python scripts/make_counts.py``. A test compares the file with a new count.
"""

import json
from pathlib import Path
from typing import Any

from bcdzoo import count_ops, list_models
from bcdzoo.report.counts import COUNTS, derived_forms


def counts(name: str) -> dict[str, Any]:
    """Parameters of a network, its operations by kind, and its forms."""
    report = count_ops(name)
    return {"params": report.params, "kinds": report.counts, "forms": derived_forms(name)}


if __name__ == "__main__":
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(counts(name))}" for name in list_models())
    Path(str(COUNTS)).write_text(f"{{\n{lines}\n}}\n")
