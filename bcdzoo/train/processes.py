"""The processes that train together: one alone, or those that ``torchrun`` started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from bcdzoo.errors import BcdzooError


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        rank: Its number; 0 writes the files.
        count: How many there are.
        device: What it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined(device: str | None) -> Iterator[Processes]:
    """Join the other processes, if ``torchrun`` started any.

    Args:
        device: For example ``cuda:1``; by default a GPU of its own for each process, or the CPU where there is none.

    Raises:
        BcdzooError: The device cannot be used.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    default = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device or default)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise BcdzooError(f"cannot use device {device or default}: {str(error).splitlines()[0]}") from error
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        yield Processes(0, 1, place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", rank=rank, world_size=count)
    try:
        yield Processes(rank, count, place)
    finally:
        distributed.destroy_process_group()
