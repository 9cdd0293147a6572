"""`cupel teach mine`: the failure states worth labelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.greedy import GreedyCommand, GreedyOption
from cupel.cli.source import comma_list, json_option, set_setting_option
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import machine_options, run_folder_of


@click.command(cls=GreedyCommand)
@click.option(
    "--rollouts",
    cls=GreedyOption,
    required=True,
    help="Rollouts: run folders, episodes.jsonl or rollouts.json; several are put together.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("results/phase0/failure_snapshots.json"),
    show_default=True,
    help="failure_snapshots.json; the run folder stands beside it, without the ending.",
)
@click.option(
    "--max-snapshots", type=click.IntRange(min=1), help="Most snapshots  [default: 2000]."
)
@click.option("--max", "max_alias", type=click.IntRange(min=1), hidden=True)
@click.option(
    "--k", type=click.IntRange(min=0), help="One state, so many steps before the failure."
)
@click.option("--offsets", help="Steps before the failure  [default: 0,1,2,3,5,8].")
@click.option("--include-successes", is_flag=True, help="States of successful episodes too.")
@machine_options
@set_setting_option
@json_option
def command(
    rollouts: tuple[str, ...],
    output: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Find the failure states worth labelling.

    A failure is located at the last step from which success was still within reach; where that
    cannot be known, by loops, time-outs and low confidence. A ladder of states before it is
    taken, without duplicates and within caps.

    \b
    Examples:
      cupel teach mine --rollouts results/phase0/rollouts.json \\
        --output results/phase0/failure_snapshots.json --max-snapshots 2000
      cupel teach mine --rollouts results/phase0/rollouts --output f.json --k 3
    """
    from cupel.config import apply_overrides

    settings: dict[str, Any] = {"rollouts": list(rollouts)}
    most = given["max_snapshots"] or given["max_alias"]
    if most is not None:
        settings["max_snapshots"] = most
    if given["k"] is not None and given["offsets"] is not None:
        raise Stop("--k 3 is short for --offsets 3; give one of the two")
    if given["k"] is not None:
        settings["offsets"] = [given["k"]]
    if given["offsets"] is not None:
        settings["offsets"] = [
            _number(part) for part in comma_list(given["offsets"], flag="--offsets")
        ]
    if given["include_successes"]:
        settings["include_successes"] = True
    values = run_phase(
        "teach.mine",
        apply_overrides(settings, list(overrides)),
        folder=run_folder_of(output),
        seed=seed,
        device=device,
        threads=threads,
        exports={"failure_snapshots.json": output},
    )
    show_mining(values, output, as_json=as_json)


def show_mining(values: dict[str, Any], output: Path, *, as_json: bool) -> None:
    """Print what was kept and what was not, and why."""
    if as_json:
        console.print_json({"output": str(output), "values": values})
        return
    console.table(["snapshots", "value"], list(values.items()))
    console.line(f"written: {output}")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Stop(
            f"--offsets: '{text}' is not a number of steps; give e.g. 0,1,2,3, or -1 for the "
            "state after the failing action"
        ) from None
