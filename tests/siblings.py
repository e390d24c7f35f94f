"""Networks whose code another one runs too: what they compute is looked at in the slow tests alone."""

import pytest

from bcdzoo.registry import REGISTRY
from bcdzoo.report.counts import counts

# Their units are a smaller network's, their frame another's; their authors' logits hold them too.
_OF_KNOWN_PARTS = (
    *("abbnn-a", "adabin-star-r18", "basenet-k4", "binaryvit-real-embeddings", "boolnet-star-k4"),
    *("biper-r18-cifar10", "biper-vgg-small", "bnas-e", "bnas-f", "bnas-g", "bnas-h", "pokebnn-0.75x", "pokebnn-1.0x"),
    *("adabin-r18-cifar10", "biper-r18", "irnet-r18", "irnet-r18-cifar10", "irnet-vgg-small", "rbnn-r18"),
    *("rbnn-r18-cifar10", "rbnn-vgg-small", "recu-r18", "recu-r18-cifar10", "recu-react-r18", "recu-vgg-small"),
    *(
        "bnext-s",
        "meliusnet-42",
        "meliusnet-59",
        "reactnet-b",
        "reactnet-c",
        "reste-r18",
        "siman-r18",
        "siman-r18-cifar10",
    ),
    "siman-vgg-small",
)


def has_sibling(name: str) -> bool:
    """Whether a smaller network, or one that is built alike, runs the same code."""
    alike = [spec.name for spec in REGISTRY.values() if spec.build == REGISTRY[name].build]
    is_large = counts().get(name, {"params": 0})["params"] > 10**8
    return is_large or name.endswith("-r34") or name in _OF_KNOWN_PARTS or name != alike[-1]


def marked(names: list[str], slow: str = "") -> list[object]:
    """The names for a test's table; those with a sibling, and those that contain a word, for the slow tests."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if has_sibling(name) or (slow and slow in name) else name
        for name in names
    ]
