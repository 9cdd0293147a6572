"""`cupel teach figures`: figures H1 to H7 from result folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import comma_list, json_option


@click.command()
@click.option(
    "--results-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with phase1, phase1b, phase3, ... or a pilot's folder.",
)
@click.option(
    "--output-dir", type=click.Path(path_type=Path), required=True, help="Where PNG and PDF go."
)
@click.option(
    "--supervision",
    type=click.Choice(["demo", "contrast", "hint", "best"]),
    default="best",
    show_default=True,
    help="Format shown in H4; best: each quadrant's best on test tasks.",
)
@click.option("--only", "wanted", help="Figures to draw, e.g. H1,H4 [default: all there is].")
@json_option
def command(
    results_dir: Path, output_dir: Path, supervision: str, wanted: str | None, as_json: bool
) -> int:
    """Draw the figures from result folders; what was not measured is not drawn.

    H1 moments by U and leverage; H2 patch gains against micro-training; H3 gain in the own
    quadrant; H4 transfer between quadrants; H5 gained against forgotten; H6 the predictor; H7
    selections. A figure without its input is named with what it lacks; the exit code is then 1 if
    it was asked for by --only, or if nothing could be drawn.

    \b
    Examples:
      cupel teach figures --results-dir results --output-dir figures/v8
      cupel teach figures --results-dir results/pilot --output-dir figs --only H1,H4 \\
        --supervision hint
    """
    from cupel.report.teach.figures import write_figures

    names = None if wanted is None else comma_list(wanted, flag="--only")
    made = write_figures(results_dir, output_dir, supervision=supervision, wanted=names)
    return show_made(made.written, made.missing, asked=names is not None, as_json=as_json)


def show_made(
    written: Sequence[Path], missing: Mapping[str, str], *, asked: bool, as_json: bool
) -> int:
    """Print what was written and what is missing; return the exit code."""
    if as_json:
        console.print_json({"written": [str(path) for path in written], "missing": dict(missing)})
    else:
        for path in written:
            console.line(str(path))
        for short, why in missing.items():
            console.warn(f"{short} not made: {why}")
    return EXIT_NO if missing and (asked or not written) else 0
