"""Phase 1B as the report shows it: pairs of gains, and rank correlations with their intervals.

Pure but for the results it is handed. Takes the intervals that the file holds, over whole tasks;
computes one from the pairs only where a file holds the documented keys and no more. Refuses to
correlate fewer than 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.report.teach.measures import Measure
from cupel.report.teach.results import MissingInput, Row, TeachResults, number
from cupel.stats.effects import correlation
from cupel.stats.ranking import spearman
from cupel.teach.labelling.labels import QUADRANTS

FILE = "cpt_correlation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Patch-test gain against micro-training gain in one group of moments.

    Attributes:
        group: `all` or a quadrant.
        rho, partial: Spearman's, and what is left of it given the success before.
    """

    group: str
    points: Sequence[Row]
    rho: Measure
    partial: Measure
    pearson: float | None
    mean_patch: float | None
    mean_effect: float | None


def agreements(results: TeachResults) -> list[Agreement]:
    """Return the agreement of all moments, then of each quadrant.

    Raises:
        MissingInput: the file is not there, or holds fewer than 2 pairs.
    """
    found = results.json(FILE)
    points = [
        row
        for row in found.get("data_points", ())
        if number(row, "cpt") is not None and number(row, "elp") is not None
    ]
    if len(points) < 2:
        raise MissingInput(f"{results.path(FILE)}: {len(points)} data points; 2 are needed")
    whole = None
    if "spearman_rho" in found:
        ends = found.get("spearman_ci") or (None, None)
        whole = {"value": found["spearman_rho"], "lo": ends[0], "hi": ends[1]}
    partial = found.get("partial_spearman_given_p_base")
    blocks = found.get("per_quadrant") or {}
    made = [_agreement("all", points, whole, partial)]
    for quadrant in QUADRANTS:
        mine = [row for row in points if row.get("quadrant") == quadrant]
        made.append(_agreement(quadrant, mine, (blocks.get(quadrant) or {}).get("spearman"), None))
    return made


def _agreement(
    group: str,
    points: Sequence[Row],
    stored: Mapping[str, Any] | None,
    partial: Mapping[str, Any] | None,
) -> Agreement:
    gains, effects = [float(r["cpt"]) for r in points], [float(r["elp"]) for r in points]
    n = len(points)
    return Agreement(
        group=group,
        points=points,
        rho=_statistic(stored, n) if stored is not None else _computed(gains, effects),
        partial=_statistic(partial, n) if partial is not None else Measure(value=None, n=n),
        pearson=correlation(gains, effects) if n > 1 else None,
        mean_patch=sum(gains) / n if n else None,
        mean_effect=sum(effects) / n if n else None,
    )


def _statistic(stored: Mapping[str, Any], n: int) -> Measure:
    return Measure(
        value=number(stored, "value"), lo=number(stored, "lo"), hi=number(stored, "hi"), n=n
    )


def _computed(gains: Sequence[float], effects: Sequence[float]) -> Measure:
    if len(gains) < 2:
        return Measure(value=None, n=len(gains))
    ranks = spearman(gains, effects)
    low, high = (ranks.interval.low, ranks.interval.high) if ranks.interval else (None, None)
    return Measure(value=ranks.rho, lo=low, hi=high, n=len(gains))
