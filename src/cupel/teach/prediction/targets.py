"""What a predictor learns and is judged by: the labels as arrays, missing ones as missing.

Knows labelled moments. Refuses to fill a gap: a label that was not measured is neither 0 nor Q1;
its row is left out of that head's training and scores, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.stats.intervals import newcombe
from cupel.teach.labelling.labels import QUADRANTS, Estimate, LabelledMoment
from cupel.teach.records import FORMATS

Regression = Literal["uncertainty", "leverage", "elp"]
Classification = Literal["quadrant", "route"]
Head = Regression | Classification

REGRESSIONS: tuple[Regression, ...] = ("uncertainty", "leverage", "elp")
"""uncertainty: U; leverage: L_local; elp: the gain of the best format without optimism, from split
halves or exact."""
CLASSES: Mapping[Classification, tuple[str, ...]] = {"quadrant": QUADRANTS, "route": FORMATS}
"""Classes of each classification, in order; the route is missing where it is undecided."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Labels of N moments.

    Attributes:
        values: by regression head [N]; NaN is missing.
        noise: sampling variance of each value [N]; 0 where exact, NaN where missing. Unbiased, but
            rough for a single row: a rate of 1 tells no variance of its own.
        rollouts: rollouts behind each value [N]; inf where exact, NaN where missing.
        classes: by classification head [N]; -1 is missing.
    """

    values: Mapping[Regression, FloatArray]
    noise: Mapping[Regression, FloatArray]
    rollouts: Mapping[Regression, FloatArray]
    classes: Mapping[Classification, IntArray]

    def known(self, head: Head) -> NDArray[np.bool_]:
        """Return where a head's label was measured [N]."""
        if head == "quadrant" or head == "route":
            return np.asarray(self.classes[head] >= 0)
        return np.isfinite(self.values[head])

    def missing(self) -> dict[str, int]:
        """Return how many labels each head lacks."""
        return {head: int((~self.known(head)).sum()) for head in heads()}

    def rows(self, index_M: IntArray) -> Targets:
        """Return the targets of some rows."""
        return Targets(
            values={head: values_N[index_M] for head, values_N in self.values.items()},
            noise={head: noise_N[index_M] for head, noise_N in self.noise.items()},
            rollouts={head: count_N[index_M] for head, count_N in self.rollouts.items()},
            classes={head: classes_N[index_M] for head, classes_N in self.classes.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a model says of M moments; a head it had no labels for is absent.

    Attributes:
        values: by regression head [M]; probs: by classification head [M, classes].
    """

    values: Mapping[Regression, FloatArray]
    probs: Mapping[Classification, FloatArray]


def heads() -> tuple[Head, ...]:
    """Return all heads, regressions first."""
    return (*REGRESSIONS, *CLASSES)


def n_outputs(head: Head) -> int:
    """Return how many numbers a head gives: one a class, or one."""
    return next((len(names) for name, names in CLASSES.items() if name == head), 1)


def targets_of(labels: Sequence[LabelledMoment]) -> Targets:
    """Return the labels of moments as arrays."""
    estimates = {head: [_estimate(label, head) for label in labels] for head in REGRESSIONS}
    return Targets(
        values={
            head: np.array([np.nan if each is None else each.value for each in found], dtype=float)
            for head, found in estimates.items()
        },
        noise={
            head: np.array([_noise(label, head) for label in labels], dtype=float)
            for head in REGRESSIONS
        },
        rollouts={
            head: np.array([_rollouts(each) for each in found], dtype=float)
            for head, found in estimates.items()
        },
        classes={
            head: np.array([_class(label, head) for label in labels], dtype=np.int64)
            for head in CLASSES
        },
    )


def elp_of(label: LabelledMoment) -> Estimate | None:
    """Return the payoff without optimism: exact, or of split halves; None where neither is known.

    The largest gain over sampled formats is never taken: with no effect at all it is positive.
    """
    test = label.patch_test
    if test is None:
        return None
    if test.p and test.p_placebo.n is None and all(each.n is None for each in test.p.values()):
        best = test.gain_net.get(test.route_net)
        lo, hi = (test.ELP_net, test.ELP_net) if best is None else (best.lo, best.hi)
        return Estimate(value=test.ELP_net, lo=lo, hi=hi, n=None)
    return test.ELP_split


def _estimate(label: LabelledMoment, head: Regression) -> Estimate | None:
    match head:
        case "uncertainty":
            return None if label.U is None else Estimate(value=label.U, lo=label.U, hi=label.U)
        case "leverage":
            return None if label.leverage is None else label.leverage.L_local
        case "elp":
            return elp_of(label)


def _rollouts(estimate: Estimate | None) -> float:
    if estimate is None:
        return float("nan")
    return float("inf") if estimate.n is None else float(estimate.n)


def _noise(label: LabelledMoment, head: Regression) -> float:
    """Return a label's sampling variance; 0 where exact (U is computed, not sampled)."""
    if _estimate(label, head) is None:
        return float("nan")
    test, leverage = label.patch_test, label.leverage
    if head == "leverage" and leverage is not None:
        return difference_noise(leverage.p_policy, leverage.p_force, leverage.L_local)
    if head == "elp" and test is not None and test.route_net in test.p:
        gain = test.gain_net.get(test.route_net)
        return difference_noise(test.p_placebo, test.p[test.route_net], gain)
    return 0.0


def difference_noise(baseline: Estimate, candidate: Estimate, gap: Estimate | None) -> float:
    """Return the sampling variance of candidate - baseline.

    p(1 - p)/(n - 1) of each, which is unbiased, times what pairing saves: the squared width of the
    gap's interval over that of Newcombe's for independent trials. An interval's width alone would
    overstate the noise of rates near 0 and 1, where score intervals are wide.
    """
    variance = sum(_of_rate(each) for each in (baseline, candidate))
    if gap is None or baseline.n is None or candidate.n is None or variance == 0.0:
        return variance
    apart = newcombe(
        (round(baseline.value * baseline.n), baseline.n),
        (round(candidate.value * candidate.n), candidate.n),
    )
    return variance * min(1.0, ((gap.hi - gap.lo) / (apart.high - apart.low)) ** 2)


def _of_rate(estimate: Estimate) -> float:
    if estimate.n is None:
        return 0.0
    if estimate.n == 1:
        return 0.25  # a single trial says nothing of its own variance; this is the largest
    return estimate.value * (1.0 - estimate.value) / (estimate.n - 1)


def _class(label: LabelledMoment, head: Classification) -> int:
    name: str | None = label.quadrant
    if head == "route":
        name = None if label.patch_test is None else label.patch_test.route_split
    names = CLASSES[head]
    return names.index(name) if name in names else -1
