"""Many contrasts at once: which p-value each must answer to.

Knows the declared correction, and that a family tested where the primary stopped must not spend
more than alpha over all looks. Refuses to correct contrasts jointly whose seeds differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cupel.analysis.contrast import Contrast
from cupel.analysis.decision import Adjusted
from cupel.analysis.evidence import Settings
from cupel.analysis.looks import Look
from cupel.stats.multiplicity import benjamini_hochberg, holm, max_t
from cupel.stats.samples import FloatArray
from cupel.stats.sequential import repeated_p

FALSE_DISCOVERIES = 0.10
"""Expected share of false discoveries among exploratory metrics."""


def correct_family(
    contrasts: Sequence[Contrast], look: Look | None, settings: Settings, notes: list[str]
) -> list[Adjusted]:
    """Correct the p-values of the secondary contrasts by Holm or max-T.

    At one of several looks every p-value is first made readable at any look.

    Source: Holm 1979; Westfall & Young 1993; Jennison & Turnbull 1989 (repeated p-values).
    """
    if settings.family == "max_t":
        table = _same_seeds(contrasts)
        if table is not None and not (look is not None and look.combines):
            joint = max_t(table, rng=np.random.default_rng([settings.seed, 5])).tolist()
            readable = [_readable(p, look) for p in joint]
            return [Adjusted(p=p, level=settings.alpha, method="max_t") for p in readable]
        notes.append(
            "The secondary contrasts cannot be flipped together (their seeds differ, or stages "
            "are combined): Holm in place of max-T."
        )
    raw = [
        _readable(p, look) if (p := c.decide(c.pairs_by_seed).nominal) is not None else 1.0
        for c in contrasts
    ]
    return [Adjusted(p=p, level=settings.alpha, method="holm") for p in holm(raw).tolist()]


def correct_exploratory(contrasts: Sequence[Contrast]) -> list[Adjusted]:
    """Correct the p-values of exploratory metrics for false discoveries.

    Source: Benjamini & Hochberg 1995.
    """
    if not contrasts:
        return []
    raw = [contrast.decide(contrast.pairs_by_seed).nominal for contrast in contrasts]
    found = benjamini_hochberg([1.0 if p is None else p for p in raw]).tolist()
    return [Adjusted(p=p, level=FALSE_DISCOVERIES, method="benjamini_hochberg") for p in found]


def _readable(p: float, look: Look | None) -> float:
    if look is None or len(look.rule.sizes) == 1:
        return p
    return repeated_p(look.bounds, look.index, p)


def _same_seeds(contrasts: Sequence[Contrast]) -> FloatArray | None:
    """Return differences by seed and contrast, or None where the seeds are not the same."""
    by_seed = [dict(contrast.pairs_by_seed) for contrast in contrasts]
    seeds = list(by_seed[0])
    if not seeds or None in seeds or any(set(one) != set(seeds) for one in by_seed):
        return None
    return np.array([[one[seed] for one in by_seed] for seed in seeds])
