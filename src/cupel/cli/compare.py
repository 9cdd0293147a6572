"""`cupel compare`: describes sets of runs side by side, without a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.greedy import GreedyCommand, GreedyOption
from cupel.cli.source import json_option
from cupel.cli.tables import format_option, table_text


@click.command(cls=GreedyCommand)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    cls=GreedyOption,
    type=click.Path(path_type=Path),
    metavar="DIR...",
    help="Run folders of the baseline, with --candidate; adds the difference.",
)
@click.option(
    "--candidate",
    cls=GreedyOption,
    type=click.Path(path_type=Path),
    metavar="DIR...",
    help="Run folders of the candidate.",
)
@click.option("--endpoint", help="Metric to show [default: the studies' own, or correct_rate].")
@click.option("--over", help="Window of --endpoint [default: last 20%].")
@click.option("--output", type=click.Path(path_type=Path), help="Write the JSON report here.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write markdown here.")
@format_option
@json_option
def command(
    paths: tuple[Path, ...],
    baseline: tuple[Path, ...],
    candidate: tuple[Path, ...],
    endpoint: str | None,
    over: str | None,
    output: Path | None,
    markdown: Path | None,
    kind: str,
    as_json: bool,
) -> None:
    """Describe two or more sets of runs side by side: n, mean and interval, every run a row.

    A study folder gives a set for each of its conditions; run folders are collected by
    condition; any other folder is one set of the runs in it. A description decides nothing;
    `cupel significance` does.

    \b
    Examples:
      cupel compare results/quickstart
      cupel compare results/monday results/tuesday --format latex > table.tex
      cupel compare runs/grpo_s* runs/full_s* --endpoint correct_rate --over all --format csv
      cupel compare --baseline runs/grpo_s* --candidate runs/full_s* --markdown comparison.md
    """
    from cupel.analysis import comparison_markdown
    from cupel.report.comparison import comparison_tables

    report = _report(paths, baseline, candidate, endpoint, over)
    data = console.json_text(report)
    for path, content in ((output, data), (markdown, comparison_markdown(report))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            console.note(f"wrote {path}")
    if as_json or kind == "json":
        console.line(data.rstrip())
        return
    source = str(report["provenance"]["source_sha256"])
    console.line(table_text(comparison_tables(report), kind, source_sha256=source).rstrip())
    for note in report["notes"]:
        console.note(note)


def _report(
    paths: tuple[Path, ...],
    baseline: tuple[Path, ...],
    candidate: tuple[Path, ...],
    endpoint: str | None,
    over: str | None,
) -> dict[str, Any]:
    from cupel.analysis import compare_runs
    from cupel.analysis.compare import compare_sets
    from cupel.config import validate
    from cupel.lab.study import Endpoint

    given = None
    if endpoint is not None:
        window = {"over": over} if over is not None else {}
        given = validate(Endpoint, {"metric": endpoint, **window}, where="--endpoint")
    elif over is not None:
        raise Stop(f"--over '{over}': say with --endpoint of which metric")
    if paths and (baseline or candidate):
        raise Stop("give sets of runs, or --baseline and --candidate, not both")
    if paths:
        return compare_sets(paths, endpoint=given)
    for flag, folders in (("--baseline", baseline), ("--candidate", candidate)):
        if not folders:
            raise Stop(f"no {flag}: give a study folder, two sets of runs, or both arms")
    return compare_runs(baseline, candidate, endpoint=given)
