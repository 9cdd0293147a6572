"""Running a study as a Slurm job array, one job a run, through submitit.

Knows how to submit, to follow and to cancel jobs, and that a preempted job goes back into the
queue and continues its own run folder. Refuses to submit a run again whose job still waits or runs.
"""

from __future__ import annotations

import importlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.errors import MissingExtraError, UsageError
from cupel.lab.executors.base import Execution, Task
from cupel.lab.executors.fleet import Ended, drive
from cupel.lab.executors.node import Order, Told, run_order
from cupel.lab.executors.options import SlurmOptions
from cupel.lab.executors.orders import order_of
from cupel.lab.executors.slurm_settings import cluster_of, parameters_of, requeues_of
from cupel.lab.files import read_json, write_json

FOLDER = "slurm"
JOBS = "jobs.json"
POLL_S = 1.0
_DEAF_TO = (signal.SIGTERM, signal.SIGUSR2)
"""Slurm sends them to every process of a job; the one that can requeue the job answers."""


class SlurmRun:
    """What a job runs: one order, again from the checkpoint when the job was requeued."""

    def __init__(self, order: Order, device: str) -> None:
        self.order = order
        self.device = device

    def __call__(self) -> Told:
        """Run the order on this node."""
        return run_order(self.order, device=self.device, deaf_to=_DEAF_TO)

    def checkpoint(self) -> Any:
        """Return what the requeued job runs; submitit calls this on preemption and time limit."""
        submission = importlib.import_module("submitit.helpers").DelayedSubmission
        return submission(SlurmRun(Order(**{**self.order, "fresh": False}), self.device))


def run_slurm(execution: Execution, options: SlurmOptions, *, at_a_time: int | None) -> None:
    """Execute every due run as a job; without `wait`, only submit them.

    Raises:
        MissingExtraError: submitit is not installed.
        UsageError: there is no Slurm here, or it refuses the jobs.
    """
    fleet = SlurmFleet(execution, options, at_a_time)
    if options.wait:
        drive(execution, fleet, at_a_time=None)
    else:
        fleet.hand_out(list(enumerate(execution.tasks)))


class SlurmFleet:
    """The jobs that were submitted, by run."""

    def __init__(self, execution: Execution, options: SlurmOptions, at_a_time: int | None) -> None:
        self._execution = execution
        self._options = options
        self._folder = (execution.study.path / FOLDER).resolve()
        self._executor = _executor(self._folder, options, at_a_time)
        self._jobs: dict[int, tuple[Any, Task]] = {}

    def hand_out(self, due: Sequence[tuple[int, Task]]) -> None:
        """Submit one array with a job a run; a run whose job still lives keeps it.

        Raises:
            UsageError: Slurm refuses the jobs (says why).
        """
        alive = self._alive()
        fresh = []
        for number, task in due:
            job = alive.get(task.run.path.name)
            if job is None:
                fresh.append((number, task))
            else:
                self._jobs[number] = (job, task)
        if not fresh:
            return
        try:
            jobs = self._executor.submit_array([self._run(task) for _, task in fresh])
        except (RuntimeError, OSError) as error:
            raise UsageError(f"Slurm refused the jobs: {_last_line(error)}") from None
        self._jobs |= {number: (job, task) for (number, task), job in zip(fresh, jobs, strict=True)}
        self._remember()

    def poll(self, wait_s: float) -> Sequence[Ended]:
        """Return the jobs that ended."""
        time.sleep(max(wait_s, POLL_S))
        over = [number for number, (job, _) in self._jobs.items() if job.done()]
        return [self._ended(number) for number in over]

    def news(self) -> Mapping[int, Mapping[str, Any] | None] | None:
        """Return None: the study folder shows what the runs write."""
        return None

    def stop(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        for job, _ in self._jobs.values():
            job.cancel(check=False)
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline and not all(job.done() for job, _ in self._jobs.values()):
            time.sleep(0.2)
        self._jobs.clear()
        self._remember()

    def _run(self, task: Task) -> SlurmRun:
        threads = int(self._options.cpus)
        order = order_of(self._execution, task, executor="slurm", threads=threads)
        return SlurmRun(order, "cuda" if self._options.gpus else "cpu")

    def _ended(self, number: int) -> Ended:
        job, _ = self._jobs.pop(number)
        if not job.paths.result_pickle.exists():
            return Ended(number=number, died=f"Slurm ended job {job.job_id} ({job.state})")
        error = job.exception()
        if error is not None:
            return Ended(number=number, died=f"job {job.job_id}: {_last_line(error)}")
        told: Told = job.result()
        if "refused" in told:
            raise UsageError(told["refused"])
        return Ended(number=number, died=told["died"])

    def _alive(self) -> dict[str, Any]:
        """Return the jobs of an earlier call that still wait or run, by run."""
        path = self._folder / JOBS
        if not path.is_file():
            return {}
        known = read_json(path)
        if known["cluster"] != cluster_of(self._options):
            return {}
        kind = self._executor._executor.job_class
        jobs = {run: kind(self._folder, job_id) for run, job_id in known["jobs"].items()}
        return {run: job for run, job in jobs.items() if not job.done(force_check=True)}

    def _remember(self) -> None:
        jobs = {task.run.path.name: job.job_id for job, task in self._jobs.values()}
        write_json(self._folder / JOBS, {"cluster": cluster_of(self._options), "jobs": jobs})


def _executor(folder: Path, options: SlurmOptions, at_a_time: int | None) -> Any:
    """Return submitit's executor with every parameter set.

    Raises:
        MissingExtraError, UsageError: as `run_slurm`.
    """
    try:
        submitit: Any = importlib.import_module("submitit")
    except ModuleNotFoundError:
        raise MissingExtraError("executor slurm", "slurm") from None
    cluster = cluster_of(options)
    specific = importlib.import_module("submitit.slurm.slurm").SlurmExecutor._valid_parameters()
    parameters = parameters_of(
        options, study=folder.parent.name, at_a_time=at_a_time, specific=sorted(specific)
    )
    retries = {f"{cluster}_max_num_timeout": requeues_of(options)}
    try:
        executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster, **retries)
        executor.update_parameters(**parameters)
    except RuntimeError as error:
        raise UsageError(
            f"no Slurm here ({_last_line(error)}); call this where sbatch and srun are, or try the "
            "jobs in processes of this machine with --slurm cluster=local"
        ) from None
    return executor


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
