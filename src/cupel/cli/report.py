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
    watch: bool,
    host: str,
    port: int,
    allow_remote: bool,
    figures: bool,
    as_json: bool,
) -> None:
    """Write analysis, figures and report.html of STUDY from what its runs recorded so far.

    With --watch nothing is judged or written: the page is served and follows the rows as they
    come, through interruption and resumption of the study.

    \b
    Examples:
      cupel report results/quickstart
      cupel report results/quickstart --open
      cupel report results/quickstart --paper
      cupel report results/quickstart --watch --open
    """
    folder = find_study(study).folder
    if watch:
        if as_json or paper:
            other = "--json" if as_json else "--paper"
            raise Stop(f"report: {other} and --watch exclude each other; --watch only shows")
        watch_report(folder, host=host, port=port, allow_remote=allow_remote, open_=open_)
        return
    given = [name for name in _SERVING if _was_given(context, name)]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Stop(f"report: {flags} means something only with --watch")
    judge_and_report(folder, complete=False, figures=figures)
    if paper:
        _paper(folder)
    if as_json:
        console.print_json(verdict_facts(folder))
    else:
        show_verdict(folder)
    if open_:
        webbrowser.open((folder / "report.html").resolve().as_uri())


def watch_report(folder: Path, *, host: str, port: int, allow_remote: bool, open_: bool) -> None:
    """Serve the live page of a study until Ctrl-C."""
    from cupel.report.live import open_server

    server = open_server(folder, host=host, port=port, allow_remote=allow_remote)
    if allow_remote:
        console.warn("whoever reaches this address can read the study; there is no password")
    console.line(server.url)
    console.note("following the study; Ctrl-C ends it")
    if open_:
        webbrowser.open(server.url)
    try:
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
