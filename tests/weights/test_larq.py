"""Keras files of larq's networks: read without TensorFlow, the same logits out.

``authors/larq-*.json`` holds what larq-zoo's own networks gave (:mod:`tests.weights.larq`): the layers of the file that
Keras wrote (Bi-Real's as the second network of its program, so that its automatic names do not begin at 0), and the
logits in float64, before the softmax. In float32 a sum next to zero may fall on either side of the next sign, in their
code as in ours.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from bcdzoo import count_ops, create_model, evaluate, load_model
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.weights.convert import convert_state, load_state
from bcdzoo.weights.load import convert, load_into, resolve
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from tests.siblings import marked
from tests.weights import authors, larq

NAMES = ["birealnet-18", "meliusnet-22", "real-to-binary-r18"]
CONVOLUTIONAL = [
    "binarydensenet-28",
    "binarydensenet-37",
    "binarydensenet-37-dilated",
    "binarydensenet-45",
    "binaryresnete-18",
    "quicknet",
    "quicknet-large",
    "quicknet-small",
]
ALEXNETS = ["binaryalexnet", "dorefanet-alexnet", "xnornet-alexnet"]
AS_LARQ = [*CONVOLUTIONAL, *ALEXNETS]
"""Networks that are here as larq-zoo builds them, and not otherwise."""


def write_keras(path: Path, name: str, root: str = "/", rename: Callable[[str], str] = str) -> Path:
    return larq.write(path, larq.record(name)["layers"], root, rename)


def without_top(path: Path, name: str) -> Path:
    """What larq-zoo's ``include_top=False`` gives: the first layers of the same file."""
    record = larq.record(name)
    return larq.write(path, dict(list(record["layers"].items())[: record["without_top"]]))


def images(record: dict[str, object]) -> Tensor:
    size = record["size"]
    assert isinstance(size, int)
    return torch.from_numpy(larq.images(size)).permute(0, 3, 1, 2).contiguous()


def entry(name: str) -> Checkpoint:
    return next(checkpoint for checkpoint in load_manifest().of(name) if checkpoint.format == "larq-h5")


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", NAMES)
def test_larqs_own_network_gives_the_same_logits_for_the_same_file(name: str, tmp_path: Path) -> None:
    record = larq.record(name)
    out = tmp_path / "ours.safetensors"
    convert(write_keras(tmp_path / "theirs.h5", name), name, out, **entry(name).build)
    with torch.inference_mode():
        logits = load_model(name, out).double()(authors.images().double())
    expected = torch.tensor(record["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-3, rtol=0)
    assert logits.argmax(1).tolist() == record["top1"]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", marked(AS_LARQ, slow="xnornet"))
def test_every_network_of_larq_zoo_gives_larqs_logits_for_a_file_that_is_given_by_its_path(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = larq.record(name)
    found = resolve(name, write_keras(tmp_path / "theirs.h5", name))
    assert (found.preprocess, found.build, capsys.readouterr().err) == ("larq", {}, "")
    with torch.inference_mode():
        logits = found.model.double()(images(record).double())
    expected = torch.tensor(record["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-6, rtol=0)
    assert logits.argmax(1).tolist() == record["top1"]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    "name", marked(["binarydensenet-28", "quicknet-small", "binaryalexnet", "dorefanet-alexnet"], slow="dorefa")
)
def test_a_file_without_top_becomes_a_feature_extractor(name: str, tmp_path: Path) -> None:
    record = larq.record(name)
    path = without_top(tmp_path / "notop.h5", name)
    model: Any = load_model(name, path, num_classes=0).double()
    with torch.inference_mode():
        maps = model.features(images(record).double())
        pooled = model(images(record)[:1].double())
    expected = torch.tensor(record["features"], dtype=torch.float64)
    torch.testing.assert_close(maps.mean((2, 3))[:, : expected.shape[1]], expected, atol=1e-6, rtol=0)
    last = maps.relu() if name.startswith("quicknet") else maps  # its ReLU belongs to the top in larq-zoo
    torch.testing.assert_close(pooled, last.mean((2, 3))[:1])
    with pytest.raises(BcdzooError, match="has no classifier: num_classes=0") as error:
        load_model(name, path)
    assert "\n" not in str(error.value)
    with pytest.raises(BcdzooError, match="features are no predictions"):
        evaluate(name, "demo", weights=path, num_classes=0)


@pytest.mark.parametrize("name", AS_LARQ)
def test_larqs_own_summary_counts_the_same(name: str) -> None:
    summary = larq.record(name)["summary"]
    report = count_ops(name, "dagger")
    with torch.device("meta"):
        tensors = create_model(name).state_dict()
    assert summary["params"] == sum(t.numel() for key, t in tensors.items() if "num_batches" not in key)
    assert summary["32-bit MACs"] == report.flops
    assert report.bops == summary.get("1-bit MACs", 0) + 2 * summary.get("2-bit MACs", 0)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("quicknet", "quicknet-large"),
        ("quicknet-large", "quicknet"),
        ("quicknet", "quicknet-small"),
        ("binarydensenet-37", "binarydensenet-37-dilated"),
        *(
            pytest.param(name, "binarydensenet-37", marks=pytest.mark.slow)
            for name in ("binarydensenet-37-dilated", "binarydensenet-45")
        ),
        ("binaryresnete-18", "birealnet-18"),
        ("birealnet-18", "binaryresnete-18"),
        ("meliusnet-22", "quicknet"),
    ],
)
def test_a_file_of_another_network_is_refused_in_one_line(name: str, theirs: str, tmp_path: Path) -> None:
    with pytest.raises(BcdzooError, match=rf"(does not fit|has shape|a form that).*; it fits {theirs}$") as error:
        load_model(name, larq.write(tmp_path / "theirs.h5", larq.record(theirs)["layers"], values=larq.ones))
    assert "\n" not in str(error.value)


def test_where_a_file_does_not_name_its_poolings_it_is_said_what_was_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {name: weights for name, weights in larq.record("binarydensenet-37")["layers"].items() if weights}
    path = larq.write(tmp_path / "bare.h5", layers, values=larq.ones)
    for name, form in (("binarydensenet-37", "not dilated"), ("binarydensenet-37-dilated", "dilated")):
        load_model(name, path)
        assert f"is known; {form}: assumed" in capsys.readouterr().err


def test_a_published_file_given_by_its_path_is_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_keras(tmp_path / "theirs.h5", "birealnet-18")
    (tmp_path / "manifest.toml").write_text(
        f"""[[checkpoint]]
        model = "birealnet-18"
        tag = "another"
        source = "manual"
        sha256 = "{sha256_of(path)}"
        format = "larq-h5"
        preprocess = "larq"
        """
    )
    monkeypatch.setenv("BCDZOO_MANIFEST", str(tmp_path / "manifest.toml"))
    known = resolve("birealnet-18", path)
    assert known.build == {"padding": "tensorflow", "bn_eps": 0.001}
    assert known.preprocess == "larq"
    convert(path, "birealnet-18", tmp_path / "ours.safetensors")
    assert resolve("birealnet-18", tmp_path / "ours.safetensors").build == known.build


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_nobody_published_is_built_as_larq_builds_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_keras(tmp_path / "theirs.h5", name)
    found = resolve(name, path)
    assert found.build == entry(name).build
    assert found.preprocess == "larq"
    said = capsys.readouterr().err
    assert f"{name} is built; step=2: assumed" in said  # padding, epsilon and activation are larq's


def test_padding_and_epsilon_matter(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "theirs.h5", "birealnet-18")
    x = authors.images()
    with torch.inference_mode():
        as_larq = load_model("birealnet-18", path, **entry("birealnet-18").build)(x)
        other = load_model("birealnet-18", path, padding="symmetric", bn_eps=1e-5)(x)
        assert (other - as_larq).abs().max() > 0.1


def test_where_a_network_has_no_such_form_the_file_is_refused(file: Path) -> None:
    with pytest.raises(
        BcdzooError, match="needs padding=tensorflow, stem_pool=2, a form that meliusnet-42 does not have"
    ):
        load_model("meliusnet-42", file)
    with pytest.raises(BcdzooError, match="needs padding=tensorflow, stem_pool=2: use `bcdzoo convert`"):
        load_into(create_model("meliusnet-22"), file)


def renumbered(layer: str) -> str:
    """As the first network of a program names its layers."""
    first = {"conv2d": 4, "batch_normalization": 20, "quant_conv2d": 16, "dense": 1}
    kind, _, number = layer.rpartition("_")
    if kind not in first:
        return layer
    return f"{kind}_{int(number) - first[kind]}" if int(number) > first[kind] else kind


def test_automatic_names_may_begin_at_any_number_and_a_whole_model_may_be_in_the_file(tmp_path: Path) -> None:
    state = load_state(write_keras(tmp_path / "weights.h5", "birealnet-18"))
    path = write_keras(tmp_path / "model.h5", "birealnet-18", root="model_weights", rename=renumbered)
    with h5py.File(path, "a") as file:
        assert "conv2d" in file["model_weights"]
        assert "batch_normalization_19" in file["model_weights"]
        file["optimizer_weights/Adam/m:0"] = np.ones(3, np.float32)
    same = load_state(path)
    assert same.keys() == state.keys()
    assert all(torch.equal(same[key], state[key]) for key in state)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_keras(tmp_path_factory.mktemp("h5") / "theirs.h5", "meliusnet-22")


def external_link(file: h5py.File) -> None:
    file["head_dense/head_dense/kernel:0"] = h5py.ExternalLink("/etc/hostname", "/")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("head_dense/head_dense/kernel:0", (512, 1000), "f4", external=[("/etc/passwd", 0, 2048000)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((512, 1000), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "data", (512, 1000))
    file.create_virtual_dataset("head_dense/head_dense/kernel:0", layout)


def claimed(file: h5py.File) -> None:
    file.create_dataset("head_dense/head_dense/kernel:0", (10**9, 10**6), "f4", chunks=(1000, 1000))


def objects(file: h5py.File) -> None:
    file.create_dataset("head_dense/head_dense/kernel:0", data=np.array([b"text"], dtype=object))


def transposed(file: h5py.File) -> None:
    file["head_dense/head_dense/kernel:0"] = np.ones((1000, 512), np.float32)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (external_link, r"missing fc\.weight"),
        (external_storage, r"head_dense/head_dense/kernel:0 is not a plain array of numbers"),
        (virtual, "is not a plain array of numbers"),
        (claimed, "is not a plain array of numbers"),
        (objects, "is not a plain array of numbers"),
        (transposed, r"head_dense\.weight has shape \(512, 1000\), but fc\.weight needs \(1000, 512\)"),
    ],
)
def test_a_hostile_or_wrong_file_is_one_clear_line(
    harm: Callable[[h5py.File], None], message: str, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "a") as content:
        del content["head_dense/head_dense/kernel:0"]
        harm(content)
    with pytest.raises(BcdzooError, match=message) as error:
        load_model("meliusnet-22", path)
    assert "\n" not in str(error.value)


def nested(path: Path, name: str, *more: str, outer: str = "inner") -> Path:
    """A file of a model that contains larq-zoo's, and layers without weights beside it."""
    layers = larq.record(name)["layers"]
    with h5py.File(path, "w") as content:
        for layer in more:
            content.create_group(layer)
        for weights in layers.values():
            for key, shape in weights.items():
                content.create_dataset(f"{outer}/{key}", data=larq.ones(key, shape))
    return path


def test_a_network_inside_another_model_is_read_like_the_network_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = load_state(larq.write(tmp_path / "alone.h5", larq.record("quicknet-small")["layers"], values=larq.ones))
    inside = load_state(nested(tmp_path / "inside.h5", "quicknet-small", "flatten"))
    assert {key: tensor.shape for key, tensor in inside.items()} == {key: t.shape for key, t in alone.items()}
    assert not capsys.readouterr().err
    load_model("quicknet-small", nested(tmp_path / "scaled.h5", "quicknet-small", "rescaling_3"))
    assert "rescales the pixels is left out; --preprocess" in capsys.readouterr().err


def test_two_networks_in_one_file_are_refused_and_not_mixed(tmp_path: Path) -> None:
    path = nested(tmp_path / "two.h5", "quicknet-small")
    with h5py.File(path, "a") as content:
        content.copy("inner", "other")
    with pytest.raises(BcdzooError, match="has two layers called"):
        load_model("quicknet-small", path)


@pytest.mark.parametrize("name", ["quicknet-small", "binaryalexnet", "birealnet-18"])
def test_a_file_with_another_number_of_classes_says_how_it_is_read(name: str, tmp_path: Path) -> None:
    layers = {
        layer: {key: [7 if size == 1000 else size for size in shape] for key, shape in weights.items()}
        for layer, weights in larq.record(name)["layers"].items()
    }
    path = larq.write(tmp_path / "seven.h5", layers, values=larq.ones)
    with pytest.raises(BcdzooError, match=r"it has 7 outputs: num_classes=7 \(--set num_classes=7\)") as error:
        load_model(name, path)
    assert "\n" not in str(error.value)
    load_model(name, path, num_classes=7)


def test_compressed_weights_are_refused_with_what_unpacks_them(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "packed.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "a") as content:
        kernel = content["head_dense/head_dense/kernel:0"][:]
        del content["head_dense/head_dense/kernel:0"]
        content.create_dataset("head_dense/head_dense/kernel:0", data=kernel, compression="gzip")
    with pytest.raises(BcdzooError, match="`h5repack -l CONTI -f NONE` unpacks it"):
        load_model("meliusnet-22", path)


def test_keras_newer_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.weights.h5", "w") as content:
        content["layers/conv2d/vars/0"] = np.ones((3, 3, 3, 8), np.float32)
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.write(tmp_path / "x.weights.h5", "model.weights.h5")
    for name in ("x.weights.h5", "x.keras"):
        with pytest.raises(BcdzooError, match=r'save_weights\("weights\.h5"\)') as error:
            load_model("quicknet", tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [20, 3000, -100_000])
def test_a_truncated_file_is_one_clear_line(length: int, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.h5"
    path.write_bytes(file.read_bytes()[:length])
    with pytest.raises(BcdzooError, match=r"short\.h5 is a damaged HDF5 file") as error:
        load_state(path)
    assert "\n" not in str(error.value)


def test_a_file_without_its_classifier_is_refused_and_names_what_is_missing(file: Path) -> None:
    state = {key: tensor for key, tensor in load_state(file).items() if not key.startswith("head_dense")}
    with pytest.raises(BcdzooError, match=r"does not fit MeliusNet: missing fc\.weight, fc\.bias"):
        convert_state(state, create_model("meliusnet-22"), "no top")
