"""`cupel power campaign`: the power of a whole campaign, by simulating it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.power_output import deliver, output_options
from cupel.cli.source import seed_list

if TYPE_CHECKING:
    from cupel.report.power_figure import PowerCurve


@click.command(short_help="Power of a whole campaign, simulated.")
@click.option("--p0", type=float, required=True, help="Rate of the baseline, between 0 and 1.")
@click.option("--lift", type=float, required=True, help="What the candidate adds to it.")
@click.option(
    "--run-sd",
    type=click.FloatRange(min=0),
    required=True,
    help="Standard deviation between the rates of runs of one arm.",
)
@click.option(
    "--seeds", "seeds_text", default="4,6,8,16", show_default=True, help="Numbers of seeds, a list."
)
@click.option("--prompts", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--group", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--prompt-sd",
    type=click.FloatRange(min=0),
    default=1.5,
    show_default=True,
    help="Spread of the prompts' difficulty, in logits.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Two-sided size of the test.",
)
@click.option("--simulations", type=click.IntRange(min=100), default=2000, show_default=True)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the simulation."
)
@output_options
def campaign(
    p0: float,
    lift: float,
    run_sd: float,
    seeds_text: str,
    prompts: int,
    group: int,
    steps: int,
    prompt_sd: float,
    alpha: float,
    simulations: int,
    seed: int,
    **output: Any,
) -> None:
    """Power of the seed test over simulated campaigns, and what pooled completions would claim.

    A run answers --steps x --prompts prompts, --group times each; runs differ by --run-sd,
    prompts by --prompt-sd. `pooled size` is how often a pooled test claims a difference that is
    not there; where it is not alpha, its power means nothing.

    \b
    Examples:
      cupel power campaign --p0 0.3 --lift 0.04 --run-sd 0.02
      cupel power campaign --p0 0.3 --lift 0.04 --run-sd 0.02 --seeds 8,16,32 --figure power.svg
    """
    import numpy as np

    from cupel.stats.campaign_power import campaign_power

    counts = seed_list(seeds_text)
    if min(counts) < 2:
        raise Stop(f"--seeds {seeds_text}: a campaign has at least 2 seeds")
    rows: list[dict[str, console.Cell]] = []
    for count in counts:
        found = campaign_power(
            p0=p0,
            lift=lift,
            run_sd=run_sd,
            seeds=count,
            prompts=prompts,
            group=group,
            steps=steps,
            prompt_sd=prompt_sd,
            alpha=alpha,
            simulations=simulations,
            rng=np.random.default_rng([seed, count]),
        )
        rows.append({"seeds": count, **asdict(found)})
    error = rows[0].pop("error")
    for row in rows[1:]:
        row.pop("error")
    deliver(
        rows,
        facts={
            "p0": p0,
            "lift": lift,
            "run_sd": run_sd,
            "prompt_sd": prompt_sd,
            "alpha": alpha,
            "seed": seed,
            "monte_carlo_error": error,
        },
        rows_name="designs",
        title=f"Simulated campaigns: {p0:g} against {p0 + lift:g}, runs of sd {run_sd:g}, "
        f"alpha {alpha:g}",
        notes=[
            f"Rates over {simulations} simulations, standard error at most {error:.3f}.",
            "Where pooled size is not alpha, pooled power means nothing.",
        ],
        curves=lambda: _curves(rows),
        size_label="seeds an arm",
        **output,
    )


def _curves(rows: list[dict[str, Any]]) -> list[PowerCurve]:
    from cupel.report.power_figure import PowerCurve

    sizes = tuple(row["seeds"] for row in rows)
    return [
        PowerCurve(label=label, sizes=sizes, powers=tuple(row[key] for row in rows))
        for key, label in (("power", "seed test"), ("size", "seed test, no effect"))
    ]
