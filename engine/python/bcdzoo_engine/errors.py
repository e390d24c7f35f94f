"""What is refused, and why."""


class EngineError(ValueError):
    """What a user, file or picture brings and cannot be used; the message is one line."""


def printable(text: str, longest: int = 500) -> str:
    """The text without what a terminal would obey, and not too long."""
    shown = text[:longest] + ("…" if len(text) > longest else "")
    return "".join(c if c.isprintable() else "?" for c in shown)
