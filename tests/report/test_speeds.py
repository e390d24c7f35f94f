"""Stored benchmarks in tables, figures and the report: only what can be compared stands together."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from bcdzoo.bench.store import store
from bcdzoo.errors import BcdzooError
from bcdzoo.report.counts import counts
from bcdzoo.report.plots.speed import accuracy_speed, speed_ops
from bcdzoo.report.speeds import comparable
from tests.bench.test_bench import benchmark
from tests.command import bcdzoo as zoo


def measured(times: dict[str, dict[str, float]], day: int = 1, **conditions: Any) -> dict[str, Any]:
    """A benchmark of networks: milliseconds by backend and precision, such as "openvino int8"."""
    of = benchmark()["machine"] | {"processor": conditions.pop("processor", "P")}
    records = []
    for model, found in times.items():
        results = []
        for how, ms in found.items():
            backend, _, precision = how.partition(" ")
            speeds = {"images_per_second": 1000 / ms, "images_per_second_median": 500 / ms}
            of_time = {"ms_per_image": ms, "ms_per_image_median": 2 * ms}
            of_time |= {"cpu_ms_per_image": 1.5 * ms, "cpu_ms_per_image_median": 3 * ms}
            results.append({"backend": backend, "precision": precision or "bits", **of_time, **speeds})
        records.append(benchmark()["records"][0] | {"model": model, "results": results} | conditions)
    return benchmark(started=f"2026-11-{day:02}T12:00:00Z", machine=of, records=records)


MANY = measured(
    {
        "bcdnet-a": {"packed": 5.7, "openvino bits": 6, "openvino float32": 80},
        "bcdnet-b": {"packed": 7.5},
        "reactnet-a": {"packed": 5.4},
        "birealnet-18": {"packed": 4.4},
        "quicknet": {"packed": 3},
        "resnet-18": {"openvino float32": 32, "openvino bfloat16": 16, "openvino int8": 8, "torch float32": 40},
        "mobilenet-v1": {"openvino float32": 9, "openvino int8": 3.5, "onnxruntime int8": 3},
        "mobilenet-v2": {"openvino float32": 7, "openvino bfloat16": 5, "openvino int8": 2.7},
    }
)


def points(figure: Figure) -> set[tuple[float, float]]:
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    return {(round(float(x), 3), round(float(y), 2)) for line in lines for x, y in np.asarray(line.get_xydata())}


def test_only_one_machine_and_number_of_threads_is_compared_the_latest() -> None:
    old = measured({"quicknet": {"packed": 1.0}}, 1, processor="Q")
    first = measured({"bcdnet-a": {"packed": 5}, "resnet-18": {"openvino int8": 8}}, 2)
    again = measured({"bcdnet-a": {"packed": 6}}, 3)
    small = measured({"bcdnet-a": {"packed": 1}}, 3, input_size=112)
    more = measured({"bcdnet-a": {"packed": 2}}, 3, threads=4)
    step = measured({"bcdnet-a": {"packed": 0.5}}, 4, build={"step": 1})
    speeds = comparable([old, first, more, again, small, step])
    assert {(speed.model, speed.ms) for speed in speeds.measured} == {
        ("bcdnet-a", 6), ("resnet-18", 8), ("bcdnet-a", 0.5),
    }  # fmt: skip
    best = speeds.fastest("bcdnet-a")
    assert best and best.ms == 6 and best.how == "packed" and speeds.fastest("quicknet") is None
    of_step = speeds.fastest("bcdnet-a", {"step": 1})
    assert of_step and of_step.ms == 0.5
    assert speeds.others == 3 and "batch 1, 2 threads, P, 2 cores" in speeds.conditions
    assert "2026-11-02 and 2026-11-04" in speeds.conditions
    assert [speed.ms for speed in comparable([first, more], threads=4).measured] == [2]
    worked = comparable([first], clock="processor")
    assert [speed.ms for speed in worked.measured] == [7.5, 12] and "processor time of all" in worked.conditions
    assert comparable([first], batch_size=2).measured == [] == comparable([]).measured


def test_accuracy_over_time_is_published_over_the_fastest_of_each_format() -> None:
    figure = accuracy_speed([MANY])
    assert points(figure) == {
        *((5.7, 71.8), (7.5, 72.3), (5.4, 69.4), (4.4, 56.4), (3, 63.3)),
        *((32, 69.3), (16, 69.3), (8, 69.3), (9, 70.6), (3, 70.6), (7, 72.0), (5, 72.0), (2.7, 72.0)),
    }
    assert "batch 1, 2 threads" in figure.axes[0].get_title("left").replace("\n", " ")


def test_time_over_operations_has_the_lines_that_operations_promise() -> None:
    figure = speed_ops([MANY])
    ops = {name: counts()[name]["full"]["ops"] / 1e8 for name in ("bcdnet-a", "resnet-18")}
    assert {(round(ops["bcdnet-a"], 3), 5.7), (round(ops["resnet-18"], 3), 8)} <= points(figure)
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert {str(line.get_label()).partition(",")[0] for line in lines} == {
        f"as ResNet-18 in {precision}" for precision in ("int8", "bfloat16", "float32")
    }
    for line in lines:
        (x, y), *_, last = np.asarray(line.get_xydata())
        assert last[1] / last[0] == pytest.approx(y / x)
        assert y / x * ops["resnet-18"] == pytest.approx({"int8": 8, "bfloat16": 16, "float32": 32}[
            str(line.get_label()).removeprefix("as ResNet-18 in ").partition(",")[0]
        ])  # fmt: skip
    assert "No real-valued network" in speed_ops([measured({"quicknet": {"packed": 3}})]).axes[0].get_title(
        "left"
    ).replace("\n", " ")


@pytest.mark.parametrize("draw", [accuracy_speed, speed_ops])
def test_labels_do_not_collide_and_are_inside_the_figure(draw: Any) -> None:
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ATEN_CPU_CAPABILITY": "AVX2"}
    figure = draw([MANY | {"machine": MANY["machine"] | {"limits": limits, "processor": "WIDE PROCESSOR " * 8}}])
    figure.draw_without_rendering()
    title = figure.axes[0]._left_title.get_window_extent()
    assert title.x1 <= figure.bbox.x1, "the title is cut off"
    boxes = [(label.get_text(), Text.get_window_extent(label)) for label in figure.axes[0].texts]
    assert len(boxes) == 13
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), f"{one} lies on {other}"
    for name, box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, f"{name} is cut off"


def test_without_benchmarks_one_line_says_how_to_make_them(tmp_path: Path) -> None:
    for kind in ("accuracy-speed", "speed-ops"):
        done = zoo("plot", kind, "--batch-size", "16", "--threads", "3", cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "no stored benchmark of batch 16 on 3 threads: `bcdzoo bench MODEL... --batch-size 16" in done.stderr
    store(measured({"bcdnet-tiny": {"packed": 1}}, input_size=28))
    assert "published accuracy" in zoo("plot", "accuracy-speed", cwd=tmp_path).stderr
    assert "operations are counted" in zoo("plot", "speed-ops", cwd=tmp_path).stderr


def test_a_table_has_the_times_and_says_of_which_machine() -> None:
    words = ("table", "bcdnet-a", "mobilenet-v2", "reactnet-b", "--row", "bcdnet-a", "--set", "step=1")
    assert "ms (measured)" not in zoo(*words).stdout
    store(MANY)
    store(measured({"bcdnet-a": {"packed": 4.4}}, 2, build={"step": 1}))
    printed = zoo(*words).stdout
    assert "ms (measured)" in printed and "| 5.70 (packed) |" in " ".join(printed.split())
    assert "2.70 (openvino int8)" in printed and "one image on the fastest backend" in printed
    assert "batch 1, 2 threads, P, 2 cores, avx2, kernels avx2" in printed
    rows = json.loads(zoo(*words, "--format", "json").stdout)
    assert [(row["method"], row["measured_ms"], row["measured_by"]) for row in rows] == [
        ("Mobile-V2", 2.7, "openvino int8"),
        ("ReActNet-B", None, None),
        ("BCDNet-A", 5.7, "packed"),
        ("bcdnet-a (step=1)", 4.4, "packed"),
    ]
    chosen = zoo("table", "--columns", "method,measured_ms", "--sort", "measured_ms", "--format", "csv").stdout
    assert chosen.splitlines()[:2] == ["method,measured_ms", "Mobile-V2,2.7"]
    assert "5.70 (packed)" in zoo("table", "bcdnet-a", "--format", "html").stdout
    assert "kernels avx2" in zoo("table", "bcdnet-a", "--format", "latex").stdout


def test_a_benchmark_that_nothing_published_stands_beside_is_no_figure() -> None:
    with pytest.raises(BcdzooError, match="no network with a published accuracy"):
        accuracy_speed([measured({"tests.own_networks:Brightness": {"torch float32": 1}})])
