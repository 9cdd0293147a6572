"""What one right action would bring, and what all of them would.

Pure. Knows the arms policy, force and expert. Refuses to know how they were run; all three must
have the same horizon, or their differences would measure time.

L_local = p_force - p_policy, L_upper = p_expert - p_policy. Source: the documents' estimators A
and B. Departures: every number has an interval; an expert that broke down leaves no label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cupel.teach.branches.arms import Arms, difference, probability
from cupel.teach.labelling.labels import Leverage

Profile = Literal["dead_end", "bottleneck", "trajectory", "mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverageOrder:
    """Means over moments, expected to be ordered p_expert >= p_force >= p_policy.

    Attributes:
        moments: number of moments with leverage; the means are None without any.
        share_ordered: share of moments in which the order holds.
    """

    moments: int
    p_policy: float | None
    p_force: float | None
    p_expert: float | None
    share_ordered: float | None

    @property
    def passed(self) -> bool:
        """Whether the means are in order."""
        if self.p_policy is None or self.p_force is None or self.p_expert is None:
            return False
        return self.p_expert >= self.p_force >= self.p_policy


def leverage_of(arms: Arms) -> Leverage | None:
    """Return the leverage of a moment; None where one of the three arms has no outcome."""
    policy, force, expert = (arms.get(name) for name in ("policy", "force", "expert"))
    p_policy, p_force, p_expert = probability(policy), probability(force), probability(expert)
    local, upper = difference(policy, force), difference(policy, expert)
    if p_policy is None or p_force is None or p_expert is None or local is None or upper is None:
        return None
    return Leverage(
        p_policy=p_policy, p_force=p_force, p_expert=p_expert, L_local=local, L_upper=upper
    )


def profile_of(leverage: Leverage) -> Profile:
    """Name the kind of a moment by the documents' cuts.

    dead_end: not even the expert helps. bottleneck: one action brings nearly all. trajectory:
    only several actions together bring something.
    """
    local, upper, gap = leverage.L_local.value, leverage.L_upper.value, leverage.gap
    if upper < 0.3:
        return "dead_end"
    if local > 0.3 and gap < 0.2:
        return "bottleneck"
    return "trajectory" if local < 0.2 and gap > 0.2 else "mixed"


def order_of(leverages: Iterable[Leverage]) -> LeverageOrder:
    """Average the three probabilities and count how often they are in order."""
    rows = list(leverages)
    if not rows:
        return LeverageOrder(
            moments=0, p_policy=None, p_force=None, p_expert=None, share_ordered=None
        )
    ordered = [row.p_expert.value >= row.p_force.value >= row.p_policy.value for row in rows]
    return LeverageOrder(
        moments=len(rows),
        p_policy=math.fsum(row.p_policy.value for row in rows) / len(rows),
        p_force=math.fsum(row.p_force.value for row in rows) / len(rows),
        p_expert=math.fsum(row.p_expert.value for row in rows) / len(rows),
        share_ordered=sum(ordered) / len(rows),
    )
