"""Does a patch gain foretell what training on the moment brings? The figures and the gate.

Knows pairs of numbers, a covariate and tasks. Tasks are resampled whole, because moments of one
task are not independent. Refuses to let headroom pass for foresight: two gains that are both
limited by 1 - p_base correlate without any relation, so the partial correlation given p_base
stands beside every correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cupel.errors import DataError
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.prediction.noise_ceiling import noise_ceiling

FloatArray = NDArray[np.float64]
RESAMPLES = 1000
LEAST_TASKS = 5
"""Fewer tasks give no interval: a handful of resampled tasks says nothing about others."""
LEAST_PAIRS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One moment: what its label promised and what training on it alone brought.

    Attributes:
        cpt: patch gain; effect: change of success probability; base: success before, measured for
            this validation; log_pi: change of log pi(expert action).
        cpt_noise, effect_noise: sampling variances; 0 where exact.
    """

    snapshot_id: str
    task_id: str
    quadrant: str
    cpt: float
    effect: float
    base: float
    log_pi: float | None = None
    cpt_noise: float = 0.0
    effect_noise: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A number with its 95 % interval over resampled tasks, None where it is not defined."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """All figures of one validation.

    Attributes:
        spearman_log_pi: the same labels against log pi(expert action), an effect without zeros.
        partial: Spearman of cpt and effect given base.
        cpt_ceiling, effect_ceiling: expected Spearman of the truth with the noisy side.
        ceiling: their product: what a perfect label could reach here.
        quadrants: by name, mean effect, Spearman and counts.
        q1_minus_q2: difference of the mean effects.
    """

    n: int
    n_tasks: int
    pearson: Statistic
    spearman: Statistic
    spearman_log_pi: Statistic
    partial: Statistic
    cpt_ceiling: float | None
    effect_ceiling: float | None
    ceiling: float | None
    mean_effect: Statistic
    quadrants: Mapping[str, QuadrantAgreement] = field(default_factory=dict)
    q1_minus_q2: Statistic = field(default_factory=lambda: Statistic(value=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadrantAgreement:
    """The figures of one quadrant."""

    n: int
    mean_cpt: float | None
    mean_effect: Statistic
    spearman: Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The documented criteria of phase 1B; None counts as not passed, for nothing was shown."""

    spearman_at_least: bool
    positive_overall: bool
    q1_above_q2: bool
    reasons: tuple[str, ...] = ()

    @property
    def proceed(self) -> bool:
        """All three criteria hold."""
        return self.spearman_at_least and self.positive_overall and self.q1_above_q2


def agreement(pairs: Sequence[Pair], *, rng: np.random.Generator) -> Agreement:
    """Return every figure; what is not defined is None.

    Raises:
        DataError: fewer than 2 pairs, or a value that is not finite.
    """
    if len(pairs) < 2:
        raise DataError(
            f"correlation: {len(pairs)} moments with a patch gain and a measured effect; at least "
            "2 are needed. Label more snapshots of the validation split"
        )
    sides = _Sides.of(pairs)
    resample = _Resample(sides, rng)
    noises = (_column(pairs, "cpt_noise"), _column(pairs, "effect_noise"))
    ceilings = [
        noise_ceiling(values_N, noise_N, rng=rng).spearman
        for values_N, noise_N in zip((sides.cpt_N, sides.effect_N), noises, strict=True)
    ]
    known = [ceiling for ceiling in ceilings if ceiling is not None]
    with_log_pi = _Sides.of([pair for pair in pairs if pair.log_pi is not None])
    return Agreement(
        n=len(pairs),
        n_tasks=resample.n_tasks,
        pearson=resample.statistic(_pearson, given=0),
        spearman=resample.statistic(_spearman, given=0),
        spearman_log_pi=_Resample(with_log_pi, rng).statistic(_spearman_log_pi, given=0),
        partial=resample.statistic(_partial, given=1),
        cpt_ceiling=ceilings[0],
        effect_ceiling=ceilings[1],
        ceiling=known[0] * known[1] if len(known) == 2 else None,
        mean_effect=resample.statistic(_mean_effect),
        quadrants={name: _quadrant(pairs, name, rng) for name in QUADRANTS},
        q1_minus_q2=resample.statistic(_q1_minus_q2),
    )


def gate(found: Agreement, *, least: float = 0.3) -> Gate:
    """Apply the documented criteria to the point values; each reason tells the interval too."""
    rho, gap = found.spearman, found.q1_minus_q2
    strong = rho.value is not None and rho.value >= least
    positive = rho.value is not None and rho.value > 0
    above = gap.value is not None and gap.value > 0
    reasons = []
    if not strong:
        reasons.append(f"Spearman {_told(rho)} is not at least {least:g}")
    if not positive:
        reasons.append(f"Spearman {_told(rho)} is not positive")
    if not above:
        reasons.append(f"Q1's mean effect less Q2's, {_told(gap)}, is not positive")
    return Gate(
        spearman_at_least=strong,
        positive_overall=positive,
        q1_above_q2=above,
        reasons=tuple(reasons),
    )


def partial_spearman(
    first_N: FloatArray, second_N: FloatArray, given_N: FloatArray
) -> float | None:
    """Return the correlation of the two sides' ranks after both lost what the third's ranks say.

    (r12 - r13 r23) / sqrt((1 - r13^2)(1 - r23^2)); None where a side does not vary beyond it.
    """
    r12 = _ranked(first_N, second_N)
    r13, r23 = _ranked(first_N, given_N), _ranked(second_N, given_N)
    if r12 is None:
        return None
    if r13 is None or r23 is None:
        return r12
    left = (1 - r13**2) * (1 - r23**2)
    return None if left < 1e-12 else float(np.clip((r12 - r13 * r23) / np.sqrt(left), -1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """Pairs as columns."""

    cpt_N: FloatArray
    effect_N: FloatArray
    base_N: FloatArray
    log_pi_N: FloatArray
    task_N: NDArray[np.str_]
    quadrant_N: NDArray[np.str_]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> _Sides:
        return cls(
            cpt_N=_column(pairs, "cpt"),
            effect_N=_column(pairs, "effect"),
            base_N=_column(pairs, "base"),
            log_pi_N=np.array([np.nan if p.log_pi is None else p.log_pi for p in pairs]),
            task_N=np.array([pair.task_id for pair in pairs], dtype=np.str_),
            quadrant_N=np.array([pair.quadrant for pair in pairs], dtype=np.str_),
        )

    def at(self, rows: NDArray[np.intp]) -> _Sides:
        return _Sides(
            cpt_N=self.cpt_N[rows],
            effect_N=self.effect_N[rows],
            base_N=self.base_N[rows],
            log_pi_N=self.log_pi_N[rows],
            task_N=self.task_N[rows],
            quadrant_N=self.quadrant_N[rows],
        )


_Measure = Callable[[_Sides], float | None]


class _Resample:
    """Statistics with percentile intervals over whole tasks."""

    def __init__(self, sides: _Sides, rng: np.random.Generator) -> None:
        names = np.unique(sides.task_N)
        groups = [np.flatnonzero(sides.task_N == name) for name in names]
        self.n_tasks, self._sides = len(groups), sides
        self._draws: list[NDArray[np.intp]] = []
        if self.n_tasks >= LEAST_TASKS:
            drawn_BT = rng.integers(self.n_tasks, size=(RESAMPLES, self.n_tasks))
            self._draws = [np.concatenate([groups[task] for task in row]) for row in drawn_BT]

    def statistic(self, measure: _Measure, *, given: int | None = None) -> Statistic:
        """Measure, with interval; `given` covariates of a correlation give it a p-value."""
        value = measure(self._sides)
        p = None if given is None else _p_of(value, len(self._sides.cpt_N), given=given)
        if value is None:
            return Statistic(value=None)
        again = (measure(self._sides.at(rows)) for rows in self._draws)
        found = [each for each in again if each is not None]
        if not self._draws or len(found) < 0.9 * RESAMPLES:
            return Statistic(value=value, p=p)
        lo, hi = np.quantile(found, [0.025, 0.975])
        return Statistic(value=value, lo=float(lo), hi=float(hi), p=p)


def _quadrant(pairs: Sequence[Pair], name: str, rng: np.random.Generator) -> QuadrantAgreement:
    ours = [pair for pair in pairs if pair.quadrant == name]
    resample = _Resample(_Sides.of(ours), rng)
    return QuadrantAgreement(
        n=len(ours),
        mean_cpt=float(np.mean([pair.cpt for pair in ours])) if ours else None,
        mean_effect=resample.statistic(_mean_effect),
        spearman=resample.statistic(_spearman, given=0),
    )


def _column(pairs: Sequence[Pair], name: str) -> FloatArray:
    values_N = np.array([getattr(pair, name) for pair in pairs], dtype=np.float64)
    if not np.isfinite(values_N).all():
        raise DataError(f"correlation: '{name}' is not finite for some moment")
    return values_N


def _linear(first_N: FloatArray, second_N: FloatArray) -> float | None:
    """Return Pearson's correlation; None for fewer than 4 pairs or where a side is constant."""
    if len(first_N) < LEAST_PAIRS:
        return None
    a_N, b_N = first_N - first_N.mean(), second_N - second_N.mean()
    scale = float(np.sqrt((a_N @ a_N) * (b_N @ b_N)))
    least = 1e-12 * len(a_N) * float(np.abs(first_N).max() * np.abs(second_N).max())
    return float(np.clip(a_N @ b_N / scale, -1.0, 1.0)) if scale > least else None


def _ranked(first_N: FloatArray, second_N: FloatArray) -> float | None:
    return _linear(stats.rankdata(first_N), stats.rankdata(second_N))


def _pearson(sides: _Sides) -> float | None:
    return _linear(sides.cpt_N, sides.effect_N)


def _spearman(sides: _Sides) -> float | None:
    return _ranked(sides.cpt_N, sides.effect_N)


def _spearman_log_pi(sides: _Sides) -> float | None:
    return _ranked(sides.cpt_N, sides.log_pi_N)


def _partial(sides: _Sides) -> float | None:
    return partial_spearman(sides.cpt_N, sides.effect_N, sides.base_N)


def _mean_effect(sides: _Sides) -> float | None:
    return float(sides.effect_N.mean()) if len(sides.effect_N) else None


def _q1_minus_q2(sides: _Sides) -> float | None:
    first, second = (sides.effect_N[sides.quadrant_N == name] for name in QUADRANTS[:2])
    return float(first.mean() - second.mean()) if len(first) and len(second) else None


def _p_of(rho: float | None, n: int, *, given: int) -> float | None:
    """Return the two-sided p-value of a (partial) correlation, moments taken as independent."""
    freedom = n - 2 - given
    if rho is None or freedom < 1:
        return None
    if abs(rho) >= 1:
        return 0.0
    t = rho * np.sqrt(freedom / (1 - rho**2))
    return float(2 * stats.t.sf(abs(t), freedom))


def _told(statistic: Statistic) -> str:
    if statistic.value is None:
        return "(not defined)"
    if statistic.lo is None or statistic.hi is None:
        return f"{statistic.value:.3f}"
    return f"{statistic.value:.3f} [{statistic.lo:.3f}, {statistic.hi:.3f}]"
