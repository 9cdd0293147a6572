"""Processes that talk through torch.distributed: how they meet, and what they can say.

Knows the process group, collectives and their deadline. Refuses to know models and runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

DEADLINE = timedelta(minutes=30)
"""Longest wait for another process; then this one fails, and says so."""


class Peers(Protocol):
    """The processes that hold the policy."""

    @property
    def index(self) -> int:
        """This process's number."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def sum(self, tensor: Any) -> None:
        """Replace a tensor by its sum over all processes, in place."""
        ...

    def all_gather(self, value: Any) -> list[Any]:
        """Return every process's value, in order, on all of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRanks:
    """This process among those of the process group."""

    index: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.index == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, in place."""
        dist.all_reduce(tensor)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value on the first one, [] on the others."""
        gathered: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(value, gathered)
        return gathered or []

    def all_gather(self, value: Any) -> list[Any]:
        """Return every process's value, in order, on all of them."""
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, value)
        return gathered

    def share(self, value: Any) -> Any:
        """Return the first process's value on all of them."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def current_ranks() -> ProcessRanks | None:
    """Return where this process stands, as torch.distributed says; None when it is alone."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    return ProcessRanks(index=dist.get_rank(), count=dist.get_world_size())


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that the launcher started, if any, and yield this one's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    own = device
    if device == "cuda":
        own = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(own)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=DEADLINE)
    try:
        yield own
    finally:
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process with an exit code, when all that it writes is written.

    torch keeps the process group in its caches after a sharded run, and with it threads that an
    interpreter which takes itself down at leisure would meet halfway, and abort.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
