"""`cupel report`: judges a study again and writes its page and figures."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.execution import figures_option, judge_and_report
from cupel.cli.source import find_study, json_option
from cupel.cli.verdict import show_verdict, verdict_facts


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--open", "open_", is_flag=True, help="Open the page in a browser.")
@click.option(
    "--paper",
    is_flag=True,
    help="Also write paper/: figures as PDF, SVG and PGF, booktabs tables, a document of both.",
)
@figures_option
@json_option
def command(study: Path, open_: bool, paper: bool, figures: bool, as_json: bool) -> None:
    """Write analysis, figures and report.html of STUDY from what its runs recorded so far.

    \b
    Examples:
      cupel report results/quickstart
      cupel report results/quickstart --open
      cupel report results/quickstart --paper
    """
    folder = find_study(study).folder
    judge_and_report(folder, complete=False, figures=figures)
    if paper:
        _paper(folder)
    if as_json:
        console.print_json(verdict_facts(folder))
    else:
        show_verdict(folder)
    if open_:
        webbrowser.open((folder / "report.html").resolve().as_uri())


def _paper(folder: Path) -> None:
    """Write paper/ and say what stands there, and what is missing."""
    from cupel.report.paper import write_paper

    paper = write_paper(folder)
    console.note(f"paper: {paper.paths[-1]}, with {len(paper.paths) - 1} figures and tables")
    if paper.without_pgf:
        console.warn(f"paper: no PGF figures: {paper.without_pgf}; PDF and SVG are there")
