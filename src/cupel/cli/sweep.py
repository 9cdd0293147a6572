"""`cupel sweep`: short probes at several learning rates, and the rate each algorithm should use.

Knows the flags, the order of the calls and what is printed. Refuses to score a probe or to choose
a rate: the analysis does both.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO, EXIT_RUNS_FAILED, Stop
from cupel.cli.execution import execute, show_failures
from cupel.cli.executor import ExecutionOptions, executor_options
from cupel.cli.followers import TrackerWish, wandb_options
from cupel.cli.plan import make_plan, plan_facts, save_plan, show_plan
from cupel.cli.rlvr_flags import ARM_SETTINGS, shared_settings, train_flags
from cupel.cli.source import (
    StudySource,
    comma_list,
    command_line,
    find_study,
    json_option,
    seed_list,
    set_setting_option,
    study_from,
    timestamp,
)
from cupel.cli.sweep_view import campaign_command, show_choices
from cupel.rlvr.sweep import (
    GRIDS,
    PROBE_SEEDS,
    PROBE_STEPS,
    SWEEP_ALGORITHMS,
    SWEEP_DEFAULTS,
    SWEPT,
)

if TYPE_CHECKING:
    from cupel.analysis.probes import SweepReading
    from cupel.lab.study import StudyConfig

RANK_SEED = 0
"""Seed of the bootstrap behind the rank probabilities: the same probes give the same numbers."""


TOY_GRID = ",".join(f"{lr:g}" for lr in GRIDS["toy"])


@click.command()
@click.option(
    "--sweep-root",
    type=click.Path(path_type=Path),
    help="Sweep folder [default: results/lr_sweep_<YYYYmmdd_HHMMSS>].",
)
@click.option(
    "--probe-steps",
    type=click.IntRange(min=1),
    default=PROBE_STEPS,
    show_default=True,
    help="Training steps of a probe.",
)
@click.option(
    "--lr-values",
    help="Learning rates, a,b,c; ties go to the first "
    f"[default: 5e-5,2e-4,5e-4,1e-3 (torch, tinker, tiny), {TOY_GRID} (toy)].",
)
@click.option(
    "--algorithms",
    default=",".join(SWEEP_ALGORITHMS),
    show_default=True,
    help="Algorithms or conditions to tune, a,b,c.",
)
@click.option(
    "--probe-seeds",
    default=",".join(map(str, PROBE_SEEDS)),
    show_default=True,
    help="Seeds of the probes, a,b,c; a campaign must use others.",
)
@click.option(
    "--select",
    type=click.Choice(["within_1se", "seed"]),
    default="within_1se",
    show_default=True,
    help="within_1se: middle of the rates within one standard error of the best; "
    "seed: highest final running_correct_rate.",
)
@click.option(
    "--extend",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Rates that may be added beyond each end of the grid while the choice lies there.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Only plan; without it the sweep runs.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file of settings shared by all probes.",
)
@set_setting_option
@executor_options
@wandb_options
@json_option
@train_flags(without=(*ARM_SETTINGS, *SWEPT), of_torch=SWEEP_DEFAULTS)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    sweep_root: Path | None,
    probe_steps: int,
    lr_values: str | None,
    algorithms: str,
    probe_seeds: str,
    select: str,
    extend: int,
    plan_only: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    tracker: TrackerWish,
    execution: ExecutionOptions,
) -> int:
    """Choose each algorithm's learning rate: every rate on every probe seed, at once.

    Writes sweep_results.json and prints the campaign that uses the rates. Running it again skips
    what is complete. A probe that failed can never win. Exit code 3 when probes failed, 1 when an
    algorithm got no rate.

    \b
    Examples:
      cupel sweep
      cupel sweep --lr-values 1e-5,5e-5,1e-4,5e-4 --sweep-root results/lr_sweep_fine
      cupel sweep --algorithms full --probe-steps 40
      cupel sweep --backend tinker --sweep-root results/lr_sweep --plan
      cupel ab --lr-from results/lr_sweep --execute
    """
    from cupel.rlvr.sweep import sweep_study

    root = sweep_root or Path("results") / f"lr_sweep_{timestamp()}"
    data = sweep_study(
        name=root.name,
        shared=_shared(ctx, config_file, overrides),
        algorithms=comma_list(algorithms, flag="--algorithms"),
        lr_values=_rates(lr_values) if lr_values is not None else None,
        probe_seeds=seed_list(probe_seeds, flag="--probe-seeds"),
        probe_steps=probe_steps,
        select=select,
        extend=extend,
    )
    source = study_from(data | tracker, where="sweep", out=root)
    is_new = not _is_planned(source)
    if is_new or plan_only:
        plan = make_plan(source if is_new else find_study(root))
        if is_new:
            save_plan(source, plan)
        if plan_only and as_json:
            console.print_json(plan_facts(plan, root))
        elif not as_json:
            show_plan(plan, root)
    if plan_only:
        console.note(f"next: cupel run {shlex.quote(str(root))}")
        return 0
    return tune(root, execution, as_json=as_json)


def tune(folder: Path, options: ExecutionOptions, *, as_json: bool = False) -> int:
    """Run what is missing of a sweep, go beyond its grid where it must, and print what was chosen.

    sweep_results.json is written anew after every probe that ended. Returns the exit code.

    Raises:
        Interrupted: Ctrl-C; says how to continue.
        DataError: the folder holds no sweep.
    """
    from dataclasses import replace

    while True:
        outcome = execute(folder, options, ended=lambda: write_results(folder))
        reading = write_results(folder)
        if not _go_beyond(folder, reading):
            break
        options = replace(options, retry_failed=False)
    show_failures(outcome)
    commands = campaign_command(folder, reading)
    if as_json:
        console.print_json({**reading.results, "next": commands})
    else:
        show_choices(reading, commands)
    for text in reading.results["warnings"]:
        console.warn(text)
    if outcome.failed:
        return EXIT_RUNS_FAILED
    return EXIT_NO if reading.unchosen else 0


def write_results(folder: Path) -> SweepReading:
    """Score what is there of a sweep and replace its sweep_results.json.

    Raises:
        DataError: the folder holds no sweep, or a file of it is damaged.
    """
    import numpy as np

    from cupel.analysis.probes import read_sweep, results_path
    from cupel.lab.files import write_json
    from cupel.lab.store import read_study

    reading = read_sweep(read_study(folder), rng=np.random.default_rng(RANK_SEED))
    write_json(results_path(folder), reading.results)
    return reading


def _go_beyond(folder: Path, reading: SweepReading) -> bool:
    """Add the probes that lie beyond a touched end of the grid; say whether there are any."""
    from cupel.analysis.probes import tuning_of
    from cupel.analysis.sweep import extension
    from cupel.lab.store import read_study
    from cupel.lab.study_dir import write_plan

    study = read_study(folder).study
    tuning = tuning_of(study, where=str(folder))
    points = extension(reading.choices, declared=tuning.values, extend=tuning.extend)
    if not points:
        return False
    conditions = [*study.conditions, *_conditions(study, points)]
    grown = study.model_copy(update={"conditions": conditions, "tuning": tuning})
    listed = ", ".join(f"{algorithm} at {value!r}" for algorithm, value in points)
    console.note(f"a choice touches the edge of the grid; adding {listed}")
    plan = make_plan(StudySource(study=grown, folder=folder, planned=True))
    write_plan(plan, folder, argv=command_line(), amend=f"edge_of_grid: added {listed}")
    return True


def _conditions(study: StudyConfig, points: Sequence[tuple[str, float]]) -> list[Any]:
    from cupel.analysis.probes import algorithm_of
    from cupel.lab.study import Condition

    setting = study.tuning.setting if study.tuning is not None else "lr"
    configs = {algorithm_of(study, one.label): one.config for one in study.conditions}
    return [
        Condition(
            label=f"{algorithm}_{setting}{value!r}",
            config={**configs[algorithm], setting: value},
        )
        for algorithm, value in points
    ]


def _is_planned(source: StudySource) -> bool:
    """Say whether the folder holds this very sweep, rates added at its ends aside."""
    from cupel.analysis.probes import tuning_of, value_of
    from cupel.config import canonical_json, to_dict
    from cupel.lab.store import read_study

    if not source.planned:
        return False
    study = read_study(source.folder).study
    if study.tuning is None:
        raise Stop(f"{source.folder}: a study that is no sweep; give another --sweep-root")
    declared = tuning_of(study, where=str(source.folder)).values
    kept = [one for one in study.conditions if value_of(study, one.label) in declared]
    base = study.model_copy(update={"conditions": kept, "follow": source.study.follow})
    return canonical_json(to_dict(base)) == canonical_json(to_dict(source.study))


def _shared(
    ctx: click.Context, config_file: Path | None, overrides: Sequence[str]
) -> dict[str, Any]:
    shared = shared_settings(ctx, config_file, overrides)
    for key, flag in zip(SWEPT, ("--lr-values", "--probe-steps"), strict=True):
        if key in shared:
            console.note(f"{key} = {shared.pop(key)} is not used: probes take theirs from {flag}")
    return shared


def _rates(text: str) -> list[float]:
    rates = []
    for part in comma_list(text, flag="--lr-values"):
        try:
            rates.append(float(part))
        except ValueError:
            raise Stop(f"--lr-values: '{part}' is not a number; write e.g. 5e-5,2e-4") from None
    return rates
