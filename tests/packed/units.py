"""Binary units of a plan, made by hand."""

import math
from typing import Any

import torch
from torch import Tensor

from bcdzoo.layers.lowering import weight_planes
from bcdzoo.plan.operations import Operation


def unit(levels: Tensor, constants: dict[str, Any] | None = None, name: str = "conv", **fields: Any) -> Operation:
    """A binary unit on a map.

    Args:
        levels: Weights, ±1, (c_out, c_in, k, k).
        constants: Constants beside the weights and their scale 1.
        name: Its name.
        **fields: Fields that differ from those of a bare convolution.
    """
    c_out, c_in, *kernel = levels.shape
    bare: dict[str, Any] = {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "same": 0,
        "pad_value": 0.0,
        "dilation": (1, 1),
        "groups": 1,
    }
    bare |= {"kernel": tuple(kernel), "samplings": ("none",), "shortcut": "none", "activation_first": 0, "append": 0}
    given = {"threshold": torch.zeros(c_in), "scale": torch.ones(c_out)} | (constants or {})
    arrays = {key: value.numpy() for key, value in given.items()}
    arrays["planes"] = weight_planes(levels, 1)[0].numpy()
    return Operation("binary_unit", {"x": 0}, bare | {"limit": math.inf} | fields, arrays, name)
