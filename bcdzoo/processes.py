"""The processes that share an evaluation or a training run: this one, or those started by ``torchrun``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable, say

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """This process among the others.

    Attributes:
        rank: Rank, 0 to ``count`` - 1; 0 writes the files and prints.
        count: Number of processes.
        local_rank: Rank on this machine, which is the number of its GPU.
        device: Device to compute on.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def on(self, device: str | torch.device | None) -> "Processes":
        """Return the same processes on a device: by default a GPU each, or the CPU if there is none.

        Raises:
            BcdzooError: The device cannot be used.
        """
        gpu = f"cuda:{self.local_rank}" if self.count > 1 else "cuda"
        name = device or (gpu if torch.cuda.is_available() else "cpu")
        try:
            place = torch.device(name)
            torch.zeros(1, device=place)
        except (RuntimeError, AssertionError) as error:
            raise BcdzooError(f"cannot use device {name}: {str(error).splitlines()[0]}") from error
        if place.type == "cuda" and self.count > 1:
            torch.cuda.set_device(place)
        return replace(self, device=place)

    def all(self, mine: Any) -> list[Any]:
        """Gather a small Python object from every process, in order of rank; all wait for each other."""
        if self.count == 1:
            return [mine]
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, mine)
        return gathered

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.count > 1:
            dist.barrier()


def speaks() -> bool:
    """Whether this process is the only or first one, even before the processes are joined."""
    return not dist.is_torchelastic_launched() or int(os.environ["RANK"]) == 0


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes started by torchrun; a single one if there are none, or they are already joined."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1" or dist.is_initialized():
        yield Processes()
        return
    if not dist.is_torchelastic_launched():
        say(f"WORLD_SIZE is {printable(count, 20)}, but torchrun did not start this process: it runs alone")
        yield Processes()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # torchrun stops all processes if one fails; slow ones are waited for.
    dist.init_process_group(backend, timeout=timedelta(days=7))
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
