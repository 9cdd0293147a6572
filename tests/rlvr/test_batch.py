"""A graded batch: its layout, its counts, and randomness that depends on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cupel.errors import DataError
from cupel.lab import Randomness
from cupel.policy.toy_policy import ToyPolicy, ToyTokenizer
from cupel.rlvr.batch import (
    EVALUATION_ROUND,
    TRAINING_ROUND,
    GradedBatch,
    encoded,
    sample_batch,
)
from cupel.rlvr.problems import ToyProblems
from tests.rlvr.toy_runs import toy_config


def drawn(
    problems: int = 3,
    *,
    group_size: int = 5,
    round_number: int = 0,
    purpose: str = TRAINING_ROUND,
    temperature: float = 1.0,
    **settings: Any,
) -> GradedBatch:
    return sample_batch(
        ToyPolicy(seed=4),
        ToyProblems.PROBLEMS[:problems],
        toy_config(**settings),
        Randomness(7),
        purpose=purpose,
        round_number=round_number,
        group_size=group_size,
        temperature=temperature,
    )


def test_rows_are_problem_major() -> None:
    batch = drawn()
    assert batch.size == 15
    assert batch.rewards_PG.shape == (3, 5)
    assert len(batch.texts) == len(batch.grades) == 15
    rewards = [grade.reward for grade in batch.grades]
    assert batch.rewards_PG.reshape(-1).tolist() == rewards
    counts = [batch.count(outcome) for outcome in ("correct", "incorrect", "ungradable")]
    assert sum(counts) == 15
    assert batch.correct_rate == counts[0] / 15


def test_a_completion_does_not_depend_on_its_neighbours() -> None:
    large, small = drawn(3, group_size=5), drawn(2, group_size=3)
    for group in range(2):
        for sample in range(3):
            assert large.texts[5 * group + sample] == small.texts[3 * group + sample]


@pytest.mark.parametrize(
    "other", [{"round_number": 1}, {"purpose": EVALUATION_ROUND}, {"replicate": 1}]
)
def test_rounds_purposes_and_replicates_draw_other_samples(other: dict[str, Any]) -> None:
    assert drawn(8).texts != drawn(8, **other).texts
    assert drawn(8, **other).texts == drawn(8, **other).texts


def test_greedy_completions_are_all_the_same() -> None:
    batch = drawn(2, temperature=0.0)
    assert batch.distinct_in_group == 1 / 5
    assert batch.texts[:5] == [batch.texts[0]] * 5


def test_distinct_counts_completions_within_a_group() -> None:
    batch = drawn(4, group_size=6)
    tokens = batch.completions.tokens_NT
    shares = []
    for group in range(4):
        rows = range(6 * group, 6 * group + 6)
        shares.append(
            len({tuple(tokens[n, : batch.completions.lengths_N[n]].tolist()) for n in rows}) / 6
        )
    assert batch.distinct_in_group == pytest.approx(np.mean(shares))
    assert 1 / 6 < batch.distinct_in_group <= 1


def test_a_policy_without_a_chat_template_is_refused() -> None:
    with pytest.raises(DataError, match="ToyTokenizer has no chat template; leave it off"):
        encoded("1", ToyTokenizer(), toy_config(problems={"source": "toy", "chat_template": True}))
