"""Text from files, servers and users on its way to a terminal: escaped, shortened, and without passwords."""

import re
import sys

LONGEST = 2000
"""Characters of a message; a key or name from a file is shortened further by whoever puts it into one."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>)\]]*[^\s'\"<>)\],;.:]")
_HARMLESS = {"id", "export", "download", "raw", "dl", "revision", "confirm", "e"}
"""Names in a query that say which file is meant; any other value may be a token."""


def printable(text: object, longest: int = LONGEST) -> str:
    r"""One line that no terminal takes for a command: ``\x1b`` in place of an escape, ``\n`` of a new line.

    Args:
        text: Anything; its ``str`` is shown.
        longest: Characters that are kept; the middle of a longer text is left out.
    """
    text = str(text)
    if len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[:half]} … {text[len(text) - half :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def masked(text: object) -> str:
    """A text whose URLs have lost their user, password, and every value in a query that may be a token."""
    return _URL.sub(lambda match: _masked_url(match[0]), str(text))


def say(message: object) -> None:
    """Print a note on stderr, as the command line prints failures."""
    print(f"bcdzoo: {printable(masked(message))}", file=sys.stderr)


def _masked_url(url: str) -> str:
    address, query_mark, query = url.partition("#")[0].partition("?")
    address = re.sub("//[^/]*@", "//…@", address)
    return address + query_mark + "&".join(map(_masked_part, query.split("&")))


def _masked_part(part: str) -> str:
    name, equals, _ = part.partition("=")
    if name in _HARMLESS or not part:
        return part
    return f"{name}=…" if equals else "…"
