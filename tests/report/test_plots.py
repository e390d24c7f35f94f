"""The figures: what they show is what was counted, published and measured, and it can be read."""

import io
import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

import bcdzoo
from bcdzoo.cli import main
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.stats import wilson
from bcdzoo.ops.conventions import CONVENTIONS
from bcdzoo.ops.count import count_ops
from bcdzoo.packed.checkpoint import export
from bcdzoo.report.counts import counts
from bcdzoo.report.digitised import digitised
from bcdzoo.report.own_rows import counted_row, rows_of_file
from bcdzoo.report.plots.accuracy_ops import FAMILIES, accuracy_ops, undrawn
from bcdzoo.report.plots.binarization_error import binarization_error, branch_errors, relative_error
from bcdzoo.report.plots.cam import cam, class_words
from bcdzoo.report.plots.layers import by_unit, layers
from bcdzoo.report.plots.operations import MAPS, operation
from bcdzoo.report.plots.tradeoff import tradeoff
from tests.command import bcdzoo as zoo
from tests.docs.blocks import ROOT

RUN = {"model": "bcdnet-a", "dataset": "imagenet", "n": 50000, "top1": 71.9, "top5": 90.4, "started": "2026-11-01"}
RUN |= {"hits": {"top1": 35950, "top5": 45200}, "build": {}}


def points(figure: Figure) -> set[tuple[float, float]]:
    return set().union(*map(points_of, figure.axes))


def points_of(axes: Axes) -> set[tuple[float, float]]:
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "", "|", "_")]
    return {(round(float(x), 3), round(float(y), 2)) for line in lines for x, y in np.asarray(line.get_xydata())}


def rectangles(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_accuracy_over_operations_shows_every_network_where_it_was_counted_and_published(convention: str) -> None:
    figure = accuracy_ops([], convention=convention)
    power, label = CONVENTIONS[convention].power, figure.axes[0].get_xlabel()
    formula = "ACE (1e9) = real-valued ACE + BOPs" if convention == "ace" else "OPs (1e8) = FLOPs + BOPs/64"
    assert label.startswith(f"{formula}, {convention} convention")
    published = {"meliusnet-22": 63.6, "meliusnet-42": 69.2, "meliusnet-59": 71.0, "reactnet-a": 69.4}
    published |= {"reactnet-b": 70.1, "reactnet-c": 71.4, "bcdnet-a": 71.8, "bcdnet-b": 72.3}
    assert points(figure) == {
        (round(counts()[name][convention]["ops"] / 10**power, 3), top1) for name, top1 in published.items()
    }


@pytest.mark.parametrize("patterns", [FAMILIES, ("*",)])
@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_labels_do_not_collide_and_are_inside_the_figure(patterns: tuple[str, ...], convention: str) -> None:
    assert_legible(accuracy_ops([RUN], patterns, convention))


def test_labels_do_not_collide_where_half_of_ninety_networks_have_the_same_operations(tmp_path: Path) -> None:
    others = ["quicknet", "bcdnet-a", "meliusnet-42", "meliusnet-22", "binarydensenet-45", "quicknet-small", "bnext-s"]
    text = ""
    for i in range(46):
        model = "irnet-r18" if i % 2 else others[i % 7]
        text += f'[[row]]\nmethod = "Method {i}"\nmodel = "{model}"\ntop1 = {57 + i % 23 * 0.6}\n'
    (tmp_path / "rows.toml").write_text(text)
    assert_legible(accuracy_ops([], ["*"], own=rows_of_file(tmp_path / "rows.toml", ())))


def assert_legible(figure: Figure) -> None:
    figure.draw_without_rendering()  # lays it out
    boxes = {label.get_text(): Text.get_window_extent(label) for label in figure.axes[0].texts}  # without their lines
    assert len(boxes) == len(figure.axes[0].texts) >= 8  # and no two have one name
    axes, half = figure.axes[0], 3 * figure.dpi / 72  # of a marker
    marks = [axes.transData.transform(point) for line in axes.lines for point in np.asarray(line.get_xydata())]
    for name, box in boxes.items():
        assert not any(box.x0 - half < x < box.x1 + half and box.y0 - half < y < box.y1 + half for x, y in marks), name
    for first, second in combinations(boxes, 2):
        assert not boxes[first].overlaps(boxes[second]), f"{first} lies on {second}"
    for name, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, f"{name} is cut off"


def test_a_measured_point_is_filled_and_has_its_interval() -> None:
    axes = accuracy_ops([RUN], ["bcdnet-a"]).axes[0]
    published, measured, *caps = axes.lines
    assert published.get_markerfacecolor() == "white"
    assert measured.get_markerfacecolor() != "white"
    assert measured.get_ydata() == [71.9]
    assert sorted(float(np.asarray(line.get_ydata())[0]) for line in caps) == pytest.approx(
        sorted(wilson(35950, 50000))
    )
    assert "interval: measured" in axes.get_title("left")
    assert "nothing measured" in accuracy_ops([], ["bcdnet-a"]).axes[0].get_title("left")


OWN = """
[[row]]
method = "Counted $x^2$"
model = "reactnet-a"
top1 = 75
[[row]]
method = "As printed"
ops = 2.5
ops_dagger = 2.25
top1 = 70.5
[[row]]
method = "Without accuracy"
model = "reactnet-a"
[[row]]
method = "Without operations"
top1 = 73
"""


def test_ones_own_points_are_counted_or_as_published_and_what_they_lack_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "rows.toml").write_text(OWN)
    words = ["--rows", str(tmp_path / "rows.toml"), "--row", "tests.own_networks:Brightness", "--convention", "dagger"]
    with pytest.raises(SystemExit, match="0"):
        main(["plot", "accuracy-ops", *words, "--out", str(tmp_path / "x.svg")])
    said = capsys.readouterr().err
    for name, what in (("Brightness", "accuracy"), ("Without accuracy", "accuracy"), ("Without operations", "dagger")):
        assert re.search(f"{name} is not in the figure: no .*{what}", said)
    text = (tmp_path / "x.svg").read_text()
    assert ">Counted $x^2$<" in text and ">As printed, OPs published<" in text and "stars: your own" in text
    own = rows_of_file(tmp_path / "rows.toml", [])
    for convention, printed in (("full", 2.5), ("dagger", 2.25)):
        mine = points(accuracy_ops([], convention=convention, own=own)) - points(
            accuracy_ops([], convention=convention)
        )
        assert mine == {(round(counts()["reactnet-a"][convention]["ops"] / 1e8, 3), 75), (printed, 70.5)}


def test_more_rows_than_a_figure_can_name_are_refused() -> None:
    row = counted_row("reactnet-a", {}, []) | {"top1": 70}
    with pytest.raises(BcdzooError, match="201 rows of your own are more than a figure has room to name"):
        accuracy_ops([], own=[row] * 201)


def test_ones_own_network_is_where_its_run_measured_it() -> None:
    own = counted_row("bcdnet-a", {"mlp_groups": 4}, [RUN | {"build": {"mlp_groups": 4}, "top1": 71.5}])
    ops = count_ops("bcdnet-a", mlp_groups=4).ops
    assert points(accuracy_ops([], own=[own])) - points(accuracy_ops([])) == {(round(ops / 1e8, 3), 71.5)}
    assert undrawn([own]) == []
    trained = RUN | {"build": {"num_classes": 1000, "step": 2, "mlp_groups": 4}}  # as a file of weights says it
    assert counted_row("bcdnet-a", {"mlp_groups": 4}, [trained])["measured_top1"] == 71.9
    assert counted_row("bcdnet-a", {"mlp_groups": 4, "step": 1}, [trained])["measured_top1"] is None


def test_all_networks_are_asked_for_by_a_word_or_by_a_pattern(tmp_path: Path) -> None:
    for word, file in (("--all", "all.svg"), ("*", "star.svg")):
        done = zoo("plot", "accuracy-ops", word, "--convention", "ace", "--out", str(tmp_path / file))
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "all.svg").read_bytes() == (tmp_path / "star.svg").read_bytes()
    assert zoo("plot", "accuracy-ops", "--all", "quicknet").returncode == 2


def test_the_figures_of_operations_say_what_they_are_of_under_any_convention() -> None:
    for name, total in (("full", "OPs"), ("dagger", "OPs"), ("ace", "ACE")):
        drawn = layers(count_ops("bcdnet-tiny", name))
        assert drawn.axes[0].get_xlabel().startswith(f"{total} (1e6)")
        words = [text.get_text() for text in drawn.legends[0].get_texts()] + [drawn.legends[0].get_title().get_text()]
        assert any("BOPs/64" in word for word in words) == (name != "ace")
        assert any("FLOPs" in word for word in words) == (name != "ace")


def test_a_pattern_that_no_network_has_is_one_clear_line() -> None:
    with pytest.raises(BcdzooError, match="no network with an accuracy on ImageNet matches bcdnet-tiny"):
        accuracy_ops([], ["bcdnet-tiny"])


@pytest.mark.parametrize("name", ["bcdnet-a", "bcdnet-b", "meliusnet-22", "bnext-t", "resnet-18", "abcnet-r18-5x5"])
def test_every_layer_is_in_one_unit_and_the_bars_add_up_to_the_count(name: str) -> None:
    report = count_ops(name)
    units = by_unit(report.layers)
    assert sum(layer.bops for unit in units.values() for layer in unit) == report.bops
    assert sum(layer.flops for unit in units.values() for layer in unit) == report.flops
    bars = sum(bar.get_width() for bar in rectangles(layers(report).axes[0]))
    assert bars * 1e6 == pytest.approx(report.ops, abs=1)


def test_the_units_of_bcdnet_are_the_blocks_of_the_paper() -> None:
    units = list(by_unit(count_ops("bcdnet-a").layers))
    assert units[:3] == ["stem", "blocks.0.spatial", "blocks.0.pointwise"]
    assert [unit for unit in units if unit.startswith("mlp")] == [f"mlp.{i}.{j}" for i in range(3) for j in range(4)]
    assert units[-2:] == ["head", "(rest)"]  # the rest is the global pooling


def test_the_tradeoff_family_keeps_its_binary_operations() -> None:
    figure = tradeoff([], "dagger")
    bars = rectangles(figure.axes[2])
    heights = [sum(bar.get_height() for bar in bars[member::6]) for member in range(6)]
    assert heights == pytest.approx([0.8713] * 6, abs=5e-5)  # reactnet-a's and bcdnet-a's, printed as 0.87


def test_the_tradeoff_shows_measured_members_of_the_family_beside_the_posters() -> None:
    member = RUN | {"build": {"mlp_groups": 4}, "top1": 71.5, "top5": 90.0}
    member |= {"hits": {"top1": 35750, "top5": 45000}}
    others = [RUN | {"model": "bcdnet-b"}, RUN | {"precision": "bf16"}, RUN | {"build": {"mixing": "token"}}]
    real = RUN | {"build": {"step": 1}, "top1": 73.2, "hits": {"top1": 36600, "top5": 45200}}
    poster = digitised()["tradeoff"]
    found = tradeoff([member, *others, real])
    for axes, top, more in (
        (found.axes[0], "top1", {(3, 71.8), (4, 71.5), (3, 73.2)}),
        (found.axes[1], "top5", {(3, 90.3), (4, 90.0), (3, 90.4)}),
    ):
        read_off = {(float(x), y) for bits in ("1/1", "32/1") for x, y in enumerate(poster[top][bits])}
        assert points_of(axes) == read_off | more
    labels = [label.get_text() for label in found.axes[2].get_xticklabels()]
    assert labels == ["14/0", "13/3", "12/6", "11/9", "10/12", "9/15"]
    assert (poster["top1"]["1/1"][0], poster["top1"]["32/1"][0]) == (70.3, 71.58)


@pytest.mark.parametrize(("draw", "lost"), [(torch.randn, 1 - 2 / math.pi), (torch.rand, 1 - 3 / 4)])
def test_the_error_of_known_distributions_is_the_formulas(draw: Any, lost: float) -> None:
    # 1 - E|w|² / E w²: of a normal distribution and of a uniform one
    weight = draw(4, 5000, 3, 3, generator=torch.Generator().manual_seed(0))
    assert relative_error(weight) == pytest.approx(lost, abs=0.005)


def test_the_posters_error_is_drawn_beside_bcdnet_as_and_no_other() -> None:
    torch.manual_seed(0)
    network = bcdzoo.create_model("bcdnet-tiny", branches="short,long")
    alone = binarization_error(network, "tiny")
    assert {x for x, _ in points(alone)} == {1, 2, 3} and len(alone.axes[0].lines) == 2
    beside = binarization_error(network, "tiny", poster=True)
    assert {(1, 0.25), (9, 0.29), (9, 0.25)} <= points(beside) and len(beside.axes[0].lines) == 5
    assert "does not define its error" in beside.axes[0].get_title("left")
    assert beside.axes[0].get_ylabel() == "‖W − α·sign(W)‖² / ‖W‖², α = mean(|W|)"


@pytest.mark.parametrize(("side", "channels"), MAPS)
def test_the_operations_are_those_of_their_formulas_and_see_what_the_paper_draws(side: int, channels: int) -> None:
    middle, far = side // 2, side // 2
    near = {(middle + i, middle + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    cross = {(0, 0), *((step, 0) for step in (1, -1, far, -far)), *((0, step) for step in (1, -1, far, -far))}
    expected = {
        "3×3 convolution": (9 * channels**2 * side**2, 9 * channels**2, near),
        "token-mixing MLP": (channels * side**4, side**4, set(np.ndindex(side, side))),
        "long-short-range MLP": (
            3 * channels**2 * side**2,
            3 * channels**2,
            {((middle + i) % side, (middle + j) % side) for i, j in cross},
        ),
    }
    for name, (bops, params, seen) in expected.items():
        found = operation(name, side, channels)
        assert (found.bops, found.params) == (bops, params)
        assert set(zip(*map(list, found.seen.nonzero()), strict=True)) == seen
        line = f"| {name} | {side}×{side}, {channels} channels | {bops:,} | {params:,} | {len(seen)} |"
        assert line in (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")


def test_weights_stored_as_signs_have_lost_nothing_to_show() -> None:
    network = bcdzoo.create_model("bcdnet-tiny")
    errors = [error for block in branch_errors(network).values() for error in block.values()]
    assert min(errors) > 0.2 and max(errors) < 0.3  # uniform
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.sign())
    with pytest.raises(BcdzooError, match="stored as ±α"):
        branch_errors(network)


class Brightness(nn.Module):
    """Class 1 is a bright image."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.maps.weight)

    def forward(self, x: Tensor) -> Tensor:
        bright = self.maps(x).mean((1, 2, 3))
        return torch.stack([-bright, bright], 1)


def test_grad_cam_points_at_what_speaks_for_the_class(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[4:12, 20:28] = 255
    Image.fromarray(pixels).save(tmp_path / "square.png")
    spec = parse("resize=32,crop=32,mean=0,std=1")
    figure = cam(Brightness(), tmp_path / "square.png", spec, "brightness")
    heat = np.asarray(figure.axes[1].images[1].get_array())
    assert heat[4:12, 20:28].mean() > 0.9
    assert heat[16:, :16].max() < 0.1
    assert "Grad-CAM of class 1" in figure.axes[1].get_title("left")
    assert figure.axes[2].get_ylabel() == "Grad-CAM, its maximum = 1"  # the scale
    named = Brightness()
    named.class_names = ("night, dark", "day")  # type: ignore[assignment]
    figure = cam(named, tmp_path / "square.png", spec, "brightness", 0)
    assert figure.axes[0].get_title("left") == "square.png\ntop-1 prediction: day (class 1)"
    assert figure.axes[1].get_title("left") == "brightness\nGrad-CAM of night (class 0)"
    with pytest.raises(BcdzooError, match="no class 2: the network has 0 to 1"):
        cam(Brightness(), tmp_path / "square.png", spec, "brightness", 2)
    (tmp_path / "none.png").write_bytes(b"no image")
    with pytest.raises(BcdzooError, match="not an image that can be read"):
        cam(Brightness(), tmp_path / "none.png", spec, "brightness")


def test_classes_are_named_as_the_weights_say_and_imagenets_are_assumed_aloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert class_words(bcdzoo.load_model("bcdnet-tiny"), 10)[9] == "ankle boot (class 9)"
    assert class_words(nn.Identity(), 7) == [f"class {index}" for index in range(7)]
    assert capsys.readouterr().err == ""
    assert class_words(nn.Identity(), 1000)[0] == "tench (class 0)"
    assert "those of ImageNet are assumed" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["accuracy-ops"], ["layers", "bcdnet-tiny"]])
def test_a_figure_is_written_in_each_format_and_always_to_the_same_bytes(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BCDZOO_HOME", str(tmp_path / "home"))
    files = []
    for name in ("one.svg", "two.svg", "one.pdf", "two.pdf", "one.png"):
        with pytest.raises(SystemExit, match="0"):
            main(["plot", *words, "--out", str(tmp_path / name)])
        files.append((tmp_path / name).read_bytes())
    assert capsys.readouterr().out.split() == [
        str(tmp_path / name) for name in ("one.svg", "two.svg", "one.pdf", "two.pdf", "one.png")
    ]
    assert files[0] == files[1]
    assert files[2] == files[3]
    assert files[2].startswith(b"%PDF")
    assert Image.open(io.BytesIO(files[4])).width == 1300
    text = " ".join(node.text or "" for node in ElementTree.fromstring(files[0]).iter() if node.tag.endswith("text"))
    assert "OPs (1e" in text  # text, not outlines


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["accuracy-ops", "--out", "x.gif"], 2, "x.gif must end in .png, .svg, .pdf"),
        (["layers", "bcdnet-x"], 1, "no network named 'bcdnet-x'"),
        (["binarization-error", "reactnet-tiny", "--weights", "no.pth"], 1, "no file no.pth"),
        (["binarization-error", "no.safetensors"], 1, "no file no.safetensors"),
        (["cam", "bcdnet-tiny", "no.png"], 1, "no file no.png"),
        (["cam", "tests.own_networks:Pair", "no.png"], 1, "must return logits of shape (1, classes), not a tuple"),
        (["binarization-error", "tests.own_networks:Brightness"], 1, "this network has no MLP blocks"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = [] if "--out" in words else ["--out", str(tmp_path / "x.png")]
    with pytest.raises(SystemExit, match=str(code)):
        main(["plot", *words, *out])
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_shipped_networks_error_and_cam_are_drawn_by_the_command(tmp_path: Path) -> None:
    Image.new("RGB", (28, 28), "gray").save(tmp_path / "gray.png")
    cam_of_gray = ["cam", "bcdnet-tiny", str(tmp_path / "gray.png")]
    for words in (["binarization-error", "bcdnet-tiny"], cam_of_gray, ["operations"]):
        with pytest.raises(SystemExit, match="0"):
            main(["plot", *words, "--out", str(tmp_path / f"{words[0]}.png")])
        assert Image.open(tmp_path / f"{words[0]}.png").width == 1300


def test_a_packed_file_has_no_latent_weights_to_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export("bcdnet-tiny", tmp_path / "packed.safetensors")
    file = str(tmp_path / "packed.safetensors")
    for words in (["binarization-error", file], ["cam", file, "no.png"]):
        with pytest.raises(SystemExit, match="1"):
            main(["plot", *words])
        assert "packed.safetensors is packed: use the weights that it was made from" in capsys.readouterr().err
    with pytest.raises(BcdzooError, match="is a packed file, which only has bits"):
        bcdzoo.load_model("bcdnet-tiny", tmp_path / "packed.safetensors")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text(
        "import sys\nsys.modules['matplotlib'] = None\nfrom bcdzoo.cli import main\nmain()\n"
    )
    words = [sys.executable, str(tmp_path / "nothing.py"), "plot", "accuracy-ops", "--out", str(tmp_path / "x.png")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "bcdzoo: matplotlib is not installed: pip install 'bcdzoo[plot]'\n")
