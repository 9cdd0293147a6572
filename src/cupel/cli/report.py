"""`cupel report`: judges a study again and writes its page and figures."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import Stop
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
@click.option(
    "--completions",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most completions on completions.html [default: 2000; the page stays under 3 MB].",
)
@figures_option
@json_option
def command(
    study: Path,
    open_: bool,
    paper: bool,
    completions: int | None,
    figures: bool,
    as_json: bool,
) -> None:
    """Write analysis, figures, report.html and completions.html of STUDY from its runs so far.

    completions.html browses what the models wrote: step and problem, tokens coloured by entropy or
    advantage, planning tokens underlined. A folder of one run with completions, labelled snapshots
    or evaluated puzzles gets that page alone.

    \b
    Examples:
      cupel report results/quickstart
      cupel report results/quickstart --open
      cupel report results/quickstart --paper
      cupel report results/quickstart --completions 5000
      cupel report results/phase1_labeling
    """
    page = _browse_only(study, completions) if study.is_dir() else None
    if page is not None:
        if paper:
            raise Stop(f"{study} is one run; --paper needs a study")
        if as_json:
            console.print_json({"page": str(page)})
        else:
            console.note(f"wrote {page}")
    else:
        folder = find_study(study).folder
        judge_and_report(folder, complete=False, figures=figures, completions=completions)
        page = folder / "report.html"
        if paper:
            _paper(folder)
        if as_json:
            console.print_json(verdict_facts(folder))
        else:
            show_verdict(folder)
    if open_:
        webbrowser.open(page.resolve().as_uri())


def _paper(folder: Path) -> None:
    """Write paper/ and say what stands there, and what is missing."""
    from cupel.report.paper import write_paper

    paper = write_paper(folder)
    console.note(f"paper: {paper.paths[-1]}, with {len(paper.paths) - 1} figures and tables")
    if paper.without_pgf:
        console.warn(f"paper: no PGF figures: {paper.without_pgf}; PDF and SVG are there")


def _browse_only(folder: Path, completions: int | None) -> Path | None:
    """Write completions.html of a folder that is no study; None where it is one, or holds nothing.

    Raises:
        Stop: what it holds cannot be shown.
    """
    from cupel.lab.store import is_study_folder
    from cupel.report.viewer import DEFAULT_COMPLETIONS, has_content, write_viewer

    if is_study_folder(folder) or not has_content(folder):
        return None
    page = write_viewer(folder, completions=completions or DEFAULT_COMPLETIONS)
    if page is None:
        raise Stop(f"{folder}: its rows cannot be read; nothing to show")
    return page
