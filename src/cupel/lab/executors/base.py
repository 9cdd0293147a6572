"""What every executor shares: which runs are due, what became of them, and who is told.

Knows the manifest and the rules of repetition. Refuses to know how a run's process is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cupel.config import did_you_mean
from cupel.errors import ConfigError
from cupel.lab.executors.options import RayOptions, SlurmOptions, TorchrunOptions
from cupel.lab.locks import claim
from cupel.lab.metrics import RunStatus
from cupel.lab.provenance import capture
from cupel.lab.recipe import Slot
from cupel.lab.registry import check_shared
from cupel.lab.run_dir import RunFolder
from cupel.lab.study_dir import StudyFolder

ExecutorName = Literal["inline", "processes", "torchrun", "ray", "slurm"]
EXECUTORS: tuple[ExecutorName, ...] = ("inline", "processes", "torchrun", "ray", "slurm")
Options = RayOptions | SlurmOptions | TorchrunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One thing that happened while a study ran.

    Attributes:
        run: name of the run folder.
        status: the run's state now.
        step: last step it wrote, None before the first.
        total: number of steps it will write, None when the recipe does not say.
        row: the last row of its metrics, when this event is about a new one.
        message: what happened, in words, when it was no ordinary step.
    """

    run: str
    condition: str
    seed: int
    status: RunStatus
    step: int | None = None
    total: int | None = None
    row: Mapping[str, Any] | None = None
    message: str = ""


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What became of one run; `skipped` ones were not executed this time."""

    run: str
    condition: str
    seed: int
    status: RunStatus
    attempts: int
    skipped: bool
    failure: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOutcome:
    """What became of a study's runs, every run a row."""

    folder: Path
    runs: tuple[RunOutcome, ...]

    @property
    def failed(self) -> tuple[RunOutcome, ...]:
        """The runs that failed, now or earlier."""
        return tuple(run for run in self.runs if run.status == "failed")

    @property
    def is_complete(self) -> bool:
        """Whether every run is done."""
        return all(run.status == "done" for run in self.runs)


@dataclass(slots=True, kw_only=True)
class Task:
    """A run that is due, and how often it may still be tried."""

    run: RunFolder
    entry: dict[str, Any]
    retries: int
    fresh: bool


class Execution:
    """One execution of a study: the due tasks, and the manifest that tells their story."""

    def __init__(
        self,
        folder: Path,
        *,
        retries: int,
        retry_failed: bool,
        fsync: bool,
        listener: Listener | None,
    ) -> None:
        self.study = StudyFolder(folder)
        self.fsync = fsync
        self.provenance = capture()
        self._listener = listener
        self._manifest = self.study.manifest()
        self._executed: set[str] = set()
        self.tasks = [
            task
            for entry in self._manifest["runs"]
            if (task := self._task(entry, retries, retry_failed)) is not None
        ]
        self._save()

    def needed(self) -> tuple[list[str], list[str]]:
        """Return the recipes and the modules that the due runs will import."""
        configs = [task.run.config() for task in self.tasks]
        recipes = dict.fromkeys(config["recipe"] for config in configs)
        modules = dict.fromkeys(name for config in configs for name in config["preload"])
        return list(recipes), list(modules)

    def begin(self, task: Task) -> None:
        """Note that a task is being started."""
        self._executed.add(task.entry["folder"])
        task.entry["status"] = "running"
        self._save()
        self.tell(task, "running")

    def settle(self, task: Task) -> bool:
        """Note what became of a task, tell, and say whether it should be tried again."""
        self.record(task)
        failure = task.entry["failure"] or {}
        again = failure.get("kind") == "infrastructure" and task.retries > 0
        if again:
            task.retries -= 1
            task.fresh = False
        message = str(failure.get("message", ""))
        self.tell(task, task.entry["status"], message=f"{message}; trying again" * again or message)
        return again

    def record(self, task: Task) -> None:
        """Write what run.json says of a task into the manifest."""
        self._refresh(task.entry, task.run)
        self._save()

    def tell(
        self,
        task: Task,
        status: RunStatus,
        *,
        row: Mapping[str, Any] | None = None,
        message: str = "",
    ) -> None:
        """Tell the listener."""
        if self._listener is not None:
            self._listener(
                Progress(
                    run=task.run.path.name,
                    condition=task.entry["condition"],
                    seed=task.entry["seed"],
                    status=status,
                    step=row.get("step") if row is not None else None,
                    total=_whole(task.entry.get("steps")),
                    row=row,
                    message=message,
                )
            )

    def outcome(self) -> StudyOutcome:
        """Return a row for every run of the study."""
        return StudyOutcome(
            folder=self.study.path,
            runs=tuple(
                RunOutcome(
                    run=Path(entry["folder"]).name,
                    condition=entry["condition"],
                    seed=entry["seed"],
                    status=entry["status"],
                    attempts=entry["attempts"],
                    skipped=entry["folder"] not in self._executed,
                    failure=entry["failure"],
                )
                for entry in self._manifest["runs"]
            ),
        )

    def _task(self, entry: dict[str, Any], retries: int, retry_failed: bool) -> Task | None:
        """Decide whether a run is due: not complete, and not failed by the method's own doing."""
        run = RunFolder(self.study.path / entry["folder"])
        if run.is_complete:
            run.mark_done()
            self._refresh(entry, run)
            return None
        if run.state()["status"] == "done":
            run.release("result.json is gone: the run is not complete after all")
        self._refresh(entry, run)
        kind = (entry["failure"] or {}).get("kind")
        if kind == "algorithmic" and not retry_failed:
            return None
        return Task(run=run, entry=entry, retries=retries, fresh=kind == "algorithmic")

    def _refresh(self, entry: dict[str, Any], run: RunFolder) -> None:
        state = run.state()
        failure = state["failure"]
        entry |= {key: state[key] for key in ("status", "attempts", "started_at", "ended_at")}
        entry["failure"] = (
            {key: failure[key] for key in ("kind", "message", "step")} if failure else None
        )
        found = run.made_with()
        if found:
            entry["made_with"] = found

    def _save(self) -> None:
        self.study.save_manifest(self._manifest)


def execute_study(
    folder: Path | str,
    *,
    executor: str = "processes",
    workers: int | None = None,
    slots: Sequence[Slot] | None = None,
    options: Options | None = None,
    retries: int = 1,
    retry_failed: bool = False,
    progress: Listener | None = None,
    fsync: bool = True,
) -> StudyOutcome:
    """Execute what is missing of a planned study.

    A complete run is skipped; a run that failed by the method's own doing stays failed, unless
    `retry_failed` begins it again; every other run is continued from its last checkpoint.

    Args:
        executor: `inline` (in this process, one by one), `processes`, `torchrun` (several
            processes a run), or on other machines `ray` or `slurm`.
        workers: runs at a time; default one per CPU core, or one per slot, or as many as the
            cluster grants.
        slots: the share of the machine each of the concurrent runs gets, e.g. one per GPU.
        options: how to reach the cluster, for `ray` and `slurm`; needed by `torchrun`.
        retries: how often a run is tried again after an infrastructure failure.
        progress: called with every event; an exception it raises stops the study.
        fsync: survive a power cut, not only a kill.

    Raises:
        DataError: the folder holds no planned study, or a file in it is damaged.
        UsageError: another process is executing this study, the cluster cannot run it, or
            `torchrun` is to share runs of a recipe that wants one process.
        KeyboardInterrupt: on Ctrl-C, after all runs have been stopped; the study can be resumed.
    """
    if executor not in EXECUTORS:
        raise ConfigError(f"executor '{executor}': {did_you_mean(executor, EXECUTORS)}")
    wanted = {"ray": RayOptions, "slurm": SlurmOptions, "torchrun": TorchrunOptions}.get(executor)
    if options is not None and (wanted is None or not isinstance(options, wanted)):
        raise ConfigError(f"executor '{executor}' takes no {type(options).__name__}")
    path = Path(folder)
    runs = [RunFolder(path / entry["folder"]) for entry in StudyFolder(path).manifest()["runs"]]
    if isinstance(options, TorchrunOptions):
        for recipe in {run.config()["recipe"] for run in runs}:
            check_shared(recipe, options.ranks)
    with claim(path / ".lock", what=f"study {path}"):
        execution = Execution(
            path, retries=retries, retry_failed=retry_failed, fsync=fsync, listener=progress
        )
        if execution.tasks or executor == "inline":
            _dispatch(execution, executor, workers, slots, options)
        return execution.outcome()


def _dispatch(
    execution: Execution,
    executor: str,
    workers: int | None,
    slots: Sequence[Slot] | None,
    options: Options | None,
) -> None:
    """Import the executor that was asked for, and only that one."""
    match executor:
        case "inline":
            from cupel.lab.executors.inline import run_inline

            run_inline(execution, slots[0] if slots else Slot())
        case "processes":
            from cupel.lab.executors.processes import run_processes

            run_processes(execution, slots=slots, workers=workers)
        case "torchrun":
            from cupel.lab.executors.torchrun import run_torchrun

            if not isinstance(options, TorchrunOptions):
                raise ConfigError("executor 'torchrun' needs TorchrunOptions")
            run_torchrun(execution, options, at_a_time=workers or 1)
        case "ray":
            from cupel.lab.executors.ray import run_ray

            ray = options if isinstance(options, RayOptions) else RayOptions()
            run_ray(execution, ray, at_a_time=workers)
        case "slurm":
            from cupel.lab.executors.slurm import run_slurm

            slurm = options if isinstance(options, SlurmOptions) else SlurmOptions()
            run_slurm(execution, slurm, at_a_time=workers)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
