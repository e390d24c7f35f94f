"""Modes of running a network: strict float32, or a faster one, which must be requested and is recorded."""

from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.int8 import with_int8
from bcdzoo.text import printable


@dataclass(frozen=True)
class Mode:
    """One way to run a network; the default is the strict one.

    Attributes:
        backend: ``torch``, or ``packed`` for the 1-bit kernels (:func:`bcdzoo.pack`).
        amp: ``bf16`` for torch's automatic mixed precision, None for float32.
        compile: Whether to use torch.compile.
        channels_last: Whether weights and maps are in channels-last order.

    Raises:
        BcdzooError: There is no such mode.
    """

    backend: str = "torch"
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        for key, known in ("backend", ("torch", "packed")), ("amp", (None, "bf16")):
            if (value := getattr(self, key)) not in known:
                raise BcdzooError(f"{key}: {printable(repr(value), 60)} is none of {', '.join(map(str, known))}")
        for key in ("compile", "channels_last"):
            if not isinstance(value := getattr(self, key), bool):
                raise BcdzooError(f"{key}: must be True or False, not {printable(repr(value), 60)}")

    def __str__(self) -> str:
        """Format, such as ``float32`` or ``bf16, channels last``."""
        words = [
            *["packed"] * (self.backend == "packed"),
            self.amp or "float32",
            *["compiled"] * self.compile,
            *["channels last"] * self.channels_last,
        ]
        return ", ".join(words)

    def record(self) -> dict[str, Any]:
        """Return the fields of a result."""
        return {
            "backend": self.backend,
            "precision": self.amp or "float32",
            "compiled": self.compile,
            "channels_last": self.channels_last,
        }

    def prepare(self, network: nn.Module) -> nn.Module:
        """Return the network to call in this mode; the given one is not changed.

        On the torch backend binary convolutions compute in 8-bit integers where that gives identical results.

        Raises:
            BcdzooError: It cannot be packed.
        """
        from bcdzoo.packed.module import EngineModule
        from bcdzoo.packed.pack import pack

        if isinstance(network, EngineModule):
            return network
        if self.backend == "packed":
            return pack(network)
        if self.channels_last:
            network = deepcopy(network).to(memory_format=torch.channels_last)
        return torch.compile(network) if self.compile else with_int8(network)  # type: ignore[return-value]

    def context(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which to call the network."""
        context: AbstractContextManager[None] = torch.autocast(device.type, torch.bfloat16, enabled=self.amp == "bf16")
        return context


STRICT = Mode()
PACKED = Mode("packed")
FASTER = (Mode(amp="bf16"), Mode(compile=True), Mode(channels_last=True))
"""Modes that ``--check-stability`` compares with the strict mode."""
