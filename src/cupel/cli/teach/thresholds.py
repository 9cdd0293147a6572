"""`cupel teach thresholds`: how U and L_local are distributed, to choose cuts by."""

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
    help="hist_U.png, hist_L.png, scatter_U_L.png and quantiles.json go here.",
)
@json_option
def command(source: Path, output_dir: Path, as_json: bool) -> None:
    """Plot U and L_local and suggest cuts, from the moments of training tasks.

    \b
    Examples:
      cupel teach thresholds --input results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase1/threshold_plots
      cupel teach thresholds --input l.jsonl --output-dir plots --json
    """
    from cupel.lab.files import write_json
    from cupel.report.teach.thresholds import write_threshold_plots
    from cupel.teach.labelling.files import read_labels
    from cupel.teach.labelling.thresholds import quantiles_of

    quantiles = quantiles_of(read_labels(source), where=str(source))
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(output_dir / "quantiles.json", quantiles)
    written = write_threshold_plots(source, output_dir)
    if as_json:
        console.print_json({"output": str(output_dir), **quantiles})
        return
    names = [name for name in quantiles["U"] if name != "n"]
    console.table(
        ["", "U", "L_local"],
        [[name, quantiles["U"][name], quantiles["L_local"][name]] for name in names],
    )
    for path in written:
        console.line(f"written: {path}")
