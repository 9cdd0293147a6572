"""Every procedure under trial, on many simulated campaigns at once: p-values by replication.

Knows vectorised forms of tests that stand one by one elsewhere, and the faulty ones that must be
caught; refuses to say which is good.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cupel.stats.campaign_power import paired_t_p_values
from cupel.stats.clustered import two_way
from cupel.stats.equivalence import tost_paired
from cupel.stats.intervals import paired_t
from cupel.stats.multiplicity import benjamini_hochberg, holm, max_t
from cupel.stats.nested import Nested
from cupel.stats.permutation import sign_flip, sign_flip_p_values
from cupel.stats.samples import FloatArray
from cupel.stats.sequential import Spending, e_processes, plan_looks

Flags = NDArray[np.bool_]
_RESAMPLES = 1_000
_ROWS = 2_000


def percentile_bootstrap_rejects(
    differences_RS: FloatArray, *, alpha: float, rng: np.random.Generator
) -> Flags:
    """Say for every row whether the percentile interval of resampled seeds leaves out 0."""
    weights_BS = _bootstrap_weights(differences_RS.shape[1], rng)
    rejects = []
    for d_RS in _blocks(differences_RS):
        ends = np.quantile(d_RS @ weights_BS.T, [alpha / 2, 1 - alpha / 2], axis=1)
        rejects.append((ends[0] > 0) | (ends[1] < 0))
    return np.concatenate(rejects)


def bootstrap_t_rejects(
    differences_RS: FloatArray, *, alpha: float, rng: np.random.Generator
) -> Flags:
    """Say for every row whether the studentised bootstrap interval leaves out 0."""
    n = differences_RS.shape[1]
    weights_BS = _bootstrap_weights(n, rng)
    rejects = []
    for d_RS in _blocks(differences_RS):
        mean_R, sd_R = d_RS.mean(axis=1), np.maximum(d_RS.std(axis=1, ddof=1), 1e-300)
        z_RS = (d_RS - mean_R[:, None]) / sd_R[:, None]
        means_RB = z_RS @ weights_BS.T
        variance_RB = (z_RS**2 @ weights_BS.T - means_RB**2) * n / (n - 1)
        flat_RB = variance_RB <= 1e-12
        extreme_RB = np.where(np.abs(means_RB) <= 1e-9, 0.0, np.copysign(1e9, means_RB))
        error_RB = np.sqrt(np.where(flat_RB, 1.0, variance_RB) / n)
        t_RB = np.where(flat_RB, extreme_RB, means_RB / error_RB)
        low_R, high_R = np.quantile(t_RB, [alpha / 2, 1 - alpha / 2], axis=1)
        error_R = sd_R / math.sqrt(n)
        rejects.append((mean_R - high_R * error_R > 0) | (mean_R - low_R * error_R < 0))
    return np.concatenate(rejects)


def _bootstrap_weights(n: int, rng: np.random.Generator) -> FloatArray:
    return rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES) / n


def _blocks(rows_RS: FloatArray) -> list[FloatArray]:
    return [rows_RS[start : start + _ROWS] for start in range(0, len(rows_RS), _ROWS)]


def shuffled_seed_p_values(nested: Nested, rng: np.random.Generator) -> FloatArray:
    """Return t p-values of pseudo-seeds: completions dealt to seeds at random, which is wrong."""
    seeds = nested.right_RAS.shape[2]
    left_RA = nested.right_RAS.sum(axis=2)
    remaining_RA = nested.total_RAS.sum(axis=2)
    rates = []
    for seed in range(seeds):
        take_RA = nested.total_RAS[:, :, seed]
        if seed < seeds - 1:
            drawn_RA = rng.hypergeometric(left_RA, remaining_RA - left_RA, take_RA)
        else:
            drawn_RA = left_RA
        rates.append(drawn_RA / take_RA)
        left_RA, remaining_RA = left_RA - drawn_RA, remaining_RA - take_RA
    rate_RAS = np.stack(rates, axis=2)
    return paired_t_p_values(rate_RAS[:, 1] - rate_RAS[:, 0])


def naive_doubling_rejects(differences_RS: FloatArray, *, alpha: float) -> Flags:
    """Test half of the seeds, and all of them at the same level if the first look missed."""
    half = differences_RS.shape[1] // 2
    first_R = sign_flip_p_values(differences_RS[:, :half]) < alpha
    rejects: Flags = first_R | (sign_flip_p_values(differences_RS) < alpha)
    return rejects


def looks_reject(differences_RS: FloatArray, *, alpha: float, spending: Spending) -> Flags:
    """Test half of the seeds, then all, each against its own boundary."""
    seeds = differences_RS.shape[1]
    looks = plan_looks([seeds // 2, seeds], spending=spending, alpha=alpha)
    rejects = np.zeros(len(differences_RS), dtype=bool)
    for size, level in zip(looks.sizes, looks.alpha_at, strict=True):
        rejects |= sign_flip_p_values(differences_RS[:, :size]) < level
    return rejects


def adaptive_stages_reject(differences_RS: FloatArray, *, alpha: float) -> Flags:
    """Combine two stages whose second size an adversary chose after seeing the first.

    The adversary takes all remaining seeds when the first p lies in (alpha, .3), else only six.
    """
    half = differences_RS.shape[1] // 2
    looks = plan_looks([half, 2 * half], alpha=alpha)
    up_R, down_R = _one_sided_rows(differences_RS[:, :half])
    p_R = np.minimum(1.0, 2 * np.minimum(up_R, down_R))
    long_R = (p_R > alpha) & (p_R < 0.3)
    second_long = _one_sided_rows(differences_RS[:, half:])
    second_short = _one_sided_rows(differences_RS[:, half : half + min(6, half)])
    rejects: Flags = p_R < looks.alpha_at[0]
    critical = looks.critical[1]
    for first_R, long, short in zip((up_R, down_R), second_long, second_short, strict=True):
        z_R = _z(first_R) + _z(np.where(long_R, long, short))
        rejects |= z_R / math.sqrt(2) > critical
    return rejects


def _z(p_R: FloatArray) -> FloatArray:
    z_R: FloatArray = -special.ndtri(np.minimum(p_R, 1 - 1e-12))
    return z_R


def _one_sided_rows(differences_RS: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return exact one-sided sign-flip p-values (up, down) of every row, at most 16 columns."""
    pairs = differences_RS.shape[1]
    codes_B = np.arange(2**pairs)
    signs_BS = 1.0 - 2.0 * ((codes_B[:, None] >> np.arange(pairs)) & 1)
    up, down = [], []
    for start in range(0, len(differences_RS), 1_000):
        d_RS = differences_RS[start : start + 1_000]
        total_R, slack_R = d_RS.sum(axis=1), 1e-12 * np.abs(d_RS).sum(axis=1)
        sums_RB = d_RS @ signs_BS.T
        up.append(np.mean(sums_RB >= (total_R - slack_R)[:, None], axis=1))
        down.append(np.mean(sums_RB <= (total_R + slack_R)[:, None], axis=1))
    return np.concatenate(up), np.concatenate(down)


def sweep_rejects(
    replications: int, *, grid: int, seeds: int, reuse: bool, alpha: float, rng: np.random.Generator
) -> Flags:
    """Say where a candidate tuned over a grid of equal settings falsely improves.

    With `reuse` the runs that chose the setting are tested; otherwise fresh ones are.
    """
    baseline_RS = rng.normal(size=(replications, seeds))
    sweep_RGS = rng.normal(size=(replications, grid, seeds))
    best_R = sweep_RGS.mean(axis=2).argmax(axis=1)
    chosen_RS = sweep_RGS[np.arange(replications), best_R]
    candidate_RS = chosen_RS if reuse else rng.normal(size=(replications, seeds))
    d_RS = candidate_RS - baseline_RS
    rejects: Flags = (sign_flip_p_values(d_RS) < alpha) & (d_RS.mean(axis=1) > 0)
    return rejects


def family_rejects(
    replications: int,
    *,
    contrasts: int,
    true: int,
    seeds: int,
    alpha: float,
    rng: np.random.Generator,
) -> dict[str, Flags]:
    """Say where a family with some true effects rejects a null contrast, by correction.

    All contrasts share one baseline. The key `bh_fdp` holds false discovery proportions at 2 alpha.
    """
    outcome_RAS = rng.normal(size=(replications, contrasts + 1, seeds))
    d_RKS = outcome_RAS[:, 1:] - outcome_RAS[:, :1]
    d_RKS[:, :true] += 2.5
    p_RK = sign_flip_p_values(d_RKS.reshape(-1, seeds)).reshape(replications, contrasts)
    by_holm = np.array([np.any(holm(p)[true:] < alpha) for p in p_RK])
    by_max_t = np.array([np.any(max_t(d.T)[true:] < alpha) for d in d_RKS])
    found_RK = np.array([benjamini_hochberg(p) < 2 * alpha for p in p_RK])
    false_R, all_R = found_RK[:, true:].sum(axis=1), found_RK.sum(axis=1)
    uncorrected = np.any(p_RK[:, true:] < alpha, axis=1)
    return {
        "holm": by_holm,
        "max_t": by_max_t,
        "bh_fdp": false_R / np.maximum(all_R, 1),
        "uncorrected": uncorrected,
    }


def e_process_rejects(differences_RS: FloatArray, *, alpha: float) -> Flags:
    """Say where the e-process ever reaches 1/alpha."""
    rejects: Flags = e_processes(differences_RS, clip=2.0).max(axis=1) >= 1 / alpha
    return rejects


def tost_passes(differences_RS: FloatArray, *, margin: float, alpha: float) -> Flags:
    """Say where two one-sided tests find equivalence."""
    found = [tost_paired(d, margin=margin).p for d in differences_RS]
    return np.array([p is not None and p < alpha for p in found])


def sign_flip_covers(differences_RS: FloatArray, truth: float) -> tuple[Flags, Flags]:
    """Return where the inverted interval covers, and where it agrees with the p-value about 0."""
    results = [sign_flip(d) for d in differences_RS]
    covers = np.array([one.interval.contains(truth) for one in results])
    agrees = np.array([one.interval.contains(0.0) == (one.p >= 0.05) for one in results])
    return covers, agrees


def paired_t_covers(differences_RS: FloatArray, truth: float) -> Flags:
    """Say where the t-interval covers."""
    found = [paired_t(d).interval for d in differences_RS]
    return np.array([one is not None and one.contains(truth) for one in found])


def two_way_covers(
    replications: int,
    *,
    seeds: int,
    prompts: int,
    seed_sd: float,
    prompt_sd: float,
    rng: np.random.Generator,
) -> Flags:
    """Say where the two-way interval covers the effect on new seeds and new prompts (0)."""
    shape = (replications, seeds, prompts)
    table_RSQ = (
        seed_sd * rng.normal(size=(*shape[:2], 1))
        + prompt_sd * rng.normal(size=(replications, 1, prompts))
        + rng.normal(size=shape)
    )
    found = [two_way(table).interval for table in table_RSQ]
    return np.array([one is not None and one.contains(0.0) for one in found])


def wrong_prompt_error_covers(
    replications: int, *, seeds: int, prompts: int, seed_sd: float, rng: np.random.Generator
) -> Flags:
    """Say where an interval from prompts alone covers, though seeds differ too: it must not."""
    table_RSQ = seed_sd * rng.normal(size=(replications, seeds, 1)) + rng.normal(
        size=(replications, seeds, prompts)
    )
    by_prompt_RQ = table_RSQ.mean(axis=1)
    error_R = by_prompt_RQ.std(axis=1, ddof=1) / math.sqrt(prompts)
    covers: Flags = np.abs(by_prompt_RQ.mean(axis=1)) <= stats.norm.isf(0.025) * error_R
    return covers
