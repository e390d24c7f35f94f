"""The zoo for torch.hub: one entry point a network, its name with underscores, as in ``bcdnet_a``.

``torch.hub.load("OWNER/bcdzoo", "bcdnet_a", pretrained=True)``
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

from torch import nn as _nn

from bcdzoo import create_model as _create_model
from bcdzoo import load_model as _load_model
from bcdzoo.registry import REGISTRY as _REGISTRY
from bcdzoo.registry import ModelSpec as _ModelSpec

dependencies = ["torch", "torchvision", "huggingface_hub", "safetensors", "gdown", "h5py", "pandas", "platformdirs"]


def _entry_point(spec: _ModelSpec) -> _Callable[..., _nn.Module]:
    def build(pretrained: bool = False, **arguments: _Any) -> _nn.Module:
        return (_load_model if pretrained else _create_model)(spec.name, **arguments)

    build.__doc__ = f"""{spec.name}: {spec.paper}.

    Args:
        pretrained: Whether to load trained weights: the zoo's default ones, or those of ``weights``, a tag or a file.
        **arguments: Arguments of :func:`bcdzoo.load_model` or :func:`bcdzoo.create_model`.
    """
    return build


globals().update({spec.name.replace("-", "_"): _entry_point(spec) for spec in _REGISTRY.values()})
