"""What a whole campaign can show: power of the seed test, and what pooled completions would claim.

Knows simulated campaigns; refuses to show the pooled test's power without its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from cupel.errors import ConfigError
from cupel.stats.nested import Cell, Nested, run_sd_on_logits, simulate
from cupel.stats.permutation import sign_flip_p_values
from cupel.stats.samples import FloatArray, fraction, positive

MOST_EXACT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPower:
    """Rates of rejection at alpha over simulated campaigns.

    Attributes:
        power, size: of the seed test, with the lift and without.
        pooled_power, pooled_size: of a pooled test of completions; power means nothing where the
            size is not alpha.
        wrong_sign: rejections by the seed test that point the wrong way.
        sd_differences: spread of the seed differences.
        design_effect: variance of the mean difference over what independent completions give.
        error: Monte Carlo standard error of a rate at one half.
    """

    test: str
    power: float
    size: float
    wrong_sign: float
    pooled_power: float
    pooled_size: float
    sd_differences: float
    design_effect: float
    completions_per_run: int
    simulations: int
    error: float


def campaign_power(
    *,
    p0: float,
    lift: float,
    run_sd: float,
    seeds: int,
    prompts: int,
    group: int,
    steps: int = 1,
    prompt_sd: float = 1.5,
    alpha: float = 0.05,
    simulations: int = 2_000,
    rng: np.random.Generator,
) -> CampaignPower:
    """Simulate campaigns of two arms and count how often each test claims a difference.

    Args:
        p0, lift: mean rate of the baseline, and what the candidate adds.
        run_sd: standard deviation between the rates of runs of one arm, as a rate.
        prompts, group, steps: a run answers steps x prompts prompts, group times each.
        prompt_sd: spread of the prompts' difficulty, in logits.

    Raises:
        ConfigError: a rate outside (0, 1), a size below 1, or a spread that no rate can have.
    Source: Morris, White & Crowther 2019 (simulation studies); Kish 1965 (design effect).
    """
    where = "campaign_power"
    fraction(p0, where=where, name="p0")
    fraction(p0 + lift, where=where, name="p0 + lift")
    fraction(alpha, where=where, name="alpha")
    positive(seeds, where=where, name="seeds", at_least=2)
    positive(steps, where=where, name="steps")
    positive(simulations, where=where, name="simulations", at_least=100)
    if prompt_sd < 0 or not math.isfinite(prompt_sd):
        raise ConfigError(f"{where}: prompt_sd = {prompt_sd} must be >= 0 and finite")
    spread = run_sd_on_logits(p0, run_sd, prompt_sd)
    cell = Cell(
        name=where,
        seeds=seeds,
        prompts=steps * prompts,
        group=group,
        rate=p0,
        run_sd=spread,
        prompt_sd=prompt_sd,
    )
    null = simulate(cell, simulations, rng)
    effect = simulate(replace(cell, lift=lift), simulations, rng)
    d_RS = effect.differences_RS
    rejected_R = seed_p_values(d_RS) < alpha
    wrong_R = np.sign(d_RS.mean(axis=1)) == -np.sign(lift)
    sd = math.sqrt(float(d_RS.var(axis=1, ddof=1).mean()))
    n = steps * prompts * group
    independent = (p0 * (1 - p0) + (p0 + lift) * (1 - p0 - lift)) / n
    return CampaignPower(
        test="sign_flip" if seeds <= MOST_EXACT else "paired_t",
        power=float(np.mean(rejected_R)),
        size=float(np.mean(seed_p_values(null.differences_RS) < alpha)),
        wrong_sign=float(np.mean(rejected_R & wrong_R)),
        pooled_power=float(np.mean(pooled_p_values(effect) < alpha)),
        pooled_size=float(np.mean(pooled_p_values(null) < alpha)),
        sd_differences=sd,
        design_effect=sd**2 / independent,
        completions_per_run=n,
        simulations=simulations,
        error=0.5 / math.sqrt(simulations),
    )


def seed_p_values(differences_RS: FloatArray) -> FloatArray:
    """Return sign-flip p-values of every row; of the paired t, its equal, beyond 16 pairs."""
    if differences_RS.shape[1] <= MOST_EXACT:
        return sign_flip_p_values(differences_RS)
    return paired_t_p_values(differences_RS)


def paired_t_p_values(differences_RS: FloatArray) -> FloatArray:
    """Return two-sided t p-values of every row; 1 for rows that do not vary."""
    n = differences_RS.shape[1]
    sd_R = differences_RS.std(axis=1, ddof=1)
    mean_R = differences_RS.mean(axis=1)
    t_R = np.divide(mean_R * math.sqrt(n), sd_R, out=np.zeros_like(mean_R), where=sd_R > 0)
    p_R: FloatArray = 2 * stats.t.sf(np.abs(t_R), n - 1)
    return p_R


def pooled_p_values(nested: Nested) -> FloatArray:
    """Return Fisher-type p-values of pooled completions: twice the smaller hypergeometric tail.

    For arms of equal size this is Fisher's exact test.
    """
    right_RA, total_RA = nested.right_RAS.sum(axis=2), nested.total_RAS.sum(axis=2)
    both_R, all_R = right_RA.sum(axis=1), total_RA.sum(axis=1)
    lower_R = stats.hypergeom.cdf(right_RA[:, 1], all_R, both_R, total_RA[:, 1])
    upper_R = stats.hypergeom.sf(right_RA[:, 1] - 1, all_R, both_R, total_RA[:, 1])
    p_R: FloatArray = np.minimum(1.0, 2 * np.minimum(lower_R, upper_R))
    return p_R
