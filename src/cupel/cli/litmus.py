"""`cupel litmus`: holds a candidate to thresholds, after asking for enough evidence."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli.app import EXIT_INCONCLUSIVE, EXIT_NO
from cupel.cli.arms import Arms, arms_options, check_arms, deliver, study_arms
from cupel.cli.greedy import GreedyCommand
from cupel.cli.source import json_option

EXIT_CODES = {"CONFIRMED": 0, "FAILED": EXIT_NO, "INCONCLUSIVE": EXIT_INCONCLUSIVE}


@click.command(cls=GreedyCommand)
@arms_options
@click.option(
    "--mode",
    type=click.Choice(["interval", "point"]),
    default="interval",
    show_default=True,
    help="interval: bounds over seeds must reach the thresholds; point: the pooled differences.",
)
@click.option("--profile", default="official_v1", show_default=True, help="Set of thresholds.")
@click.option("--min-reward-lift", type=float, help="Least lift of the mean reward.")
@click.option("--min-correct-rate-lift", type=float, help="Least lift of the correct rate.")
@click.option("--min-gram-entropy-delta-lift", type=float, help="Least lift of the entropy delta.")
@click.option("--min-run-pairs", type=click.IntRange(min=0), help="Least pairs of runs.")
@click.option("--min-steps-per-run", type=click.IntRange(min=0), help="Least steps a run.")
@click.option("--min-generations-per-run", type=click.IntRange(min=0), help="Least completions.")
@click.option("--min-gram-pairs-per-run", type=click.IntRange(min=0), help="Least gram pairs.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Size of the intervals.")
@json_option
def command(
    study: Path | None,
    baseline: tuple[Path, ...],
    candidate: tuple[Path, ...],
    output: Path | None,
    markdown: Path | None,
    mode: str,
    profile: str,
    min_reward_lift: float | None,
    min_correct_rate_lift: float | None,
    min_gram_entropy_delta_lift: float | None,
    min_run_pairs: int | None,
    min_steps_per_run: int | None,
    min_generations_per_run: int | None,
    min_gram_pairs_per_run: int | None,
    alpha: float,
    as_json: bool,
) -> int:
    """Hold a candidate to thresholds on its lift over a baseline.

    Exit code 0 CONFIRMED, 1 FAILED, 4 INCONCLUSIVE (too little evidence, or bounds on both sides).

    \b
    Examples:
      cupel litmus results/quickstart
      cupel litmus --baseline runs/maxrl+gtpo_hicra_s* --candidate runs/maxrl+gtpo_sepa_s*
      cupel litmus results/quickstart --mode point --min-correct-rate-lift 0.02
    """
    from cupel.analysis import evaluate_litmus, litmus_markdown

    check_arms(study, baseline, candidate)
    arms = Arms(baseline=baseline, candidate=candidate) if study is None else study_arms(study)
    report = evaluate_litmus(
        arms.baseline,
        arms.candidate,
        profile=profile,
        mode="point" if mode == "point" else "interval",
        alpha=alpha,
        min_reward_lift=min_reward_lift,
        min_correct_rate_lift=min_correct_rate_lift,
        min_gram_entropy_delta_lift=min_gram_entropy_delta_lift,
        min_run_pairs=min_run_pairs,
        min_steps_per_run=min_steps_per_run,
        min_generations_per_run=min_generations_per_run,
        min_gram_pairs_per_run=min_gram_pairs_per_run,
    )
    deliver(report, litmus_markdown(report), output=output, markdown=markdown, as_json=as_json)
    return EXIT_CODES[str(report["verdict"])]
