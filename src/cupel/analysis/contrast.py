"""One comparison of two arms on one endpoint: outcomes, pairs, decision, sensitivity, as a block.

Knows how the pieces fit together (scopes, failed runs, companions). Refuses to read files by
itself and to let a verdict stand that depends on how failed runs are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupel.analysis.decision import (
    RETRAIN_WORDS,
    TEXTPOLICY_WORDS,
    Decision,
    Rule,
    Verdict,
    decide,
    reach,
)
from cupel.analysis.endpoint import Outcome
from cupel.lab.study import Endpoint
from cupel.stats.effects import correlation, d_z, hedges_correction, probability_of_improvement
from cupel.stats.intervals import (
    Interval,
    bootstrap_t,
    clopper_pearson,
    hodges_lehmann,
    mean_of,
    sd_of,
)
from cupel.stats.permutation import wilcoxon_signed_rank

LEAST_FOR_BOOTSTRAP_T = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two arms on one endpoint.

    Attributes:
        pairs: (seed or None, baseline outcome, candidate outcome), all pairs of the design.
        runs: number of runs of each arm.
    """

    baseline: str
    candidate: str
    endpoint: Endpoint
    rule: Rule
    pairs: tuple[tuple[int | None, Outcome, Outcome], ...]
    runs: tuple[int, int]
    worst: float
    seed: int

    @property
    def complete(self) -> list[tuple[int | None, float, float]]:
        """(seed, baseline, candidate) of the pairs in which both runs have an outcome."""
        return [
            (seed, b.value, c.value)
            for seed, b, c in self.pairs
            if b.value is not None and c.value is not None
        ]

    @property
    def differences(self) -> list[float]:
        """Candidate minus baseline of the complete pairs."""
        return [c - b for _, b, c in self.complete]

    def decide(self, differences: Sequence[float], p_adjusted: float | None = None) -> Decision:
        """Apply the declared rule to differences of this contrast."""
        rng = np.random.default_rng([self.seed, 1])
        return decide(differences, self.rule, rng=rng, p_adjusted=p_adjusted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The final word on a contrast, after sensitivity and scope."""

    verdict: Verdict
    reasons: tuple[str, ...]
    scope: str
    decision: Decision
    sensitivity: Sequence[Mapping[str, Any]]


def answer(contrast: Contrast, *, p_adjusted: float | None = None) -> Answer:
    """Decide a contrast: scope first, then the rule, then what failed runs could change."""
    decision = contrast.decide(contrast.differences, p_adjusted)
    sensitivity = _sensitivity(contrast, p_adjusted)
    verdict, reasons, scope = decision.verdict, decision.reasons, "method"
    if min(contrast.runs) < 2:
        verdict, reasons, scope = "inconclusive", ("single_run_per_arm",), "checkpoint"
    elif any(row["verdict"] != verdict for row in sensitivity):
        verdict, reasons = "inconclusive", ("sensitive_to_failures", *reasons)
    return Answer(
        verdict=verdict, reasons=reasons, scope=scope, decision=decision, sensitivity=sensitivity
    )


def _sensitivity(contrast: Contrast, p_adjusted: float | None) -> list[dict[str, Any]]:
    """Return the verdict without failed runs, and with the worst value for each; none if none."""
    if not any(b.failed or c.failed for _, b, c in contrast.pairs):
        return []
    intact, worst = [], []
    for _, b, c in contrast.pairs:
        if b.value is None or c.value is None:
            continue
        if not b.failed and not c.failed:
            intact.append(c.value - b.value)
        low = contrast.worst
        worst.append((low if c.failed else c.value) - (low if b.failed else b.value))
    rows = []
    for name, differences in (("complete_pairs", intact), ("worst_case", worst)):
        decision = contrast.decide(differences, p_adjusted)
        rows.append(
            {
                "analysis": name,
                "n_seeds": len(differences),
                "delta": mean_of(np.asarray(differences)) if differences else None,
                "p": decision.p,
                "verdict": decision.verdict,
                "reasons": list(decision.reasons),
            }
        )
    return rows


def block(
    contrast: Contrast, final: Answer, *, family: str, p_holm: float | None
) -> dict[str, Any]:
    """Return a contrast as plain JSON data: the numbers every report line needs."""
    decision, d = final.decision, contrast.differences
    interval = decision.interval
    return {
        "metric": contrast.endpoint.metric,
        "over": contrast.endpoint.over,
        "higher_is_better": contrast.endpoint.higher_is_better,
        "baseline": contrast.baseline,
        "candidate": contrast.candidate,
        "scope": final.scope,
        "unit": "seed",
        "n_seeds": len(d),
        "pairs": [list(pair) for pair in contrast.complete],
        "delta": mean_of(np.asarray(d)) if d else None,
        "ci95": ends(interval),
        "ci_level": 1 - contrast.rule.alpha,
        "ci_method": interval.method if interval is not None else None,
        "ci_coverage": interval.coverage if interval is not None else None,
        "p": decision.p,
        "p_method": decision.p_method,
        "n_permutations": decision.flips.patterns if decision.flips is not None else None,
        "p_floor": decision.p_floor,
        "alpha": contrast.rule.alpha,
        "margin": contrast.rule.margin,
        "verdict": final.verdict,
        "reasons": list(final.reasons),
        "assumptions": list(decision.assumptions),
        "recommendation": RETRAIN_WORDS[final.verdict],
        "recommendation_textpolicy": TEXTPOLICY_WORDS[final.verdict],
        **_companions(contrast, decision),
        **_reach(contrast, decision),
        "collapse": {
            "baseline": _collapse([b for _, b, _ in contrast.pairs]),
            "candidate": _collapse([c for _, _, c in contrast.pairs]),
        },
        "sensitivity": [dict(row) for row in final.sensitivity],
        "multiplicity": {"family": family, "p_holm": p_holm},
        "looks": {"k": 1, "of": 1, "alpha_spent": contrast.rule.alpha},
    }


def ends(interval: Interval | None) -> list[float | None] | None:
    """Return an interval's ends as JSON; an end without bound is null."""
    if interval is None:
        return None
    return [end if math.isfinite(end) else None for end in (interval.low, interval.high)]


def _companions(contrast: Contrast, decision: Decision) -> dict[str, Any]:
    d, student, alpha = contrast.differences, decision.student, contrast.rule.alpha
    empty: dict[str, Any] = dict.fromkeys(
        ("t", "hodges_lehmann", "wilcoxon_p", "dz", "hedges_g", "prob_improvement", "bootstrap_t")
    )
    if not d:
        return {**empty, "pairing": {"rho": None, "efficiency": None}}
    signed = d if contrast.endpoint.higher_is_better else [-x for x in d]
    better = probability_of_improvement(signed, alpha=alpha)
    empty |= {
        "hodges_lehmann": hodges_lehmann(d),
        "wilcoxon_p": wilcoxon_signed_rank(d, rng=np.random.default_rng([contrast.seed, 4])),
        "prob_improvement": {"k": better.k, "n": better.n, "ci95": ends(better.interval)},
    }
    if student is not None:
        effect = d_z(d)
        shrink = hedges_correction(student.df)
        empty |= {
            "t": {"p": student.p, "ci95": ends(student.interval), "df": student.df},
            "dz": effect,
            "hedges_g": effect * shrink if effect is not None else None,
        }
    if len(d) >= LEAST_FOR_BOOTSTRAP_T:
        rng = np.random.default_rng([contrast.seed, 2])
        empty["bootstrap_t"] = {"ci95": ends(bootstrap_t(d, rng=rng, alpha=alpha))}
    return {**empty, "pairing": _pairing(contrast)}


def _pairing(contrast: Contrast) -> dict[str, float | None]:
    """Return what pairing was worth: rho, and Var(d) over the sum of the arms' variances."""
    if len(contrast.complete) < 2:
        return {"rho": None, "efficiency": None}
    b = np.array([value for _, value, _ in contrast.complete])
    c = np.array([value for _, _, value in contrast.complete])
    apart = sd_of(b) ** 2 + sd_of(c) ** 2
    return {
        "rho": correlation(b, c),
        "efficiency": sd_of(c - b) ** 2 / apart if apart > 0 else None,
    }


def _reach(contrast: Contrast, decision: Decision) -> dict[str, Any]:
    able = reach(decision.student, contrast.rule)
    return {
        "sd_differences": decision.student.sd if decision.student is not None else None,
        "sd_upper80": able.sd_upper80,
        "mde80": able.mde80,
        "effect": contrast.rule.effect,
        "seeds_needed": able.seeds_for_effect,
    }


def _collapse(arm: Sequence[Outcome]) -> list[float | int | None]:
    """Return [runs that failed by their own doing, runs with an outcome, one-sided 95 % bound]."""
    total = sum(outcome.value is not None for outcome in arm)
    failed = sum(outcome.failed for outcome in arm)
    bound = clopper_pearson(failed, total, alpha=0.10).high if total else None
    return [failed, total, bound]
