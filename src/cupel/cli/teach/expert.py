"""`cupel teach expert`: an expert acts on tasks."""

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
    task_seeds,
)
from cupel.cli.teach.rollouts import show_rollouts


@click.command()
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
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/phase0/expert_trajectories"),
    show_default=True,
    help="Run folder; all_trajectories_*.json is written there.",
)
@click.option(
    "--teacher-model",
    default="expert",
    show_default=True,
    help="expert: the environment's symbolic expert. A model's name is recorded and said not to "
    "act: acting is the symbolic expert's, models advise in cupel teach hints.",
)
@click.option(
    "--flip-rate",
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Probability of another valid action at each step  [default: 0].",
)
@click.option("--task-ids", help="Tasks by name or seed, a,b,c, or a .json list; not a range.")
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    output_dir: Path,
    teacher_model: str,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Let the environment's expert act on tasks; the first half of experiment B.

    \b
    Examples:
      cupel teach expert --n-tasks 500 --output-dir results/phase0/expert_trajectories
      cupel teach expert --n-tasks 500 --flip-rate 0.2 --output-dir results/phase0/noisy_expert
    """
    from cupel.config import apply_overrides

    if teacher_model != "expert":
        console.note(
            f"--teacher-model {teacher_model}: trajectories are the symbolic expert's, offline; "
            "no model is called"
        )
    settings: dict[str, Any] = {
        "actor": "expert",
        "environment": environment_settings(
            given["environment"], given["level"], given["mock_env"], max_steps=given["max_steps"]
        ),
        "n_tasks": given["n_tasks"],
    }
    if given["flip_rate"] is not None:
        settings["flip_rate"] = given["flip_rate"]
    if given["task_ids"] is not None:
        settings["task_ids"] = task_seeds(given["task_ids"])
    values = run_phase(
        "teach.rollouts",
        apply_overrides(settings, list(overrides)),
        folder=output_dir,
        seed=seed,
        device=device,
        threads=threads,
    )
    show_rollouts(values, output_dir / str(values["export"]), as_json=as_json)
