"""`cupel teach hints`: asks the teacher about each snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.label_options import (
    max_steps_option,
    run_stage,
    stage_options,
    teacher_options,
)
from cupel.cli.teach.phase_options import environment_options, machine_options


@click.command()
@stage_options("hints")
@teacher_options
@max_steps_option
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    source: Path, output_dir: Path, overrides: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Ask the teacher about each snapshot.

    An invalid answer keeps its row, marked; nothing stands in for it.

    \b
    Examples:
      cupel teach hints --input results/phase0/snapshots.jsonl --output-dir results/phase1
      cupel teach hints --input s.jsonl --output-dir out --teacher-model gpt-4o-mini
    """
    run_stage("hints", source, output_dir, given, overrides=overrides, as_json=as_json)
