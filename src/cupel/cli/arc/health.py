"""`cupel arc health`: whether a training is healthy, in words."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--at",
    "step",
    type=click.IntRange(min=0),
    help="Judge as of this update, e.g. 10, 100 or 500 [default: all there is].",
)
@json_option
def command(run: Path, step: int | None, as_json: bool) -> int:
    """Hold a running or finished training to the health zones it was given.

    Judges the encoder's gradient, the variety of its contexts, progress, halting and coverage.
    Exit code 1 when a rule would end the run.

    \b
    Examples:
      cupel arc health logs/arc/overfit
      cupel arc health logs/arc/overfit --at 100
    """
    from cupel.arc.config import ArcTrainConfig
    from cupel.arc.health import assess
    from cupel.config import validate
    from cupel.errors import DataError
    from cupel.lab.store import read_run

    record = read_run(run)
    made = record.config or {}
    if made.get("recipe") != "arc.train":
        raise DataError(f"{run}: a run of {made.get('recipe')}; health is judged of arc.train")
    config = validate(ArcTrainConfig, made["resolved"], where=str(run / "config.json"))
    rows = record.rows("metrics.jsonl") if record.has("metrics.jsonl") else []
    health = assess(
        [row for row in rows if step is None or row["step"] <= step],
        config.health,
        halt_max_steps=config.halt_max_steps,
        matched_scale=config.encoder.context_scale == "matched",
    )
    if as_json:
        findings = [
            {"topic": each.topic, "level": each.level, "words": each.words}
            for each in health.findings
        ]
        console.print_json({"step": health.step, "level": health.level, "findings": findings})
    else:
        console.line(f"{run} at step {health.step}: {health.level}")
        console.line(health.text())
    return EXIT_NO if health.level == "stop" else 0
