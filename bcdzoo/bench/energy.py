"""Energy by the processor's own counters (RAPL), where Linux lets this user read them."""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

CAVEAT = (
    "J/image: energy of the whole processor package, what it needs when idle and what other programs used meanwhile "
    "not subtracted"
)


class Meter:
    """Adds up the energy that the processor packages use while something runs.

    Args:
        folder: Where Linux shows the counters.

    Attributes:
        joules: Energy by what ran.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self.joules: dict[Hashable, float] = defaultdict(float)
        self._zones = _packages(folder)

    def __bool__(self) -> bool:
        """Whether there are counters."""
        return bool(self._zones)

    @contextmanager
    def of(self, name: Hashable) -> Iterator[None]:
        """Add what is used inside the ``with`` block."""
        before = [_read(zone / "energy_uj") for zone, _ in self._zones]
        yield
        for (zone, most), start in zip(self._zones, before, strict=True):
            used = _read(zone / "energy_uj") - start
            self.joules[name] += (used if used >= 0 else used + most) / 1e6  # it began anew after its largest value


def _packages(folder: Path) -> list[tuple[Path, int]]:
    """The readable counters of whole packages, each package once, with their largest values."""
    found: dict[str, tuple[Path, int]] = {}
    for zone in sorted(folder.glob("*")):
        try:
            name = (zone / "name").read_text(encoding="utf-8").strip()
            _read(zone / "energy_uj")
            most = _read(zone / "max_energy_range_uj")
        except (OSError, ValueError):  # for root alone, or no counter
            continue
        if name.startswith("package-") and most > 0:
            found.setdefault(name, (zone, most))  # some are shown twice, by two drivers
    return list(found.values())


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
