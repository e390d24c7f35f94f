"""Bi-Real Net 18 and 34 (Liu et al., ECCV 2018)."""

from collections.abc import Callable, Sequence

from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import of_step
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import BinaryResNet

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"identity": nn.Identity, "hardtanh": nn.Hardtanh}


def birealnet_18(
    num_classes: int = 1000,
    step: int = 2,
    activation: str = "identity",
    padding: str = "symmetric",
    bn_eps: float = 1e-5,
) -> nn.Module:
    """Bi-Real Net with 18 layers.

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        activation: Behind each shortcut's addition: "identity" as in the authors' code, or "hardtanh".
        padding: "symmetric" as in the authors' code, or "tensorflow" for weights trained there (larq's).
        bn_eps: Epsilon of batch normalization; 1e-3 in Keras, and so in larq.
    """
    return _birealnet((4, 4, 4, 4), num_classes, step, activation, padding, bn_eps)


def birealnet_34(num_classes: int = 1000, step: int = 2, activation: str = "identity") -> nn.Module:
    """Bi-Real Net with 34 layers; arguments as in :func:`birealnet_18`."""
    return _birealnet((6, 8, 12, 6), num_classes, step, activation)


def _birealnet(
    depths: Sequence[int],
    num_classes: int,
    step: int,
    activation: str,
    padding: str = "symmetric",
    bn_eps: float = 1e-5,
) -> nn.Module:
    """Sign → binary 3×3 → BN → + shortcut → activation."""
    quantizers = of_step(step)
    if activation not in _ACTIVATIONS:
        raise BcdzooError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {activation!r}")

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        conv = quantizers.conv(c_in, c_out, 3, stride, padding=padding)
        return BinaryUnit(Sign(), conv, c_out, _ACTIVATIONS[activation](), shortcut)

    return BinaryResNet(residual, depths, num_classes, padding, bn_eps)
