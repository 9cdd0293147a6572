"""`cupel teach uncertainty`: how undecided the student is at each snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.label_options import (
    max_steps_option,
    run_stage,
    stage_options,
    student_options,
)
from cupel.cli.teach.phase_options import environment_options, machine_options


@click.command()
@stage_options("uncertainty")
@student_options
@click.option(
    "--primary-uncertainty",
    type=click.Choice(["entropy", "entropy_norm", "margin", "topk_spread", "effective_actions"]),
    help="What stands as U  [default: entropy].",
)
@max_steps_option
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    source: Path, output_dir: Path, overrides: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Label uncertainty: entropy and its relatives over the valid actions.

    U is of the very distribution the student acts by.

    \b
    Examples:
      cupel teach uncertainty --input results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase1 --student-checkpoint models/student
      cupel teach uncertainty --input l.jsonl --output-dir out --primary-uncertainty entropy_norm
    """
    run_stage("uncertainty", source, output_dir, given, overrides=overrides, as_json=as_json)
