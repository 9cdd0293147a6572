"""`cupel arc overfit`: phase 1, whether a model can learn 32 puzzle groups at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.arc.training import Machine, train_run, training_options

GROUPS = 32


@click.command()
@click.option(
    "--preset",
    "preset_name",
    default="cpu",
    show_default=True,
    help="cpu: a small model on groups that fit 10x10, minutes; paper: the published sizes, for "
    "GPUs; or a preset of cupel arc train --list-configs.",
)
@training_options
def command(
    words: tuple[str, ...],
    preset_name: str,
    config_file: Path | None,
    log_dir: Path | None,
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
) -> int:
    """Train on 32 groups and hold the result to Criterion 1: over 90 % exact match, read at halt.

    A model that learns answers by heart meets the criterion without reading one demonstration, so
    context_gain is shown beside it: exact match with the true demonstrations, less that with the
    demonstrations of another task. Exit code 1 when the criterion is not met.

    \b
    Examples:
      cupel arc overfit --preset cpu
      cupel arc overfit --preset cpu encoder.kind=cross_attention +run_name=cross
    """
    from cupel.arc.gates import criterion_1
    from cupel.arc.presets import preset

    folder, values = train_run(
        {"max_train_groups": GROUPS, **preset(preset_name)},
        config_file,
        words,
        Machine(log_dir=log_dir, seed=seed, device=device, threads=threads),
        default_name="overfit",
    )
    gate = criterion_1(last_evaluation(folder))
    if as_json:
        console.print_json({"folder": str(folder), "values": values, "criterion_1": gate.as_dict()})
    else:
        console.line(f"Criterion 1 {gate.words}")
        console.line(f"run folder: {folder}")
    return 0 if gate.passed else EXIT_NO


def last_evaluation(folder: Path) -> Mapping[str, Any]:
    """Return the last row of a training's evaluations; empty when there is none."""
    from cupel.lab.files import read_json_lines

    path = folder / "evaluations.jsonl"
    rows = read_json_lines(path) if path.is_file() else []
    return rows[-1] if rows else {}
