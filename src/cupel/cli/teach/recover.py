"""`cupel teach recover`: the expert's way from each snapshot to the end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.source import json_option


@click.command()
@click.option(
    "--labeled",
    type=click.Path(path_type=Path, dir_okay=False),
    help="labeled_snapshots.jsonl; quadrant and L_upper are carried along.",
)
@click.option(
    "--snapshots",
    type=click.Path(path_type=Path),
    help="failure_snapshots.json or snapshots.jsonl, unlabelled.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("results/phase1/recovery_trajectories.jsonl"),
    show_default=True,
    help="One trajectory a line; stopped midway, it continues.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Steps of an episode from the task's start.",
)
@click.option(
    "--horizon",
    type=click.Choice(["remaining", "fresh"]),
    default="remaining",
    show_default=True,
    help="Steps from a snapshot: what was left there, or --max-steps anew.",
)
@json_option
def command(
    labeled: Path | None,
    snapshots: Path | None,
    output: Path,
    max_steps: int,
    horizon: str,
    as_json: bool,
) -> None:
    """Write the expert's recovery trajectory from each snapshot.

    \b
    Examples:
      cupel teach recover --labeled results/phase1/labeled_snapshots.jsonl \\
        --output results/phase1/recovery_trajectories.jsonl
      cupel teach recover --snapshots results/phase0/failure_snapshots.json --output r.jsonl
    """
    from cupel.config import validate
    from cupel.teach.environments.base import EnvironmentConfig
    from cupel.teach.labelling.files import read_labels
    from cupel.teach.rollouts.files import read_moments
    from cupel.teach.rollouts.recovery import write_recoveries

    if (labeled is None) == (snapshots is None):
        raise Stop("give --labeled or --snapshots, one of the two")
    moments: Any = read_moments(snapshots) if snapshots is not None else None
    if labeled is not None:
        moments = read_labels(labeled)
        if not moments:
            raise Stop(f"{labeled}: no labelled snapshots; label some with cupel teach label")
    first = (moments[0] if snapshots is not None else moments[0].moment).snapshot
    place = {"name": first.environment, "level": first.level, "max_steps": max_steps}
    environment = validate(EnvironmentConfig, place, where="snapshots")
    counts = write_recoveries(output, moments, environment, fresh=horizon == "fresh")
    numbers = dataclasses.asdict(counts)
    if as_json:
        console.print_json({"output": str(output), "values": numbers})
        return
    console.table(["recoveries", "value"], list(numbers.items()))
    console.line(f"written: {output}")
