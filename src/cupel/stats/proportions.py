"""Two-by-two tables: exact tests of two rates.

Knows counts; refuses to know whether the trials behind them are independent, which every test
here assumes and completions of one run are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from cupel.stats.samples import FloatArray, counts, positive

TIE = 1e-7
"""Two tables are equally likely when their probabilities differ by less than this, relatively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fisher:
    """Fisher's exact test; `odds_ratio` is None where it is not a finite number.

    Attributes:
        mid_p: p less half the probability of all tables as likely as the observed one.
    """

    p: float
    mid_p: float
    odds_ratio: float | None


def fisher_exact(baseline: tuple[int, int], candidate: tuple[int, int]) -> Fisher:
    """Test two rates, each given as (successes, total), two-sided.

    p sums the probabilities of all tables with the same margins that are no likelier than the
    observed one; tables count as equally likely within a relative 1e-7, so that rounding does not
    decide about ties however small the probabilities are. The mid-p is less conservative and no
    longer exact.

    >>> round(fisher_exact((298, 1024), (342, 1024)).p, 4)
    0.0403

    Raises:
        DataError: a count outside [0, total].
    Source: Fisher 1935; Lancaster 1961 (mid-p).
    """
    k_b, n_b = counts(*baseline, where="fisher_exact")
    k_c, n_c = counts(*candidate, where="fisher_exact")
    first, log_p_X = _log_hypergeometric(n_b + n_c, k_b + k_c, n_c)
    observed = log_p_X[k_c - first]
    no_likelier = log_p_X <= observed + TIE
    ties = no_likelier & (log_p_X >= observed - TIE)
    p = float(np.exp(special.logsumexp(log_p_X[no_likelier])))
    tied = float(np.exp(special.logsumexp(log_p_X[ties])))
    denominator = (n_c - k_c) * k_b
    return Fisher(
        p=min(1.0, p),
        mid_p=min(1.0, p) - tied / 2,
        odds_ratio=k_c * (n_b - k_b) / denominator if denominator else None,
    )


def _log_hypergeometric(total: int, successes: int, drawn: int) -> tuple[int, FloatArray]:
    """Return the smallest possible count and the log probability of every possible one.

    Sums logs of ratios of neighbours, which keeps far tails exact to rounding.
    """
    first, last = max(0, drawn + successes - total), min(drawn, successes)
    x = np.arange(first, last, dtype=np.float64)
    ratio = (successes - x) * (drawn - x) / ((x + 1) * (total - successes - drawn + x + 1))
    log_p_X = np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    log_p_X -= log_p_X.max()
    return first, log_p_X - special.logsumexp(log_p_X)


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's test of paired yes/no outcomes: exact and mid-p."""

    only_baseline: int
    only_candidate: int
    p: float
    mid_p: float


def mcnemar(only_baseline: int, only_candidate: int) -> McNemar:
    """Test paired yes/no outcomes by their discordant pairs, two-sided.

    Without discordant pairs both p-values are 1.

    >>> round(mcnemar(1, 9).p, 4), round(mcnemar(1, 9).mid_p, 4)
    (0.0215, 0.0117)

    Source: McNemar 1947, binomial form; Fagerland, Lydersen & Laake 2013 (mid-p).
    """
    b = positive(only_baseline, where="mcnemar", name="only_baseline", at_least=0)
    c = positive(only_candidate, where="mcnemar", name="only_candidate", at_least=0)
    p = mid_p = 1.0
    if b + c > 0:
        p = min(1.0, 2 * float(stats.binom.cdf(min(b, c), b + c, 0.5)))
        mid_p = 1.0 if b == c else p - float(stats.binom.pmf(min(b, c), b + c, 0.5))
    return McNemar(only_baseline=b, only_candidate=c, p=p, mid_p=mid_p)


def mcnemar_exact(only_baseline: int, only_candidate: int) -> float:
    """Return the exact two-sided p-value of `mcnemar`."""
    return mcnemar(only_baseline, only_candidate).p
