"""More than one look at the data: boundaries, adjusted p-values, combination, a monitor.

Knows planned looks as numbers of pairs and the joint normal law of the test statistics at them;
refuses to know which pairs were seen and to let a later look forget an earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from scipy import optimize, stats

from cupel.config import did_you_mean
from cupel.errors import ConfigError
from cupel.stats.intervals import Interval
from cupel.stats.permutation import sign_flip_one_sided
from cupel.stats.samples import FloatArray, Values, fraction, matrix, vector

Spending = Literal["pocock", "obrien_fleming"]
_MOST_NODES = 400
_FAR = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Planned looks and what each may spend.

    Attributes:
        sizes: pairs at each look, ascending.
        critical: |z| to reach at each look.
        alpha_at: two-sided nominal level at each look, `2 (1 - Phi(critical))`.
        alpha: what all looks together spend.
    """

    sizes: tuple[int, ...]
    critical: tuple[float, ...]
    alpha_at: tuple[float, ...]
    alpha: float
    spending: Spending


def plan_looks(
    sizes: Sequence[int], *, spending: Spending = "pocock", alpha: float = 0.05
) -> Looks:
    """Return the boundaries of looks at these numbers of pairs.

    `pocock` asks for the same |z| at every look, `obrien_fleming` for |z| times the root of the
    information fraction; the constant is solved from the exact joint normal law, for any spacing.

    >>> [round(a, 4) for a in plan_looks([8, 16]).alpha_at]
    [0.0294, 0.0294]
    >>> [round(a, 4) for a in plan_looks([8, 16], spending="obrien_fleming").alpha_at]
    [0.0052, 0.048]

    Raises:
        ConfigError: sizes not ascending, an unknown spending, or alpha outside (0, 1).
    Source: Pocock 1977; O'Brien & Fleming 1979.
    """
    _check_sizes(sizes)
    fraction(alpha, where="plan_looks", name="alpha")
    return _planned(tuple(sizes), spending, alpha)


@lru_cache(maxsize=64)
def _planned(sizes: tuple[int, ...], spending: Spending, alpha: float) -> Looks:
    shape = _shape(sizes, spending)
    lowest = float(stats.norm.isf(alpha / 2)) * min(shape)
    constant = optimize.brentq(
        lambda c: _ever_crossing(sizes, _scaled(shape, c)) - alpha,
        lowest * 0.999,
        lowest + 4.0,
        xtol=1e-12,
    )
    critical = _scaled(shape, float(constant))
    return Looks(
        sizes=sizes,
        critical=critical,
        alpha_at=tuple(float(2 * stats.norm.sf(c)) for c in critical),
        alpha=alpha,
        spending=spending,
    )


def stagewise_p(looks: Looks, look: int, p: float) -> float:
    """Return the p-value of a campaign that stopped at a look (0 is the first).

    Stopping earlier counts as more extreme than anything later; p < alpha exactly when the
    boundary of this look was crossed (or of the last one, for the last look).

    Source: Armitage 1957; Tsiatis, Rosner & Mehta 1984 (stage-wise ordering).
    """
    _check_look(looks, look, p)
    reached = float(stats.norm.isf(p / 2))
    if look == 0:
        return p
    boundary = (*looks.critical[:look], reached)
    return min(1.0, _ever_crossing(looks.sizes[: look + 1], boundary))


def repeated_p(looks: Looks, look: int, p: float) -> float:
    """Return the p-value that may be read at any look, whether or not the campaign stops there.

    The smallest total alpha at which this look's p would cross its boundary.

    Source: Jennison & Turnbull 1989.
    """
    _check_look(looks, look, p)
    shape = _shape(looks.sizes, looks.spending)
    constant = float(stats.norm.isf(p / 2)) / shape[look]
    return min(1.0, _ever_crossing(looks.sizes, _scaled(shape, constant)))


def _ever_crossing(sizes: Sequence[int], critical: Sequence[float]) -> float:
    """Return P(|Z_k| >= c_k for some k) for sums of independent normal increments.

    Carries the density of the sum inside the boundaries from look to look by Gauss-Legendre
    quadrature, so that it is exact to rounding for any number of looks.

    Source: Armitage, McPherson & Rowe 1969.
    """
    if min(critical) <= 0:
        return 1.0
    previous_M, mass_M = np.zeros(1), np.ones(1)
    crossed, before = 0.0, 0
    for size, c in zip(sizes, critical, strict=True):
        step = math.sqrt(size - before)
        bound = min(c, _FAR) * math.sqrt(size)
        outside_M = stats.norm.sf((bound - previous_M) / step)
        outside_M = outside_M + stats.norm.sf((bound + previous_M) / step)
        crossed += float(mass_M @ outside_M)
        nodes, weights = _legendre(min(_MOST_NODES, 32 + 6 * math.ceil(bound / step)))
        here_M = bound * nodes
        density_MM = stats.norm.pdf((here_M[:, None] - previous_M) / step) / step
        mass_M = (density_MM @ mass_M) * weights * bound
        previous_M, before = here_M, size
    return crossed


@lru_cache(maxsize=64)
def _legendre(number: int) -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return nodes, weights


def _shape(sizes: tuple[int, ...], spending: Spending) -> tuple[float, ...]:
    if spending not in get_args(Spending):
        raise ConfigError(
            f"plan_looks: spending '{spending}' is unknown; "
            f"{did_you_mean(spending, get_args(Spending))}"
        )
    if spending == "pocock":
        return tuple(1.0 for _ in sizes)
    return tuple(math.sqrt(sizes[-1] / size) for size in sizes)


def _scaled(shape: tuple[float, ...], constant: float) -> tuple[float, ...]:
    return tuple(constant * one for one in shape)


def _check_sizes(sizes: Sequence[int]) -> None:
    ascending = all(a < b for a, b in pairwise(sizes))
    if not sizes or sizes[0] < 1 or not ascending:
        raise ConfigError(
            f"looks = {list(sizes)}: give ascending numbers of seeds, each at least 1"
        )


def _check_look(looks: Looks, look: int, p: float) -> None:
    if not 0 <= look < len(looks.sizes):
        raise ConfigError(f"look = {look}: there are {len(looks.sizes)} looks, counted from 0")
    if not 0 < p <= 1:
        raise ConfigError(f"p = {p} must lie in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """Independent stages combined by inverse normals.

    Attributes:
        p: two-sided, `2 min(up, down)` of both one-sided combinations.
        weights: locked before the second stage; their squares sum to 1.
        interval: all shifts that the same combination does not reject at `level`.
    """

    p: float
    weights: tuple[float, ...]
    interval: Interval


def inverse_normal(
    stages: Sequence[Values], planned_sizes: Sequence[int], *, level: float
) -> Combined:
    """Combine disjoint stages of paired differences with weights fixed by the planned sizes.

    Valid whatever the later stages' sizes are, also when they were chosen after the first look.
    Stages use exact one-sided sign flips.

    Args:
        stages: differences of each stage, disjoint; at most 20 a stage.
        planned_sizes: pairs planned for each stage; the weights are their roots.
        level: two-sided level that the interval belongs to.

    Raises:
        ConfigError: as many sizes as stages are needed, or a stage is too long to enumerate.
    Source: Lehmacher & Wassmer 1999.
    """
    if len(planned_sizes) != len(stages) or not stages or min(planned_sizes) < 1:
        raise ConfigError(
            f"inverse_normal: {len(stages)} stages and planned sizes {list(planned_sizes)}; "
            "give one size of at least 1 a stage"
        )
    fraction(level, where="inverse_normal", name="level")
    data = [np.sort(vector(stage, where="inverse_normal: stage")) for stage in stages]
    total = math.sqrt(sum(planned_sizes))
    weights = tuple(math.sqrt(size) / total for size in planned_sizes)
    up, down = _one_sided(data, weights, 0.0)
    return Combined(
        p=min(1.0, 2 * min(up, down)), weights=weights, interval=_inverted(data, weights, level)
    )


def combine_p(p_values_K: Sequence[float], weights: Sequence[float]) -> float:
    """Return the one-sided inverse-normal combination of one-sided p-values.

    >>> round(combine_p([0.05, 0.05], [0.5 ** 0.5, 0.5 ** 0.5]), 4)
    0.01
    """
    if any(p >= 1 for p in p_values_K):
        return 1.0
    z = sum(w * float(stats.norm.isf(p)) for w, p in zip(weights, p_values_K, strict=True))
    return float(stats.norm.sf(z))


def _one_sided(
    data: Sequence[FloatArray], weights: tuple[float, ...], shift: float
) -> tuple[float, float]:
    pairs = [sign_flip_one_sided(stage - shift) for stage in data]
    return combine_p([up for up, _ in pairs], weights), combine_p([d for _, d in pairs], weights)


def _inverted(data: Sequence[FloatArray], weights: tuple[float, ...], level: float) -> Interval:
    """Return the shifts kept by both one-sided combinations at half the level, by bisection."""
    values = np.concatenate(data)
    spread = float(np.ptp(values)) + 1e-9 * float(np.abs(values).max())
    low_end, high_end = float(values.min()) - spread, float(values.max()) + spread

    def rejected(shift: float, side: int) -> bool:
        return 2 * _one_sided(data, weights, shift)[side] < level

    ends = []
    for side, outside, inside in ((0, low_end, high_end), (1, high_end, low_end)):
        if not rejected(outside, side):
            ends.append(-math.inf if side == 0 else math.inf)
            continue
        for _ in range(60):
            middle = (outside + inside) / 2
            if rejected(middle, side):
                outside = middle
            else:
                inside = middle
        ends.append(inside)
    return Interval(low=ends[0], high=ends[1], coverage=1 - level, method="inverse_normal")


def e_process(differences_S: Values, *, clip: float, bet: float = 0.5) -> FloatArray:
    """Return the e-process after every pair, in the order in which the pairs came.

    E_n = (prod(1 + bet y) + prod(1 - bet y)) / 2 with y = d / clip cut to [-1, 1]. Under
    symmetry P(E ever reaches 1/alpha) <= alpha, at any time of looking: a monitor, too weak to be
    the verdict.

    Args:
        clip, bet: fixed before the first pair.

    Raises:
        ConfigError: clip not positive, or bet outside (0, 1).
    Source: Ville 1939; Waudby-Smith & Ramdas 2024.
    """
    d_S = vector(differences_S, where="e_process")
    process_RS = e_processes(d_S[None, :], clip=clip, bet=bet)
    return process_RS.ravel()


def e_processes(differences_RS: FloatArray, *, clip: float, bet: float = 0.5) -> FloatArray:
    """Return the e-process of every row."""
    d_RS = matrix(differences_RS, where="e_process")
    fraction(bet, where="e_process", name="bet")
    if not 0 < clip < math.inf:
        raise ConfigError(f"e_process: clip = {clip} must be positive and finite")
    y_RS = np.clip(d_RS / clip, -1.0, 1.0)
    up_RS, down_RS = np.cumprod(1 + bet * y_RS, axis=1), np.cumprod(1 - bet * y_RS, axis=1)
    process_RS: FloatArray = (up_RS + down_RS) / 2
    return process_RS
