"""`cupel teach tables`: tables H1 to H7 from result folders."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli.source import comma_list, json_option
from cupel.cli.teach.figures import show_made


@click.command()
@click.option(
    "--results-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with phase1, phase1b, phase3, ... or a pilot's folder.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Where CSV and markdown go.",
)
@click.option("--only", "wanted", help="Tables to write, e.g. H1,H5 [default: all there is].")
@json_option
def command(results_dir: Path, output_dir: Path, wanted: str | None, as_json: bool) -> int:
    """Write the tables from result folders; what was not measured is a dash.

    H1 quadrants; H2 validation of the patch test; H3 best supervision; H4 transfer; H5 main
    results; H6 the predictor; H7 selections. A table without its input is named with what it
    lacks; the exit code is then 1 if it was asked for by --only, or if nothing could be written.

    \b
    Examples:
      cupel teach tables --results-dir results --output-dir tables/v8
      cupel teach tables --results-dir results/pilot --output-dir tabs --only H5 --json
    """
    from cupel.report.teach.tables import write_tables

    names = None if wanted is None else comma_list(wanted, flag="--only")
    made = write_tables(results_dir, output_dir, wanted=names)
    return show_made(made.written, made.missing, asked=names is not None, as_json=as_json)
