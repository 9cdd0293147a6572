"""What a step leaves behind: every completion, and rows that can be computed again from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.rlvr.records import gram_statistics
from tests.rlvr.toy_runs import Ran, toy_run


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run with every token written down, SEPA pooling from the first step."""
    return toy_run(
        tmp_path_factory.mktemp("logged"),
        log_tokens=True,
        transform_mode="gtpo_sepa",
        sepa_steps=2,
        sepa_correct_rate_gate=0.0,
    )


def of_step(ran: Ran, step: int) -> list[dict[str, Any]]:
    return [row for row in ran.generations if row["step"] == step]


def test_every_completion_is_a_row(logged: Ran) -> None:
    assert len(logged.generations) == 4 * 8 * 8
    for step in range(4):
        rows = of_step(logged, step)
        cells = [(row["group"], row["sample"]) for row in rows]
        assert cells == [(group, sample) for group in range(8) for sample in range(8)]
        for group in range(8):
            members = [row for row in rows if row["group"] == group]
            assert len({(row["problem_id"], row["prompt"], row["answer"]) for row in members}) == 1


def test_an_ungradable_completion_is_neither_right_nor_wrong(logged: Ran) -> None:
    seen = Counter(row["correct"] for row in logged.generations)
    assert min(seen[True], seen[False], seen[None]) > 0
    for row in logged.generations:
        assert row["metadata"]["correctness"] is row["correct"]
        assert row["reward"] == (1.0 if row["correct"] else 0.0)
        assert (row["answer_found"] is None) == (row["correct"] is None)


def test_a_completion_stops_or_hits_the_limit(logged: Ran) -> None:
    reasons = Counter(row["finish_reason"] for row in logged.generations)
    assert set(reasons) == {"stop", "length"}
    for row in logged.generations:
        assert 1 <= row["num_tokens"] <= 4
        assert len(row["tokens"]) == row["num_tokens"]
        assert (row["tokens"][-1] == 1) == (row["finish_reason"] == "stop")


def test_counts_of_the_step_are_those_of_its_completions(logged: Ran) -> None:
    for step, emergence in zip(logged.steps, logged.emergence, strict=True):
        rows = of_step(logged, step["step"])
        outcomes = Counter(row["correct"] for row in rows)
        assert step["correct_count"] == emergence["correct_count"] == outcomes[True]
        assert step["incorrect_count"] == outcomes[False]
        assert step["ungradable_count"] == emergence["ungradable_count"] == outcomes[None]
        assert step["total_count"] == emergence["total_count"] == len(rows)
        assert step["correct_rate"] == outcomes[True] / len(rows)
        cut = np.mean([row["finish_reason"] == "length" for row in rows])
        assert step["max_token_hit_rate"] == pytest.approx(cut)
        assert emergence["max_tokens_hit_rate"] == step["max_token_hit_rate"]
        assert step["sampled_tokens"] == sum(row["num_tokens"] for row in rows)
        wins = [sum(bool(row["correct"]) for row in rows[at : at + 8]) for at in range(0, 64, 8)]
        mixed = [win for win in wins if 0 < win < 8]
        assert step["groups_mixed"] == len(mixed)
        assert step["groups_all_right"] == wins.count(8)
        assert step["groups_all_wrong"] == wins.count(0)
        assert step["num_datums"] == 8 * len(mixed)


def test_token_statistics_come_from_all_completions(logged: Ran) -> None:
    for step in logged.steps:
        rows = of_step(logged, step["step"])
        entropy = np.concatenate([row["entropies"] for row in rows])
        planning = np.concatenate([row["planning"] for row in rows]).astype(bool)
        assert step["exec_token_count"] == (~planning).sum()
        assert step["plan_token_count"] == planning.sum()
        assert step["planning_token_rate"] == planning.mean()
        assert step["exec_entropy_mean"] == pytest.approx(entropy[~planning].mean(), abs=1e-5)
        assert step["plan_entropy_mean"] == pytest.approx(entropy[planning].mean(), abs=1e-5)
        assert step["exec_entropy_var"] == pytest.approx(entropy[~planning].var(), abs=1e-5)
        assert step["plan_entropy_var"] == pytest.approx(entropy[planning].var(), abs=1e-5)


def test_gram_deltas_are_missing_without_a_pair(logged: Ran) -> None:
    for step in logged.emergence:
        deltas = []
        for row in of_step(logged, step["step"]):
            planning, entropy = np.array(row["planning"], bool), np.array(row["entropies"])
            assert row["planning_token_ratio"] == pytest.approx(planning.mean(), abs=1e-6)
            if planning.all() or not planning.any():
                assert row["gram_entropy_delta"] is None
                continue
            delta = entropy[planning].mean() - entropy[~planning].mean()
            assert row["gram_entropy_delta"] == pytest.approx(delta, abs=2e-5)
            deltas.append(delta)
        assert step["gram_entropy_pair_count"] == len(deltas)
        assert step["gram_entropy_delta"] == pytest.approx(np.mean(deltas), abs=2e-5)


def test_the_loss_is_that_of_a_plain_loop_over_the_completions(logged: Ran) -> None:
    """On-policy the ratio is 1, so the loss is minus the token mean of the shaped advantages."""
    for step in logged.steps:
        shaped: list[float] = []
        for group in range(8):
            members = [row for row in of_step(logged, step["step"]) if row["group"] == group]
            mean = np.mean([row["reward"] for row in members])
            if mean in (0.0, 1.0):
                continue
            for row in members:
                shaped += plain_sepa((row["reward"] - mean) / mean, row, step["sepa_lambda"])
        assert step["trained_tokens"] == len(shaped)
        assert step["loss"] == pytest.approx(-np.mean(shaped), abs=1e-4)


def plain_sepa(advantage: float, row: dict[str, Any], sepa_lambda: float) -> list[float]:
    """Shape one completion's advantage token by token: SEPA, then GTPO with beta 0.1."""
    entropy, planning = row["entropies"], row["planning"]
    execution = [h for h, plan in zip(entropy, planning, strict=True) if not plan]
    center = sum(execution) / len(execution) if execution else 0.0
    pooled = [
        h if plan else sepa_lambda * center + (1 - sepa_lambda) * h
        for h, plan in zip(entropy, planning, strict=True)
    ]
    mean = sum(pooled) / len(pooled)
    return [advantage * max(0.0, 1 + 0.1 * (h / mean - 1)) for h in pooled]


def test_tokens_are_written_only_when_asked(tmp_path: Path, logged: Ran) -> None:
    columns = {"tokens", "logprobs", "planning", "entropies"}
    assert columns <= set(logged.generations[0])
    for row in logged.generations:
        assert all(len(row[name]) == row["num_tokens"] for name in columns)
        assert all(value <= 0 for value in row["logprobs"])
    short = toy_run(
        tmp_path,
        transform_mode="gtpo_sepa",
        sepa_steps=2,
        sepa_correct_rate_gate=0.0,
    )
    assert not columns & set(short.generations[0])
    for row, full in zip(short.generations, logged.generations, strict=True):
        assert row == {key: value for key, value in full.items() if key not in columns}


def test_gram_statistics_of_a_hand_made_batch() -> None:
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
    planning = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1]], bool)
    values = np.array([[3.0, 1.0, 0.0, 9.0], [2.0, 2.0, 9.0, 9.0], [5.0, 9.0, 9.0, 9.0]])
    planned, ratio, delta = gram_statistics(mask, planning, values)
    assert planned.tolist() == [1, 2, 0]
    assert ratio.tolist() == [1 / 3, 1.0, 0.0]
    assert delta[0] == 2.5
    assert np.isnan(delta[1:]).all()
