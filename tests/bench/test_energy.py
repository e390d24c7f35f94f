"""Energy from counters in a folder such as Linux shows."""

from pathlib import Path

import pytest

from bcdzoo.bench.energy import Meter


def zone(folder: Path, name: str, of: str, joules: float, most: float = 100.0) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    (made / "name").write_text(of + "\n")
    (made / "max_energy_range_uj").write_text(f"{most * 1e6:.0f}\n")
    count(made, joules)
    return made


def count(made: Path, joules: float) -> None:
    (made / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")


def test_packages_are_added_up_and_parts_of_them_are_not(tmp_path: Path) -> None:
    first, second = (zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 10) for i in (0, 1))
    part = zone(tmp_path, "intel-rapl:0:0", "core", 10)
    again = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10)  # the same counter by another driver
    meter = Meter(tmp_path)
    with meter.of("net"):
        count(first, 12.5)
        count(second, 11)
        count(part, 50)
        count(again, 12.5)
    with meter.of("other"):
        count(second, 31)
    assert meter and meter.joules == {"net": pytest.approx(3.5), "other": pytest.approx(20)}


def test_a_counter_that_begins_anew_has_not_run_backwards(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 99, most=100)
    meter = Meter(tmp_path)
    for joules in (1, 4):  # 2 J with the turn, then 3 J more
        with meter.of("net"):
            count(package, joules)
    assert meter.joules["net"] == pytest.approx(5)


@pytest.mark.parametrize("wrong", ["no folder", "no counter", "not a number", "no range", "no package"])
def test_where_nothing_can_be_read_nothing_is_measured(tmp_path: Path, wrong: str) -> None:
    folder = tmp_path / "powercap"
    if wrong != "no folder":
        made = zone(folder, "intel-rapl:0", "psys" if wrong == "no package" else "package-0", 1)
        if wrong == "no counter":
            (made / "energy_uj").unlink()
        elif wrong == "not a number":
            (made / "energy_uj").write_text("many")
        elif wrong == "no range":
            (made / "max_energy_range_uj").write_text("0")
    meter = Meter(folder)
    with meter.of("net"):
        pass
    assert not meter and not meter.joules
