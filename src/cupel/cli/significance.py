"""`cupel significance`: tests a candidate against a baseline, run by run."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli.arms import arms_options, check_arms, deliver, refuse_with_study
from cupel.cli.greedy import GreedyCommand
from cupel.cli.source import json_option

RULE = ("resamples", "alpha", "seed", "endpoint", "over", "test")
"""Options that state the rule; a study has stated its own."""


@click.command(cls=GreedyCommand)
@arms_options
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=20_000,
    show_default=True,
    help="Resamples of the legacy permutation and bootstrap.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Two-sided size.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the legacy resampling; the verdict draws no random number.",
)
@click.option("--endpoint", default="correct_rate", show_default=True, help="Metric to judge by.")
@click.option("--over", default="last 20%", show_default=True, help="Window of steps.")
@click.option(
    "--test",
    type=click.Choice(["sign_flip", "paired_t"]),
    default="sign_flip",
    show_default=True,
    help="sign_flip is exact; paired_t assumes normal differences.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    study: Path | None,
    baseline: tuple[Path, ...],
    candidate: tuple[Path, ...],
    output: Path | None,
    markdown: Path | None,
    resamples: int,
    alpha: float,
    seed: int,
    endpoint: str,
    over: str,
    test: str,
    as_json: bool,
) -> None:
    """Test a candidate against a baseline on the differences of equal seeds.

    Give a study folder, which is judged by the rule its plan declared, or run folders of both
    arms; those of earlier systems are read too. The documented tests on pooled completions stand
    beside the verdict as `legacy`.

    \b
    Examples:
      cupel significance results/quickstart
      cupel significance --baseline runs/maxrl+gtpo_hicra_s* --candidate runs/maxrl+gtpo_sepa_s*
      cupel significance --baseline a/ --candidate b/ --output s.json --markdown s.md --alpha 0.01
    """
    from cupel.analysis import evaluate_significance, judge, significance_markdown
    from cupel.config import validate
    from cupel.errors import DataError
    from cupel.lab.study import Endpoint

    check_arms(study, baseline, candidate)
    if study is not None:
        refuse_with_study(ctx, study, RULE)
        found = judge(study).significance
        if found is None:
            raise DataError(f"{study}: nothing to test; it has one condition, or is a sweep")
        report = dict(found)
    else:
        report = evaluate_significance(
            baseline_run_dirs=baseline,
            candidate_run_dirs=candidate,
            alpha=alpha,
            num_resamples=resamples,
            seed=seed,
            endpoint=validate(Endpoint, {"metric": endpoint, "over": over}, where="--endpoint"),
            primary_test="paired_t" if test == "paired_t" else "sign_flip",
        )
    text = significance_markdown(report)
    deliver(report, text, output=output, markdown=markdown, as_json=as_json)
