"""`cupel arc template`: the experiment record, filled in from run folders."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    metavar="RUN...",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@click.option("--name", help="Name of the experiment [default: of the first run folder].")
@click.option("--goal", help="What it was for; no run folder can know.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here, not to stdout."
)
def command(
    runs: tuple[Path, ...], name: str | None, goal: str | None, output: Path | None
) -> None:
    """Fill in the experiment record from the folders of an experiment's runs, in any order.

    A training with max_train_groups is phase 1, one without is phase 2, and a held-out evaluation
    gives the test columns. No number is typed.

    \b
    Examples:
      cupel arc template logs/arc/std_overfit
      cupel arc template logs/arc/std_overfit logs/arc/std_full logs/arc/std_full/evaluations/*
    """
    from cupel.lab.files import write_atomically
    from cupel.report.arc.template import read_experiment, template

    text = template(read_experiment(runs), name=name, goal=goal)
    if output is None:
        click.echo(text, nl=False)
        return
    write_atomically(output, text.encode())
    console.line(f"template: {output}")
