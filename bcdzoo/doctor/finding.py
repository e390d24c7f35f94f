"""What an examination says of one thing."""

from dataclasses import dataclass
from typing import Literal

from bcdzoo.text import masked, printable


@dataclass(frozen=True)
class Finding:
    """One line of ``bcdzoo doctor``, which is made to be shown to others: escaped, without passwords and tokens.

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

    def __post_init__(self) -> None:
        for name in ("subject", "text", "advice"):
            object.__setattr__(self, name, printable(masked(getattr(self, name))))
