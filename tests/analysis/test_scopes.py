"""What an answer covers: these prompts, new prompts, or two checkpoints; and what it leans on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cupel.analysis import evaluate_significance, significance_markdown
from cupel.lab.study import Endpoint
from cupel.stats.clustered import clustered_mean, two_way
from cupel.stats.intervals import clopper_pearson
from cupel.stats.proportions import mcnemar

ALL = Endpoint(over="all")
SEEDS = range(1, 9)


def right_of(seed: int, arm: int, *, steps: int = 3, prompts: int = 6, k: int = 4) -> np.ndarray:
    return np.random.default_rng([seed, arm]).random((steps, prompts, k)) < 0.3 + 0.2 * arm


def two_arms(root: Path, run_at, seeds=SEEDS, **shape) -> list[list[Path]]:
    return [
        [
            run_at(root / f"{n}_s{s}", seed=s, condition=n, right=right_of(s, arm, **shape))
            for s in seeds
        ]
        for arm, n in enumerate("ab")
    ]


def block_of(arms, **settings) -> dict:
    report = evaluate_significance(*arms, **{"endpoint": ALL, "num_resamples": 200, **settings})
    return report["metrics"]["correct_rate"]


def test_new_prompts_are_covered_by_the_crossed_table(tmp_path, run_at) -> None:
    block = block_of(two_arms(tmp_path, run_at))
    table = np.array(
        [right_of(s, 1).mean(axis=(0, 2)) - right_of(s, 0).mean(axis=(0, 2)) for s in SEEDS]
    )
    oracle = two_way(table)
    t2 = block["t2"]
    assert (t2["available"], t2["scope"], t2["n_seeds"], t2["n_prompts"]) == (
        True,
        "method+prompts",
        8,
        6,
    )
    assert t2["delta"] == pytest.approx(oracle.mean)
    assert t2["delta"] == pytest.approx(block["delta"])
    assert oracle.interval is not None
    assert t2["ci95"] == pytest.approx([oracle.interval.low, oracle.interval.high])
    assert t2["df"] == pytest.approx(oracle.df)


def test_the_window_of_the_endpoint_bounds_the_crossed_table_too(tmp_path, run_at) -> None:
    block = block_of(two_arms(tmp_path, run_at), endpoint=Endpoint(over="last"))
    last = [(right_of(s, 1)[-1].mean() - right_of(s, 0)[-1].mean()) for s in SEEDS]
    assert block["t2"]["delta"] == pytest.approx(np.mean(last))


def test_prompts_that_runs_do_not_share_give_no_interval_and_a_reason(tmp_path, run_at) -> None:
    arms = two_arms(tmp_path, run_at)
    for folder in arms[0]:
        path = folder / "emergence" / "generations.jsonl"
        path.write_text(path.read_text().replace('"problem_id": "p', '"problem_id": "other'))
    report = evaluate_significance(*arms, endpoint=ALL, num_resamples=200)
    t2 = report["metrics"]["correct_rate"]["t2"]
    assert t2 == {"available": False, "reason": "prompts_not_shared_by_all_runs"}
    assert "no interval (prompts not shared by all runs)" in significance_markdown(report)
    (arms[0][0] / "emergence" / "generations.jsonl").unlink()
    assert block_of(arms)["t2"]["reason"] == "no_prompt_level_data"


def test_two_checkpoints_with_one_answer_a_prompt_have_mcnemar(tmp_path, run_at) -> None:
    shape = {"steps": 1, "prompts": 60, "k": 1}
    arms = two_arms(tmp_path, run_at, seeds=[1], **shape)
    block = block_of(arms)
    b, c = (right_of(1, arm, **shape).ravel() for arm in (0, 1))
    found = block["checkpoint"]
    only_b, only_c = int(np.sum(b & ~c)), int(np.sum(c & ~b))
    expected = mcnemar(only_b, only_c)
    assert found["mcnemar"] == {
        "only_baseline": only_b,
        "only_candidate": only_c,
        "discordant": only_b + only_c,
        "p": expected.p,
        "mid_p": expected.mid_p,
    }
    oracle = clustered_mean(c.astype(float) - b.astype(float), np.arange(60))
    assert found["standard_error"] == pytest.approx(oracle.error)
    assert (found["n_prompts"], found["p_sign_flip"]) == (60, None)
    assert (block["scope"], block["verdict"]) == ("checkpoint", "inconclusive")
    assert block["t2"] == {"available": False, "reason": "single_run_per_arm"}
    assert [one["name"] for one in block["conditions"]] == ["these_checkpoints", "these_prompts"]


def test_answers_to_one_problem_at_several_steps_share_a_cluster(tmp_path, run_at) -> None:
    arms = two_arms(tmp_path, run_at, seeds=[1])
    report = evaluate_significance(*arms, endpoint=ALL, num_resamples=200)
    found = report["metrics"]["correct_rate"]["checkpoint"]
    d = right_of(1, 1).mean(axis=2) - right_of(1, 0).mean(axis=2)
    oracle = clustered_mean(d.ravel(), np.tile(np.arange(6), 3))
    assert (found["n_prompts"], found["n_pairs"], found["mcnemar"]) == (6, 18, None)
    assert found["standard_error"] == pytest.approx(oracle.error)
    assert 2 / 64 <= found["p_sign_flip"] <= 1
    assert "These two checkpoints only, by prompt (6 prompts" in significance_markdown(report)


def test_conditions_name_what_the_word_leans_on(tmp_path, run_at) -> None:
    arms = two_arms(tmp_path, run_at)
    named = {one["name"]: one for one in block_of(arms)["conditions"]}
    assert set(named) == {"symmetric_differences", "these_prompts", "unseen_collapse"}
    bound = clopper_pearson(0, 8, alpha=0.10).high
    assert named["unseen_collapse"]["rate"] == pytest.approx(bound)
    by_t = block_of(arms, primary_test="paired_t")["conditions"]
    assert by_t[0] == {"name": "normal_differences"}
    same = block_of([arms[0], arms[0]], margin=0.5)
    assert same["verdict"] == "inconclusive"


def test_a_failed_run_is_a_condition_and_closes_the_crossed_table(tmp_path, run_at) -> None:
    arms = two_arms(tmp_path, run_at)
    path = arms[1][0]
    (path / "result.json").unlink()
    failure = {"kind": "algorithmic", "message": "loss is nan"}
    state = json.loads((path / "run.json").read_text()) | {"status": "failed", "failure": failure}
    (path / "run.json").write_text(json.dumps(state))
    block = block_of(arms)
    names = [one["name"] for one in block["conditions"]]
    assert "failures_counted" in names
    assert [one["arm"] for one in block["conditions"] if one["name"] == "unseen_collapse"] == [
        "baseline"
    ]
    assert block["t2"]["reason"] == "failed_runs"


def test_a_declared_margin_makes_the_fourth_answer(tmp_path, run_at) -> None:
    """Differences of -1, 0 and 1 answer in 400."""
    arms = [
        [
            run_at(
                tmp_path / f"{name}_s{seed}",
                seed=seed,
                condition=name,
                right=np.arange(400).reshape(5, 4, 20) < 120 + sign * (seed % 3 - 1),
            )
            for seed in SEEDS
        ]
        for name, sign in (("a", 0), ("b", 1))
    ]
    block = block_of(arms, margin=0.02)
    assert (block["verdict"], block["reasons"]) == ("equivalent", [])
    assert block["recommendation"] == "insufficient_statistical_evidence"
    assert {"name": "normal_differences"} in block["conditions"]
    assert block_of(arms)["reasons"] == ["p_not_below_alpha"]
    assert block_of(arms, margin=0.0001)["verdict"] == "inconclusive"
