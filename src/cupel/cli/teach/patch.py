"""`cupel teach patch`: what a note in the prompt brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.label_options import (
    branch_options,
    max_steps_option,
    patch_options,
    run_stage,
    stage_options,
    student_options,
)
from cupel.cli.teach.phase_options import environment_options, machine_options


@click.command()
@stage_options("patch")
@student_options
@branch_options
@patch_options
@max_steps_option
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    source: Path, output_dir: Path, overrides: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Run the contextual patch test: base, placebo, shuffled, demo, contrast, hint.

    Needs the hints of cupel teach hints: the notes are made of them.

    \b
    Examples:
      cupel teach patch --input results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase1 --student-checkpoint models/student
      cupel teach patch --input l.jsonl --output-dir out --patch-steps every --n-per-condition 8
    """
    run_stage("patch", source, output_dir, given, overrides=overrides, as_json=as_json)
