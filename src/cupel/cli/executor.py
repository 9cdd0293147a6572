"""The flags that say where runs are executed, for every command that executes a study.

Knows the executors' names and which flag belongs to which of them. Refuses a flag that the chosen
executor would not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cupel.cli.app import Stop

if TYPE_CHECKING:
    from cupel.lab.executors.base import Options

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

EXECUTORS = ("inline", "processes", "torchrun", "ray", "slurm")
TOGETHER = "cupel.cli.together"
"""What torchrun starts for each run."""
_READ_BY: Mapping[str, tuple[str, ...]] = {
    "address": ("ray",),
    "storage": ("ray",),
    "ranks": ("torchrun",),
    "cpus_per_run": ("torchrun", "ray", "slurm"),
    "gpus_per_run": ("torchrun", "ray", "slurm"),
    "slurm": ("slurm",),
    "no_wait": ("slurm",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOptions:
    """How the missing runs are executed."""

    executor: str = "processes"
    workers: int | None = None
    retries: int = 1
    retry_failed: bool = False
    cluster: Options | None = None
    wait: bool = True
    stop_on_failure: bool = False
    figures: bool = True

    def check_recipe(self, name: str) -> None:
        """Refuse a recipe whose runs cannot be executed this way, before a plan is written.

        Raises:
            UsageError: torchrun is to share runs that want one process.
        """
        from cupel.lab.executors.options import TorchrunOptions
        from cupel.lab.registry import check_shared

        if isinstance(self.cluster, TorchrunOptions):
            check_shared(name, self.cluster.ranks)


_OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        default="processes",
        show_default=True,
        help="inline: one after the other in this process; processes: side by side on this "
        "machine; torchrun: one after the other, each in several processes; ray: tasks of a Ray "
        "cluster; slurm: jobs of a Slurm cluster.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Runs at a time [default: one per CPU core; torchrun: 1; a cluster: as many as fit].",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="How often a run is tried again after a failure that is not the method's.",
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Also begin again runs that failed by the method's own doing.",
    ),
    click.option(
        "--address",
        help="ray: auto (the cluster of this machine or of RAY_ADDRESS), local (a fresh one here), "
        "HOST:PORT or ray://HOST:PORT [default: auto].",
    ),
    click.option(
        "--storage",
        type=click.Choice(["shared", "returned"]),
        help="ray: shared, every node sees the study folder; returned, runs work on their node and "
        "come back whole [default: shared].",
    ),
    click.option(
        "--ranks",
        type=click.IntRange(min=1),
        help="torchrun: processes that train one run together [default: 2].",
    ),
    click.option(
        "--cpus-per-run",
        type=float,
        help="torchrun, ray, slurm: CPUs a run asks for; also its threads, which torchrun deals "
        "out to the processes [default: 1; torchrun: 1 a process].",
    ),
    click.option(
        "--gpus-per-run",
        type=float,
        help="torchrun, ray, slurm: GPUs a run asks for; torchrun: 0, or one a process "
        "[default: 0].",
    ),
    click.option(
        "--slurm",
        multiple=True,
        metavar="KEY=VALUE",
        help="slurm: partition, time, account, qos, constraint, mem_gb, setup, ...; repeat it. "
        "cluster=local tries the jobs on this machine.",
    ),
    click.option(
        "--no-wait", is_flag=True, default=None, help="slurm: submit the jobs and return."
    ),
)


def executor_options(command: CommandT) -> Any:
    """Decorate a command that executes a study: it is handed `execution`, an ExecutionOptions."""

    @wraps(command)
    def with_execution(*args: Any, **given: Any) -> Any:
        return command(*args, execution=_taken(given), **given)

    decorated: Any = with_execution
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _taken(given: MutableMapping[str, Any]) -> ExecutionOptions:
    """Take the flags of this module out of what a command was given."""
    executor = given.pop("executor")
    shared = {name: given.pop(name) for name in ("workers", "retries", "retry_failed")}
    special = {name: given.pop(name) for name in _READ_BY}
    for name, readers in _READ_BY.items():
        if special[name] and executor not in readers:
            flag = "--" + name.replace("_", "-")
            owners = " or ".join(filter(None, (", ".join(readers[:-1]), readers[-1])))
            raise Stop(f"{flag} belongs to --executor {owners}, not to {executor}")
    wait = not special["no_wait"]
    return ExecutionOptions(
        executor=executor, cluster=_cluster(executor, special), wait=wait, **shared
    )


def _cluster(executor: str, special: Mapping[str, Any]) -> Options | None:
    from cupel.lab.executors.options import RayOptions, SlurmOptions

    if executor == "torchrun":
        return _together(special)

    share = {"cpus": special["cpus_per_run"], "gpus": special["gpus_per_run"]}
    share = {name: value for name, value in share.items() if value is not None}
    if executor == "ray":
        place = {name: special[name] for name in ("address", "storage") if special[name]}
        return RayOptions(**share, **place)
    if executor == "slurm":
        settings = dict(_pair(text) for text in special["slurm"])
        return SlurmOptions(settings=settings, wait=not special["no_wait"], **share)
    return None


def _together(special: Mapping[str, Any]) -> Options:
    """Share what a run asks for among its processes."""
    from cupel.lab.executors.options import TorchrunOptions

    ranks, cpus = special["ranks"] or 2, special["cpus_per_run"]
    gpus = special["gpus_per_run"] or 0
    if gpus not in (0, ranks):
        raise Stop(f"--gpus-per-run {gpus:g}: with --ranks {ranks}, 0 or {ranks}: one a process")
    threads = 1 if cpus is None else int(cpus) // ranks
    if threads < 1:
        raise Stop(f"--cpus-per-run {cpus:g}: {ranks} processes need at least {ranks}")
    device = "cuda" if gpus else "cpu"
    return TorchrunOptions(program=TOGETHER, ranks=ranks, threads=threads, device=device)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise Stop(f"--slurm {text}: write KEY=VALUE, e.g. --slurm partition=gpu")
    return key.strip(), value.strip()
