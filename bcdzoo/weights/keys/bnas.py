"""gistvision/bnas, src/model_imagenet.py; ``_red`` marks a cell that halves the map."""

import re

from bcdzoo.weights.keys.family import Family, Layout


def _term(match: re.Match[str]) -> str:
    """Name one of a cell's eight edges, two of each node, by cell and edge (groups 1 and 2)."""
    return f"cells.{match[1]}.nodes.{int(match[2]) // 2}.{int(match[2]) % 2}"


_LAYOUT = Layout(
    [
        (r"stem0\.", "first."),
        (r"stem1\.", "second."),
        (r"cells\.(\d+)\._ops\.([0-7])\.bn\.", lambda m: f"{_term(m)}.bn."),
        (r"cells\.(\d+)\._ops\.([0-7])\.op\.0\.", lambda m: f"{_term(m)}.conv."),
        (r"cells\.(\d+)\.preprocess0(_red)?\.bn\.", r"cells.\1.older.bn."),
        (r"cells\.(\d+)\.preprocess0(_red)?\.op\.0\.", r"cells.\1.older.conv."),
        (r"cells\.(\d+)\.preprocess1(_red)?\.bn\.", r"cells.\1.newer.bn."),
        (r"cells\.(\d+)\.preprocess1(_red)?\.op\.0\.", r"cells.\1.newer.conv."),
        (r"cells\.(\d+)\.preprocess_res\.0\.", r"cells.\1.shortcut.bn."),
        (r"cells\.(\d+)\.preprocess_res\.1\.", r"cells.\1.shortcut.conv."),
        (r"classifier\.", "fc."),
    ],
    preprocess="imagenet",
)

FAMILY = Family((_LAYOUT,))
