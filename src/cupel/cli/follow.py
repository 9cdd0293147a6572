"""`cupel follow`: metrics.jsonl into W&B, TensorBoard or Trackio, from outside the training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.source import json_option

if TYPE_CHECKING:
    from cupel.report.trackers import TrackerName

TRACKER_CHOICES = ("wandb", "tensorboard", "trackio")
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--metrics-path",
    type=click.Path(path_type=Path),
    help="Path to metrics.jsonl, instead of PATH; its folder may be of an earlier system.",
)
@click.option(
    "--tracker",
    type=click.Choice(TRACKER_CHOICES),
    default="wandb",
    show_default=True,
    help="Where the rows go.",
)
@click.option(
    "--project", default="textpolicy-tinker", show_default=True, help="Project in the tracker."
)
@click.option("--entity", help="W&B entity [default: yours].")
@click.option("--run-name", help="Name of the run [default: the run folder's].")
@click.option("--group", help="Group of the runs [default: the condition].")
@click.option(
    "--poll-seconds", type=POSITIVE, default=5.0, show_default=True, help="Polling interval."
)
@click.option(
    "--idle-timeout-seconds",
    type=POSITIVE,
    default=600.0,
    show_default=True,
    help="Stop after this many seconds without a row and without a sign of life of a run.",
)
@click.option("--no-follow", is_flag=True, help="Send what is there once, and stop.")
@click.option("--offline", is_flag=True, help="W&B: write its files only; `wandb sync` sends them.")
@click.option("--restart", is_flag=True, help="Begin another run in the tracker.")
@click.option("--until-exit-of", type=int, hidden=True)
@json_option
def command(
    path: Path | None,
    metrics_path: Path | None,
    tracker: str,
    project: str,
    entity: str | None,
    run_name: str | None,
    group: str | None,
    poll_seconds: float,
    idle_timeout_seconds: float,
    no_follow: bool,
    offline: bool,
    restart: bool,
    until_exit_of: int | None,
    as_json: bool,
) -> None:
    """Send the rows of PATH (a run folder or a study folder) to a tracker, and follow them.

    What is there is sent first, then what comes, until the runs have ended. Started again, it
    continues the same run in the tracker: no row twice, none left out. It reads files only, so
    the training never notices it, nor its end.

    \b
    Examples:
      cupel follow results/quickstart --project mine
      cupel follow results/quickstart --tracker tensorboard --no-follow
      cupel follow logs/train --offline --run-name "candidate-full-pipeline"
      cupel follow --metrics-path results/ab_v1/candidate/metrics.jsonl --group ab_v1
    """
    from cupel.report.trackers import FollowOptions, follow

    if (path is None) == (metrics_path is None):
        raise Stop("follow: give PATH (a run folder or a study folder), or --metrics-path FILE")
    if offline and tracker != "wandb":
        raise Stop(f"follow: --offline is for wandb; {tracker} never sends anything")
    if entity is not None and tracker != "wandb":
        raise Stop(f"follow: --entity is for wandb; {tracker} has none")
    if tracker == "wandb" and os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        offline = True
        console.note("WANDB_MODE asks for offline: W&B's files are written, nothing is sent")
    options = FollowOptions(
        tracker=cast("TrackerName", tracker),
        project=project,
        entity=entity,
        run_name=run_name,
        group=group,
        poll_seconds=poll_seconds,
        idle_timeout_seconds=idle_timeout_seconds,
        follow=not no_follow,
        offline=offline,
        restart=restart,
        until_exit_of=until_exit_of,
    )
    target = path or metrics_path
    assert target is not None
    runs = follow(target, options, metrics=path is None, say=console.note)
    if as_json:
        console.print_json([{**console.plain(run), "tracker": tracker} for run in runs])
        return
    rows = [
        (run.folder.resolve().name, run.run_id, run.sent, run.last_step, run.ended) for run in runs
    ]
    console.table(["run", f"{tracker} id", "rows sent", "last step", "ended"], rows)
