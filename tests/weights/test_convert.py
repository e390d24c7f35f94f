"""Other people's checkpoints: the same weights in, the same logits out."""

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from safetensors.torch import load_file, save_file
from torch import nn

from bcdzoo import create_model, load_model
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.convert import convert_state, load_state, safetensors_metadata
from bcdzoo.weights.load import convert, load_into
from tests.weights import authors

AUTHORS: dict[str, tuple[str, dict[str, Any]]] = {
    "bcdnet-a": ("bcdnet-a", {}),
    "bcdnet-a-step1": ("bcdnet-a", {"step": 1}),
    "reactnet-a": ("reactnet-a", {}),
    "reactnet-r18": ("reactnet-r18", {}),
    "birealnet-18": ("birealnet-18", {}),
    "birealnet-34": ("birealnet-34", {}),
}


@pytest.mark.parametrize("signs", [False, True], ids=["latent weights", "weights stored as signs"])
@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_own_code_gives_the_same_logits_for_the_same_weights(name: str, signs: bool) -> None:
    model_name, build = AUTHORS[name]
    record = authors.record(name)
    model = create_model(model_name, **build)
    model.load_state_dict(convert_state(authors.state(record["keys"], signs), model, name))
    with torch.inference_mode():
        # float64: in float32 a sum next to zero may fall on either side of the next sign, in their code as in ours
        logits = model.double().eval()(authors.images().double())
    suffix = "_signs" if signs else ""
    expected = torch.tensor(record["logits" + suffix], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-3, rtol=1e-5)
    assert logits.argmax(1).tolist() == record["top1" + suffix]


def test_bcdnet_a_agrees_with_its_authors_in_float32_too() -> None:
    record = authors.record("bcdnet-a")
    model = create_model("bcdnet-a")
    model.load_state_dict(convert_state(authors.state(record["keys"]), model, "bcdnet-a"))
    with torch.inference_mode():
        logits = model.eval()(authors.images())
    torch.testing.assert_close(logits[:, :50], torch.tensor(record["logits"]), atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def reactnet_r18_state() -> dict[str, torch.Tensor]:
    return authors.state(authors.record("reactnet-r18")["keys"])


@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
def test_a_training_checkpoint_loads_whatever_it_is_wrapped_in(
    wrapper: str | None, reactnet_r18_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state = OrderedDict(("module." + key, tensor) for key, tensor in reactnet_r18_state.items())
    extras = {"optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "last_iter": 7, "best": np.float64(65.5)}
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({wrapper: state, **extras} if wrapper else state, path)
    model = load_model("reactnet-r18", path)
    assert torch.equal(model.get_parameter("stages.0.0.conv.weight"), reactnet_r18_state["layer1.0.binary_conv.weight"])
    assert not model.training


def test_old_files_with_flat_binary_weights_load(reactnet_r18_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    old = {
        key.replace("binary_conv.weight", "binary_conv.weights"): t.reshape(-1, 1) if "binary" in key else t
        for key, t in reactnet_r18_state.items()
        if "num_batches" not in key
    }
    torch.save(old, tmp_path / "old.pth")
    new = load_model("reactnet-r18", tmp_path / "old.pth").state_dict()
    torch.save(reactnet_r18_state, tmp_path / "new.pth")
    for key, tensor in load_model("reactnet-r18", tmp_path / "new.pth").state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(tensor, new[key]), key


def test_weights_stored_as_signs_have_scale_one() -> None:
    record = authors.record("bcdnet-a")
    model = create_model("bcdnet-a")
    state = convert_state(authors.state(record["keys"], stored_as_signs=True), model, "")
    weight = state["mlp.0.0.long.weight"]
    assert weight.abs().mean(dim=(1, 2, 3)).unique().tolist() == [1.0]


def _without(state: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: _without(s, "layer3.2.prelu.weight"), r"missing stages\.2\.2\.activation\.slope"),
        (lambda s: s | {"layer9.surprise": torch.ones(1)}, r"left over layer9\.surprise"),
        (lambda s: s | {"fc.weight": torch.ones(10, 512)}, r"fc\.weight has shape \(10, 512\).*needs \(1000, 512\)"),
        (lambda s: s | {"layer1.0.binary_conv.weight": torch.ones(64, 64, 1, 1)}, r"layer1\.0\.binary_conv\.weight"),
    ],
)
def test_a_key_that_is_missing_left_over_or_misshaped_is_named(
    change: Any, message: str, reactnet_r18_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(change(reactnet_r18_state), tmp_path / "bad.pth")
    with pytest.raises(BcdzooError, match=message):
        load_model("reactnet-r18", tmp_path / "bad.pth")


def test_another_networks_checkpoint_is_refused(reactnet_r18_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(reactnet_r18_state, tmp_path / "r18.pth")
    with pytest.raises(BcdzooError, match=r"does not fit ReActNet: missing"):
        load_model("reactnet-a", tmp_path / "r18.pth")


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("code from the file ran",))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(BcdzooError, match="would run code") as error:
        load_state(tmp_path / "evil.pth")
    assert "\n" not in str(error.value)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02garbage", b"<!doctype html><html>Sign in</html>", b"PK\x03\x04half a zip", bytes(range(256))],
)
def test_a_file_that_is_no_checkpoint_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(BcdzooError) as error:
        load_state(tmp_path / "x.pth")
    assert "\n" not in str(error.value)
    assert "x.pth" in str(error.value)


def test_a_pickle_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(BcdzooError, match="not a plain state dict"):
        load_state(tmp_path / "x.pth")


def _randomized(model: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, so that mixing two up changes the logits."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.2, generator=generator)
    return model.eval()


PEERS: dict[str, tuple[str, dict[str, Any], Callable[[], nn.Module]]] = {
    "timm's mobilenet-v1": ("mobilenet-v1", {"activation": "relu6"}, lambda: timm.create_model("mobilenetv1_100")),
    "timm's mobilenet-v2": ("mobilenet-v2", {}, lambda: timm.create_model("mobilenetv2_100")),
    "timm's resnet-18": ("resnet-18", {}, lambda: timm.create_model("resnet18")),
    "pytorchcv's mobilenet-v1": ("mobilenet-v1", {}, lambda: get_model("mobilenet_w1")),
    "pytorchcv's resnet-18": ("resnet-18", {}, lambda: get_model("resnet18")),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_peers_real_valued_network_gives_the_same_logits(peer: str) -> None:
    name, build, make = PEERS[peer]
    torch.manual_seed(0)
    theirs = _randomized(make())
    ours = create_model(name, **build).eval()
    ours.load_state_dict(convert_state(dict(theirs.state_dict()), ours, peer))
    with torch.inference_mode():
        torch.testing.assert_close(ours(authors.images()), theirs(authors.images()), atol=1e-4, rtol=1e-4)


def test_pytorchcvs_mobilenet_v2_is_another_network_and_is_refused() -> None:
    ours = create_model("mobilenet-v2")  # theirs has an expanding 1×1 in its first block, which the paper's has not
    with pytest.raises(BcdzooError, match="does not fit MobileNetV2"):
        convert_state(dict(get_model("mobilenetv2_w1").state_dict()), ours, "theirs")


def test_a_checkpoint_inside_a_zip_archive_is_read_by_its_name(tmp_path: Path) -> None:
    state = create_model("mobilenet-v1").state_dict()
    torch.save(state, tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "weights.pth.zip", "w") as archive:
        archive.write(tmp_path / "weights.pth", "weights.pth")
        archive.writestr("../escape.txt", "never extracted")
    read = load_state(tmp_path / "weights.pth.zip", member="weights.pth")
    assert all(torch.equal(read[key], tensor) for key, tensor in state.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights.pth", "weights.pth.zip"]
    with pytest.raises(BcdzooError, match=r"expected other\.pth in the archive"):
        load_state(tmp_path / "weights.pth.zip", member="other.pth")


def test_a_converted_file_states_its_source_and_rebuilds_its_network(
    reactnet_r18_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({"state_dict": reactnet_r18_state, "optimizer": {"m": torch.ones(99)}}, tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", "reactnet-r18", tmp_path / "ours.safetensors", preprocess="imagenet", step=1)
    metadata = safetensors_metadata(tmp_path / "ours.safetensors")
    assert metadata["build"] == '{"step": 1}'
    assert metadata["preprocess"] == "imagenet"
    assert len(metadata["source_sha256"]) == 64
    model = load_model("reactnet-r18", tmp_path / "ours.safetensors")
    assert model.get_submodule("stages.0.0.conv").w_bits == 32  # step 1 is in the file, not in the call
    assert load_file(tmp_path / "ours.safetensors").keys() == create_model("reactnet-r18").state_dict().keys()
    with pytest.raises(BcdzooError, match="holds weights of reactnet-r18, not of birealnet-18"):
        load_model("birealnet-18", tmp_path / "ours.safetensors")


def test_a_damaged_safetensors_file_is_one_clear_line(tmp_path: Path) -> None:
    save_file({"a": torch.ones(100)}, tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:-10])
    with pytest.raises(BcdzooError, match="damaged safetensors"):
        load_state(tmp_path / "a.safetensors")


def test_anybodys_module_loads_its_own_keys_strictly(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    torch.save({"state_dict": {"module." + k: v + 1 for k, v in model.state_dict().items()}}, tmp_path / "own.pth")
    load_into(model, tmp_path / "own.pth")
    assert model.get_buffer("1.running_mean").tolist() == [1.0] * 4
    torch.save({"0.weight": torch.ones(4, 3, 1, 1)}, tmp_path / "part.pth")
    with pytest.raises(BcdzooError, match=r"missing 0\.bias"):
        load_into(model, tmp_path / "part.pth")


def test_negative_variances_are_refused(tmp_path: Path) -> None:
    state = create_model("bcdnet-tiny").state_dict()
    key = next(key for key in state if key.endswith("running_var"))
    state[key][0] = -0.5
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(BcdzooError, match=f"{key} holds negative variances: the file is unusable"):
        load_model("bcdnet-tiny", tmp_path / "x.safetensors")
