"""What an answer leans on: every condition under which its word holds, by name.

Knows the decision and its runs; refuses to weigh the conditions against the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cupel.analysis.decision import Decision, Verdict
from cupel.analysis.endpoint import Outcome
from cupel.stats.intervals import clopper_pearson

Pairs = Sequence[tuple[int | None, Outcome, Outcome]]


def conditions(
    verdict: Verdict, scope: str, decision: Decision, pairs: Pairs
) -> list[dict[str, Any]]:
    """Return the named conditions of an answer, each with the number that belongs to it.

    `symmetric_differences`, `normal_differences`: what the test assumes. `these_prompts`: nothing
    is said about others. `paired_by_order`: seeds are unknown. `failures_counted`: runs that
    failed by their own doing stand in with a value. `unseen_collapse`: a failure rate up to
    `rate` is compatible with having seen none.
    """
    found: list[dict[str, Any]] = []
    if scope == "checkpoint":
        return [{"name": "these_checkpoints"}, {"name": "these_prompts"}]
    if decision.p_method == "paired_t" or verdict == "equivalent":
        found.append({"name": "normal_differences"})
    else:
        found.append({"name": "symmetric_differences"})
    found.append({"name": "these_prompts"})
    if pairs and all(seed is None for seed, _, _ in pairs):
        found.append({"name": "paired_by_order"})
    failed = sum(b.failed + c.failed for _, b, c in pairs)
    if failed:
        found.append({"name": "failures_counted", "runs": failed})
    for arm, place in (("baseline", 1), ("candidate", 2)):
        outcomes = [pair[place] for pair in pairs]
        seen = [one for one in outcomes if isinstance(one, Outcome) and one.value is not None]
        if seen and not any(one.failed for one in seen):
            rate = clopper_pearson(0, len(seen), alpha=0.10).high
            found.append({"name": "unseen_collapse", "arm": arm, "rate": rate})
    return found
