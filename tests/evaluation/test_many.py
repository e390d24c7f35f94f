import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bcdzoo.cli import main
from bcdzoo.data.imagenet import ImageSet, Sample, open_dataset
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation import loop
from bcdzoo.evaluation.loop import evaluate, evaluate_all
from bcdzoo.evaluation.mode import FASTER, STRICT
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.evaluation.result import EvalResult
from bcdzoo.evaluation.store import read_results
from tests.noise import noise
from tests.own_networks import Crowded, Steady

SMALL = "resize=16,crop=16"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return noise(tmp_path / "images", 40)


def seeded(network: type[Steady], seed: int = 0) -> Steady:
    torch.manual_seed(seed)
    return network()


def all_of(networks: Sequence[nn.Module], data: Path | ImageSet, **options: Any) -> list[EvalResult]:
    results = evaluate_all(networks, data, EvalOptions(**options))
    return [result for result in results if isinstance(result, EvalResult)]


def steady(images: Path) -> list[str]:
    return ["tests.own_networks:Steady", "--data", str(images), "--preprocess", SMALL]


class Random(nn.Module):
    """A hundred classes, the guess a number that has nothing to do with the image's."""

    def forward(self, images: Tensor) -> Tensor:
        wild = (images.double().sum(dim=(1, 2, 3)) * 1e6).long() % 100
        return nn.functional.one_hot(wild, 100).float()


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(100)[0].expand(len(images), -1)


def test_several_networks_share_one_reading_of_each_image_and_have_the_results_of_runs_of_their_own(
    images: Path,
) -> None:
    reads: list[str] = []

    @dataclass
    class Counted:
        sample: Sample
        path: str = ""

        def __call__(self) -> bytes:
            reads.append(self.sample.id)
            return self.sample.read()

    data = open_dataset(images, 10)
    watched = ImageSet(
        [sample._replace(read=Counted(sample)) for sample in data.samples], data.name, data.layout, data.labels_from
    )
    networks = [seeded(Steady, seed) for seed in (0, 1, 2)]
    together = all_of(networks, watched, preprocess=SMALL, batch_size=8)
    assert sorted(reads) == [sample.id for sample in data.samples]
    for network, result in zip(networks, together, strict=True):
        alone = evaluate(network, data, preprocess=SMALL, batch_size=8)
        assert result.predictions_sha256 == alone.predictions_sha256
        assert result.networks == 3
    assert len({result.predictions_sha256 for result in together}) == 3


def test_a_network_that_fails_on_the_way_does_not_stop_the_others_and_is_named_at_the_end(
    images: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    networks = ["tests.own_networks:Overflowing", "tests.own_networks:Steady"]
    with pytest.raises(SystemExit) as left:
        main(["eval", *networks, *steady(images)[1:], "--batch-size", "8", "--format", "json"])
    assert left.value.code == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["n"] == 40
    assert said.err.startswith("bcdzoo: tests.own_networks:Overflowing: the logits of 00016.png are not finite")
    assert [result["model"] for result in read_results()] == ["tests.own_networks:Steady"]


def test_networks_with_other_outputs_are_not_evaluated_together(images: Path) -> None:
    with pytest.raises(BcdzooError, match="Steady has 10 outputs and Random 100: evaluate them one by one"):
        evaluate_all([seeded(Steady), Random()], images, EvalOptions(preprocess=SMALL))


def test_a_gpu_that_is_too_small_gets_smaller_batches_and_the_same_predictions_and_it_is_said_once(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = evaluate(seeded(Crowded), images, preprocess=SMALL, batch_size=16)
    said = capsys.readouterr().err
    assert said.count("Crowded: out of memory with 16 images at once; continuing with fewer") == said.count("\n") == 1
    large = evaluate(seeded(Steady), images, preprocess=SMALL, batch_size=16)
    pd.testing.assert_frame_equal(small.predictions, large.predictions)
    assert (small.images_at_once, large.images_at_once, small.batch_size) == (4, 16, 16)


def test_a_network_too_large_for_one_image_is_one_line(images: Path) -> None:
    class Huge(Steady):
        def forward(self, x: Tensor) -> Tensor:
            if x.any():
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    with pytest.raises(BcdzooError, match="Huge: cpu has too little memory for a single image"):
        evaluate(seeded(Huge), images, preprocess=SMALL)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Random(), "its predictions vary but do not fit the labels .from the CSV file.: check their order"),
        (Constant(), "its predictions are nearly all the same class: check the weights and --preprocess"),
    ],
)
def test_a_network_that_guesses_by_chance_is_stopped_before_the_long_run(
    tmp_path: Path, network: nn.Module, why: str
) -> None:
    table = noise(tmp_path / "many", 1100)
    table.write_text("\n".join(f"{number:05}.png,{number * 7 % 100}" for number in range(1100)))
    with pytest.raises(
        BcdzooError, match=rf"is right for \d of 256 images spread over the data, as if by chance; {why}"
    ):
        evaluate(network, table, preprocess=SMALL)
    assert evaluate(network, table, preprocess=SMALL, check=False).n == 1100


def test_the_faster_modes_are_recorded_and_their_flips_counted(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["eval", *steady(images), "--check-stability", "--format", "json", "--out", str(tmp_path / "out.json")])
    assert left.value.code == 0
    records = json.loads(capsys.readouterr().out)
    assert records == json.loads((tmp_path / "out.json").read_text())
    modes = [(record["precision"], record["compiled"], record["channels_last"]) for record in records]
    assert modes == [(mode.amp or "float32", mode.compile, mode.channels_last) for mode in (STRICT, *FASTER)]
    strict = pd.read_parquet(tmp_path / "home" / "results" / records[0]["predictions_file"])
    for record in records[1:]:
        other = pd.read_parquet(tmp_path / "home" / "results" / record["predictions_file"])
        assert record["flips"] == (strict["top1"] != other["top1"]).sum()
    assert not strict["logit1"].equals(
        pd.read_parquet(tmp_path / "home/results" / records[1]["predictions_file"])["logit1"]
    )
    assert "flips" not in records[0]
    assert len(read_results()) == 4


def test_a_mode_that_cannot_be_had_is_left_out_of_the_comparison_and_named(
    images: Path, home: Path, tmp_path: Path
) -> None:
    no_compiler = {"CXX": "/nonexistent/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "empty")}
    program = """if True:
        import sys
        from bcdzoo.cli import main
        for option in "--check-stability", "--compile":
            try:
                main([*sys.argv[1:], option])
            except SystemExit as left:
                print(f"{option}: {left.code}", file=sys.stderr)
    """
    command = [sys.executable, "-c", program, "eval", *steady(images), "--format", "json"]
    settings = {**os.environ, **no_compiler, "BCDZOO_HOME": str(home)}
    done = subprocess.run(command, env=settings, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert [record["compiled"] for record in json.loads(done.stdout)] == [False] * 3
    failure = "the network tests.own_networks:Steady (float32, compiled) fails on an image of 3×16×16: "
    compared, asked = done.stderr.split("--check-stability: 0\n")
    assert f"bcdzoo: left out: {failure}" in compared
    assert asked.startswith(f"bcdzoo: {failure}") and asked.endswith("\n--compile: 1\n")


def test_accuracy_per_class_and_confusion_are_written_for_every_network(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        files = ["--per-class", str(tmp_path / "classes.csv"), "--confusion", str(tmp_path / "confusion.csv")]
        main(["eval", "tests.own_networks:Crowded", *steady(images), *files, "--seed", "3", "--format", "json"])
    assert left.value.code == 0
    records = json.loads(capsys.readouterr().out)
    classes, cells = pd.read_csv(tmp_path / "classes.csv"), pd.read_csv(tmp_path / "confusion.csv")
    for record in records:
        mine, counts = classes[classes["model"] == record["model"]], cells[cells["model"] == record["model"]]
        assert (mine["images"].sum(), mine["hits"].sum()) == (40, record["hits"]["top1"])
        assert (counts["images"].sum(), len(mine)) == (40, 10)
        assert counts[counts["label"] == counts["guess"]]["images"].sum() == record["hits"]["top1"]
        assert record["seed"] == 3


def test_results_are_listed_filtered_and_exported(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for network in (seeded(Steady), seeded(Crowded)):
        evaluate(network, images, preprocess=SMALL, store=True)
    capsys.readouterr()

    def printed(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["results", *arguments])
        assert left.value.code == 0
        return capsys.readouterr().out

    assert [record["model"] for record in json.loads(printed("--format", "json"))] == ["Steady", "Crowded"]
    assert [record["model"] for record in json.loads(printed("C*", "--format", "json"))] == ["Crowded"]
    assert json.loads(printed("--dataset", "imagenet", "--format", "json")) == []
    assert json.loads(printed("--since", "2099-01-01", "--format", "json")) == []
    rows = list(csv.DictReader(printed("--format", "csv").splitlines()))
    assert [(row["model"], row["n"], row["precision"]) for row in rows] == [
        ("Steady", "40", "float32"),
        ("Crowded", "40", "float32"),
    ]
    assert "| Crowded " in printed()


def test_a_pattern_leaves_out_networks_without_weights_and_says_which(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def stop(names: list[str], *_: object, **__: object) -> None:
        asked.append(names)
        raise BcdzooError("far enough")

    monkeypatch.setattr(loop, "evaluate_all", stop)
    with pytest.raises(SystemExit):
        main(["eval", "bcdnet-*", "reactnet-a", "reactnet-?", "--data", str(images)])
    assert asked == [["bcdnet-a", "reactnet-a"]]
    said = capsys.readouterr().err
    assert "left out because they have no public weights: bcdnet-a-r18, bcdnet-b, bcdnet-b-r18" in said
    assert "left out because they do not have 1000 classes: bcdnet-tiny" in said
