"""`cupel report`: judges a study again and writes its page and figures, or follows it live."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.execution import figures_option, judge_and_report
from cupel.cli.source import find_study, json_option
from cupel.cli.verdict import show_verdict, verdict_facts

_SERVING = ("host", "port", "allow_remote")


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
@click.option(
    "--watch",
    is_flag=True,
    help="Serve the page on this machine and follow the runs; writes nothing, until Ctrl-C.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to serve at, with --watch."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port to serve at, with --watch [default: any free one].",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Let --host be an address that other machines reach; they can read the study.",
)
@figures_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    study: Path,
    open_: bool,
    paper: bool,
    completions: int | None,
    watch: bool,
    host: str,
    port: int,
    allow_remote: bool,
    figures: bool,
    as_json: bool,
) -> None:
    """Write analysis, figures, report.html and completions.html of STUDY from its runs so far.

    completions.html browses what the models wrote: step and problem, tokens coloured by entropy or
    advantage, planning tokens underlined. A folder of one run with completions, labelled snapshots
    or evaluated puzzles gets that page alone.

    With --watch nothing is judged or written: the page is served and follows the rows as they
    come, through interruption and resumption of the study.

    \b
    Examples:
      cupel report results/quickstart
      cupel report results/quickstart --open
      cupel report results/quickstart --paper
      cupel report results/quickstart --completions 5000
      cupel report results/quickstart --watch --open
      cupel report results/phase1_labeling
    """
    if watch:
        if as_json or paper or completions:
            other = "--json" if as_json else "--paper" if paper else "--completions"
            raise Stop(f"report: {other} and --watch exclude each other; --watch only shows")
        folder = find_study(study).folder
        watch_report(folder, host=host, port=port, allow_remote=allow_remote, open_=open_)
        return
    given = [name for name in _SERVING if _was_given(context, name)]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Stop(f"report: {flags} means something only with --watch")
    page = _browse_only(study, completions) if study.is_dir() else None
    if page is None:
        page = _report(study, paper, completions, figures, as_json)
    elif paper:
        raise Stop(f"{study} is one run; --paper needs a study")
    elif as_json:
        console.print_json({"page": str(page)})
    else:
        console.note(f"wrote {page}")
    if open_:
        webbrowser.open(page.resolve().as_uri())


def _report(
    study: Path, paper: bool, completions: int | None, figures: bool, as_json: bool
) -> Path:
    """Write everything of a study, show its verdict, and return its page."""
    folder = find_study(study).folder
    judge_and_report(folder, complete=False, figures=figures, completions=completions)
    if paper:
        _paper(folder)
    if as_json:
        console.print_json(verdict_facts(folder))
    else:
        show_verdict(folder)
    return folder / "report.html"


def watch_report(folder: Path, *, host: str, port: int, allow_remote: bool, open_: bool) -> None:
    """Serve the live page of a study until Ctrl-C."""
    from cupel.report.live import open_server

    server = open_server(folder, host=host, port=port, allow_remote=allow_remote)
    if allow_remote:
        console.warn("whoever reaches this address can read the study; there is no password")
    try:
        console.line(server.url)
        console.note("following the study; Ctrl-C ends it")
        if open_:
            webbrowser.open(server.url)
        server.serve()
    except KeyboardInterrupt:
        console.note("ended; the study goes on as it was")


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


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
