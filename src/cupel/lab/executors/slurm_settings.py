"""The words of `--slurm KEY=VALUE`, as submitit takes them.

Knows submitit's names and Slurm's ways to write a time. Refuses a key that nobody would read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import ConfigError
from cupel.lab.executors.options import SlurmOptions

DEFAULT_MINUTES = 240
DEFAULT_REQUEUES = 20
CLUSTERS = ("slurm", "local")
_GENERIC = ("name", "mem_gb")
_OURS = ("cluster", "time", "max_requeues", "setup")
_GIVEN_OTHERWISE = {
    "cpus_per_task": "--cpus-per-run",
    "gpus_per_node": "--gpus-per-run",
    "gpus_per_task": "--gpus-per-run",
    "array_parallelism": "--workers",
    "timeout_min": "--slurm time=MINUTES",
    "nodes": None,
    "ntasks_per_node": None,
    "tasks_per_node": None,
}


def cluster_of(options: SlurmOptions) -> str:
    """Return where the jobs go: `slurm`, or `local` processes of submitit.

    Raises:
        ConfigError: it is neither.
    """
    cluster = options.settings.get("cluster", "slurm")
    if cluster not in CLUSTERS:
        raise ConfigError(f"--slurm cluster={cluster}: {did_you_mean(cluster, CLUSTERS)}")
    return cluster


def requeues_of(options: SlurmOptions) -> int:
    """Return how often a job that reached its time limit is put back into the queue."""
    text = options.settings.get("max_requeues", str(DEFAULT_REQUEUES))
    if not text.isdecimal():
        raise ConfigError(f"--slurm max_requeues={text}: write a whole number, e.g. 20")
    return int(text)


def parameters_of(
    options: SlurmOptions, *, study: str, at_a_time: int | None, specific: Sequence[str]
) -> dict[str, Any]:
    """Return the parameters of submitit's executor.

    Args:
        study: names the jobs.
        at_a_time: jobs of the array that run at once.
        specific: parameters that submitit passes to Slurm itself.

    Raises:
        ConfigError: a key is unknown, is given by a flag, or has a value that cannot be read.
    """
    found: dict[str, Any] = {
        "name": f"cupel-{study}",
        "timeout_min": DEFAULT_MINUTES,
        "cpus_per_task": int(options.cpus),
        "tasks_per_node": 1,
    }
    if options.gpus:
        found["gpus_per_node"] = int(options.gpus)
    if at_a_time is not None:
        found["slurm_array_parallelism"] = at_a_time
    for key, value in options.settings.items():
        _check_key(key, specific)
        if key == "time":
            found["timeout_min"] = minutes(value)
        elif key == "mem_gb":
            found["mem_gb"] = _number(key, value)
        elif key == "name":
            found["name"] = value
        elif key == "setup":
            found["slurm_setup"] = [line.strip() for line in value.split(";") if line.strip()]
        elif key not in _OURS:
            found[f"slurm_{key}"] = int(value) if value.isdecimal() else value
    return found


def minutes(text: str) -> int:
    """Read a time limit as Slurm writes it: minutes, `H:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`.

    >>> [minutes(each) for each in ("90", "4:00:00", "1-12", "0:00:30")]
    [90, 240, 2160, 1]

    Raises:
        ConfigError: it is written in another way, or is no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ConfigError(f"--slurm time={text}: write minutes, H:MM:SS or D-HH:MM:SS")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    hours_first = days is not None or len(numbers) == 3
    units = (3600, 60, 1) if hours_first else (60, 1)
    seconds = int(days or 0) * 86_400 + sum(n * u for n, u in zip(numbers, units, strict=False))
    if seconds == 0:
        raise ConfigError(f"--slurm time={text}: a run needs more than no time")
    return -(-seconds // 60)


def _check_key(key: str, specific: Sequence[str]) -> None:
    if key in _GIVEN_OTHERWISE:
        flag = _GIVEN_OTHERWISE[key]
        told = f"give it with {flag}" if flag else "a run is one task on one node"
        raise ConfigError(f"--slurm {key}: {told}")
    known = sorted({*_GENERIC, *_OURS, *specific} - _GIVEN_OTHERWISE.keys() - {"job_name", "mem"})
    if key not in known:
        raise ConfigError(f"--slurm {key}: {did_you_mean(key, known)}")


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"--slurm {key}={value}: write a number") from None
    if not number > 0:
        raise ConfigError(f"--slurm {key}={value}: write a number above 0")
    return number
