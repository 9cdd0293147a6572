"""`cupel resume`: continues a run or a study where it stopped."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli.app import Stop
from cupel.cli.execution import execute_and_judge, run_options
from cupel.cli.executor import ExecutionOptions
from cupel.cli.source import json_option
from cupel.cli.train import execute_one, show_result


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--device", default="cpu", show_default=True, help="Device of a single run.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads of a single run.",
)
@run_options
@json_option
def command(
    folder: Path,
    device: str,
    threads: int,
    as_json: bool,
    execution: ExecutionOptions,
) -> int:
    """Continue FOLDER, a run folder or a study folder, from its last checkpoints.

    A complete run is left alone. A continued run ends in the bytes an unbroken one would have
    written, where its backend can resume exactly.

    \b
    Examples:
      cupel resume logs/train
      cupel resume results/quickstart
    """
    from cupel.lab.recipe import Slot
    from cupel.lab.store import is_study_folder, read_run

    if is_study_folder(folder):
        return execute_and_judge(folder, execution, as_json=as_json)
    read_run(folder)
    if execution.cluster is not None:
        raise Stop(f"{folder} is one run; --executor {execution.executor} takes a study folder")
    if not (folder / "config.json").is_file():
        raise Stop(f"{folder}: no config.json; this run was not made by Cupel and cannot continue")
    execute_one(folder, Slot(device=device, threads=threads))
    show_result(folder, as_json=as_json)
    return 0
