"""Which seeds a look may use, and what a p-value means when a study is looked at more than once.

Knows the declared looks and the locked order of seeds. Refuses seeds out of that order, and a
look whose seeds do not all have an outcome.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cupel.analysis.decision import Decision
from cupel.stats.sequential import Looks, Spending, plan_looks, repeated_p, stagewise_p

Combination = Literal["cumulative", "inverse_normal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRule:
    """How often a study is looked at, as declared.

    Attributes:
        sizes: seeds at each look.
        order: all seeds, reserve included, in locked order.
        planned: seeds that are to run; a last look combined by inverse normals ends there.
    """

    sizes: tuple[int, ...]
    spending: Spending = "pocock"
    combination: Combination = "cumulative"
    order: tuple[int, ...] = ()
    planned: int = 0

    def boundaries(self, alpha: float) -> Looks:
        """Return what each look may spend."""
        return plan_looks(self.sizes, spending=self.spending, alpha=alpha)

    def seeds_at(self, index: int) -> tuple[int, ...]:
        """Return the seeds of a look (0 is the first), in locked order."""
        size = self.sizes[index]
        last = index == len(self.sizes) - 1
        if self.combination == "inverse_normal" and last and index > 0:
            size = max(self.planned, self.sizes[index - 1] + 1)
        return self.order[:size]

    def reached(self, complete: Collection[int], alpha: float) -> list[Look]:
        """Return the looks whose seeds all have outcomes in both arms, first look first."""
        bounds, found = self.boundaries(alpha), []
        for index in range(len(self.sizes)):
            seeds = self.seeds_at(index)
            if len(seeds) < self.sizes[index] and self.combination == "cumulative":
                break
            if not set(seeds) <= set(complete):
                break
            found.append(Look(rule=self, index=index, bounds=bounds, alpha=alpha, seeds=seeds))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look that was reached.

    Attributes:
        stagewise: the contrast decides where the study ends, so that its p may be ordered by
            stages; other contrasts seen at this look have the p that may be read at any look.
    """

    rule: LookRule
    index: int
    bounds: Looks
    alpha: float
    seeds: tuple[int, ...]
    stagewise: bool = True

    @property
    def level(self) -> float:
        """Two-sided level spent at this look."""
        return self.alpha if len(self.rule.sizes) == 1 else self.bounds.alpha_at[self.index]

    @property
    def is_last(self) -> bool:
        """Say whether no further look is planned."""
        return self.index == len(self.rule.sizes) - 1

    @property
    def combines(self) -> bool:
        """Say whether this look combines stages by inverse normals."""
        return self.rule.combination == "inverse_normal" and self.index > 0

    def stages(self, pairs: Sequence[tuple[int | None, float]]) -> list[list[float]]:
        """Split (seed, difference) pairs by the look at which their seed came in."""
        ends = [*self.rule.sizes[: self.index], len(self.seeds)]
        by_seed, stages, start = dict(pairs), [], 0
        for end in ends:
            stages.append([by_seed[s] for s in self.seeds[start:end] if s in by_seed])
            start = end
        return stages

    @property
    def planned_sizes(self) -> list[int]:
        """Seeds planned for each stage up to this look; they fix the weights."""
        sizes = self.rule.sizes[: self.index + 1]
        return [b - a for a, b in zip((0, *sizes), sizes, strict=False)]

    def adjust(self, decision: Decision) -> Decision:
        """Give a decision at this look the p-value that accounts for all looks.

        Stage-wise where the study ends here (boundary crossed, or last look), else the repeated
        p-value, which may be read at any look; the naive one stays in `unadjusted`.
        """
        if decision.p is None or len(self.rule.sizes) == 1:
            return decision
        reachable = decision.p_floor < self.level
        ends_here = self.is_last or (reachable and decision.p < self.level)
        correct = stagewise_p if ends_here and self.stagewise else repeated_p
        reasons = decision.reasons
        if decision.verdict == "inconclusive" and not self.is_last:
            reasons = (*reasons, "more_looks_planned")
        return replace(decision, p=correct(self.bounds, self.index, decision.p), reasons=reasons)

    def described(self) -> dict[str, Any]:
        """Return the look as it stands in the report."""
        return {
            "k": self.index + 1,
            "of": len(self.rule.sizes),
            "sizes": list(self.rule.sizes),
            "seeds": list(self.seeds),
            "alpha_spent": self.level,
            "spending": self.rule.spending,
            "combination": self.rule.combination,
            "last": self.is_last,
        }
