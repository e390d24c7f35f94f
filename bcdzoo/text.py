"""Make text from files, servers and users safe for a terminal: escaped, shortened, and without passwords."""

import html
import re
import sys
from collections.abc import Iterable

LONGEST = 2000
"""Longest message in characters; keys and names from files are shortened further by the caller."""

_HOST = r"(?=[^\W\d]|\[|\d{1,3}(?:\.\d{1,3}){3}\b)"
_USER = re.compile(
    rf"(?<=//)(?:[^/]{{0,500}}@|[^/@:]{{1,500}}:(?:(?!\d*(?:[/?#]|$)).{{0,500}}@|\d+[/?#].{{0,500}}@{_HOST}))"
)
"""Of a URL; the second form has a password with a slash in it. Where its beginning may be a port, it is one if no host
follows."""
_BARE_USER = re.compile(
    rf"(?:^|(?<=[='\"(]))[^/:@='\"(]{{1,500}}:(?:[^/@]{{0,500}}@(?=[\w.[-])|(?!//)[^@]{{0,500}}@{_HOST}(?=[^/@]*$))"
)
"""The form of proxies, too: ``user:password@host``."""
_END = "]>})'\",.;:"
_HARMLESS = {
    *("id", "export", "download", "raw", "dl", "revision", "confirm", "e"),
    *("file", "filename", "name", "path", "resid", "version"),
}
"""Query parameters that identify a file; the value of any other may be a token."""


def printable(text: object, longest: int = LONGEST) -> str:
    r"""Return one line that is safe for a terminal: ``\x1b`` instead of an escape, ``\n`` instead of a new line.

    Args:
        text: Anything; its ``str`` is shown.
        longest: Characters that are kept; the middle of a longer text is left out.
    """
    text = str(text)
    if len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[:half]} … {text[len(text) - half :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def near_ones(word: str, known: Iterable[str]) -> list[str]:
    """What somebody may have meant by a word that is not known: three at most, the nearest first."""
    import difflib

    return difflib.get_close_matches(word[:100], dict.fromkeys(known), n=3)


def html_table(rows: Iterable[tuple[object, object]]) -> str:
    """Format names and values as an escaped HTML table for a notebook."""
    cells = ((html.escape(printable(name)), html.escape(printable(value))) for name, value in rows)
    body = "".join(f'<tr><th style="text-align: left">{name}</th><td>{value}</td></tr>' for name, value in cells)
    return f"<table>{body}</table>"


def as_utf8(text: str) -> str:
    r"""Make text encodable as UTF-8: other bytes of a path become ``\xff``, lone surrogates ``?``."""
    try:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # surrogates that do not come from a path
        return text.encode(errors="replace").decode()


def masked(text: object) -> str:
    """Remove users, passwords, and query values that may be tokens from the URLs in a text."""
    return re.sub(r"\S+", lambda match: _masked_word(match[0]), str(text))


def say(message: object) -> None:
    """Print a note on stderr, like the command line prints failures."""
    print(f"bcdzoo: {printable(masked(message))}", file=sys.stderr)


def _masked_word(word: str) -> str:
    is_url = "://" in word
    bare = word.rstrip(_END)
    end = word[len(bare) :]
    address, mark, query = _USER.sub("…@", bare).partition("?")
    if is_url:
        address, query = (part.partition("#")[0] for part in (address, query))
    address = _BARE_USER.sub("…@", address)
    if mark and (is_url or "=" in query):
        query = "&".join(map(_masked_part, re.split("[&;]", query)))
    return address + mark + query + end


def _masked_part(part: str) -> str:
    name, equals, _ = part.partition("=")
    if name in _HARMLESS or not part:
        return part
    return f"{name}=…" if equals else "…"
