"""A chain of packed units as one module, on the kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native
from bcdzoo.packed.unit import PackedHalving, PackedStem, PackedUnit


class PackedChain(nn.Module):
    """Packed units in sequence, run image by image.

    Args:
        units: Units, each on the output of the previous one.
        names: Names of the units in the original network.
        context: Modules that compute what the first unit needs for each image, from the input to a dictionary with
            some of ``shortcut`` (N, c_out, H', W'), ``threshold`` (N, c_in), ``gate`` and ``offset`` (N, c_out).
        stem: Stem before the first unit; the input is then images.
        ending: Module after the last unit.

    Attributes:
        last_size: Height and width of the last input.
        nanoseconds: Array to which the time of each unit is added, or None.

    Shape:
        (N, C, H, W) to (N, C', H', W'), float32 on the CPU; channels last in memory, unless there is an ending.
    """

    def __init__(
        self,
        units: Sequence[PackedUnit],
        names: Sequence[str],
        context: Sequence[nn.Module] = (),
        stem: PackedStem | None = None,
        ending: PackedHalving | None = None,
    ) -> None:
        super().__init__()
        self.stem, self.ending = stem, ending
        self.units = nn.ModuleList(units)
        self.context = nn.ModuleList(context)
        self.names = list(names)
        self.last_size: tuple[int, ...] = ()
        self.nanoseconds: npt.NDArray[np.int64] | None = None
        self._native: Any = None

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self._run(x)
        except (ValueError, TypeError) as error:  # refused by the kernels
            reason = str(error).partition("\n")[0]
            raise BcdzooError(f"{self.names[0]}: {reason} ({x.dtype} of shape {tuple(x.shape)})") from error

    def _run(self, x: Tensor) -> Tensor:
        needed: dict[str, Tensor] = {}
        for module in self.context:
            needed |= module(x)
        if self._native is None:
            self._native = self._build()
        maps = _channels_last(x) if self.stem is None else x.detach().permute(0, 2, 3, 1).numpy()
        self.last_size = maps.shape[1:3]
        height, width, channels = self._native.output(*maps.shape[1:3])
        out = np.empty((len(maps), height, width, channels), np.float32)
        given = {name: _flat(needed[name]) for name in needed if name != "shortcut"}
        if "shortcut" in needed:
            given["shortcut"] = _channels_last(needed["shortcut"])
        of_image = {name: given.get(name) for name in ("shortcut", "threshold", "gate", "offset")}
        self._native.run(
            maps,
            out,
            **of_image,
            threads=torch.get_num_threads(),
            instructions=native.chosen(),
            nanoseconds=self.nanoseconds,
        )
        if self.ending is not None:
            return torch.from_numpy(out.reshape(len(maps), channels, height, width))
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _build(self) -> Any:
        module = native.kernels()
        assert module is not None  # without kernels nothing is packed
        units = [unit.describe() for unit in self.units if isinstance(unit, PackedUnit)]
        parts = (None if part is None else part.describe() for part in (self.stem, self.ending))
        return module.Chain(units, *parts)

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        self._native = None  # it holds the old weights
        super()._load_from_state_dict(*arguments, **more)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_native": None}


def _channels_last(x: Tensor) -> npt.NDArray[np.float32]:
    maps: npt.NDArray[np.float32] = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return maps


def _flat(x: Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = x.detach().flatten(1).contiguous().numpy()
    return values
