"""Every network of the zoo in one explicit table; importing this imports neither networks nor torch."""

import fnmatch
import functools
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from bcdzoo.bits import BINARY, REAL, Bits, bits_label
from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelSpec:
    """A network of the zoo.

    Attributes:
        name: Name in this zoo.
        build: Name ``module:function`` in ``bcdzoo.models``; the function takes ``num_classes`` and the network's own
            arguments and returns an ``nn.Module``.
        paper: Publication.
        bits: Bits of its low-bit layers, each kind once; 32/32 for a real-valued network.
        input_size: Height and width in pixels of the images for which it was published.
        num_classes: Default number of outputs.
        recipe: Shipped recipe to train it with (docs/training.md), if there is one.
        shown: Arguments, besides ``num_classes``, whose values can be read from the names and shapes of its tensors.
        dataset: Data set for which it was published.
    """

    name: str
    build: str
    paper: str
    bits: tuple[Bits, ...] = (BINARY,)
    input_size: int = 224
    num_classes: int = 1000
    recipe: str = ""
    shown: tuple[str, ...] = ()
    dataset: str = "imagenet"

    @property
    def w_bits(self) -> int | None:
        """Bits of a weight in the low-bit layers, 32 for real values; None if the layers differ."""
        return _same(bits.w_bits for bits in self.bits)

    @property
    def a_bits(self) -> int | None:
        """Bits of an activation in the low-bit layers, likewise."""
        return _same(bits.a_bits for bits in self.bits)

    @property
    def wa(self) -> str:
        """The bits as printed in tables."""
        return bits_label(self.bits)


def _same(numbers: Iterable[int]) -> int | None:
    kinds = set(numbers)
    return kinds.pop() if len(kinds) == 1 else None


_BCDNET = "Xing et al., Towards Accurate Binary Neural Networks via Modeling Contextual Dependencies, ECCV 2022"
_REACTNET = (
    "Liu et al., ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions, ECCV 2020"
)
_BIREALNET = "Liu et al., Bi-Real Net, ECCV 2018"

_BNAS = "Kim et al., Learning Architectures for Binary Networks, ECCV 2020"
_BNN = "Hubara et al., Binarized Neural Networks, NIPS 2016"
_DOREFA = "Zhou et al., DoReFa-Net, arXiv:1606.06160, 2016"
_QUICKNET = (
    "Bannink et al., Larq Compute Engine: Design, Benchmark, and Deploy State-of-the-Art Binarized Neural Networks, "
    "MLSys 2021"
)
_SIMPLICITY = "Bethge et al., Back to Simplicity: How to Train Accurate BNNs from Scratch?, arXiv:1906.08637, 2019"
_BNEXT = (
    "Guo et al., Join the High Accuracy Club on ImageNet with a Binary Neural Network Ticket, arXiv:2211.12933, 2022"
)
_FDABNN = "Xu et al., Learning Frequency Domain Approximation for Binary Neural Networks, NeurIPS 2021"
_MELIUSNET = (
    "Bethge et al., MeliusNet: Can Binary Neural Networks Achieve MobileNet-level Accuracy?, arXiv:2001.05936, 2020"
)
_REALTOBINARY = "Martinez et al., Training Binary Neural Networks with Real-to-Binary Convolutions, ICLR 2020"
_RBONN = "Xu et al., Recurrent Bilinear Optimization for Binary Neural Networks, ECCV 2022"
_REBNN = "Xu et al., Resilient Binary Neural Network, AAAI 2023"
_SABNN = "Liu et al., SA-BNN: State-Aware Binary Neural Network, AAAI 2021"

_SLB = "Yang et al., Searching for Low-Bit Weights in Quantized Neural Networks, NeurIPS 2020"
_XNORNET = "Rastegari et al., XNOR-Net, ECCV 2016"

_ABBNN = "Ma et al., A&B BNN: Add&Bit-Operation-Only Hardware-Friendly Binary Neural Network, CVPR 2024"
_ADABIN = "Tu et al., AdaBin, ECCV 2022"
_ADAMBNN = "Liu et al., How Do Adam and Training Strategies Help BNNs Optimization?, ICML 2021"
_BINARYVIT = (
    "Le and Li, BinaryViT: Pushing Binary Vision Transformers Towards Convolutional Models, CVPR Workshops 2023"
)
_BIPER = "Vargas et al., BiPer: Binary Neural Networks using a Periodic Function, CVPR 2024"
_BOOLNET = "Guo et al., BoolNet: Minimizing The Energy Consumption of Binary Neural Networks, arXiv:2106.06991, 2021"
_EXPERTBNN = "Bulat et al., High-Capacity Expert Binary Networks, ICLR 2021"
_FRACBNN = (
    "Zhang et al., FracBNN: Accurate and FPGA-Efficient Binary Neural Networks with Fractional Activations, FPGA 2021"
)
_POKEBNN = "Zhang et al., PokeBNN: A Binary Pursuit of Lightweight Accuracy, CVPR 2022"
_IRNET = "Qin et al., IR-Net, CVPR 2020"
_RESTE = "Wu et al., Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator, ICCV 2023"
_RBNN = "Lin et al., Rotated Binary Neural Network, NeurIPS 2020"
_SIMAN = "Lin et al., SiMaN: Sign-to-Magnitude Network Binarization, TPAMI 2022"
_RECU = "Xu et al., ReCU: Reviving the Dead Weights in Binary Neural Networks, ICCV 2021"

_BMXNET = "Yang et al., BMXNet: An Open-Source Binary Neural Network Implementation Based on MXNet, ACM Multimedia 2017"
_FINN = "Umuroglu et al., FINN: A Framework for Fast, Scalable Binarized Neural Network Inference, FPGA 2017"
_POKEBNN_BITS = (BINARY, Bits(4, 4), Bits(8, 8))
_MNIST: dict[str, Any] = {"input_size": 28, "num_classes": 10, "dataset": "mnist"}
_CIFAR10: dict[str, Any] = {"input_size": 32, "num_classes": 10, "dataset": "cifar10"}
_MIXING = ("mixing", "branches")
_CIFAR10_TRAINED: dict[str, Any] = _CIFAR10 | {"recipe": "cifar10"}
_TINY: dict[str, Any] = _MNIST | {"recipe": "tiny", "dataset": "fashion-mnist"}

_WITH_REAL_WEIGHTS = (BINARY, Bits(32, 1))

_SPECS = [
    ModelSpec("abbnn-a", "abbnn:abbnn_a", _ABBNN),
    ModelSpec("abbnn-r18", "abbnn:abbnn_r18", _ABBNN, (Bits(1, 32), BINARY)),
    ModelSpec("abbnn-r34", "abbnn:abbnn_r34", _ABBNN, (Bits(1, 32), BINARY)),
    ModelSpec(
        "abcnet-r18-5x5",
        "abcnet:abcnet_r18_5x5",
        "Lin et al., Towards Accurate Binary Convolutional Neural Network, NeurIPS 2017",
        bits=(Bits(1, 1, 5, 5),),
    ),
    ModelSpec("adabin-r18", "adabin:adabin_r18", _ADABIN, recipe="adabin"),
    ModelSpec("adabin-r18-cifar10", "adabin:adabin_r18_cifar10", _ADABIN, **_CIFAR10_TRAINED),
    ModelSpec("adabin-r34", "adabin:adabin_r34", _ADABIN, recipe="adabin"),
    ModelSpec("adabin-resnet20", "adabin:adabin_resnet20", _ADABIN, **_CIFAR10_TRAINED),
    ModelSpec("adabin-star-r18", "adabin:adabin_r18", _ADABIN),
    ModelSpec("adabin-vgg-small", "adabin:adabin_vgg_small", _ADABIN, **_CIFAR10_TRAINED),
    ModelSpec("adambnn", "reactnet:reactnet_a", _ADAMBNN, recipe="adambnn"),
    ModelSpec("basenet-k1", "boolnet:basenet_k1", _BOOLNET),
    ModelSpec("basenet-k4", "boolnet:basenet_k4", _BOOLNET),
    ModelSpec("bcdnet-a", "bcdnet:bcdnet_a", _BCDNET, recipe="bcdnet", shown=("mlp_groups", *_MIXING)),
    ModelSpec("bcdnet-a-r18", "bcdnet:bcdnet_a_r18", _BCDNET, recipe="bcdnet", shown=_MIXING),
    ModelSpec(
        "bcdnet-b",
        "bcdnet:bcdnet_b",
        _BCDNET,
        recipe="bcdnet",
        shown=("mlp_groups", "reduction", "dynamic_pointwise", *_MIXING),
    ),
    ModelSpec("bcdnet-b-r18", "bcdnet:bcdnet_b_r18", _BCDNET, recipe="bcdnet", shown=("reduction", *_MIXING)),
    ModelSpec("bcdnet-tiny", "tiny:bcdnet_tiny", _BCDNET, shown=_MIXING, **_TINY),
    ModelSpec(
        "bcdnet-tiny-real",
        "tiny:bcdnet_tiny_real",
        _BCDNET,
        (REAL,),
        shown=_MIXING,
        **_TINY | {"recipe": "tiny-real"},
    ),
    ModelSpec("binaryalexnet", "bnn:binaryalexnet", _BNN, (Bits(1, 32), BINARY)),
    ModelSpec("binarydensenet-28", "backtosimplicity:binarydensenet_28", _SIMPLICITY),
    ModelSpec("binarydensenet-37", "backtosimplicity:binarydensenet_37", _SIMPLICITY),
    ModelSpec("binarydensenet-37-dilated", "backtosimplicity:binarydensenet_37_dilated", _SIMPLICITY),
    ModelSpec("binarydensenet-45", "backtosimplicity:binarydensenet_45", _SIMPLICITY),
    ModelSpec("binaryresnete-18", "backtosimplicity:binaryresnete_18", _SIMPLICITY),
    ModelSpec("binaryvit", "binaryvit:binaryvit", _BINARYVIT),
    ModelSpec("binaryvit-real-embeddings", "binaryvit:binaryvit_real_embeddings", _BINARYVIT),
    ModelSpec("biper-r18", "biper:biper_r18", _BIPER),
    ModelSpec("biper-r18-cifar10", "biper:biper_r18_cifar10", _BIPER, **_CIFAR10),
    ModelSpec("biper-r34", "biper:biper_r34", _BIPER),
    ModelSpec("biper-resnet20", "biper:biper_resnet20", _BIPER, **_CIFAR10),
    ModelSpec("biper-vgg-small", "biper:biper_vgg_small", _BIPER, **_CIFAR10),
    ModelSpec("birealnet-18", "birealnet:birealnet_18", _BIREALNET),
    ModelSpec("birealnet-34", "birealnet:birealnet_34", _BIREALNET),
    ModelSpec("bmxnet-lenet-mnist", "bmxnet:bmxnet_lenet_mnist", _BMXNET, **_MNIST),
    ModelSpec("bmxnet-r18", "bmxnet:bmxnet_r18", _BMXNET),
    ModelSpec("bmxnet-r18-cifar10", "bmxnet:bmxnet_r18_cifar10", _BMXNET, **_CIFAR10),
    ModelSpec("bmxnet-r18-first-real", "bmxnet:bmxnet_r18_first_real", _BMXNET),
    ModelSpec("bnas-d", "bnas:bnas_d", _BNAS, _WITH_REAL_WEIGHTS),
    ModelSpec("bnas-e", "bnas:bnas_e", _BNAS, _WITH_REAL_WEIGHTS),
    ModelSpec("bnas-f", "bnas:bnas_f", _BNAS, _WITH_REAL_WEIGHTS),
    ModelSpec("bnas-g", "bnas:bnas_g", _BNAS, _WITH_REAL_WEIGHTS),
    ModelSpec("bnas-h", "bnas:bnas_h", _BNAS, _WITH_REAL_WEIGHTS),
    ModelSpec("bnext-l", "bnext:bnext_l", _BNEXT),
    ModelSpec("bnext-m", "bnext:bnext_m", _BNEXT),
    ModelSpec("bnext-s", "bnext:bnext_s", _BNEXT),
    ModelSpec("bnext-t", "bnext:bnext_t", _BNEXT),
    ModelSpec("boolnet-k4", "boolnet:boolnet_k4", _BOOLNET),
    ModelSpec("boolnet-star-k4", "boolnet:boolnet_star_k4", _BOOLNET),
    ModelSpec("bwn-r18", "xnornet:bwn_r18", _XNORNET, (Bits(1, 32),)),
    ModelSpec("dorefa-r18-w2a2", "dorefa:dorefa_r18_w2a2", _DOREFA, (Bits(2, 2),)),
    ModelSpec("dorefanet-alexnet", "dorefa:dorefanet_alexnet", _DOREFA, (Bits(1, 2),)),
    ModelSpec("expert-bnn", "expertbnn:expert_bnn", _EXPERTBNN),
    ModelSpec("fdabnn-r18", "fdabnn:fdabnn_r18", _FDABNN),
    ModelSpec("fdabnn-star-r18", "fdabnn:fdabnn_star_r18", _FDABNN),
    ModelSpec("finn-cnv-w1a1", "finn:finn_cnv_w1a1", _FINN, (Bits(1, 8), BINARY), **_CIFAR10),
    ModelSpec("finn-lfc-w1a1", "finn:finn_lfc_w1a1", _FINN, **_MNIST),
    ModelSpec("fracbnn", "fracbnn:fracbnn", _FRACBNN, (BINARY, Bits(1, 2))),
    ModelSpec("fracbnn-resnet20", "fracbnn:fracbnn_resnet20", _FRACBNN, (BINARY, Bits(1, 2)), **_CIFAR10),
    ModelSpec("irnet-r18", "irnet:irnet_r18", _IRNET),
    ModelSpec("irnet-r18-cifar10", "irnet:irnet_r18_cifar10", _IRNET, **_CIFAR10_TRAINED),
    ModelSpec("irnet-resnet20", "irnet:irnet_resnet20", _IRNET, **_CIFAR10_TRAINED),
    ModelSpec("irnet-vgg-small", "irnet:irnet_vgg_small", _IRNET, **_CIFAR10_TRAINED),
    ModelSpec("lqnet-r18-w1a2", "lqnet:lqnet_r18_w1a2", "Zhang et al., LQ-Nets, ECCV 2018", (Bits(1, 2),)),
    ModelSpec("meliusnet-22", "meliusnet:meliusnet_22", _MELIUSNET),
    ModelSpec("meliusnet-42", "meliusnet:meliusnet_42", _MELIUSNET),
    ModelSpec("meliusnet-59", "meliusnet:meliusnet_59", _MELIUSNET),
    ModelSpec("mobilenet-v1", "float:mobilenet_v1", "Howard et al., MobileNets, arXiv:1704.04861, 2017", (REAL,)),
    ModelSpec("mobilenet-v2", "float:mobilenet_v2", "Sandler et al., MobileNetV2, CVPR 2018", (REAL,)),
    ModelSpec("pokebnn-0.5x", "pokebnn:pokebnn_0_5x", _POKEBNN, _POKEBNN_BITS),
    ModelSpec("pokebnn-0.75x", "pokebnn:pokebnn_0_75x", _POKEBNN, _POKEBNN_BITS),
    ModelSpec("pokebnn-1.0x", "pokebnn:pokebnn_1_0x", _POKEBNN, _POKEBNN_BITS),
    ModelSpec("qonnx-tfc-w1a1", "qonnx:qonnx_tfc_w1a1", "Pappalardo et al., QONNX, arXiv:2206.07527, 2022", **_MNIST),
    ModelSpec("quicknet", "quicknet:quicknet", _QUICKNET),
    ModelSpec("quicknet-large", "quicknet:quicknet_large", _QUICKNET),
    ModelSpec("quicknet-small", "quicknet:quicknet_small", _QUICKNET),
    ModelSpec("rbnn-r18", "rbnn:rbnn_r18", _RBNN),
    ModelSpec("rbnn-r18-cifar10", "rbnn:rbnn_r18_cifar10", _RBNN, **_CIFAR10_TRAINED),
    ModelSpec("rbnn-resnet20", "rbnn:rbnn_resnet20", _RBNN, **_CIFAR10_TRAINED),
    ModelSpec("rbnn-resnet20-bireal", "rbnn:rbnn_resnet20_bireal", _RBNN, **_CIFAR10_TRAINED),
    ModelSpec("rbnn-vgg-small", "rbnn:rbnn_vgg_small", _RBNN, **_CIFAR10_TRAINED),
    ModelSpec("rbonn-r18", "rbonn:rbonn_r18", _RBONN),
    ModelSpec("reactnet-a", "reactnet:reactnet_a", _REACTNET, recipe="reactnet"),
    ModelSpec("reactnet-b", "reactnet:reactnet_b", _REACTNET, recipe="reactnet"),
    ModelSpec("reactnet-c", "reactnet:reactnet_c", _REACTNET, recipe="reactnet"),
    ModelSpec("reactnet-r18", "reactnet:reactnet_r18", _REACTNET, recipe="reactnet-r18"),
    ModelSpec("reactnet-tiny", "tiny:reactnet_tiny", _REACTNET, **_TINY),
    ModelSpec("real-to-binary-r18", "realtobinary:real_to_binary_r18", _REALTOBINARY),
    ModelSpec("recu-r18", "recu:recu_r18", _RECU, recipe="recu"),
    ModelSpec("recu-r18-cifar10", "recu:recu_r18_cifar10", _RECU, **_CIFAR10_TRAINED),
    ModelSpec("recu-r34", "recu:recu_r34", _RECU, recipe="recu"),
    ModelSpec("recu-react-r18", "recu:recu_react_r18", _RECU),
    ModelSpec("recu-resnet20", "recu:recu_resnet20", _RECU, **_CIFAR10_TRAINED),
    ModelSpec("recu-vgg-small", "recu:recu_vgg_small", _RECU, **_CIFAR10_TRAINED),
    ModelSpec("rebnn-r18", "rebnn:rebnn_r18", _REBNN),
    ModelSpec("resnet-18", "float:resnet_18", "He et al., Deep Residual Learning, CVPR 2016", (REAL,)),
    ModelSpec("reste-r18", "reste:reste_r18", _RESTE, recipe="reste"),
    ModelSpec("reste-resnet20", "reste:reste_resnet20", _RESTE, **_CIFAR10_TRAINED),
    ModelSpec("reste-resnet20-bireal", "reste:reste_resnet20_bireal", _RESTE, **_CIFAR10_TRAINED),
    ModelSpec("sabnn-18", "sabnn:sabnn_18", _SABNN),
    ModelSpec("sabnn-50", "sabnn:sabnn_50", _SABNN),
    ModelSpec("siman-r18", "siman:siman_r18", _SIMAN),
    ModelSpec("siman-r18-cifar10", "siman:siman_r18_cifar10", _SIMAN, **_CIFAR10),
    ModelSpec("siman-r34", "siman:siman_r34", _SIMAN),
    ModelSpec("siman-resnet20", "siman:siman_resnet20", _SIMAN, **_CIFAR10),
    ModelSpec("siman-vgg-small", "siman:siman_vgg_small", _SIMAN, **_CIFAR10),
    ModelSpec("slb-r18-w1a1", "slb:slb_r18_w1a1", _SLB),
    ModelSpec("slb-r18-w1a8", "slb:slb_r18_w1a8", _SLB, (Bits(1, 8),)),
    ModelSpec("xnornet-alexnet", "xnornet:xnornet_alexnet", _XNORNET),
    ModelSpec("xnornet-r18", "xnornet:xnornet_r18", _XNORNET),
]

REGISTRY = {spec.name: spec for spec in _SPECS}


def list_models(pattern: str = "*") -> list[str]:
    """List the names of the zoo's networks that match a shell pattern, sorted.

    Args:
        pattern: Shell pattern, such as ``bcdnet*``; case does not matter. Without ``*``, ``?`` or ``[`` it is one
            network's name, as :func:`find` takes it.

    Raises:
        BcdzooError: It is not a string.
    """
    if not isinstance(pattern, str):
        raise BcdzooError(f"a pattern such as 'bcdnet*' must be a string, not {printable(repr(pattern), 60)}")
    if not is_pattern(pattern):
        return [name for name in [_as_printed(pattern)] if name]
    matching = fnmatch.filter(REGISTRY, pattern.lower())
    if not matching:  # a paper's family, such as Bi-Real-*
        bare = _bare_names()
        matching = [bare[name] for name in fnmatch.filter(bare, re.sub(r"[-_ ]", "", pattern.lower()))]
    return sorted(matching)


def zoo_name(name: str) -> str:
    """The zoo's name of a network, as :func:`find` takes it; what is not of the zoo, such as a path, stays as it is."""
    return name if ":" in name else _as_printed(name) or name


def is_pattern(text: str) -> bool:
    """Whether a text stands for several names."""
    return bool(set(text) & set("*?["))


def find(name: str) -> ModelSpec:
    """Find the entry of a network.

    Args:
        name: Its name in this zoo, in any case, or as papers print it: ``BCDNet-A``, ``Bi-Real-18``.

    Raises:
        BcdzooError: No network has this name; the message suggests similar ones.
    """
    if not isinstance(name, str):
        raise BcdzooError(f"a network's name must be a string, not {printable(repr(name), 60)}")
    found = _as_printed(name)
    if name.endswith(".bcz"):
        raise BcdzooError(f"{printable(name, 150)} is a plan, which has only what the engine runs: name its network")
    if found is None:
        several = _published().get(_bare(name), [])
        near = several or [_bare_names()[bare] for bare in near_ones(_bare(name), _bare_names())]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BcdzooError(f"no network named {printable(repr(name), 100)}{hint} (`bcdzoo list` shows all)")
    return REGISTRY[found]


def _as_printed(name: str) -> str | None:
    """The zoo's name of a network whose name is written in some way; None where that is none, or several."""
    if name in REGISTRY:
        return name
    bare = _bare(name)
    if bare in _bare_names():
        return _bare_names()[bare]
    published = _published().get(bare, [])
    if len(published) == 1:
        return published[0]
    if published:
        return None
    return _of_family(bare)


def _of_family(bare: str) -> str | None:
    """A member that no table has, under its family's printed name: Bi-Real-34 is birealnet-34, so Bi-Real-18 is known.

    None where the table's names lead to none or to several.
    """
    found = set()
    for printed, (name, *more) in _published().items():
        own, digits = _bare(name), re.search(r"\d+$", printed)
        if more or digits is None or not own.endswith(digits[0]):
            continue
        family, ours = printed.removesuffix(digits[0]), own.removesuffix(digits[0])
        if bare.startswith(family) and (other := _bare_names().get(ours + bare.removeprefix(family))):
            found.add(other)
    return found.pop() if len(found) == 1 else None


def _bare(name: str) -> str:
    """A name without case, hyphens and brackets; the star that papers put behind one is a word."""
    return re.sub(r"[\W_]", "", name.lower().replace("*", "star"))


@functools.cache
def _bare_names() -> dict[str, str]:
    return {_bare(name): name for name in REGISTRY}


@functools.cache
def _published() -> dict[str, list[str]]:
    """The names that published.toml prints, bare, and the networks that bear each."""
    text = (files("bcdzoo") / "report" / "published.toml").read_text(encoding="utf-8")
    printed: dict[str, list[str]] = {}
    for table in tomllib.loads(text).values():
        for row in table:
            known = printed.setdefault(_bare(row["method"]), [])
            if row["model"] in REGISTRY and row["model"] not in known:
                known.append(row["model"])
    return {name: models for name, models in printed.items() if models}


def create_model(
    name: str, num_classes: int | None = None, features_only: bool = False, **arguments: Any
) -> "nn.Module":
    """Build a network with random weights.

    Args:
        name: Name from :func:`list_models`.
        num_classes: Number of outputs; None for the network's own, 1000 for ImageNet's networks; 0 for the features
            that its classifier sees, (N, features).
        features_only: Whether it gives the last map of each size, as :class:`bcdzoo.models.features.FeatureMaps`.
        **arguments: Arguments of the network, such as ``step=1`` for the form with real-valued weights (W/A 32/1) in
            which a binary network is first trained, or ``mlp_groups=4`` for another member of BCDNet's family.

    Returns:
        A module from images, float32 of shape (N, 3, H, W), to logits, float32 of shape (N, ``num_classes``).

    Raises:
        BcdzooError: Unknown name, or an argument that this network does not accept.
    """
    name = find(name).name
    if not isinstance(features_only, bool):
        raise BcdzooError(f"{name}: features_only must be True or False, not {printable(repr(features_only), 60)}")
    num_classes = find(name).num_classes if num_classes is None else num_classes
    build = _builder(name)
    taken = default_arguments(name)
    if unknown := arguments.keys() - taken:
        key = printable(min(unknown), 60)
        near = near_ones(key, taken)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; it takes {', '.join(taken)}"
        raise BcdzooError(f"{name}: got an unexpected keyword argument {key!r}{hint}")
    arguments = {"num_classes": num_classes, **arguments}
    _check_types(name, arguments)
    try:
        model: nn.Module = build(**arguments)
    except (ArithmeticError, TypeError, ValueError, RuntimeError) as error:  # invalid values
        given = ", ".join(f"{key}={printable(value, 60)}" for key, value in arguments.items())
        raise BcdzooError(f"{name} cannot be built with {given}: {printable(error, 200)}") from error
    model.__dict__["num_classes"] = num_classes  # so that nobody takes features for logits
    return feature_maps(model, name) if features_only else model


def feature_maps(model: "nn.Module", name: str) -> "nn.Module":
    """The last map of each size that a network of the zoo gives.

    Args:
        model: Network.
        name: Its name.

    Raises:
        BcdzooError: It has no maps.
    """
    from bcdzoo.models.features import FeatureMaps

    return FeatureMaps(model, find(name).input_size)


def _check_types(name: str, arguments: dict[str, Any]) -> None:
    kinds = {bool: bool, int: Integral, float: Real, str: str}
    for key, default in default_arguments(name).items():
        value = arguments.get(key, default)
        if not isinstance(value, kinds[type(default)]) or isinstance(value, bool) != isinstance(default, bool):
            wanted = type(default).__name__
            raise BcdzooError(
                f"{name}: {key} must be of type {wanted}, like {default!r}, not {printable(repr(value), 60)}"
            )
    if arguments["num_classes"] < 0:
        raise BcdzooError(f"{name}: num_classes must be at least 0, not {arguments['num_classes']}")


def default_arguments(name: str) -> dict[str, Any]:
    """Return the arguments that a network accepts, with their defaults.

    Raises:
        BcdzooError: Unknown name.
    """
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def _builder(name: str) -> "Callable[..., nn.Module]":
    module, function = find(name).build.split(":")
    builder: Callable[..., nn.Module] = getattr(importlib.import_module(f"bcdzoo.models.{module}"), function)
    return builder
