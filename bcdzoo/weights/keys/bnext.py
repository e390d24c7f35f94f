"""hpi-xnor/BNext, src/bnext.py.

Every unit has a PReLU activation1, but only that of every second 3×3 is used; the temperatures are only used in
training.
"""

from typing import TYPE_CHECKING

from bcdzoo.weights.keys.family import Family, Layout, Rule, State

if TYPE_CHECKING:
    from torch import nn

_UNITS = {"Attention": "spatial", "FFN": "pointwise", "FFN_1": "pointwise.0", "FFN_2": "pointwise.1"}


def _part(theirs: str, ours: str) -> Rule:
    """One part of every unit of a BNext."""
    return (
        rf"feature\.(\d+)\.(Attention|FFN(?:_[12])?)\.{theirs}",
        lambda m: f"blocks.{int(m[1]) - 1}.{_UNITS[m[2]]}.{ours}",
    )


def _unfit(state: State, network: "nn.Module") -> str:
    """Check the temperature: before epoch 153 the authors' weights are not signs but real numbers divided by it."""
    temperatures = [tensor for key, tensor in state.items() if key.endswith(".temperature") and tensor.numel()]
    hottest = max((float(tensor.float().max()) for tensor in temperatures if tensor.is_floating_point()), default=0.0)
    if hottest < 1e-7:
        return ""
    return f"its temperature is {hottest:.2g}, as before epoch 153 of the training, when the weights are not yet signs"


_BNEXT = Layout(
    [
        (r"feature\.0\.prelu\.", None),
        (r"feature\.0\.(conv|bn)1\.", r"stem.\1."),
        (r"feature\.\d*[13579]\.Attention\.activation1\.|feature\.\d+\.FFN(_[12])?\.activation1\.", None),
        (r".*\.temperature$", None),
        _part(r"move\.bias", "sign.bias"),
        _part(r"binary_conv\.", "conv."),
        _part(r"norm1\.", "bn."),
        _part(r"norm2\.", "bn_gated."),
        _part(r"activation1\.", "shortcut_activation."),
        _part(r"activation2\.", "activation."),
        _part(r"se\.se\.1\.", "gate.reduce."),
        _part(r"se\.se\.3\.", "gate.expand."),
        _part(r"scale$", "mix.weight"),
        (r"prelu\.", "activation."),
        (r"fc\.", "fc."),
    ],
    preprocess="imagenet-235-bicubic",
    unfit=_unfit,
)

FAMILY = Family((_BNEXT,))
