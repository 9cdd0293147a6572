"""Litmus: evidence first, then intervals or points; the documented point verdict always beside."""

from __future__ import annotations

import json

import pytest

from cupel.analysis import evaluate_litmus, litmus_markdown
from cupel.config import canonical_json
from cupel.errors import ConfigError

LOW = dict.fromkeys(range(1, 9), 0.2)
HIGH = {seed: 0.6 + 0.025 * (seed % 3) for seed in range(1, 9)}


def test_clear_lifts_are_confirmed_both_ways(arm) -> None:
    report = evaluate_litmus(arm("a", LOW, grams=True), arm("b", HIGH, grams=True))
    assert (report["verdict"], report["legacy_verdict"]) == ("CONFIRMED", "CONFIRMED")
    assert (report["profile"], report["mode"]) == ("official_v1", "interval")
    assert report["thresholds"] == {
        "mean_reward_steps": 0.01,
        "overall_correct_rate": 0.005,
        "mean_gram_entropy_delta": 0.005,
    }
    assert report["baseline"]["total_gram_pairs"] == 8 * 10 * 4
    json.loads(canonical_json(report))
    assert litmus_markdown(report).splitlines()[2].startswith("CONFIRMED: b against a")


def test_a_lower_candidate_fails(arm) -> None:
    report = evaluate_litmus(arm("a", HIGH, grams=True), arm("b", LOW, grams=True))
    assert (report["verdict"], report["legacy_verdict"]) == ("FAILED", "FAILED")


def test_points_confirm_what_intervals_do_not(arm) -> None:
    noisy = {seed: 0.2 + (0.25 if seed < 6 else -0.1) for seed in range(1, 9)}
    low, high = arm("a", LOW, grams=True), arm("b", noisy, grams=True)
    assert evaluate_litmus(low, high)["verdict"] == "INCONCLUSIVE"
    assert evaluate_litmus(low, high, mode="point")["verdict"] == "CONFIRMED"


def test_five_seeds_bound_nothing(arm) -> None:
    five = {seed: HIGH[seed] for seed in range(1, 6)}
    report = evaluate_litmus(
        arm("a", dict.fromkeys(range(1, 6), 0.2), grams=True), arm("b", five, grams=True)
    )
    assert report["checks"][0]["ci95"] == [None, None]
    assert (report["verdict"], report["legacy_verdict"]) == ("INCONCLUSIVE", "CONFIRMED")


def test_missing_evidence_comes_first(arm) -> None:
    report = evaluate_litmus(arm("a", {1: 0.2}), arm("b", {1: 0.9}), min_steps_per_run=11)
    assert report["verdict"] == report["legacy_verdict"] == "INCONCLUSIVE"
    assert not report["evidence_ok"]
    messages = " ".join(report["evidence_failures"])
    assert "10 steps, needs 11" in messages
    assert "0 gram pairs, needs 8" in messages
    assert report["profile_overridden"] == ["min_steps_per_run"]
    unpaired = evaluate_litmus(arm("c", {2: 0.2}), arm("d", {3: 0.9}))
    assert "run pairs: 0, needs 1" in unpaired["evidence_failures"]


def test_unknown_profile_and_mode_are_refused(arm) -> None:
    low, high = arm("a", {1: 0.2}), arm("b", {1: 0.9})
    with pytest.raises(ConfigError, match="did you mean 'official_v1'"):
        evaluate_litmus(low, high, profile="oficial_v1")
    with pytest.raises(ConfigError, match="allowed: interval, point"):
        evaluate_litmus(low, high, mode="lines")  # type: ignore[arg-type]
