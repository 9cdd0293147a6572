"""`cupel teach sample`: decision points of expert trajectories."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import click

from cupel.cli.app import Stop
from cupel.cli.greedy import GreedyCommand, GreedyOption
from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.mine import show_mining
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import machine_options, run_folder_of


@click.command(cls=GreedyCommand)
@click.option(
    "--expert-trajectories",
    cls=GreedyOption,
    required=True,
    help="all_trajectories_*.json, episodes.jsonl or run folders; globs are expanded.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("results/phase0/snapshots_expert.json"),
    show_default=True,
    help="snapshots_expert.json; the run folder stands beside it, without the ending.",
)
@click.option(
    "--sample-rate",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.5,
    show_default=True,
    help="Probability that a decision point is taken.",
)
@click.option(
    "--require-env-state",
    is_flag=True,
    help="Drop and count episodes whose states do not restore, instead of refusing them.",
)
@click.option(
    "--max-snapshots", type=click.IntRange(min=1), help="Most snapshots  [default: 2000]."
)
@click.option("--max", "max_alias", type=click.IntRange(min=1), hidden=True)
@machine_options
@set_setting_option
@json_option
def command(
    expert_trajectories: tuple[str, ...],
    output: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Sample states from expert trajectories: all decision points alike (experiment B).

    \b
    Examples:
      cupel teach sample --sample-rate 0.5 --require-env-state \\
        --expert-trajectories results/phase0/expert_trajectories/all_trajectories_*.json \\
        --output results/phase0/snapshots_expert.json
    """
    from cupel.config import apply_overrides

    settings: dict[str, Any] = {
        "rollouts": [path for pattern in expert_trajectories for path in _matches(pattern)],
        "source": "sampled",
        "sample_rate": given["sample_rate"],
        "require_env_state": given["require_env_state"],
        "max_per_task": None,
    }
    most = given["max_snapshots"] or given["max_alias"]
    if most is not None:
        settings["max_snapshots"] = most
    values = run_phase(
        "teach.mine",
        apply_overrides(settings, list(overrides)),
        folder=run_folder_of(output),
        seed=seed,
        device=device,
        threads=threads,
        exports={"snapshots_expert.json": output},
    )
    show_mining(values, output, as_json=as_json)


def _matches(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    found = sorted(glob.glob(pattern))
    if not found:
        raise Stop(
            f"--expert-trajectories {pattern}: no such file; make some with cupel teach expert"
        )
    return found
