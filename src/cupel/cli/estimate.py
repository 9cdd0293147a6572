"""The estimate of `cupel plan --probe`: which run is probed, and how the result is told.

Knows the flags' meaning and the words. Refuses to measure and to add up: the lab does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cupel.cli import console
from cupel.cli.app import Stop

if TYPE_CHECKING:
    from cupel.lab.estimate import Range, StudyEstimate
    from cupel.lab.plan import Plan, RunSpec
    from cupel.lab.probe import Probe

CLUSTERS = ("ray", "slurm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How a plan's cost is measured.

    Attributes:
        workers: runs at a time; None: one a core.
        device, threads: the share of the machine that the probe, like each run, may use.
    """

    seconds: float
    executor: str
    workers: int | None
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What was probed, and what the study will take by it."""

    spec: RunSpec
    probe: Probe
    study: StudyEstimate


def estimate_plan(plan: Plan, options: ProbeOptions) -> Estimate:
    """Probe the most expensive condition and add the study up.

    Raises:
        UsageError: the recipe cannot be probed, or no step ended in time.
        RunError: the probed run fails.
    """
    from cupel.config import validate
    from cupel.lab.estimate import estimate_study
    from cupel.lab.probe import run_probe
    from cupel.lab.recipe import Probing, Slot
    from cupel.lab.registry import load_recipe

    workers, cores = _places(options)
    spec = most_expensive(plan)
    slot = Slot(device=options.device, threads=options.threads)
    probe = run_probe(spec, slot=slot, deadline_s=options.seconds)
    recipe = load_recipe(spec.recipe)
    assert isinstance(recipe, Probing)  # run_probe refuses any other
    first_of = {run.condition: run for run in reversed(plan.runs)}
    of_condition = {
        label: recipe.estimate(
            validate(recipe.config_type, run.resolved, where=label), probe.measured
        )
        for label, run in first_of.items()
    }
    study = estimate_study(
        [of_condition[run.condition] for run in plan.runs],
        workers=workers,
        cores=cores,
        import_s=probe.import_s,
        peak_bytes=probe.peak_bytes,
    )
    return Estimate(spec=spec, probe=probe, study=study)


def most_expensive(plan: Plan) -> RunSpec:
    """Return the run with the largest bound on tokens, or on steps; the first among equals."""

    def bound(run: RunSpec) -> float:
        return max(run.costs.get(unit, 0.0) for unit in ("sampled tokens", "steps"))

    return max(plan.runs, key=bound)


def show_estimate(found: Estimate) -> None:
    """Print what was probed, what the study will take, and what that rests on."""
    from cupel.cli.machine import memory_bytes

    probe, study = found.probe, found.study
    steps = [each for each in probe.measured if each.what == "step"]
    ended = "" if probe.complete else ", ended by its deadline"
    console.line(
        f"probed {found.spec.condition}, seed {found.spec.seed}: {len(steps)} steps in a temporary "
        f"folder, {probe.wall_s:.0f} s{ended}"
    )
    rows: list[list[console.Cell]] = [
        ["time of the study", *(duration(v) for v in _values(study.seconds))]
    ]
    if study.tokens is not None:
        rows.append(["sampled tokens", *(f"{v:,.0f}" for v in _values(study.tokens))])
    console.table(
        [f"{study.runs} runs, {study.workers} at a time", "low", "expected", "high"], rows
    )
    memory = f"memory: {probe.peak_bytes / 2**20:,.0f} MiB a run"
    if study.workers > 1:
        memory += f", {study.memory_bytes / 2**20:,.0f} MiB for {study.workers} at a time"
    if probe.gpu_bytes is not None:
        memory += f"; {probe.gpu_bytes / 2**20:,.0f} MiB on the accelerator"
    console.line(memory + ", at the lengths of the probe")
    for text in study.assumptions:
        console.line(f"assumed: {text}")
    _, available = memory_bytes()
    if available is not None and study.memory_bytes > available:
        console.warn(
            f"{study.workers} runs at a time want {study.memory_bytes / 2**30:.1f} GiB and "
            f"{available / 2**30:.1f} GiB are available; lower --workers"
        )


def estimate_facts(found: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON data."""
    return {
        "probed": {"condition": found.spec.condition, "seed": found.spec.seed},
        "probe": found.probe,
        "study": found.study,
    }


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> duration(4.21), duration(135), duration(7300), duration(200000)
    ('4.2 s', '2.2 min', '2.0 h', '2.3 days')
    """
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def _places(options: ProbeOptions) -> tuple[int, int]:
    """Return how many runs work at a time, and how many have cores of their own."""
    from cupel.lab.executors.processes import cpu_count

    cores = max(1, cpu_count() // options.threads)

    if options.executor in CLUSTERS:
        if options.workers is None:
            raise Stop(
                f"--probe with --executor {options.executor}: how many runs fit the cluster at a "
                "time is not known here; give --workers"
            )
        return options.workers, options.workers
    if options.executor == "inline":
        return 1, cores
    return options.workers or cpu_count(), cores


def _values(of: Range) -> Sequence[float]:
    return of.low, of.expected, of.high
