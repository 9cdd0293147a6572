"""One comparison of two arms on one endpoint: outcomes, pairs, decision, sensitivity, as a block.

Knows how the pieces fit together (scopes, failed runs, companions). Refuses to read files by
itself and to let a verdict stand that depends on how failed runs are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cupel.analysis.conditions import conditions
from cupel.analysis.decision import (
    RETRAIN_WORDS,
    TEXTPOLICY_WORDS,
    Adjusted,
    Decision,
    Rule,
    Verdict,
    decide,
    decide_stages,
    reach,
)
from cupel.analysis.endpoint import Outcome
from cupel.analysis.looks import Look, LookRule
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
        look_rule: the declared looks, None for a single look at everything.
        look: the look this contrast was cut down to.
    """

    baseline: str
    candidate: str
    endpoint: Endpoint
    rule: Rule
    pairs: tuple[tuple[int | None, Outcome, Outcome], ...]
    runs: tuple[int, int]
    worst: float
    seed: int
    look_rule: LookRule | None = None
    look: Look | None = None

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

    @property
    def pairs_by_seed(self) -> list[tuple[int | None, float]]:
        """(seed, candidate minus baseline) of the complete pairs."""
        return [(seed, c - b) for seed, b, c in self.complete]

    def decide(
        self, pairs: Sequence[tuple[int | None, float]], family: Adjusted | None = None
    ) -> Decision:
        """Apply the declared rule to (seed, difference) pairs of this contrast."""
        rng = np.random.default_rng([self.seed, 1])
        if self.look is None:
            return decide([d for _, d in pairs], self.rule, rng=rng, family=family)
        if self.look.combines:
            stages, planned = self.look.stages(pairs), self.look.planned_sizes
            found = decide_stages(stages, planned, self.rule, rng=rng, family=family)
        else:
            found = decide([d for _, d in pairs], self.rule, rng=rng, family=family)
        return self.look.adjust(found)

    def at(self, look: Look) -> Contrast:
        """Return the contrast as it stands at a look: its seeds only, at its level."""
        place: dict[int | None, int] = {s: number for number, s in enumerate(look.seeds)}
        kept = [pair for pair in self.pairs if pair[0] in place]
        return replace(
            self,
            pairs=tuple(
                sorted(kept, key=lambda pair: place[pair[0]] if pair[0] is not None else 0)
            ),
            rule=replace(self.rule, alpha=look.level),
            look=look,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The final word on a contrast, after sensitivity and scope."""

    verdict: Verdict
    reasons: tuple[str, ...]
    scope: str
    decision: Decision
    sensitivity: Sequence[Mapping[str, Any]]


def look_at(contrast: Contrast) -> Contrast:
    """Cut a contrast down to the look that decides it: the first conclusive one, else the last.

    Returned as it is where no looks were declared, or none was reached.
    """
    rule = contrast.look_rule
    if rule is None:
        return contrast
    complete = {seed for seed, _, _ in contrast.complete if seed is not None}
    seen = contrast
    for look in rule.reached(complete, contrast.rule.alpha):
        seen = contrast.at(look)
        if answer(seen).verdict != "inconclusive":
            break
    return seen


def answer(contrast: Contrast, *, family: Adjusted | None = None) -> Answer:
    """Decide a contrast: scope first, then the rule, then what failed runs could change."""
    decision = contrast.decide(contrast.pairs_by_seed, family)
    sensitivity = _sensitivity(contrast, family)
    verdict, reasons, scope = decision.verdict, decision.reasons, "method"
    if min(contrast.runs) < 2:
        verdict, reasons, scope = "inconclusive", ("single_run_per_arm",), "checkpoint"
    elif contrast.look_rule is not None and contrast.look is None:
        verdict, reasons = "inconclusive", ("look_not_reached",)
    elif any(row["verdict"] != verdict for row in sensitivity):
        verdict, reasons = "inconclusive", ("sensitive_to_failures", *reasons)
    return Answer(
        verdict=verdict, reasons=reasons, scope=scope, decision=decision, sensitivity=sensitivity
    )


def _sensitivity(contrast: Contrast, family: Adjusted | None) -> list[dict[str, Any]]:
    """Return the verdict without failed runs, and with the worst value for each; none if none."""
    if not any(b.failed or c.failed for _, b, c in contrast.pairs):
        return []
    intact: list[tuple[int | None, float]] = []
    worst: list[tuple[int | None, float]] = []
    for seed, b, c in contrast.pairs:
        if b.value is None or c.value is None:
            continue
        if not b.failed and not c.failed:
            intact.append((seed, c.value - b.value))
        low = contrast.worst
        worst.append((seed, (low if c.failed else c.value) - (low if b.failed else b.value)))
    rows = []
    for name, pairs in (("complete_pairs", intact), ("worst_case", worst)):
        decision = contrast.decide(pairs, family)
        differences = [d for _, d in pairs]
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
    contrast: Contrast, final: Answer, *, family: str, adjusted: Adjusted | None
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
        "unadjusted": decision.unadjusted,
        "p_method": decision.p_method,
        "n_permutations": decision.flips.patterns if decision.flips is not None else None,
        "p_floor": decision.p_floor,
        "alpha": contrast.rule.alpha,
        "margin": contrast.rule.margin,
        "verdict": final.verdict,
        "reasons": list(final.reasons),
        "assumptions": list(decision.assumptions),
        "conditions": conditions(final.verdict, final.scope, decision, contrast.pairs),
        "recommendation": RETRAIN_WORDS[final.verdict],
        "recommendation_textpolicy": TEXTPOLICY_WORDS[final.verdict],
        **_companions(contrast, decision),
        **_reach(contrast, decision),
        "collapse": {
            "baseline": _collapse([b for _, b, _ in contrast.pairs]),
            "candidate": _collapse([c for _, _, c in contrast.pairs]),
        },
        "sensitivity": [dict(row) for row in final.sensitivity],
        "multiplicity": _multiplicity(family, adjusted),
        "looks": _looks(contrast),
    }


def _multiplicity(family: str, adjusted: Adjusted | None) -> dict[str, Any]:
    holm = adjusted.p if adjusted is not None and adjusted.method == "holm" else None
    return {
        "family": family,
        "method": adjusted.method if adjusted is not None else None,
        "p_adjusted": adjusted.p if adjusted is not None else None,
        "level": adjusted.level if adjusted is not None else None,
        "p_holm": holm,
    }


def _looks(contrast: Contrast) -> dict[str, Any]:
    if contrast.look is not None:
        return contrast.look.described()
    if contrast.look_rule is not None:
        sizes = list(contrast.look_rule.sizes)
        return {"k": 0, "of": len(sizes), "sizes": sizes, "alpha_spent": 0.0, "last": False}
    return {"k": 1, "of": 1, "alpha_spent": contrast.rule.alpha, "last": True}


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
