"""Families of checkpoints, one file each: their keys, and the network that their files need.

The ``format`` of a manifest's entry names one of them. For a file without an entry, all are tried in this order.
"""

from importlib import import_module

from bcdzoo.weights.keys.family import Family

_FILES = (
    "zoo",
    "reactnet",
    "bcdnet",
    "bnas",
    "bnext",
    "recu",  # before rbnn, which would leave tau over
    "rbonn",
    "expertbnn",
    "fracbnn",
    "boolnet",
    "pokebnn",
    "rbnn",
    "larq_h5",
    "bitorch",
    "binaryvit",
    "bmxnet",
    "finn",
    "qonnx",
    "adabin",
    "abbnn",
    "timm",
    "pytorchcv",
    "torchvision",
    "onnx",
    "openvino",
)

FORMATS: dict[str, Family] = {name.replace("_", "-"): import_module(f"{__name__}.{name}").FAMILY for name in _FILES}
