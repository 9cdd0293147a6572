"""`cupel arc figures`: trainings drawn side by side, and the list of panels to watch them by."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import json_option


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    metavar="[RUN]...",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@click.option(
    "--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Where figures go."
)
@click.option(
    "--panels",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the four panels of a dashboard here, as JSON; needs no run.",
)
@json_option
def command(
    runs: tuple[Path, ...], output_dir: Path | None, panels: Path | None, as_json: bool
) -> int:
    """Draw trainings as PNG, SVG and PDF, one column a run; finished or still running.

    learning: exact match at halt with its interval, context_gain, held-out puzzles. halting: steps
    at halt, exact match by steps, calibration. encoder_health: gradient, variance and update
    ratios with the zones of cupel arc health and its checks. What was not measured is named and
    not drawn; exit code 1 when nothing could be drawn.

    \b
    Examples:
      cupel arc figures logs/arc/std logs/arc/cross --output-dir figures
      cupel arc figures --panels panels.json
    """
    from cupel.errors import ConfigError
    from cupel.lab.files import write_atomically
    from cupel.report.arc.dashboard import dashboard
    from cupel.report.arc.training import Made, write_figures

    if bool(runs) != (output_dir is not None) or not (runs or panels):
        raise ConfigError(
            "arc figures: name run folders with --output-dir DIR, or --panels FILE, or both"
        )
    made = Made(written=(), missing={}) if output_dir is None else write_figures(runs, output_dir)
    if panels is not None:
        panels.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(panels, console.json_text(dashboard()).encode())
    written = [str(path) for path in (*made.written, *([panels] if panels else []))]
    if as_json:
        console.print_json({"written": written, "missing": made.missing})
    else:
        for path in written:
            console.line(path)
        for what, keys in made.missing.items():
            console.warn(f"{what}: not measured and not drawn: {', '.join(keys)}")
    return EXIT_NO if runs and not made.written else 0
