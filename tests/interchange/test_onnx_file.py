"""ONNX files that are damaged, hostile, or of other kinds of networks: one line says what is wrong."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import bcdzoo
from bcdzoo.errors import BcdzooError
from tests.command import bcdzoo as command
from tests.interchange.qonnx_graphs import Written

Change = Callable[[onnx.ModelProto], object]


def sound() -> onnx.ModelProto:
    w = Written(("N", 3, 8, 8))
    x = w("BatchNormalization", w.conv(w.bipolar("x"), 3, 4), w.real(4), w.real(4), w.real(4), np.abs(w.real(4)))
    return w.model(w.pooled(w.conv(w.bipolar(x), 4, 5)))


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def stored(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(each for each in model.graph.initializer if each.name == name)


def filled(model: onnx.ModelProto, name: str, value: float) -> None:
    tensor = stored(model, name)
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[0] = value
    tensor.raw_data = array.tobytes()


def sized(model: onnx.ModelProto, *sizes: int) -> None:
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        dimension.dim_value = size


def elsewhere(model: onnx.ModelProto) -> None:
    tensor = stored(model, "c4")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def first(model: onnx.ModelProto, kind: str, *inputs: str, arrays: tuple[Any, ...] = (), **attributes: Any) -> None:
    for number, array in enumerate(arrays):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"new{number}"))
    model.graph.node.insert(0, helper.make_node(kind, inputs, ["first"], "new node", **attributes))


def doubled(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Concat", [f"d{i}", f"d{i}"], [f"d{i + 1}"], axis=0) for i in range(1, 60)]
    for node in [helper.make_node("Concat", ["c4", "c4"], ["d1"], axis=0), *nodes][::-1]:
        model.graph.node.insert(0, node)


def replaced(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Conv", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)]))


def long_names(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Evil\x1b[31m" * 200_000
    model.graph.node[0].name = "\x1b]0;\x07\n" * 200_000


def floats(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "BipolarQuant":
            node.op_type, node.domain = "Tanh", ""
            del node.input[1:]


def said(key: str, value: str) -> Change:
    """Metadata as `bcdzoo export` writes them."""

    def change(model: onnx.ModelProto) -> None:
        model.producer_name = "bcdzoo"
        helper.set_model_props(model, {key: value})

    return change


def padded(model: onnx.ModelProto) -> None:
    first(model, "Pad", "x", "new0", arrays=(np.array([0, 0, 4096, 4096] * 2),))
    model.graph.node[1].input[0] = "first"


def set_attribute(number: int, name: str, value: int) -> Change:
    return lambda model: model.graph.node[number].attribute.append(helper.make_attribute(name, value))


REFUSED: dict[str, tuple[Change, str]] = {
    "a shape of a terabyte": (lambda m: stored(m, "c4").dims.__setitem__(0, 1 << 40), "as many numbers as its shape"),
    "a negative shape": (lambda m: stored(m, "c4").dims.__setitem__(0, -1), "a shape that cannot be"),
    "constants in another file": (elsewhere, "constant c4 is in another file"),
    "strings": (lambda m: stored(m, "c4").__setattr__("data_type", TensorProto.STRING), "a type that is not read"),
    "not a number": (lambda m: filled(m, "c4", np.nan), "values that are not numbers"),
    "a negative variance": (lambda m: filled(m, "c12", -1), "BatchNormalization node 3: its statistics"),
    "a scale of 0": (lambda m: filled(m, "c0", 0), "BipolarQuant node 0: its scale is not above 0"),
    "a circle": (lambda m: m.graph.node[2].input.__setitem__(0, "v6"), "in a circle"),
    "a name that is taken": (lambda m: m.graph.node[3].output.__setitem__(0, "v0"), "one that is taken"),
    "weights that do not fit": (
        lambda m: stored(m, "c4").dims.__setitem__(slice(0, 2), [3, 4]),
        "Conv node 2 does not",
    ),
    "a growing constant": (doubled, "much larger than the file"),
    "a product of everything by everything": (
        lambda m: first(m, "Add", "new0", "new1", arrays=(np.ones((9999, 1)), np.ones((1, 9999)))),
        "Add new node: its constants are much larger than the file",
    ),
    "a constant that is gathered a million times": (
        lambda m: first(m, "Gather", "new0", "new1", arrays=(np.ones((2, 999)), np.zeros(99_999, np.int64))),
        "much larger than the file",
    ),
    "an image of a terabyte": (lambda m: sized(m, 1, 3, 1 << 20, 1 << 20), "numbers, more than"),
    "an image of unknown size": (lambda m: sized(m, 1, 3, 0, 0), "1×3×\\?×\\?: only square images"),
    "channels last": (lambda m: sized(m, 1, 8, 8, 3), "only square images"),
    "a map of a terabyte": (
        padded,
        "numbers an image, more than",
    ),
    "two inputs": (lambda m: m.graph.input.append(helper.make_tensor_value_info("y", 1, [1])), "it has 2 inputs"),
    "whole numbers as input": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7), "not float32"),
    "two outputs": (lambda m: m.graph.output.append(helper.make_tensor_value_info("v3", 1, None)), "it has 2 outputs"),
    "an output from nowhere": (lambda m: setattr(m.graph.output[0], "name", "nothing"), "not what a node gives"),
    "a map as output": (lambda m: setattr(m.graph.output[0], "name", "v3"), "not a vector of logits"),
    "an operator of its own": (
        lambda m: setattr(m.graph.node[3], "op_type", "Erf"),
        "Erf node 3: this operator is not",
    ),
    "a domain of its own": (
        lambda m: setattr(m.graph.node[0], "domain", "qonnx.custom_op.channels_last"),
        "operators of qonnx.custom_op.channels_last are not read",
    ),
    "an operator redefined": (replaced, "in the place of ONNX's operators"),
    "an unknown attribute": (set_attribute(3, "evil\x1b", 1), r"its attribute evil\\x1b is not known"),
    "training": (set_attribute(3, "training_mode", 1), "it is in training mode"),
    "a subgraph": (
        lambda m: first(m, "If", "c0", then_branch=helper.make_graph([], "g", [], [])),
        "then_branch is of a kind that is not read",
    ),
    "names of a megabyte": (long_names, "this operator is not read"),
    "a million nodes": (lambda m: [m.graph.node.add() for _ in range(100_000)], "nodes, more than"),
    "a real-valued network": (floats, "it is a float network"),
    "another's preprocessing": (
        said("preprocess", "imagenet"),
        "its preprocessing gives images of 224×224, and it takes 8×8",
    ),
    "class names that are none": (
        said("classes", "[" * 99_999),
        "class names are no list",
    ),
    "too few class names": (
        said("classes", json.dumps(["a"])),
        "it has 5 logits, and 1 class names",
    ),
}


def test_the_file_that_the_others_are_made_of_is_sound(tmp_path: Path) -> None:
    assert bcdzoo.load_qonnx(written(sound(), tmp_path))(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, reason = REFUSED[name]
    model = sound()
    change(model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BcdzooError, match=reason) as refused:
        bcdzoo.load_qonnx(written(model, tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize("content", [b"", b"hello", os.urandom(1000), sound().SerializeToString()[:-900]])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(BcdzooError, match=r"net\.onnx"):
        bcdzoo.load_qonnx(path)


@pytest.mark.parametrize("kind", ["node", "initializer", "value_info", "attribute"])
def test_a_file_of_very_many_empty_parts_is_refused_before_it_is_parsed(kind: str, tmp_path: Path) -> None:
    tags = {"node": b"\x0a\x00", "initializer": b"\x2a\x00", "value_info": b"\x6a\x00"}
    many = tags.get(kind, b"\x2a\x00") * 2_000_000
    graph = b"\x0a" + _length(len(many)) + many if kind == "attribute" else many  # those of one node
    path = tmp_path / "net.onnx"
    path.write_bytes(sound().SerializeToString() + b"\x3a" + _length(len(graph)) + graph)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BcdzooError, match="more than 1000000 parts"):
        bcdzoo.load_qonnx(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; parsed it takes 150 MB


def _length(size: int) -> bytes:
    varint = bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*varint, size])


def test_graphs_in_graphs_without_end_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(2000):  # a node's attribute that is a graph
        attribute = b"\x32" + _length(len(graph)) + graph
        node = b"\x2a" + _length(len(attribute)) + attribute
        graph = b"\x0a" + _length(len(node)) + node
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x3a" + _length(len(graph)) + graph)
    with pytest.raises(BcdzooError, match="no ONNX file, or damaged"):
        bcdzoo.load_qonnx(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for name, reason in ((".", "is a folder"), ("pipe.onnx", "a named pipe"), ("none.onnx", "no file")):
        with pytest.raises(BcdzooError, match=reason):
            bcdzoo.load_qonnx(tmp_path / name)


def test_bytes_changed_at_random_never_do_more_than_that(tmp_path: Path) -> None:
    content, draw = sound().SerializeToString(), np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(content)
        for place in draw.integers(len(content), size=draw.integers(1, 4)):
            changed[place] = draw.integers(256)
        (tmp_path / "net.onnx").write_bytes(changed)
        try:
            network: Any = bcdzoo.load_qonnx(tmp_path / "net.onnx")
        except BcdzooError as refused:
            assert str(refused).isprintable()
        else:
            assert network(torch.zeros(1, 3, network.input_size, network.input_size)).ndim == 2


def test_what_ranks_the_logits_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = sound()
    last = model.graph.output[0].name
    nodes = [helper.make_node("Softmax", [last], ["s"], "shares", axis=1)]
    nodes += [helper.make_node("TopK", ["s", "k"], ["values", "indices"], "best", axis=-1)]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "k"))
    model.graph.output[0].name = "indices"
    image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = bcdzoo.load_qonnx(written(sound(), tmp_path))(image)
    assert capsys.readouterr().err == ""
    assert torch.equal(bcdzoo.load_qonnx(written(model, tmp_path))(image), plain)
    assert (
        "left out at its end, because logits are what is wanted: TopK best, Softmax shares" in capsys.readouterr().err
    )


def test_a_network_takes_no_image_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(BcdzooError, match="it takes images of 3×8×8, not of 3×9×8"):
        bcdzoo.load_qonnx(written(sound(), tmp_path))(torch.zeros(1, 3, 9, 8))


def test_commands_take_a_file_and_say_what_they_assume(tmp_path: Path) -> None:
    path = str(written(sound(), tmp_path))
    done = command("audit", path)
    assert done.returncode == 0
    assert "net.onnx: its preprocessing is not stated; preprocess=resize=8,crop=8,mean=0,std=1: assumed" in done.stderr
    assert "verdict     binary weights: 2 layers, 100.0 %" in done.stdout
    assert json.loads(command("count-ops", path, "--format", "json").stdout)["bops"] == 6 * 6 * 4 * 27 + 4 * 4 * 5 * 36
    assert "2 fused, 0 alone" in command("explain", path, "--plan").stdout
    refused = command("eval", path, "--data", str(tmp_path), "--weights", "x.safetensors")
    assert (refused.returncode, refused.stderr) == (1, f"bcdzoo: {path} has weights of its own: omit the others\n")
