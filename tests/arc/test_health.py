"""Zones of health, early rules, and the words that explain them."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.arc.health import HealthLimits, Level, assess, must_stop

LIMITS = HealthLimits()


def rows(steps: range, **values: Any) -> list[dict[str, Any]]:
    base = {
        "grad/encoder_norm": 0.4,
        "grad/total_norm": 1.0,
        "train/encoder_cross_sample_var": 0.5,
        "steps_at_halt": 4.0,
        "forced_fraction": 0.5,
        "gradient_coverage": 1.0,
    }
    made = [{"step": step, "train/exact_accuracy": step / 1000, **base} for step in steps]
    return [
        {**row, **{k: v(row["step"]) if callable(v) else v for k, v in values.items()}}
        for row in made
    ]


def level_of(seen: list[dict[str, Any]], topic: str) -> Level:
    health = assess(seen, LIMITS, halt_max_steps=8)
    return next(finding.level for finding in health.findings if finding.topic == topic)


def test_a_healthy_run_is_ok_and_stays() -> None:
    health = assess(rows(range(10, 510, 10)), LIMITS, halt_max_steps=8)
    assert health.level == "ok"
    assert health.reason == ""
    assert not must_stop(health, LIMITS)


@pytest.mark.parametrize(
    ("norm", "until", "level"),
    [(0.21, 10, "ok"), (0.19, 10, "warn"), (0.04, 10, "warn"), (0.04, 110, "stop")],
)
def test_the_gradient_zones(norm: float, until: int, level: Level) -> None:
    seen = rows(range(10, until + 1, 10), **{"grad/encoder_norm": norm, "grad/total_norm": 0.5})
    assert level_of(seen, "gradient") == level


def test_a_starved_encoder_that_recovers_is_not_lost() -> None:
    norm = {"grad/encoder_norm": lambda step: 0.3 if step == 60 else 0.01}
    assert level_of(rows(range(10, 120, 10), **norm), "gradient") == "warn"


def test_a_small_share_of_the_gradient_warns() -> None:
    assert level_of(rows(range(10, 20, 10), **{"grad/total_norm": 5.0}), "gradient") == "warn"


def test_a_frozen_encoder_is_not_starved() -> None:
    frozen = {"grad/encoder_norm": 0.0, "train/encoder_frozen": 1}
    assert level_of(rows(range(10, 300, 10), **frozen), "gradient") == "ok"


@pytest.mark.parametrize(
    ("variance", "until", "level"),
    [(0.31, 10, "ok"), (0.2, 10, "warn"), (0.09, 10, "warn"), (0.04, 110, "stop")],
)
def test_the_variance_zones(variance: float, until: int, level: Level) -> None:
    seen = rows(range(10, until + 1, 10), **{"train/encoder_cross_sample_var": variance})
    assert level_of(seen, "contexts") == level


def test_a_raw_context_is_not_judged_by_its_variance() -> None:
    seen = rows(range(10, 300, 10), **{"train/encoder_cross_sample_var": 0.001})
    assert assess(seen, LIMITS, halt_max_steps=8, matched_scale=False).level == "ok"


def test_no_gain_for_300_updates_is_stuck_unless_it_is_good_enough() -> None:
    assert level_of(rows(range(10, 310, 10), **{"train/exact_accuracy": 0.4}), "progress") == "ok"
    assert level_of(rows(range(10, 320, 10), **{"train/exact_accuracy": 0.4}), "progress") == "stop"
    assert level_of(rows(range(10, 320, 10), **{"train/exact_accuracy": 0.95}), "progress") == "ok"


def test_the_rules_end_a_run_only_early() -> None:
    stuck = {"train/exact_accuracy": 0.4}
    early = assess(rows(range(10, 410, 10), **stuck), LIMITS, halt_max_steps=8)
    late = assess(rows(range(10, 610, 10), **stuck), LIMITS, halt_max_steps=8)
    assert (must_stop(early, LIMITS), must_stop(late, LIMITS)) == (True, False)
    assert "no gain for 390 updates" in early.reason


def test_never_halting_and_missing_gradients_are_said() -> None:
    assert level_of(rows(range(10, 20, 10), forced_fraction=1.0), "halting") == "warn"
    assert level_of(rows(range(10, 20, 10), gradient_coverage=0.5), "coverage") == "warn"


def test_nothing_measured_is_not_called_healthy() -> None:
    assert assess([], LIMITS, halt_max_steps=8).level == "warn"
