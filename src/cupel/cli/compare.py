"""`cupel compare`: describes conditions side by side, without a test."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli.arms import arms_options, check_arms, deliver
from cupel.cli.greedy import GreedyCommand
from cupel.cli.source import json_option


@click.command(cls=GreedyCommand)
@arms_options
@json_option
def command(
    study: Path | None,
    baseline: tuple[Path, ...],
    candidate: tuple[Path, ...],
    output: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Describe conditions side by side: counts, rates, rewards, and the endpoint of every run.

    A description decides nothing; `cupel significance` does.

    \b
    Examples:
      cupel compare results/quickstart
      cupel compare --baseline runs/grpo_s* --candidate runs/full_s* --markdown comparison.md
    """
    from cupel.analysis import compare_runs, comparison_markdown, judge

    check_arms(study, baseline, candidate)
    if study is not None:
        report = dict(judge(study).comparison)
    else:
        report = compare_runs(baseline, candidate)
    text = comparison_markdown(report)
    deliver(report, text, output=output, markdown=markdown, as_json=as_json)
