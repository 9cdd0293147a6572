"""`cupel teach quadrants`: cuts U and L_local where one says."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.source import json_option


@click.command()
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl with U and leverage.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="labeled_snapshots.jsonl, .json and quadrant_thresholds.json go here.",
)
@click.option("--U-threshold", "u_threshold", type=float, help="Cut of U  [default: fitted].")
@click.option("--L-threshold", "l_threshold", type=float, help="Cut of L_local  [default: fitted].")
@click.option(
    "--threshold-method",
    type=click.Choice(["median", "percentile_75", "manual"]),
    help="How a cut that is not given is fitted, on training tasks  [default: median; manual with "
    "both cuts].",
)
@click.option(
    "--min-per-quadrant",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Training moments that each quadrant should have; fewer are named.",
)
@json_option
def command(
    source: Path,
    output_dir: Path,
    u_threshold: float | None,
    l_threshold: float | None,
    threshold_method: str | None,
    min_per_quadrant: int,
    as_json: bool,
) -> None:
    """Assign quadrants by chosen cuts; high is strictly above a cut.

    Every row of the input is assigned anew; a row without U or leverage stays UNASSIGNED.

    \b
    Examples:
      cupel teach quadrants --input results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase1 --U-threshold 0.9 --L-threshold 0.1
      cupel teach quadrants --input l.jsonl --output-dir out --threshold-method percentile_75
    """
    from cupel.config import validate
    from cupel.lab.files import write_json
    from cupel.teach.labelling.files import LINES, read_labels, write_labels
    from cupel.teach.labelling.quadrants import (
        QuadrantConfig,
        assign,
        counts_of,
        fit_thresholds,
        short_of,
        thresholds_row,
    )

    both = u_threshold is not None and l_threshold is not None
    given = {
        "method": threshold_method or ("manual" if both else "median"),
        "U_threshold": u_threshold,
        "L_threshold": l_threshold,
        "min_per_quadrant": min_per_quadrant,
    }
    config = validate(QuadrantConfig, given, where="flags")
    rows = read_labels(source)
    thresholds = fit_thresholds(rows, config)
    labels = assign(rows, thresholds)
    counts = counts_of(labels)
    training = counts_of(row for row in labels if row.moment.split == "train")
    short = short_of(training, min_per_quadrant)
    record = thresholds_row(thresholds) | {"counts": counts, "counts_train": training}
    output_dir.mkdir(parents=True, exist_ok=True)
    write_labels(output_dir, labels)
    write_json(output_dir / "quadrant_thresholds.json", record)
    if as_json:
        console.print_json({"output": str(output_dir / LINES), "short": list(short), **record})
        return
    console.table(
        ["quadrant", "moments", "of training tasks"],
        [[name, count, training[name]] for name, count in counts.items()],
    )
    console.line(f"cuts: U > {thresholds.U:.4g}, L_local > {thresholds.L:.4g}")
    for name in short:
        console.warn(f"{name} has {training[name]} training moments, fewer than {min_per_quadrant}")
    console.line(f"written: {output_dir / LINES}")
