"""Looks at a study: which seeds, which level, which p-value; families and their corrections."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cupel.analysis import judge
from cupel.analysis.judge import reading_mode
from cupel.errors import ConfigError
from cupel.lab.store import read_study
from cupel.lab.study import Condition, Decision, StudyConfig
from cupel.lab.study_dir import study_toml
from cupel.stats.multiplicity import holm
from cupel.stats.sequential import inverse_normal, plan_looks, repeated_p, stagewise_p

ORDER = [9, 3, 7, 1, 12, 5, 10, 2, 4, 6, 8, 11]
"""Twelve seeds whose locked order is not ascending."""


def rates(values) -> dict[int, dict]:
    """One run per seed of the locked order, right in exactly so many of 80 completions."""
    return {
        seed: {"right": np.arange(80).reshape(10, 2, 4) < value}
        for seed, value in zip(ORDER, values, strict=False)
    }


def judged(folder) -> dict:
    judge(folder)
    report = json.loads((folder / "analysis" / "significance.json").read_text())
    return report["metrics"]["correct_rate"]


EVEN = rates([30] * 12)


def test_a_clear_first_look_ends_the_study_and_uses_its_seeds_only(study_at) -> None:
    better = rates([40, 41, 42, 43, 44, 45, 1, 1, 1, 1, 1, 1])
    block = judged(study_at({"a": EVEN, "b": better}, looks=[6, 12], alpha=0.09, **at("all")))
    looks = block["looks"]
    assert (looks["k"], looks["of"], looks["seeds"]) == (1, 2, ORDER[:6])
    bounds = plan_looks([6, 12], alpha=0.09)
    assert looks["alpha_spent"] == pytest.approx(bounds.alpha_at[0])
    assert block["verdict"] == "improvement"
    assert block["p"] == block["unadjusted"] == 2 / 64
    assert [pair[0] for pair in block["pairs"]] == ORDER[:6]
    assert block["ci_level"] == pytest.approx(1 - bounds.alpha_at[0])


def at(over: str) -> dict:
    return {"endpoint": {"over": over}}


def test_a_first_look_below_its_floor_waits_for_the_next(study_at) -> None:
    better = rates([40, 41, 42, 43, 44, 45])
    cells = {"a": {s: EVEN[s] for s in ORDER}, "b": {s: better.get(s) for s in ORDER}}
    block = judged(study_at(cells, looks=[6, 12], **at("all")))
    assert block["looks"]["k"] == 1
    assert block["verdict"] == "inconclusive"
    assert block["reasons"] == ["resolution_floor", "more_looks_planned"]
    assert "Not established at look 1 of 2; the next look is at 12 seeds." in block["sentence"]
    assert block["p"] == pytest.approx(repeated_p(plan_looks([6, 12]), 0, 2 / 64))
    assert block["p"] > block["unadjusted"]


def test_the_last_look_has_a_stagewise_p_and_keeps_the_naive_one(study_at) -> None:
    better = rates([29, 31, 33, 28, 34, 31, 35, 36, 34, 33, 36, 35])
    block = judged(study_at({"a": EVEN, "b": better}, looks=[6, 12], **at("all")))
    assert block["looks"]["k"] == 2
    assert block["looks"]["last"] is True
    expected = stagewise_p(plan_looks([6, 12]), 1, block["unadjusted"])
    assert block["p"] == pytest.approx(expected)
    assert block["p"] > block["unadjusted"]
    assert (block["p"] < 0.05) == (block["verdict"] == "improvement")
    low, high = block["ci95"]
    assert (low > 0 or high < 0) == (block["verdict"] == "improvement")


def test_seeds_between_two_looks_are_not_used(study_at) -> None:
    better = rates([31, 29, 30, 31, 29, 30, 60, 60, 60])
    cells = {"a": {s: EVEN[s] for s in ORDER}, "b": {s: better.get(s) for s in ORDER}}
    block = judged(study_at(cells, looks=[6, 12], **at("all")))
    assert (block["n_seeds"], block["looks"]["k"]) == (6, 1)


def test_an_unfinished_first_look_decides_nothing(study_at) -> None:
    better = rates([40, 41, 42])
    cells = {"a": {s: EVEN[s] for s in ORDER}, "b": {s: better.get(s) for s in ORDER}}
    block = judged(study_at(cells, looks=[6, 12], **at("all")))
    assert (block["verdict"], block["reasons"]) == ("inconclusive", ["look_not_reached"])
    assert block["looks"]["k"] == 0
    assert "first declared look are not all finished" in block["sentence"]


def test_stages_are_combined_with_the_declared_weights(study_at) -> None:
    better = rates([29, 31, 33, 28, 34, 31, 35, 36, 34, 33])
    cells = {"a": {s: EVEN[s] for s in ORDER[:10]}, "b": better}
    folder = study_at(cells, looks=[6, 8], combination="inverse_normal", **at("all"))
    block = judged(folder)
    d = [c - b for _, b, c in block["pairs"]]
    bounds = plan_looks([6, 8])
    combined = inverse_normal([d[:6], d[6:]], [6, 2], level=bounds.alpha_at[1])
    assert block["n_seeds"] == 10
    assert block["p_method"] == "inverse_normal_sign_flip"
    assert block["p"] == pytest.approx(stagewise_p(bounds, 1, combined.p))
    assert block["ci95"] == pytest.approx([combined.interval.low, combined.interval.high])
    assert "combined sign-flip" in block["sentence"]


def three_arms(study_at, **decision):
    rng = np.random.default_rng(5)
    base = rng.integers(20, 40, size=12)
    cells = {
        "a": rates(base),
        "b": rates(base + 8),
        "c": rates(base + rng.integers(2, 9, size=12)),
        "d": rates(base + rng.integers(-3, 9, size=12)),
    }
    return study_at(
        cells,
        baseline="a",
        candidate="b",
        secondary=[("a", "c"), ("a", "d")],
        **at("all"),
        **decision,
    )


def metrics_of(folder) -> dict:
    judge(folder)
    return json.loads((folder / "analysis" / "significance.json").read_text())["metrics"]


def test_max_t_is_lighter_than_holm_and_named(study_at) -> None:
    folder = three_arms(study_at, family="max_t")
    blocks = metrics_of(folder)
    pair = [blocks[f"correct_rate: {name} vs a"] for name in "cd"]
    assert {one["multiplicity"]["method"] for one in pair} == {"max_t"}
    assert all(one["multiplicity"]["p_holm"] is None for one in pair)
    by_holm = holm([one["unadjusted"] for one in pair])
    text = (folder / "analysis" / "significance.md").read_text()
    assert "(max-T " in text
    for one, p in zip(pair, by_holm, strict=True):
        assert one["unadjusted"] - 1e-12 <= one["multiplicity"]["p_adjusted"] <= p + 1e-12


def test_a_family_at_a_look_is_corrected_for_the_looks_too(study_at) -> None:
    blocks = metrics_of(three_arms(study_at, looks=[6, 12]))
    primary = blocks["correct_rate"]
    pair = [blocks[f"correct_rate: {name} vs a"] for name in "cd"]
    assert {one["looks"]["k"] for one in pair} == {primary["looks"]["k"]}
    bounds = plan_looks([6, 12])
    readable = [repeated_p(bounds, primary["looks"]["k"] - 1, o["unadjusted"]) for o in pair]
    assert [one["p"] for one in pair] == pytest.approx(readable)
    adjusted = [one["multiplicity"]["p_adjusted"] for one in pair]
    assert adjusted == pytest.approx(holm(readable).tolist())


def test_exploratory_metrics_bound_false_discoveries(study_at) -> None:
    blocks = metrics_of(three_arms(study_at))
    found = blocks["mean_reward"]["multiplicity"]
    assert (found["method"], found["level"]) == ("benjamini_hochberg", 0.10)
    assert found["p_adjusted"] == pytest.approx(blocks["mean_reward"]["unadjusted"])


def test_reserve_seeds_taken_in_order_under_declared_looks_stay_confirmatory(study_at) -> None:
    folder = study_at({"a": EVEN, "b": EVEN}, looks=[6, 12])
    lock = json.loads((folder / "plan.lock").read_text())
    first = {**lock["lock"], "seeds": ORDER[:6], "reserve_seeds": ORDER[6:]}
    amendment = {"outcomes_seen": True, "changed": ["seeds", "reserve_seeds"]}
    for replaced, mode in (
        (first, "confirmatory"),
        ({**first, "seeds": ORDER[1:7], "reserve_seeds": ORDER[7:]}, "exploratory"),
        ({**first, "decision": {**first["decision"], "alpha": 0.01}}, "exploratory"),
    ):
        amended = {**lock, "amendments": [{**amendment, "replaced_lock": replaced}]}
        (folder / "plan.lock").write_text(json.dumps(amended))
        assert reading_mode(read_study(folder)) == mode


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"looks": [8, 8]}, "ascending"),
        ({"looks": [1, 8]}, "at least 2"),
        ({"combination": "inverse_normal"}, "at least two looks"),
        (
            {"looks": [4, 8], "combination": "inverse_normal", "primary_test": "paired_t"},
            "combines sign flips",
        ),
    ],
)
def test_looks_that_make_no_sense_are_refused(decision, message) -> None:
    with pytest.raises(ValueError, match=message):
        Decision(**decision)


def test_looks_beyond_the_declared_seeds_are_refused() -> None:
    arms = [Condition(label="a"), Condition(label="b")]
    with pytest.raises(ValueError, match="ends at 16 seeds, but seeds and reserve_seeds hold 8"):
        StudyConfig(conditions=arms, decision=Decision(looks=[8, 16]))
    reserve = list(range(1000, 1008))
    study = StudyConfig(conditions=arms, reserve_seeds=reserve, decision=Decision(looks=[8, 16]))
    assert b"looks" in study_toml(study)


def test_too_many_seeds_in_a_stage_are_refused() -> None:
    with pytest.raises(ConfigError, match="too many to enumerate"):
        inverse_normal([np.ones(21), np.ones(3)], [21, 3], level=0.05)
