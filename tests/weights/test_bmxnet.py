"""BMXNet's files and networks: what was written is read, and trained networks do what is known of them."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from torch import Tensor, nn

from bcdzoo import evaluate, load_model, pack
from bcdzoo.errors import BcdzooError
from bcdzoo.layers.int8 import with_int8
from bcdzoo.models.bmxnet import counting_conv
from bcdzoo.weights.mxnet import load_params
from tests.weights import mxnet

FILES = {
    "bmxnet-r18": "binarized_imagenet-resnet18-64bit-0040.params",
    "bmxnet-r18-first-real": "binarized_imagenet-resnet18-64bit-1st-stage-fullprecision-0038.params",
    "bmxnet-r18-cifar10": "binarized_cifar10-resnet18-64bit-0000.params",
    "bmxnet-lenet-mnist": "binarized_mnist_64bit-0001.params",
}
PHOTOS = "imagenet-photos-200.tar"

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
some_arrays = arrays_of.arrays(
    st.sampled_from(["float32", "float16", "uint8", "int32", "int8", "int64"]),
    arrays_of.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
)


@settings(max_examples=50)
@given(st.dictionaries(names, st.tuples(some_arrays, st.sampled_from([mxnet.DENSE, mxnet.SIZED, mxnet.OLDEST]))))
def test_arrays_that_are_written_are_read_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, written: dict[str, tuple[np.ndarray, str]]
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.params"
    path.write_bytes(mxnet.file({name: mxnet.array(values, form) for name, (values, form) in written.items()}))
    found = load_params(path)
    assert list(found) == list(written)
    for name, (values, _) in written.items():
        assert found[name].numpy().dtype == values.dtype and found[name].shape == values.shape
        assert found[name].numpy().tobytes() == values.tobytes()


def test_words_keep_bits_that_are_no_number(tmp_path: Path) -> None:
    signaling = np.array([0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF, 1 << 63], np.uint64)
    (tmp_path / "x.params").write_bytes(mxnet.file({"arg:x": signaling.view(np.float64)}))
    assert load_params(tmp_path / "x.params")["arg:x"].numpy().tobytes() == signaling.tobytes()


def block(stage: int, unit: int, c_in: int, c_out: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """A block's ±1 weights under BMXNet's names."""
    name = f"arg:stage{stage}_unit{unit}_"
    shapes = {"conv1": (c_out, c_in, 3, 3), "conv2": (c_out, c_out, 3, 3)}
    shapes |= {"sc": (c_out, c_in, 1, 1)} if unit == 1 else {}
    return {f"{name}{key}_weight": random.choice([-1.0, 1.0], shape) for key, shape in shapes.items()}


def norm(name: str, channels: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    parts = {"arg": ("gamma", "beta"), "aux": ("moving_mean", "moving_var")}
    return {
        f"{kind}:{name}_{part}": random.uniform(0.5, 1.5, channels).astype(np.float32)
        for kind, both in parts.items()
        for part in both
    }


def test_an_invented_resnet_is_read_under_its_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    real = {"arg:conv0_weight": random.standard_normal((64, 3, 3, 3)).astype(np.float32)}
    real |= norm("bn_data", 3, random) | norm("bn1", 512, random)
    real |= {"arg:fc1_weight": random.standard_normal((10, 512)).astype(np.float32)}
    real |= {"arg:fc1_bias": random.standard_normal(10).astype(np.float32)}
    binary: dict[str, np.ndarray] = {}
    c_in = 64
    for stage, c_out in enumerate((64, 128, 256, 512), 1):
        for unit in 1, 2:
            binary |= block(stage, unit, c_in, c_out, random)
            real |= norm(f"stage{stage}_unit{unit}_bn1", c_in, random)
            real |= norm(f"stage{stage}_unit{unit}_bn2", c_out, random)
            c_in = c_out
    packed = {name: mxnet.words(signs) for name, signs in binary.items()}
    (tmp_path / "x.params").write_bytes(mxnet.file(real | packed))
    state = load_model("bmxnet-r18-cifar10", tmp_path / "x.params").state_dict()

    def assert_is(key: str, values: np.ndarray) -> None:
        assert torch.equal(state[key], torch.from_numpy(values.astype(np.float32))), key

    for ours, theirs in ("conv1.conv", "conv1"), ("conv2.conv", "conv2"), ("shortcut.conv", "sc"):
        assert_is(f"stages.2.0.{ours}.weight", binary[f"arg:stage3_unit1_{theirs}_weight"])
    assert_is("stages.0.1.conv2.conv.weight", binary["arg:stage1_unit2_conv2_weight"])
    assert_is("stages.3.1.bn2.running_var", real["aux:stage4_unit2_bn2_moving_var"])
    assert_is("stem.conv.weight", real["arg:conv0_weight"])
    assert_is("stem.data.bias", real["arg:bn_data_beta"])
    assert_is("stem.data.weight", np.ones(3))  # fix_gamma
    assert_is("bn.running_mean", real["aux:bn1_moving_mean"])
    assert_is("fc.bias", real["arg:fc1_bias"])

    first = {name: random.standard_normal(w.shape).astype(np.float32) for name, w in binary.items() if "stage1" in name}
    (tmp_path / "mixed.params").write_bytes(mxnet.file(real | packed | first))
    with pytest.raises(BcdzooError, match="its stage 1 is real-valued, and the network's is 1-bit"):
        load_model("bmxnet-r18-cifar10", tmp_path / "mixed.params")
    stem = norm("bn0", 64, random) | {"arg:conv0_weight": random.standard_normal((64, 3, 7, 7)).astype(np.float32)}
    (tmp_path / "signs.params").write_bytes(mxnet.file(real | packed | stem))
    with pytest.raises(BcdzooError, match="its stage 1 is 1-bit, and the network's is real-valued"):
        load_model("bmxnet-r18-first-real", tmp_path / "signs.params", num_classes=10)


def test_an_invented_lenet_is_read_under_its_names(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    conv = random.choice([-1.0, 1.0], (64, 64, 5, 5))
    linear = random.choice([-1.0, 1.0], (1000, 64, 4, 4))
    real = norm("batchnorm0", 64, random) | norm("batchnorm1", 64, random) | norm("batchnorm2", 1000, random)
    for name, shape in {"convolution0": (64, 1, 5, 5), "fullyconnected0": (10, 1000)}.items():
        real[f"arg:{name}_weight"] = random.standard_normal(shape).astype(np.float32)
        real[f"arg:{name}_bias"] = random.standard_normal(shape[0]).astype(np.float32)
    packed = {"arg:qconvolution0_weight": mxnet.words(conv), "arg:qfullyconnected0_weight": mxnet.words(linear, True)}
    (tmp_path / "x.params").write_bytes(mxnet.file(real | packed))
    state = load_model("bmxnet-lenet-mnist", tmp_path / "x.params").state_dict()
    assert state["conv2.conv.weight"].tolist() == conv.tolist()
    assert state["fc1.conv.weight"].tolist() == linear.tolist()
    assert state["bn3.bias"].tolist() == real["arg:batchnorm2_beta"].tolist()
    assert state["fc2.weight"].tolist() == real["arg:fullyconnected0_weight"].tolist()


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, None), (3, 2, None), (1, 2, None), (5, 1, 0)])
def test_a_convolution_counts_the_bits_that_agree_and_pads_with_ones(
    kernel: int, stride: int, padding: int | None
) -> None:
    random = np.random.default_rng(2)
    x, w = random.choice([-1, 1], (2, 8, 9, 9)), random.choice([-1, 1], (5, 8, kernel, kernel))
    border = kernel // 2 if padding is None else padding
    padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), constant_values=1)
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
    agreeing = (views[:, None] == w[None, :, :, None, None]).sum((2, 5, 6))
    layer = nn.Sequential(counting_conv(8, 5, kernel, stride, padding)).eval()
    layer.load_state_dict({"0.conv.weight": torch.from_numpy(w).float()})
    with torch.inference_mode():
        for network in layer, pack(layer):
            assert network(torch.from_numpy(x).float()).tolist() == agreeing.tolist()


def photos(real_data: Path, folder: Path, every: int) -> Path:
    """Every so many of the photographs, as class folders."""
    with tarfile.open(real_data / PHOTOS) as archive:
        members = [member for member in archive if member.isfile() and member.name.endswith("JPEG")]
        archive.extractall(folder, members[::every], filter="data")
    return folder / PHOTOS.removesuffix(".tar")


def images(size: int, n: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(-120, 130, (n, 3, size, size)).astype(np.float32))


@pytest.mark.parametrize("name", FILES)
def test_a_trained_network_gives_the_same_logits_packed(name: str, real_data: Path) -> None:
    model = load_model(name, real_data / FILES[name])
    x = images({"bmxnet-r18-cifar10": 32, "bmxnet-lenet-mnist": 28}.get(name, 224))
    with torch.inference_mode():
        found = pack(model)(x)
        for plain in (with_int8(model), model):  # as evaluation runs it, and as it is
            torch.testing.assert_close(plain(x), found, atol=5e-5, rtol=0)  # real-valued sums in another order
    assert found.std(0).min() > 0  # they depend on the image


@pytest.mark.parametrize("backend", ["torch", "packed"])
def test_of_ten_photographs_six_are_right(backend: str, real_data: Path, tmp_path: Path) -> None:
    some, weights = photos(real_data, tmp_path, 20), real_data / FILES["bmxnet-r18"]
    found = evaluate("bmxnet-r18", some, weights=weights, backend=backend, check=False)
    assert (found.n, round(found.top1 / 10), round(found.top5 / 10)) == (10, 6, 8)


@pytest.mark.parametrize(
    ("preprocess", "top1", "top5"), [(None, 107, 152), ("resize=256,crop=224,mean=0,std=1/255", 85, 142)]
)
@pytest.mark.parametrize("backend", ["torch", "packed"])
@pytest.mark.slow
def test_of_the_200_photographs_as_many_are_right_as_in_an_independent_rebuild(
    preprocess: str | None, top1: int, top5: int, backend: str, real_data: Path
) -> None:
    weights = real_data / FILES["bmxnet-r18"]
    found = evaluate(
        "bmxnet-r18", real_data / PHOTOS, weights=weights, preprocess=preprocess, backend=backend, check=False
    )
    assert (found.n, round(found.top1 * 2), round(found.top5 * 2)) == (200, top1, top5)
