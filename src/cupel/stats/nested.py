"""Simulated campaigns: completions in prompts in training runs, two arms paired by seed.

Knows how such data come about (a logit model with effects of seed, run and prompt); refuses to
test anything. It is the ground on which every procedure is tried before it may judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from cupel.errors import ConfigError
from cupel.stats.samples import FloatArray, fraction, positive

Shape = Literal["normal", "t3", "collapse", "bimodal"]
COLLAPSE_RATE = 0.05
_BINS = 64
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulated design; all spreads are on the logit scale.

    Attributes:
        seeds, prompts, group: runs of an arm, prompts of a run, completions of a prompt.
        rate, lift: mean rate of the baseline, and what the candidate adds.
        seed_sd: effect that both runs of a seed share.
        run_sd: effect of one run alone; its law has this spread and the named shape.
        shape: `collapse` makes 5 % of all runs right almost never.
        missing: share of completions lost at random.
    """

    name: str
    seeds: int = 8
    prompts: int = 20
    group: int = 8
    rate: float = 0.3
    lift: float = 0.0
    seed_sd: float = 0.0
    run_sd: float = 0.1
    prompt_sd: float = 1.5
    shape: Shape = "normal"
    missing: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """Simulated counts by replication R, arm A (0 is the baseline) and seed S."""

    right_RAS: NDArray[np.int64]
    total_RAS: NDArray[np.int64]

    @property
    def differences_RS(self) -> FloatArray:
        """Candidate rate minus baseline rate of every seed."""
        rate_RAS = self.right_RAS / np.maximum(self.total_RAS, 1)
        difference: FloatArray = rate_RAS[:, 1] - rate_RAS[:, 0]
        return difference


def simulate(cell: Cell, replications: int, rng: np.random.Generator) -> Nested:
    """Draw replications of a campaign, aggregated to counts of every run.

    Prompts are the same for all runs of a replication. Beyond 64 prompts their effects take 64
    equally likely values, so that a run costs 64 binomial draws however long it is.

    Raises:
        ConfigError: a size below 1, or a rate outside (0, 1).
    """
    for name in ("seeds", "prompts", "group"):
        positive(getattr(cell, name), where=f"cell '{cell.name}'", name=name)
    positive(replications, where=f"cell '{cell.name}'", name="replications")
    columns = min(cell.prompts, _BINS)
    step = max(1, _CHUNK // (2 * cell.seeds * columns))
    parts = [
        _draw(cell, min(step, replications - start), rng) for start in range(0, replications, step)
    ]
    return Nested(
        right_RAS=np.concatenate([right for right, _ in parts]),
        total_RAS=np.concatenate([total for _, total in parts]),
    )


def _draw(
    cell: Cell, replications: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if cell.prompts <= _BINS:
        prompt_RQ = rng.normal(0.0, cell.prompt_sd, size=(replications, cell.prompts))
        size_RQ = np.full(prompt_RQ.shape, cell.group)
    else:
        midpoints_Q = special.ndtri((np.arange(_BINS) + 0.5) / _BINS)
        prompt_RQ = np.broadcast_to(cell.prompt_sd * midpoints_Q, (replications, _BINS))
        even = np.full(_BINS, 1 / _BINS)
        size_RQ = cell.group * rng.multinomial(cell.prompts, even, size=replications)
    run_RAS = _run_effects(cell, replications, rng)
    logit_RAS = _intercepts(cell)[:, None] + run_RAS
    p_RASQ = special.expit(logit_RAS[..., None] + prompt_RQ[:, None, None, :])
    size_RASQ = np.broadcast_to(size_RQ[:, None, None, :], p_RASQ.shape)
    if cell.missing > 0:
        size_RASQ = rng.binomial(size_RASQ, 1 - cell.missing)
    right_RASQ = rng.binomial(size_RASQ, p_RASQ)
    return right_RASQ.sum(axis=-1), size_RASQ.sum(axis=-1)


def _run_effects(cell: Cell, replications: int, rng: np.random.Generator) -> FloatArray:
    shape = (replications, 2, cell.seeds)
    seed_RAS = rng.normal(0.0, cell.seed_sd, size=(replications, 1, cell.seeds))
    if cell.shape == "t3":
        run_RAS = rng.standard_t(3, size=shape) / math.sqrt(3)
    elif cell.shape == "bimodal":
        run_RAS = rng.choice([-0.95, 0.95], size=shape) + math.sqrt(1 - 0.95**2) * rng.normal(
            size=shape
        )
    else:
        run_RAS = rng.normal(size=shape)
    effects: FloatArray = seed_RAS + cell.run_sd * run_RAS
    if cell.shape == "collapse":
        effects = effects - 6.0 * (rng.random(shape) < COLLAPSE_RATE)
    return effects


def _intercepts(cell: Cell) -> FloatArray:
    """Return the logits at which the mean rates are the cell's, collapses left aside."""
    spread = math.sqrt(cell.seed_sd**2 + cell.run_sd**2 + cell.prompt_sd**2)
    rates = (cell.rate, cell.rate + cell.lift)
    return np.array([intercept(rate, spread) for rate in rates])


@lru_cache(maxsize=256)
def intercept(rate: float, spread: float) -> float:
    """Return the logit a with E[expit(a + spread z)] = rate, z normal.

    Raises:
        ConfigError: the rate does not lie inside (0, 1).
    """
    fraction(rate, where="nested simulation", name="rate")
    z_M, weight_M = _normal_nodes()

    def gap(a: float) -> float:
        return float(weight_M @ special.expit(a + spread * z_M)) - rate

    return float(optimize.brentq(gap, -60.0, 60.0))


def run_sd_on_logits(rate: float, run_sd: float, prompt_sd: float) -> float:
    """Return the logit spread of runs whose rates over many prompts spread by `run_sd`.

    Raises:
        ConfigError: no runs with that mean rate can spread so far.
    """
    fraction(rate, where="nested simulation", name="rate")
    if run_sd == 0:
        return 0.0
    z_M, weight_M = _normal_nodes()

    def gap(spread: float) -> float:
        a = intercept(rate, math.hypot(spread, prompt_sd))
        p_MM = special.expit(a + spread * z_M[:, None] + prompt_sd * z_M)
        rate_M = p_MM @ weight_M
        return math.sqrt(float(weight_M @ (rate_M - rate) ** 2)) - run_sd

    if not run_sd > 0 or gap(15.0) < 0:
        raise ConfigError(
            f"run_sd = {run_sd}: runs with a mean rate of {rate:g} can spread by less than "
            f"{math.sqrt(rate * (1 - rate)):.3g}; give the standard deviation of their rates"
        )
    return float(optimize.brentq(gap, 0.0, 15.0, xtol=1e-6))


@lru_cache(maxsize=1)
def _normal_nodes() -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return nodes, weights / weights.sum()
