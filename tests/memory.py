"""How much memory something takes, whatever the process has taken before."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def grows_at_most(size: int) -> Iterator[None]:
    """Fail if this process ever takes more than so many bytes beyond what it has now."""
    before = _kibibytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets how high it was before
    yield
    grown = (_kibibytes("VmHWM") - before) << 10
    assert grown < size, f"{grown:,} bytes"


def _kibibytes(key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])
