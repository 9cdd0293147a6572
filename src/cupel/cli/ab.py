"""`cupel ab`: two arms on the same seeds, planned, and run when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli.campaign import DEFAULT_SEEDS_TEXT
from cupel.cli.execution import execution_options, plan_or_execute
from cupel.cli.followers import TrackerWish, wandb_options
from cupel.cli.lr_from import arm_rates, lr_from_option
from cupel.cli.rlvr_flags import ARM_SETTINGS, shared_settings, train_flags
from cupel.cli.source import (
    decision_options,
    decision_settings,
    endpoint_settings,
    seed_list,
    set_setting_option,
    study_from,
    timestamp,
)
from cupel.rlvr.campaign import AB_DEFAULTS, ab_defaults, ab_study


@click.command()
@click.option(
    "--baseline",
    default="grpo",
    show_default=True,
    help="Baseline arm: grpo, full, or a condition such as maxrl+gtpo_hicra.",
)
@click.option("--candidate", default="full", show_default=True, help="Candidate arm.")
@click.option("--baseline-lr", type=float, help="Learning rate of the baseline [default: --lr].")
@click.option("--candidate-lr", type=float, help="Learning rate of the candidate [default: --lr].")
@lr_from_option
@click.option(
    "--seeds",
    default=DEFAULT_SEEDS_TEXT,
    show_default=True,
    help="Seeds, a,b,c; both arms run every seed.",
)
@click.option(
    "--campaign-root",
    type=click.Path(path_type=Path),
    help="Study folder [default: results/ab_<YYYYmmdd_HHMMSS>].",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file of settings shared by both arms.",
)
@click.option(
    "--continue-on-error",
    is_flag=True,
    help="Run every run even if one failed; without it, the first failure stops.",
)
@set_setting_option
@decision_options
@execution_options
@wandb_options
@train_flags(without=ARM_SETTINGS, of_torch=AB_DEFAULTS)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    baseline: str,
    candidate: str,
    baseline_lr: float | None,
    candidate_lr: float | None,
    lr_from: tuple[Path, ...],
    seeds: str,
    campaign_root: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    tracker: TrackerWish,
    continue_on_error: bool,
    **rest: Any,
) -> int:
    """Plan an A/B comparison: two arms, seeds paired. Runs only with --execute.

    The defaults of the settings are those of a real language model, backends torch and tinker; the
    tiny and toy models keep their own, as the help of each setting says. Tune each arm's learning
    rate before comparing: a shared one favours one arm. cupel sweep does it, --lr-from uses it.

    \b
    Examples:
      cupel ab
      cupel ab --baseline maxrl+gtpo_hicra --candidate maxrl+gtpo_sepa --execute
      cupel ab --baseline-lr 5e-4 --candidate-lr 5e-5 --campaign-root results/ab_v1
      cupel ab --lr-from results/lr_sweep --execute
      cupel ab --backend tinker --lr-from results/lr_sweep --execute --workers 2
    """
    root = campaign_root or Path("results") / f"ab_{timestamp()}"
    shared, all_seeds = shared_settings(ctx, config_file, overrides), seed_list(seeds)
    rates = arm_rates(
        lr_from,
        [baseline, candidate],
        shared=shared,
        under=ab_defaults(shared),
        seeds=all_seeds,
        given={"--baseline-lr": baseline_lr, "--candidate-lr": candidate_lr},
    )
    data = ab_study(
        name=root.name,
        seeds=all_seeds,
        shared=shared,
        baseline=baseline,
        candidate=candidate,
        baseline_lr=rates.by_label.get(baseline, baseline_lr),
        candidate_lr=rates.by_label.get(candidate, candidate_lr),
        decision=decision_settings(rest),
        endpoint=endpoint_settings(rest),
    )
    return plan_or_execute(
        study_from(data | tracker, where="ab", out=root),
        rest,
        stop_on_failure=not continue_on_error,
        record=rates.record,
    )
