"""`cupel run`: executes what is missing of a study, judges it and writes the report."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.execution import execute_and_judge, run_options
from cupel.cli.executor import ExecutionOptions
from cupel.cli.plan import make_plan, save_plan
from cupel.cli.source import find_study, json_option, set_option


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Study folder [default: results/<name of the study>].",
)
@run_options
@set_option
@json_option
def command(
    study: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    execution: ExecutionOptions,
) -> int:
    """Run what is missing of STUDY (a study file or a study folder), then judge and report.

    Running it again skips what is complete. Ctrl-C stops it; the same command continues.
    Exit code 0 whatever the verdict says, 3 when runs failed.

    \b
    Examples:
      cupel run quickstart.toml
      cupel run quickstart.toml --workers 2 --set config.max_steps=10 --out results/short
      cupel run results/quickstart
      cupel run quickstart.toml --executor ray --address 10.0.0.5:6379 --gpus-per-run 1
      cupel run quickstart.toml --executor slurm --slurm partition=gpu --slurm time=4:00:00
    """
    source = find_study(study, overrides=overrides, out=out)
    if study.is_file():
        execution.check_recipe(source.study.recipe)
        plan = make_plan(source)
        save_plan(source, plan)
        for text in plan.warnings:
            console.warn(text)
        console.note(f"{source.study.name}: {len(plan.runs)} runs in {source.folder}")
    return execute_and_judge(source.folder, execution, as_json=as_json)
