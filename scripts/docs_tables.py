"""What the documentation's site has beyond its pages: tables made of data, links in docstrings.

A hook of mkdocs.yml. ``<!-- table: NAME -->`` and ``<!-- ::: NAME -->``, the docstring of NAME, are replaced in a page;
on GitHub they show nothing.
"""

import re
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from bcdzoo.report.reproduced import reproduced, sheets_of
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from bcdzoo.weights.sources import origin

_MAYBE_BY_HAND = ("gdrive", "gdrive-folder", "onedrive", "manual")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    markdown = re.sub(r"<!-- (::: [\w.]+) -->", r"\n\1\n", markdown)
    return re.sub(r"<!-- table: (.+?) -->", lambda marker: TABLES[marker[1]](), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Called with each page's HTML: names that a docstring refers to become links, where the site has them."""
    role = re.compile(r":(?:func|class|mod|data|meth|attr):<code>([\w.]+)</code>")
    return role.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', html)


def checkpoints() -> str:
    """Every checkpoint of the manifest."""
    headers = ("Network", "Checkpoint", "Source", "Format", "Bytes", "Published hash", "Licence", "Top-1", "Top-5")
    body = [
        (
            f"`{entry.model}`",
            _link(entry),
            entry.source,
            entry.format,
            "–" if entry.size is None else f"{entry.size:,}",
            ", ".join(key.replace("_prefix", " (start)") for key in entry.hashes) or "–",
            entry.license or "none stated",
            "–" if entry.top1 is None else entry.top1,
            "–" if entry.top5 is None else entry.top5,
        )
        for entry in load_manifest().checkpoints
    ]
    return _table(body, headers)


def by_hand() -> str:
    """Checkpoints whose host may want a browser."""
    body = [
        (_link(entry), entry.source, f"`bcdzoo fetch {entry.model} --tag {entry.tag} --from FILE`")
        for entry in load_manifest().checkpoints
        if entry.source in _MAYBE_BY_HAND
    ]
    return _table(body, ("Page", "Source", "Then"))


def without() -> str:
    """Networks without a public checkpoint."""
    return _table(
        [(f"`{entry.model}`", entry.advice, entry.evidence) for entry in load_manifest().missing],
        ("Network", "Instead", "How that is known"),
    )


def _reproduced(place: int) -> str:
    """One of the tables of ``bcdzoo table --which reproduced``, without anybody's own runs."""
    sheet = sheets_of(reproduced())[place]
    return _table(list(map(tuple, sheet.body)), tuple(column.head for column in sheet.columns))


TABLES: dict[str, Callable[[], str]] = {
    "checkpoints": checkpoints,
    "by hand": by_hand,
    "without": without,
    "reproduced": lambda: _reproduced(0),
    "not measured": lambda: _reproduced(1),
}


def _link(entry: Checkpoint) -> str:
    return f"[{entry.tag}]({origin(entry)})" if origin(entry) else entry.tag


def _table(body: list[tuple[Any, ...]], headers: tuple[str, ...]) -> str:
    return tabulate(body, headers, "github", disable_numparse=True)
