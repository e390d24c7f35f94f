"""Networks side by side on every backend, and what is stored of it."""

import contextlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bcdzoo
from bcdzoo.bench import energy, machine, timing
from bcdzoo.bench.backends import LacksError, Wanted, plan_for, require, scaled_weights, variants
from bcdzoo.bench.store import folder, read_benchmark, read_benchmarks, store
from bcdzoo.cli import main
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.store import run_id
from bcdzoo.seal import DamagedError, sealed
from tests.bench.test_energy import count, zone
from tests.command import bcdzoo as command

SHAPE = (2, 3, 28, 28)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.001)


def benchmark(**changes: Any) -> dict[str, Any]:
    """One that could be stored."""
    result = {"backend": "packed", "precision": "bits", "ms_per_image": 4.0, "ms_per_image_median": 5.0}
    result |= {"cpu_ms_per_image": 3.5, "cpu_ms_per_image_median": 4.5}
    result |= {"images_per_second": 250.0, "images_per_second_median": 200.0, "calls": 9}
    record = {"model": "bcdnet-a", "build": {}, "input_size": 224, "batch_size": 1, "threads": 2, "results": [result]}
    of = {"processor": "P", "instructions": ["avx2"], "cores": 2, "kernels": "avx2", "limits": {}}
    of |= {"load_before": 0.5, "load_after": 1.0}
    made = {"started": "2026-11-28T12:00:00Z", "versions": {"bcdzoo": "0"}, "rounds": 3, "machine": of}
    return made | {"records": [record]} | changes


class Plain(nn.Module):
    """A convolution with all that a runtime can fuse, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        )
        for layer in self.layers:
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 2)
                nn.init.normal_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def test_turns_are_taken_in_rounds_and_every_call_is_timed() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    found = timing.times({"a": partial(call, "a", 0.002), "b": partial(call, "b", 0.004)}, rounds=2)
    assert order == ["a", "b", "a", "b", "a", "b"]  # the first of each is not counted
    assert len(found["a"]) == len(found["b"]) == 2
    assert min(found["a"]).wall >= 0.002 and min(found["b"]).wall >= 0.004
    assert all(0 <= each.processor < each.wall for each in found["a"])  # who sleeps does not work


@pytest.mark.parametrize(("backend", "needs"), [("openvino", ["openvino", "nncf"]), ("onnxruntime", ["onnxruntime"])])
def test_a_runtime_computes_the_network_in_each_number_format(backend: str, needs: list[str]) -> None:
    for package in needs:
        pytest.importorskip(package)
    torch.manual_seed(0)
    images = torch.randn(SHAPE)
    tolerance = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.25, "bits": 1e-4}  # of the largest logit
    for network in (Plain().eval(), bcdzoo.load_model("bcdnet-tiny")):
        with torch.inference_mode():
            expected = network(images).numpy()
        found, left = variants(network, Wanted((backend,), (), SHAPE))
        formats = {variant.precision for variant in found}
        binary = not isinstance(network, Plain)
        assert not left and "float32" in formats and ("int8" in formats) != binary
        assert ("bits" in formats) == (backend == "openvino" and binary)
        for variant in found:
            wrong = np.abs(variant.run(images) - expected).max() / np.abs(expected).max()
            flips = 0.4 if binary and variant.precision == "bfloat16" else 0  # of signs, whose values are rounded
            assert wrong < tolerance[variant.precision] + flips, variant.name


def test_scales_in_the_weights_change_nothing_but_roundings() -> None:
    network, images = Plain().eval(), torch.randn(SHAPE)
    from bcdzoo.plan.reference import run

    plan = scaled_weights(plan_for(network, SHAPE[1:]))
    assert not any("alpha" in operation.constants for operation in plan.operations)
    with torch.inference_mode():
        np.testing.assert_allclose(run(plan, images.numpy()), network(images).numpy(), rtol=1e-4, atol=1e-4)


def test_a_missing_runtime_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in ("openvino", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, f"bcdzoo.bench.in_{backend}", None)
        with pytest.raises(BcdzooError, match=rf"pip install 'bcdzoo\[{backend}\]'"):
            require(("packed", backend))
        done = command("bench", "bcdnet-tiny", "--backend", backend)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"bcdzoo[{backend}]" in done.stderr


def test_several_networks_are_measured_stored_and_written(own_home: Path, tmp_path: Path) -> None:
    words = ("bcdnet-tiny", "tests.own_networks:Brightness", "--backend", "torch", "--backend", "packed")
    done = command(
        "bench", *words, "--batch-size", "2", "--input-size", "28", "--store", "--out", str(tmp_path / "x.json")
    )
    assert done.returncode == 0, done.stderr
    assert "Brightness: left out: packed: Brightness cannot be packed" in done.stderr
    (found,) = read_benchmarks()
    assert found == read_benchmark(tmp_path / "x.json") | {"run": found["run"]}
    assert [(record["model"], record["batch_size"], record["input_size"]) for record in found["records"]] == [
        ("bcdnet-tiny", 2, 28),
        ("tests.own_networks:Brightness", 2, 28),
    ]
    tiny, other = (record["results"] for record in found["records"])
    assert [result["backend"] for result in tiny] == ["torch", "packed"] and len(other) == 1
    for result in [*tiny, *other]:
        assert 0 < result["ms_per_image"] <= result["ms_per_image_median"]
        assert result["ms_per_image"] * result["images_per_second"] == pytest.approx(1000)
    assert machine.described(found["machine"]) in done.stdout and "load" in done.stdout
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))


CONV = ("torch.nn:Conv2d", "--set", "out_channels=4", "--set", "kernel_size=3", "--backend", "onnxruntime", "--set")
LINEAR = ("torch.nn:Linear", "--set", "in_features=4", "--set", "out_features=2")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("bcdnet-tiny", "--precision", "int8", "--backend", "packed"), "no backend has this precision"),
        ((*CONV, "in_channels=1"), "onnxruntime: Given groups=1"),
        ((*CONV, "in_channels=3"), "onnxruntime: the last operation does not give logits"),
        ((*LINEAR, "--backend", "torch"), "torch: mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_what_can_be_measured_nowhere_is_one_line(words: tuple[str, ...], why: str) -> None:
    done = command("bench", "--batch-size", "1", *words)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{words[0]} can be measured on none of these backends: {why}" in done.stderr


def test_energy_is_printed_where_there_are_counters_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    original = energy.Meter.__init__
    monkeypatch.setattr(energy.Meter, "__init__", lambda self: original(self, tmp_path))
    words = ("bench", "bcdnet-tiny", "--backend", "torch", "--batch-size", "2", "--rounds", "1")
    real, turns = timing.times, 0

    def metered(calls: Any, rounds: int, during: Any) -> Any:
        nonlocal turns
        found = real(calls, rounds, during)
        (key,) = calls
        with during(key):
            count(package, 4)  # 3 J
        return found

    monkeypatch.setattr("bcdzoo.bench.run.times", metered)
    (result,) = json.loads(command(*words, "--format", "json").stdout)["results"]
    assert result["joules_per_image"] == pytest.approx(3 / (2 * result["calls"]))
    assert "idle" in command(*words).stdout and "J/image" in command(*words).stdout
    (package / "energy_uj").unlink()
    done = command(*words).stdout
    assert "J/image" not in done and "idle" not in done


def test_a_processor_is_told_from_others_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "processor: 0\nmodel name\t: AMD EPYC\ncpu family\t: 25\nmodel\t: 17\nflags\t: fpu avx2 avx512_vnni lm\n\nx: y"
    )
    (tmp_path / "cpuinfo").write_text(lines)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = machine.machine()
    assert found["processor"] == "AMD EPYC (family 25, model 17)"
    assert found["instructions"] == ["avx2", "avx512_vnni"] and found["limits"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in machine.described(found)
    (tmp_path / "cpuinfo").unlink()  # as where there is no Linux
    assert machine.machine()["processor"] and machine.machine()["instructions"] == []


def test_a_stored_benchmark_is_read_again_and_a_damaged_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = store(benchmark())
    assert read_benchmarks() == [benchmark() | {"run": path.stem}] and path.parent == folder()
    path.write_text(path.read_text().replace("4.0", "1.0"))
    assert read_benchmarks() == []
    assert f"{path} is left out: damaged: its content does not match its hash" in capsys.readouterr().err
    with pytest.raises(DamagedError):
        read_benchmark(path)


def test_benchmarks_are_listed_and_deleted_like_runs(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> str:
        with contextlib.suppress(SystemExit):
            main(["results", *words])
        return capsys.readouterr().out

    assert shown("--benchmarks", "--format", "text").startswith("no benchmarks: ")
    old, new = (store(benchmark(started=f"2026-11-2{day}T12:00:00Z")) for day in (7, 8))
    assert [line.split()[0] for line in shown("--benchmarks", "--format", "text").splitlines()[1:3]] == [
        run_id(old.stem),
        run_id(new.stem),
    ]
    assert [
        found["run"] for found in json.loads(shown("--benchmarks", "bcd*", "--since", "2026-11-28", "--format", "json"))
    ] == [new.stem]
    assert shown("--benchmarks", "meliusnet*", "--format", "text").startswith("no benchmarks that match: ")
    assert shown("rm", run_id(old.stem)) == f"deleted {old}\n"
    assert [found["run"] for found in read_benchmarks()] == [new.stem]


def _changed(*keys: Any, to: Any) -> dict[str, Any]:
    made: Any = json.loads(json.dumps(benchmark()))
    where = made
    for key in keys[:-1]:
        where = where[key]
    if to is None:
        del where[keys[-1]]
    else:
        where[keys[-1]] = to
    return dict(made)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        _changed("records", to=[]),
        _changed("records", to=[1]),
        _changed("machine", to=[]),
        _changed("machine", "processor", to=7),
        _changed("machine", "instructions", to="avx2"),
        _changed("records", 0, "model", to=None),
        _changed("records", 0, "threads", to=True),
        _changed("records", 0, "results", to={}),
        _changed("records", 0, "results", 0, "ms_per_image", to=0),
        _changed("records", 0, "results", 0, "ms_per_image", to=10**400),
        _changed("records", 0, "results", 0, "ms_per_image", to="4"),
        _changed("records", 0, "results", 0, "backend", to="\ud800"),
    ],
)
def test_a_sealed_file_that_is_no_benchmark_is_refused_in_one_line(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(sealed(wrong)))
    with pytest.raises(DamagedError, match=r"is no benchmark of bcdzoo bench: ") as failed:
        read_benchmark(path)
    assert "\n" not in str(failed.value)


def test_one_without_a_hash_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(benchmark()))
    with pytest.raises(DamagedError, match="no hash"):
        read_benchmark(tmp_path / "x.json")


def test_bfloat16_is_left_out_on_a_processor_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from bcdzoo.bench import in_openvino

    monkeypatch.setattr(in_openvino, "machine", lambda: {"instructions": ["avx2"]})
    with pytest.raises(LacksError, match="no instructions for bfloat16"):
        in_openvino.runs(plan_for(Plain().eval(), SHAPE[1:]), "bfloat16", SHAPE)
