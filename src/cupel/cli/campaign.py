"""`cupel campaign`: the five conditions on eight seeds, planned, and run when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cupel.cli.execution import execution_options, plan_or_execute
from cupel.cli.followers import TrackerWish, wandb_options
from cupel.cli.lr_from import arm_rates, lr_from_option
from cupel.cli.rlvr_flags import ARM_SETTINGS, shared_settings, train_flags
from cupel.cli.source import (
    comma_list,
    decision_options,
    decision_settings,
    endpoint_settings,
    seed_list,
    set_setting_option,
    study_from,
    timestamp,
)
from cupel.rlvr.campaign import CAMPAIGN_CONDITIONS, CAMPAIGN_MAX_STEPS, campaign_study

DEFAULT_SEEDS_TEXT = "42,101,202,303,404,505,606,707"


@click.command()
@click.option("--seeds", default=DEFAULT_SEEDS_TEXT, show_default=True, help="Seeds, a,b,c.")
@click.option("--conditions", help="Conditions, a,b,c, in order [default: the five].")
@click.option("--baseline", help="Baseline of the primary contrast [default: maxrl+gtpo_hicra].")
@click.option("--candidate", help="Candidate of the primary contrast [default: maxrl+gtpo_sepa].")
@lr_from_option
@click.option(
    "--campaign-root",
    type=click.Path(path_type=Path),
    help="Study folder [default: logs/campaign_<YYYYmmdd_HHMMSS>].",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file of settings shared by all conditions.",
)
@set_setting_option
@decision_options
@execution_options
@wandb_options
@train_flags(without=ARM_SETTINGS, of_all={"max_steps": CAMPAIGN_MAX_STEPS})
@click.pass_context
def command(
    ctx: click.Context,
    /,
    seeds: str,
    conditions: str | None,
    baseline: str | None,
    candidate: str | None,
    lr_from: tuple[Path, ...],
    campaign_root: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    tracker: TrackerWish,
    **rest: Any,
) -> int:
    """Plan a campaign: conditions x seeds at shared settings. Runs only with --execute.

    Defaults: grpo+none, maxrl+none, maxrl+gtpo, maxrl+gtpo_hicra and maxrl+gtpo_sepa on eight
    seeds, 100 steps a run. Neighbours in the list are secondary contrasts.

    \b
    Examples:
      cupel campaign
      cupel campaign --seeds 1,2,3,4,5,6 --max-steps 40 --execute
      cupel campaign --conditions grpo+none,maxrl+none --config shared.toml
      cupel campaign --conditions grpo+none,maxrl+gtpo_sepa --lr-from results/lr_sweep
    """
    root = campaign_root or Path("logs") / f"campaign_{timestamp()}"
    labels = list(CAMPAIGN_CONDITIONS)
    if conditions is not None:
        labels = comma_list(conditions, flag="--conditions")
    contrast = {"baseline": baseline, "candidate": candidate}
    shared, all_seeds = shared_settings(ctx, config_file, overrides), seed_list(seeds)
    rates = arm_rates(lr_from, labels, shared=shared, seeds=all_seeds)
    data = campaign_study(
        name=root.name,
        seeds=all_seeds,
        shared=shared,
        conditions=labels,
        rates=rates.by_label,
        decision={k: v for k, v in contrast.items() if v is not None} | decision_settings(rest),
        endpoint=endpoint_settings(rest),
    )
    source = study_from(data | tracker, where="campaign", out=root)
    return plan_or_execute(source, rest, record=rates.record)
