"""`cupel plan`: what a study would run, cost and be able to show. Nothing runs, but a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.estimate import ProbeOptions, estimate_facts, estimate_plan, show_estimate
from cupel.cli.source import StudySource, command_line, find_study, json_option, set_option

if TYPE_CHECKING:
    from cupel.lab.plan import Plan


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Study folder [default: results/<name of the study>].",
)
@click.option(
    "--amend",
    metavar="REASON",
    help="Change a plan whose runs already measured something; kept with every result.",
)
@click.option(
    "--probe",
    is_flag=True,
    help="Take a few real steps of the most expensive condition and estimate time and memory.",
)
@click.option(
    "--probe-seconds",
    type=click.FloatRange(min=1),
    default=120,
    show_default=True,
    help="Longest that a probe may take.",
)
@click.option(
    "--executor",
    type=click.Choice(["processes", "inline", "ray", "slurm"]),
    default="processes",
    show_default=True,
    help="Executor that the estimate is for.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Runs at a time that the estimate is for [default: one per CPU core].",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Device of the probe: cpu, cuda, cuda:1, ..."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads of the probe, and of each run that the estimate is for.",
)
@set_option
@json_option
def command(
    study: Path,
    out: Path | None,
    amend: str | None,
    probe: bool,
    probe_seconds: float,
    executor: str,
    workers: int | None,
    device: str,
    threads: int,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Plan STUDY (a study file): say what would run, what it costs and what it could show.

    Writes study.toml, plan.lock, manifest.json and run_commands.sh into the study folder. The lock
    states the endpoint, the test and the seeds before any result exists. Runs nothing; with
    --probe a few steps in a temporary folder, which leave nothing behind.

    \b
    Examples:
      cupel plan quickstart.toml
      cupel plan quickstart.toml --probe --workers 4
      cupel plan quickstart.toml --set config.max_steps=10 --out results/short
    """
    source = find_study(study, overrides=overrides, out=out)
    plan = make_plan(source)
    save_plan(source, plan, amend=amend)
    options = ProbeOptions(
        seconds=probe_seconds, executor=executor, workers=workers, device=device, threads=threads
    )
    estimate = estimate_plan(plan, options) if probe else None
    if as_json:
        told = {"estimate": None if estimate is None else estimate_facts(estimate)}
        console.print_json(plan_facts(plan, source.folder) | told)
        return
    show_plan(plan, source.folder)
    if estimate is not None:
        show_estimate(estimate)
    console.note(f"next: cupel run {source.folder} ({_executors()})")


def _executors() -> str:
    """Say which executors can run it from here."""
    from cupel.lab.executors.available import executors_here

    return "--executor " + ", ".join(each.executor for each in executors_here() if each.usable)


def make_plan(source: StudySource) -> Plan:
    """Resolve a study into its runs; nothing is written."""
    from cupel.lab.plan import plan_study
    from cupel.lab.registry import load_recipe

    return plan_study(source.study, load_recipe(source.study.recipe))


def save_plan(
    source: StudySource,
    plan: Plan,
    *,
    amend: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write the plan into its folder; a folder that holds the same plan is left as it is.

    Args:
        record: facts about the plan to keep in manifest.json.
    """
    from cupel.lab.study_dir import write_plan

    folder = write_plan(plan, source.folder, argv=command_line(), amend=amend)
    if record:
        folder.save_manifest({**folder.manifest(), **record})


def show_plan(plan: Plan, folder: Path) -> None:
    """Print a plan: conditions, costs, what the design can show, warnings."""
    study = plan.study
    console.line(f"{study.name}: {study.question}" if study.question else study.name)
    console.line(
        f"{len(plan.runs)} runs = {len(study.labels)} conditions x {len(study.seeds)} seeds "
        f"({', '.join(str(seed) for seed in study.seeds)})"
    )
    console.table(*_conditions(plan))
    total = ", ".join(f"{cost:,.0f} {unit}" for unit, cost in plan.costs.items())
    console.line(f"at most, in all: {total}")
    for fact in design_facts(plan):
        console.line(fact)
    for text in plan.notes:
        console.line(text)
    for text in plan.warnings:
        console.warn(text)
    console.line(f"planned in {folder}; nothing has run")


def design_facts(plan: Plan) -> list[str]:
    """Return what the design could show, in sentences."""
    primary = plan.study.primary
    if primary is None:
        return []
    endpoint = plan.study.endpoint
    facts = [
        f"primary contrast: {primary[1]} against {primary[0]} on {endpoint.metric} "
        f"({endpoint.over})"
    ]
    if plan.mde is not None:
        facts.append(f"smallest effect found with power 0.8: {plan.mde:.3g} ({plan.mde_unit})")
    return facts


def plan_facts(plan: Plan, folder: Path) -> dict[str, Any]:
    """Return a plan as JSON data."""
    return {
        "folder": str(folder),
        "name": plan.study.name,
        "primary": plan.study.primary,
        "runs": [
            {
                "folder": f"runs/{run.folder}",
                "condition": run.condition,
                "seed": run.seed,
                "id": run.id,
                "costs": dict(run.costs),
            }
            for run in plan.runs
        ],
        "costs": dict(plan.costs),
        "smallest_p": plan.floor,
        "attainable_alpha": plan.attainable_alpha,
        "mde": plan.mde,
        "mde_unit": plan.mde_unit,
        "power": plan.power,
        "seeds_for_effect": plan.seeds_for_effect,
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
    }


def _conditions(plan: Plan) -> tuple[list[str], list[Sequence[console.Cell]]]:
    """Return one row a condition: what makes it differ, and the bounds of one run."""
    units = list(plan.costs)
    rows: list[Sequence[console.Cell]] = []
    for condition in plan.study.conditions:
        run = next(run for run in plan.runs if run.condition == condition.label)
        settings = ", ".join(f"{key}={value}" for key, value in condition.config.items())
        costs = [f"{run.costs.get(unit, 0):,.0f}" for unit in units]
        rows.append([condition.label, settings, *costs])
    return ["condition", "settings", *(f"{unit} a run" for unit in units)], rows
