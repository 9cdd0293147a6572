"""`cupel teach leverage`: what the right action would bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.label_options import (
    branch_options,
    max_steps_option,
    run_stage,
    stage_options,
    student_options,
)
from cupel.cli.teach.phase_options import environment_options, machine_options


@click.command()
@stage_options("leverage")
@student_options
@branch_options
@max_steps_option
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    source: Path, output_dir: Path, overrides: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Label leverage: p_policy, p_force, p_expert and their differences.

    Needs the hints of cupel teach hints: the teacher's action is the one that is forced.

    \b
    Examples:
      cupel teach leverage --input results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase1 --student-checkpoint models/student
      cupel teach leverage --input l.jsonl --output-dir out --estimate monte_carlo --budget 20000
    """
    run_stage("leverage", source, output_dir, given, overrides=overrides, as_json=as_json)
