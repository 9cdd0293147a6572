"""Two-by-two tables: exact tests of two rates.

Knows counts; refuses to know whether the trials behind them are independent, which every test
here assumes and completions of one run are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from cupel.stats.samples import counts, positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Fisher:
    """Fisher's exact test; `odds_ratio` is None where it is not a finite number."""

    p: float
    odds_ratio: float | None


def fisher_exact(baseline: tuple[int, int], candidate: tuple[int, int]) -> Fisher:
    """Test two rates, each given as (successes, total), two-sided.

    >>> round(fisher_exact((298, 1024), (342, 1024)).p, 4)
    0.0403

    Raises:
        DataError: a count outside [0, total].
    Source: Fisher 1935.
    """
    k_b, n_b = counts(*baseline, where="fisher_exact")
    k_c, n_c = counts(*candidate, where="fisher_exact")
    result = stats.fisher_exact(np.array([[k_c, n_c - k_c], [k_b, n_b - k_b]]))
    denominator = (n_c - k_c) * k_b
    odds_ratio = k_c * (n_b - k_b) / denominator if denominator else None
    return Fisher(p=min(1.0, float(result.pvalue)), odds_ratio=odds_ratio)


def mcnemar_exact(only_baseline: int, only_candidate: int) -> float:
    """Return the exact two-sided p-value of paired yes/no outcomes from the discordant pairs.

    Source: McNemar 1947, binomial form. No discordant pairs: p = 1.
    """
    b = positive(only_baseline, where="mcnemar_exact", name="only_baseline", at_least=0)
    c = positive(only_candidate, where="mcnemar_exact", name="only_candidate", at_least=0)
    if b + c == 0:
        return 1.0
    return float(stats.binomtest(c, b + c, 0.5).pvalue)
