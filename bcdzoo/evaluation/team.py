"""The processes that share an evaluation: one, or those that torchrun has started.

Each computes whole chunks of its own; only small Python objects travel between them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist


class Team(NamedTuple):
    """This process among the others.

    Attributes:
        rank: 0 to ``size`` - 1; 0 writes the results and speaks.
        size: Number of processes.
        local_rank: This process's number on its machine: that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def all(self, mine: Any) -> list[Any]:
        """What every process gives, in order of rank; all wait for each other."""
        if self.size == 1:
            return [mine]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, mine)
        return gathered


@contextmanager
def team() -> Iterator[Team]:
    """Join the processes that torchrun has started; alone where it has not, or they are joined for something else."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1 or dist.is_initialized():
        yield Team()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # A process that fails ends the others through torchrun; one that is slow is waited for.
    dist.init_process_group(backend, timeout=timedelta(days=7))
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
