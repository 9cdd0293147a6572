"""`cupel power`: what a design can show, before it is run.

The standard deviation and the effect come from the user. Power at an observed effect is not
offered: it says nothing that the p-value did not say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.power_campaign import campaign
from cupel.cli.power_output import deliver, number_list, output_options

if TYPE_CHECKING:
    from cupel.report.power_figure import PowerCurve


alpha_option = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Two-sided size of the test.",
)
power_option = click.option(
    "--power",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Wanted probability to find the effect.",
)

SEED_COUNTS = (3, 5, 6, 8, 12, 16, 24, 32)
"""Designs shown beside the one asked for."""
METHODS: Mapping[str, str] = {
    "seed_compat": "z = 1.96, rounded to nearest (published tables)",
    "normal": "exact quantiles, rounded up",
    "arcsine": "Cohen's h",
    "fleiss": "continuity corrected",
    "fisher": "exact power of Fisher's test",
    "mid_p": "exact power of its mid-p form",
}


@click.group()
def command() -> None:
    """How many seeds, or completions, a claim needs.

    \b
    Examples:
      cupel power seeds --effect 0.03 --run-sd 0.02
      cupel power campaign --p0 0.3 --lift 0.04 --run-sd 0.02 --seeds 4,8,16
      cupel power proportions --p0 0.01875 --lift 0.0126
    """


@command.command(short_help="Completions that tell two rates apart.")
@click.option("--p0", type=float, required=True, help="Rate of the baseline, between 0 and 1.")
@click.option(
    "--lift",
    "lifts",
    multiple=True,
    required=True,
    metavar="X[,X...]",
    help="Absolute lift to detect, e.g. 0.0126. Repeatable, or a list.",
)
@alpha_option
@power_option
@click.option(
    "--design-effect",
    type=click.FloatRange(min=1),
    default=1.0,
    show_default=True,
    help="Factor for completions that depend on each other (same prompt, same run).",
)
@click.option(
    "--smoke",
    "--pilot",
    "smoke",
    type=click.IntRange(min=1),
    help="Size of a smoke run's arm; also shows how many times that is.",
)
@output_options
def proportions(
    p0: float,
    lifts: tuple[str, ...],
    alpha: float,
    power: float,
    design_effect: float,
    smoke: int | None,
    **output: Any,
) -> None:
    """Completions per arm that tell two rates apart, if all completions were independent.

    They are not: completions of one run share its seed. For a training claim use
    `cupel power seeds`; the run is the unit.

    \b
    Examples:
      cupel power proportions --p0 0.01875 --lift .0100,.0126,.0150,.0200 --smoke 160
      cupel power proportions --p0 0.34 --lift 0.01 --lift 0.02 --design-effect 4 --latex
    """
    from cupel.stats.power import two_proportion_n

    methods: tuple[Any, ...] = tuple(METHODS)
    rows: list[dict[str, console.Cell]] = []
    for lift in number_list(lifts, flag="--lift"):
        row: dict[str, console.Cell] = {"p0": p0, "lift": lift, "p1": round(p0 + lift, 12)}
        for method in methods:
            n = two_proportion_n(p0, lift, alpha=alpha, power=power, method=method)
            row[method] = math.ceil(n * design_effect)
        if smoke is not None:
            times = two_proportion_n(p0, lift, alpha=alpha, power=power) * design_effect / smoke
            row["times_pilot"] = round(times, 1)
        rows.append(row)
    notes = ["; ".join(f"{name}: {how}" for name, how in METHODS.items()) + "."]
    if design_effect == 1:
        notes.append(
            "These treat completions as independent. Completions of one run are not: see "
            "--design-effect, or plan in seeds with `cupel power seeds`."
        )
    deliver(
        rows,
        facts={"alpha": alpha, "power": power, "design_effect": design_effect},
        rows_name="per_arm",
        title=f"Completions per arm (two-sided alpha {alpha:g}, power {power:g})",
        notes=notes,
        curves=lambda: _proportion_curves(rows, alpha, design_effect),
        size_label="completions per arm",
        **output,
    )


def _proportion_curves(
    rows: Sequence[Mapping[str, Any]], alpha: float, design_effect: float
) -> list[PowerCurve]:
    from cupel.report.power_figure import PowerCurve
    from cupel.stats.power import two_proportion_power

    most = 1.5 * max(row["normal"] for row in rows)
    sizes = sorted({max(2, round(most * part / 60)) for part in range(1, 61)})
    return [
        PowerCurve(
            label=f"lift {row['lift']:g}",
            sizes=tuple(sizes),
            powers=tuple(
                two_proportion_power(
                    row["p0"], row["lift"], max(1, round(n / design_effect)), alpha=alpha
                )
                for n in sizes
            ),
        )
        for row in rows
    ]


@command.command(short_help="Seeds that find an effect.")
@click.option("--effect", type=float, required=True, help="Difference worth finding.")
@click.option(
    "--run-sd",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Standard deviation of the endpoint between seeds of one condition.",
)
@click.option(
    "--rho",
    type=click.FloatRange(-1, 1, min_open=True, max_open=True),
    default=0.0,
    show_default=True,
    help="Correlation of the two arms at equal seed.",
)
@click.option(
    "--pilot-seeds",
    type=click.IntRange(min=2),
    help="How many seeds --run-sd came from; plans with its upper 80% limit.",
)
@click.option("--seeds", type=click.IntRange(min=2), help="Also show this number of seeds.")
@alpha_option
@power_option
@output_options
def seeds(
    effect: float,
    run_sd: float,
    rho: float,
    pilot_seeds: int | None,
    seeds: int | None,
    alpha: float,
    power: float,
    **output: Any,
) -> None:
    """Seed pairs that find an effect, and what each number of seeds could find.

    \b
    Examples:
      cupel power seeds --effect 0.03 --run-sd 0.02
      cupel power seeds --effect 0.01 --run-sd 0.015 --pilot-seeds 3 --seeds 16
      cupel power seeds --effect 0.03 --run-sd 0.02 --figure power.pdf
    """
    from cupel.stats.power import sd_upper_limit, seeds_for_power

    if not math.isfinite(effect) or effect == 0:
        raise Stop(f"--effect {effect}: give a finite number that is not 0")
    planned_sd = run_sd if pilot_seeds is None else sd_upper_limit(run_sd, pilot_seeds)
    difference_sd = planned_sd * math.sqrt(2 * (1 - rho))
    needed = seeds_for_power(abs(effect) / difference_sd, alpha=alpha, power=power)
    counts = sorted({*SEED_COUNTS, *(n for n in (seeds, needed) if n is not None)})
    designs = [seed_design(n, effect, difference_sd, alpha=alpha, power=power) for n in counts]
    answer = "more than 10,000" if needed is None else str(needed)
    deliver(
        designs,
        facts={
            "effect": effect,
            "difference_sd": difference_sd,
            "alpha": alpha,
            "power": power,
            "seeds_needed": needed,
        },
        rows_name="designs",
        title=f"Seed pairs needed for an effect of {effect:g} (seed differences of sd "
        f"{difference_sd:.3g}): {answer}",
        notes=["A dash: the exact test cannot reach alpha with so few seeds, whatever happens."],
        curves=lambda: _seed_curves(effect, difference_sd, max(counts), alpha, power),
        size_label="seed pairs",
        **output,
    )


def _seed_curves(
    effect: float, difference_sd: float, most: int, alpha: float, power: float
) -> list[PowerCurve]:
    from cupel.report.power_figure import PowerCurve

    sizes = tuple(range(2, max(10, most) + 1))
    curves = []
    for share, words in ((1.0, "the effect"), (0.5, "half of it")):
        given = share * effect
        designs = [seed_design(n, given, difference_sd, alpha=alpha, power=power) for n in sizes]
        powers = tuple(float(design["power_at_effect"] or 0.0) for design in designs)
        curves.append(PowerCurve(label=f"{words}: {given:g}", sizes=sizes, powers=powers))
    return curves


def seed_design(
    n: int, effect: float, difference_sd: float, *, alpha: float, power: float
) -> dict[str, console.Cell]:
    """Return what n seed pairs can show: floor, power at the effect, smallest effect found."""
    from cupel.stats.permutation import sign_flip_floor
    from cupel.stats.power import seed_mde, seed_power

    floor = sign_flip_floor(min(n, 1000))
    reaches = floor < alpha
    found = seed_mde(n, alpha=alpha, power=power) if reaches else None
    return {
        "seeds": n,
        "smallest_p": floor,
        "power_at_effect": (
            seed_power(abs(effect) / difference_sd, n, alpha=alpha) if reaches else 0.0
        ),
        "smallest_effect_found": None if found is None else found * difference_sd,
    }


command.add_command(campaign)
