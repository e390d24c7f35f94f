"""A finding of ``bcdzoo doctor``."""

from dataclasses import dataclass
from typing import Literal

from bcdzoo.text import masked, printable


@dataclass(frozen=True)
class Finding:
    """One line of ``bcdzoo doctor``, which is made to be shown to others: escaped, without passwords and tokens.

    Attributes:
        state: State: "ok", "note" for information, or "problem" for what prevents work.
        subject: Subject of the check.
        text: Description of what was found.
        advice: Advice on what to do; "" for none.
    """

    state: Literal["ok", "note", "problem"]
    subject: str
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        for name in ("subject", "text", "advice"):
            object.__setattr__(self, name, printable(masked(getattr(self, name))))
