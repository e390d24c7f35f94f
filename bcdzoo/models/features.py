"""A network as a backbone: the last map of each size, as users of timm's ``features_only=True`` expect."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError


class FeatureInfo(list[dict[str, Any]]):
    """What each map is: ``module`` that gives it, ``num_chs``, ``reduction`` of the image's side."""

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [each["num_chs"] for each in self]

    def reduction(self) -> list[int]:
        """Side of the image over that of each map."""
        return [each["reduction"] for each in self]

    def module_name(self) -> list[str]:
        """Module that gives each map."""
        return [each["module"] for each in self]


class FeatureMaps(nn.Module):
    """The last map of each size that a network's trunk gives, from fine to coarse.

    The trunk is what lies at the top of the network or in plain sequences there: what is inside of blocks is not of it.
    A block that gives several maps counts with its last one.

    Args:
        network: Network; it becomes part of this module.
        side: Height and width of the images that it was made for.

    Attributes:
        feature_info: What each map is.

    Shape:
        (N, 3, H, W) to a list of (N, C, H / reduction, W / reduction), float32.

    Raises:
        BcdzooError: It has no maps.
    """

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        self.feature_info = _info(network, side)
        if not self.feature_info:
            raise BcdzooError("features_only: this network has no maps, only vectors")
        self._maps: dict[str, Tensor] = {}
        for name in self.feature_info.module_name():
            network.get_submodule(name).register_forward_hook(_Keep(self._maps, name))

    def forward(self, x: Tensor) -> list[Tensor]:
        self._maps.clear()
        try:
            self.network(x)
            if gone := set(self.feature_info.module_name()) - self._maps.keys():
                raise BcdzooError(
                    f"features_only: {min(gone)} gave no map, because this network runs it in another way "
                    "(a packed one gives its logits alone)"
                )
            return [self._maps[name] for name in self.feature_info.module_name()]
        finally:
            self._maps.clear()


class _Keep:
    """A hook that keeps what a module gives."""

    def __init__(self, maps: dict[str, Tensor], name: str) -> None:
        self.maps, self.name = maps, name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.maps[self.name] = _map(output)


def _map(output: Any) -> Tensor:
    last: Tensor = output[-1] if isinstance(output, tuple) else output
    return last


def _info(network: nn.Module, side: int) -> FeatureInfo:
    with torch.device("meta"):
        blank = torch.zeros(1, 3, side, side)
    outline = copy.deepcopy(network).to("meta").eval()
    last: dict[int, tuple[str, int]] = {}
    begun: list[str] = []  # layers with parameters that have run: before them, a map is the image
    for name, module in outline.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(lambda module, inputs, output: begun.append(""))
        if name and _is_of_trunk(outline, name):
            module.register_forward_hook(_Note(last, begun, name, side))
    with torch.no_grad():
        outline(blank)
    return FeatureInfo(
        {"module": name, "num_chs": channels, "reduction": reduction}
        for reduction, (name, channels) in sorted(last.items())
    )


def _is_of_trunk(network: nn.Module, name: str) -> bool:
    parts = name.split(".")[:-1]
    return all(type(network.get_submodule(".".join(parts[: i + 1]))) is nn.Sequential for i in range(len(parts)))


class _Note:
    """A hook that notes a map's size and channels; later ones of a size take the place of earlier ones."""

    def __init__(self, last: dict[int, tuple[str, int]], begun: list[str], name: str, side: int) -> None:
        self.last, self.begun, self.name, self.side = last, begun, name, side

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        found = _map(output)
        if self.begun and isinstance(found, Tensor) and found.ndim == 4 and found.shape[-1] > 1:
            self.last[round(self.side / found.shape[-1])] = self.name, found.shape[1]
