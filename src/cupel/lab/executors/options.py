"""What a run may use that is not one process of this machine, and how that is reached.

Knows the settings of the torchrun, Ray and Slurm executors, and refuses what none could serve.
Refuses to import any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cupel.errors import ConfigError

Storage = Literal["shared", "returned"]
STORAGES: tuple[Storage, ...] = ("shared", "returned")
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """A Ray cluster and the share of it that one run gets.

    Attributes:
        address: `auto` (the cluster of this machine or of RAY_ADDRESS), `local` (a fresh one on
            this machine), `HOST:PORT`, or `ray://HOST:PORT`.
        storage: `shared`, every node sees the study folder; `returned`, a run works in a
            folder of its node, and the whole folder comes back when it ends.
        cpus: CPUs a run asks for; also its threads, at least one.
        gpus: GPUs a run asks for; a part of one is allowed.
        parcel_limit_bytes: largest run folder that `returned` storage ships.

    Raises:
        ConfigError: a value is out of range.
    """

    address: str = "auto"
    storage: Storage = "shared"
    cpus: float = 1.0
    gpus: float = 0.0
    parcel_limit_bytes: int = 4 * GIB

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise ConfigError(f"storage '{self.storage}': allowed are {', '.join(STORAGES)}")
        _check_share(self.cpus, self.gpus)

    @property
    def threads(self) -> int:
        """CPU threads of one run."""
        return max(1, int(self.cpus))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """Jobs of a Slurm cluster, one a run.

    Attributes:
        settings: words for the scheduler by name, e.g. `{"partition": "gpu", "time": "4:00:00"}`.
        cpus: CPUs a run asks for; also its threads.
        gpus: GPUs a run asks for.
        wait: stay until all jobs have ended; False submits them and returns.

    Raises:
        ConfigError: a value is out of range.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    cpus: int = 1
    gpus: int = 0
    wait: bool = True

    def __post_init__(self) -> None:
        _check_share(self.cpus, self.gpus)
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if value != int(value):
                raise ConfigError(f"{name} a run = {value:g}: Slurm grants whole ones only")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchrunOptions:
    """Several processes for each run, started by torch's launcher on this machine.

    Attributes:
        program: module that joins the processes and runs one folder: `-m PROGRAM FOLDER`.
        ranks: processes a run.
        threads: CPU threads of each process.
        device: `cpu`, or `cuda`: one GPU for each process.

    Raises:
        ConfigError: a value is out of range.
    """

    program: str
    ranks: int = 2
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.threads < 1:
            raise ConfigError(
                f"ranks = {self.ranks}, threads = {self.threads}: at least 1 of both is needed"
            )
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"device '{self.device}': cpu or cuda, the launcher deals them out")


def _check_share(cpus: float, gpus: float) -> None:
    if not cpus > 0:
        raise ConfigError(f"cpus a run = {cpus:g}: a run needs more than none, e.g. 1")
    if not gpus >= 0:
        raise ConfigError(f"gpus a run = {gpus:g}: must not be negative")
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"gpus a run = {gpus:g}: a part of one GPU, or whole ones")
