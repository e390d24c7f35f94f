"""Stored benchmarks beside the other figures of networks: which can be compared, and what is the fastest."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bcdzoo.bench.machine import described
from bcdzoo.errors import BcdzooError
from bcdzoo.registry import REGISTRY, default_arguments
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import own_form
from bcdzoo.text import printable

FEWEST = 1
"""Images at once in tables: how long one takes."""

CLOCKS = {
    "wall": ("ms_per_image", ""),
    "processor": ("cpu_ms_per_image", "processor time of all threads, "),
}
"""What is compared, by name: the key of a result, and what it is called."""

HOW_TO = "`bcdzoo bench MODEL... --batch-size {batch} --store` makes them"


class Speed(NamedTuple):
    """The time of one image of a network.

    Attributes:
        model: Name of the network.
        build: Its arguments.
        backend: What ran it.
        precision: In which number format.
        ms: Milliseconds, those of the shortest call.
    """

    model: str
    build: dict[str, Any]
    backend: str
    precision: str
    ms: float

    @property
    def how(self) -> str:
        """Backend and number format, as far as the backend leaves it open."""
        return (
            self.backend
            if self.precision == "bits" and self.backend == "packed"
            else f"{self.backend} {self.precision}"
        )


class Speeds(NamedTuple):
    """What was measured under the same conditions.

    Attributes:
        measured: One for each network, backend and number format.
        conditions: Machine, threads, images at once and days, in words.
        others: Number of records that were measured under other conditions.
    """

    measured: list[Speed]
    conditions: str
    others: int

    def fastest(self, model: str, build: dict[str, Any] | None = None, precision: str | None = None) -> Speed | None:
        """The fastest way to run a network.

        Args:
            model: Its name.
            build: Its arguments; None for the network that its name stands for.
            precision: Only in this number format.
        """
        usual = default_arguments(model) if build is not None and model in REGISTRY else {}
        found = [
            speed
            for speed in self.measured
            if speed.model == model
            and precision in (None, speed.precision)
            and (_own(speed) if build is None else usual | speed.build == usual | build)
        ]
        return min(found, key=lambda speed: speed.ms, default=None)


NONE = Speeds([], "", 0)


def comparable(
    benchmarks: Sequence[dict[str, Any]], batch_size: int = FEWEST, threads: int | None = None, clock: str = "wall"
) -> Speeds:
    """The records that can be compared: of one machine and number of threads, those of the latest benchmark that fits.

    Args:
        benchmarks: Stored benchmarks (:func:`bcdzoo.bench.store.read_benchmarks`), oldest first.
        batch_size: Images at once.
        threads: Number of threads; None for the latest.
        clock: Key of :data:`CLOCKS`.

    Returns:
        Where a way to run a network was measured several times, the latest.
    """
    records = [(_machine(benchmark), benchmark, record) for benchmark in benchmarks for record in benchmark["records"]]
    fitting = [
        (machine, record)
        for machine, _, record in records
        if record["batch_size"] == batch_size and threads in (None, record["threads"]) and _own_size(record)
    ]
    if not fitting:
        return NONE._replace(others=len(records))
    machine, last = fitting[-1]
    found: dict[Any, Speed] = {}
    days: set[str] = set()
    used = 0
    for other, benchmark, record in records:
        if (other, record["threads"], record["batch_size"]) != (machine, last["threads"], batch_size):
            continue
        if not _own_size(record):
            continue
        used += 1
        days.add(benchmark["started"][:10])
        for result in record["results"]:
            speed = Speed(
                record["model"],
                record["build"],
                result["backend"],
                result["precision"],
                result[CLOCKS[clock][0]],
            )
            found[speed.model, str(sorted(speed.build.items())), speed.how] = speed
    count = last["threads"]
    at_once = f"{CLOCKS[clock][1]}batch {batch_size}, {count} thread{'s' * (count != 1)}"
    conditions = f"{at_once}, {machine}, {' and '.join(dict.fromkeys([min(days), max(days)]))}"
    return Speeds(list(found.values()), printable(conditions, 600), len(records) - used)


def require(benchmarks: Sequence[dict[str, Any]], batch_size: int, threads: int | None, clock: str) -> Speeds:
    """Like :func:`comparable`.

    Raises:
        BcdzooError: There are none.
    """
    found = comparable(benchmarks, batch_size, threads, clock)
    if not found.measured:
        on = f" on {threads} threads" if threads else ""
        how_to = HOW_TO.format(batch=batch_size) + (f" (--threads {threads})" if threads else "")
        raise BcdzooError(f"no stored benchmark of batch {batch_size}{on}: {how_to}")
    return found


def with_speeds(rows: Iterable[Row], speeds: Speeds, build: dict[str, Any] | None = None) -> list[Row]:
    """The rows with ``measured_ms`` and ``measured_by``, the fastest way that was measured; None where none was.

    Args:
        rows: Rows.
        speeds: What was measured.
        build: Arguments of the rows' networks; None for the networks that their names stand for.
    """
    found = []
    for row in rows:
        speed = speeds.fastest(row["model"], build)
        found.append(row | {"measured_ms": speed and speed.ms, "measured_by": speed and speed.how})
    return found


def note(speeds: Speeds) -> str:
    """What the times of a table are, in a sentence or two."""
    others = f" Left out: {speeds.others} records of other conditions." if speeds.others else ""
    return (
        f"ms: measured by `bcdzoo bench`, one image on the fastest backend of those measured, the shortest call; "
        f"{speeds.conditions}. The accuracy of int8 and bfloat16 is not the published one.{others}"
    )


def _machine(benchmark: dict[str, Any]) -> str:
    return described(benchmark["machine"])


def _own_size(record: dict[str, Any]) -> bool:
    """Whether it is of images of the network's own size; one that is not of the zoo has none."""
    spec = REGISTRY.get(record["model"])
    return spec is None or record["input_size"] == spec.input_size


def _own(speed: Speed) -> bool:
    return own_form({"model": speed.model, "build": speed.build})
