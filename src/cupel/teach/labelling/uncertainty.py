"""How undecided a distribution over actions is: the U of the quadrants.

Pure. Knows probabilities. Refuses to know where they came from; they must be those that the
student acts by, with the task in its prompt, or U belongs to another agent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cupel.errors import DataError
from cupel.teach.labelling.labels import Uncertainty

Measure = Literal["entropy", "entropy_norm", "margin", "topk_spread", "effective_actions"]

WARM_START = (0.1, 0.9)
"""Limits of mean entropy / mean ln A: below, the student is collapsed; above, it guesses."""
_TOP_K = 5
_SUM_SLACK = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """The warm-start check.

    Attributes:
        ratio: mean entropy over mean ln A, of moments with a choice; None without any.
        passed: it lies strictly inside `WARM_START`.
        moments: number of moments with at least two actions.
    """

    ratio: float | None
    passed: bool
    moments: int


def uncertainty_of(probs: Sequence[float] | np.ndarray) -> Uncertainty:
    """Measure one distribution over a state's valid actions.

    With a single action nothing is undecided: entropy, margin and spread are 0. (The formulas of
    margin and spread would give 0 and 1 there; ours say the same of every one.)

    >>> measured = uncertainty_of([0.5, 0.25, 0.25])
    >>> round(measured.entropy, 4), round(measured.entropy_norm, 4), measured.margin
    (1.0397, 0.9464, 0.75)

    Raises:
        DataError: no action, a negative or non-finite probability, or a sum that is not 1.
    """
    p = np.sort(np.asarray(probs, dtype=np.float64))[::-1]
    if p.ndim != 1 or len(p) == 0 or not np.isfinite(p).all() or p[-1] < 0:
        raise DataError(
            f"uncertainty_of: {np.asarray(probs)!r} is no distribution; give one probability >= 0 "
            "for each valid action"
        )
    if abs(p.sum() - 1) > _SUM_SLACK:
        raise DataError(f"uncertainty_of: probabilities sum to {p.sum():.6g}, not to 1")
    if len(p) == 1:
        return Uncertainty(
            entropy=0.0, entropy_norm=0.0, margin=0.0, topk_spread=0.0,
            effective_actions=1.0, n_actions=1,
        )  # fmt: skip
    positive = p[p > 0]
    entropy = max(0.0, float(-(positive * np.log(positive)).sum()))
    return Uncertainty(
        entropy=entropy,
        entropy_norm=min(1.0, entropy / math.log(len(p))),
        margin=1.0 - float(p[0] - p[1]),
        topk_spread=1.0 - float(p[0] - p[min(_TOP_K, len(p)) - 1]),
        effective_actions=math.exp(entropy),
        n_actions=len(p),
    )


def primary(measured: Uncertainty, measure: Measure) -> float:
    """Return the number that stands as U."""
    value: float = getattr(measured, measure)
    return value


def warm_start(measured: Iterable[Uncertainty]) -> WarmStart:
    """Check that the student neither always knows nor always guesses.

    Moments with one action say nothing about it and are left out.
    """
    choices = [one for one in measured if one.n_actions > 1]
    if not choices:
        return WarmStart(ratio=None, passed=False, moments=0)
    entropy = math.fsum(one.entropy for one in choices)
    most = math.fsum(math.log(one.n_actions) for one in choices)
    ratio = entropy / most
    low, high = WARM_START
    return WarmStart(ratio=ratio, passed=low < ratio < high, moments=len(choices))
