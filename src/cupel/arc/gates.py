"""The two criteria that a model must meet, as gates: read from an evaluation, said in words.

Pure. Knows rows of evaluations and thresholds. Refuses to pass a gate on a number that was not
measured, and to hide whether demonstrations were used: a model that learns answers by heart can
meet the first criterion without reading one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

OVERFIT = 0.9
"""Criterion 1: exact match on the training groups must exceed this."""

GENERALISE = 0.05
"""Criterion 2: exact match on held-out puzzles must reach this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One criterion, applied.

    Attributes:
        passed: None when what it needs was not measured.
        value: the number judged, with its 95 % interval where there is one.
        uses_demonstrations: the interval of context_gain lies above 0; None: not measured.
    """

    name: str
    passed: bool | None
    value: float | None
    low: float | None
    high: float | None
    threshold: float
    uses_demonstrations: bool | None
    words: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def criterion_1(row: Mapping[str, Any], *, threshold: float = OVERFIT) -> Gate:
    """Judge the overfit test: exact match at halt on the training groups, with context_gain."""
    used = uses_demonstrations(row)
    gain, low, high = (row.get(f"context_gain{end}") for end in ("", "_lo", "_hi"))
    value = row.get("em_at_halt")
    passed = None if value is None else bool(value > threshold)
    if used is None:
        about = "whether demonstrations are used was not measured"
    else:
        interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
        about = f"context_gain {gain:+.3f}{interval}: demonstrations are {'' if used else 'not '}"
        about += "shown to be used"
    return Gate(
        name="criterion_1",
        passed=passed,
        value=value,
        low=row.get("em_at_halt_lo"),
        high=row.get("em_at_halt_hi"),
        threshold=threshold,
        uses_demonstrations=used,
        words=f"{_verdict(passed)}: exact match at halt on the training groups "
        f"{_percent(value)}, above {threshold:.0%} is asked; {about}",
    )


def criterion_2(row: Mapping[str, Any], *, threshold: float = GENERALISE) -> Gate:
    """Judge generalisation: exact match at halt on held-out puzzles, without votes."""
    value = row.get("heldout_em_at_halt")
    passed = None if value is None else bool(value >= threshold)
    label = row.get("contamination")
    note = "" if label in (None, "clean") else f" (these puzzles: {label})"
    return Gate(
        name="criterion_2",
        passed=passed,
        value=value,
        low=row.get("heldout_em_at_halt_lo"),
        high=row.get("heldout_em_at_halt_hi"),
        threshold=threshold,
        uses_demonstrations=uses_demonstrations(row),
        words=f"{_verdict(passed)}: exact match on held-out puzzles {_percent(value)}{note}, "
        f"at least {threshold:.0%} is asked",
    )


def uses_demonstrations(row: Mapping[str, Any]) -> bool | None:
    """Say whether context_gain is shown to be above 0; None when it was not measured."""
    gain, low = row.get("context_gain"), row.get("context_gain_lo")
    if gain is None:
        return None
    return bool((gain if low is None else low) > 0)


def _verdict(passed: bool | None) -> str:
    return "not measured" if passed is None else "passed" if passed else "failed"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"
