"""What an examination says of one thing."""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of ``bcdzoo doctor``.

    Attributes:
        state: "ok"; "note" for what is worth knowing; "problem" for what stops work.
        subject: What was examined.
        text: What was found.
        advice: What to do; "" for nothing.
    """

    state: Literal["ok", "note", "problem"]
    subject: str
    text: str
    advice: str = ""


def shown(value: str) -> str:
    """A setting as it may be shown to others: without the user and password of a URL or proxy."""
    return re.sub("(^|//)[^/]*@", r"\1…@", value)
