"""`cupel teach rollouts`: the student acts on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import (
    environment_options,
    environment_settings,
    machine_options,
    run_folder_of,
    student_settings,
    task_seeds,
)

SHOWN = ("n_rollouts", "n_successes", "n_failures", "n_errors", "success_rate", "success_lo",
         "success_hi", "avg_steps", "avg_reward")  # fmt: skip


@click.command()
@click.option(
    "--model-path",
    default="tiny",
    show_default=True,
    help="tiny (shipped, knows the shop a little), uniform, a model folder, or a hub id.",
)
@click.option(
    "--n-tasks", type=click.IntRange(min=1), default=100, show_default=True, help="Tasks."
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Steps of an episode.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("results/phase0/rollouts.json"),
    show_default=True,
    help="rollouts.json; the run folder with every step stands beside it, without the ending.",
)
@click.option("--task-ids", help="Tasks by name or seed, a,b,c, or a .json list; not a range.")
@click.option("--collect-all", is_flag=True, help="States of successful episodes too.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=None,
    help="Of the student; 0 is greedy  [default: 1].",
)
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    model_path: str,
    output: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Let the student act on tasks and keep every step; phase 0.

    A run that was stopped continues; the same command again runs nothing twice.

    \b
    Examples:
      cupel teach rollouts --n-tasks 1000 --max-steps 15 --output results/phase0/rollouts.json
      cupel teach rollouts --model-path Qwen/Qwen3-0.6B --n-tasks 200 --output r.json --seed 1
      cupel teach rollouts --environment babyai --level GoToLocal --model-path models/student
    """
    from cupel.config import apply_overrides

    settings: dict[str, Any] = {
        "environment": environment_settings(
            given["environment"], given["level"], given["mock_env"], max_steps=given["max_steps"]
        ),
        "student": student_settings(model_path),
        "n_tasks": given["n_tasks"],
        "collect_all": given["collect_all"],
    }
    if given["temperature"] is not None:
        settings["student"]["temperature"] = given["temperature"]
    if given["task_ids"] is not None:
        settings["task_ids"] = task_seeds(given["task_ids"])
    values = run_phase(
        "teach.rollouts",
        apply_overrides(settings, list(overrides)),
        folder=run_folder_of(output),
        seed=seed,
        device=device,
        threads=threads,
        exports={"rollouts.json": output},
    )
    show_rollouts(values, output, as_json=as_json)


def show_rollouts(values: dict[str, Any], output: Path, *, as_json: bool) -> None:
    """Print what was counted."""
    if as_json:
        console.print_json({"output": str(output), "values": values})
        return
    kinds = [name for name in values if name.startswith("failures_")]
    console.table(["rollouts", "value"], [(name, values[name]) for name in (*SHOWN, *kinds)])
    if values["n_errors"]:
        console.warn(
            f"{values['n_errors']} episodes broke down (environment or expert); they are neither "
            "successes nor failures: see 'message' in episodes.jsonl"
        )
    console.line(f"written: {output}")
