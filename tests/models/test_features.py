"""A network as a backbone: pooled features and maps, as users of timm expect them."""

import pytest
import torch
from torch import nn

import bcdzoo
from bcdzoo.errors import BcdzooError
from bcdzoo.models.features import FeatureMaps
from bcdzoo.registry import REGISTRY

HAVE_NO_MAPS = ("finn-lfc-w1a1", "qonnx-tfc-w1a1")
OF_EACH_FILE = {spec.build.partition(":")[0]: spec.name for spec in reversed(REGISTRY.values())}.values()
NETWORKS = [
    name if name in OF_EACH_FILE else pytest.param(name, marks=pytest.mark.slow) for name in bcdzoo.list_models()
]


def blank(name: str) -> torch.Tensor:
    side = REGISTRY[name].input_size
    return torch.zeros(1, 3, side, side)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_classes_a_network_gives_vectors_and_has_all_parameters_but_the_classifiers(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        whole, headless = bcdzoo.create_model(name).eval(), bcdzoo.create_model(name, num_classes=0).eval()
        features = headless(blank(name))
        kept, all_keys = headless.state_dict().keys(), whole.state_dict().keys()
    assert features.ndim == 2 and features.shape[1] >= 64
    assert kept < all_keys


@pytest.mark.parametrize("name", NETWORKS)
def test_every_map_has_the_size_and_channels_that_are_stated_and_sizes_fall(name: str) -> None:
    if name in HAVE_NO_MAPS:
        with pytest.raises(BcdzooError, match="this network has no maps"):
            bcdzoo.create_model(name, features_only=True)
        return
    with torch.device("meta"), torch.no_grad():
        model = bcdzoo.create_model(name, features_only=True).eval()
        assert isinstance(model, FeatureMaps)
        maps = model(blank(name))
    info = model.feature_info
    assert [found.shape[1] for found in maps] == info.channels()
    assert info.reduction() == sorted(set(info.reduction()))
    for found, reduction in zip(maps, info.reduction(), strict=True):
        assert round(REGISTRY[name].input_size / found.shape[-1]) == reduction


def test_the_maps_of_resnet_18_are_timms() -> None:
    info = bcdzoo.create_model("resnet-18", features_only=True).feature_info
    assert isinstance(info, list)
    assert [each["num_chs"] for each in info] == [64, 64, 128, 256, 512]
    assert [each["reduction"] for each in info] == [2, 4, 8, 16, 32]


def test_trained_weights_give_the_features_that_the_classifier_sees() -> None:
    whole = bcdzoo.load_model("bcdnet-tiny")
    headless = bcdzoo.load_model("bcdnet-tiny", num_classes=0)
    maps = bcdzoo.load_model("bcdnet-tiny", features_only=True)
    images = torch.rand(3, 3, 28, 28)
    with torch.no_grad():
        features = headless(images)
        head = whole.get_submodule("head")
        assert torch.equal(head(features), whole(images))
        found = maps(images)
    assert torch.equal(found[-1].mean(dim=(2, 3)), features)
    assert str(maps.preprocess) == str(whole.preprocess) == str(headless.preprocess)
    assert headless.class_names is None


def test_maps_are_not_written_over_by_what_runs_after_them() -> None:
    torch.manual_seed(0)
    for name in ("resnet-18", "bcdnet-tiny", "bmxnet-r18-cifar10", "dorefa-r18-w2a2"):
        model = bcdzoo.create_model(name, features_only=True).eval()
        assert isinstance(model, FeatureMaps)
        images = torch.randn(1, 3, 64, 64)
        kept: list[torch.Tensor] = []
        for module in model.feature_info.module_name():
            model.network.get_submodule(module).register_forward_hook(
                lambda module, inputs, output, kept=kept: kept.append(output.clone())
            )
        with torch.no_grad():
            for found, when_given in zip(model(images), kept, strict=True):
                assert torch.equal(found, when_given), name


def test_gradients_reach_the_network_through_the_maps() -> None:
    model: nn.Module = bcdzoo.create_model("reactnet-tiny", features_only=True)
    sum(found.mean() for found in model(torch.rand(2, 3, 28, 28))).backward()
    gradients = [parameter.grad for name, parameter in model.named_parameters() if ".fc." not in name]
    assert all(gradient is not None for gradient in gradients)


def test_a_packed_backbone_gives_the_maps_of_the_plain_one() -> None:
    maps = bcdzoo.load_model("bcdnet-tiny", features_only=True)
    images = torch.rand(70, 3, 28, 28)  # more than run at once
    with torch.inference_mode():
        for found, expected in zip(bcdzoo.pack(maps)(images), maps(images), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_features_are_never_taken_for_logits() -> None:
    headless = bcdzoo.load_model("bcdnet-tiny", num_classes=0)
    maps = bcdzoo.load_model("bcdnet-tiny", features_only=True)
    for network, message in ((headless, "features are no predictions"), (bcdzoo.pack(headless), "no predictions"),
                             (maps, "not a list"), (bcdzoo.pack(maps), "not a list")):  # fmt: skip
        with pytest.raises(BcdzooError, match=message):
            bcdzoo.evaluate(network, "demo")
    with pytest.raises(BcdzooError, match="features_only gives maps"):
        bcdzoo.evaluate("bcdnet-tiny", "demo", features_only=True)
    for builder in (bcdzoo.create_model, bcdzoo.load_model):
        with pytest.raises(BcdzooError, match="True or False, not 'no'"):
            builder("bcdnet-tiny", features_only="no")  # type: ignore[arg-type]
