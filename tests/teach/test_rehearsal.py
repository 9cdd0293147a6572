"""Promises: rehearsal holds a student to what it solves on training tasks, and teaches nothing."""

from __future__ import annotations

import numpy as np
import pytest

from cupel.lab.randomness import Randomness
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.splits import split_of
from cupel.teach.training.rehearsal import RehearsalSettings, rehearsed
from cupel.teach.training.sft import Trainer
from cupel.teach.training.sft_config import SftSettings
from cupel.teach.training.supervision import Example
from tests.teach.small_language import small_policy
from tests.teach.teach_students import TableStudent

CORRIDOR = EnvironmentConfig(name="corridor", max_steps=8)
SETTINGS = RehearsalSettings(weight=1.0, tasks=12, replicates=3)
SFT = SftSettings(lora_rank=0, learning_rate=5e-3)
TAUGHT = [
    Example(prompt="task: reach cell 6 state: cell 2 action:", completion=" left"),
    Example(prompt="task: reach cell 6 state: cell 4 action:", completion=" left"),
]


def test_states_are_distinct_of_training_tasks_and_of_solved_episodes() -> None:
    states, solved = rehearsed(TableStudent(), CORRIDOR, SETTINGS, randomness=Randomness(0))
    assert 0 < solved < 36
    assert {split_of(state.task_id) for state in states} == {"train"}
    assert len({state.prompt for state in states}) == len(states) > 3
    assert all(state.guided_prompt == state.prompt for state in states)
    assert not any("pit" in state.prompt.split("state:")[1] for state in states)


def test_the_same_seed_rehearses_the_same_states() -> None:
    one, other = (
        rehearsed(TableStudent(), CORRIDOR, SETTINGS, randomness=Randomness(seed))
        for seed in (4, 4)
    )
    assert one == other


def test_at_the_start_rehearsal_has_no_loss_and_no_gradient() -> None:
    states, _ = rehearsed(TableStudent(), CORRIDOR, SETTINGS, randomness=Randomness(0))
    steps = []
    for weight in (0.0, 5.0):
        trainer = Trainer(small_policy(), SFT, seed=0)
        kept = trainer.items(states[:8])
        steps.append(
            trainer.step(trainer.items(TAUGHT), 0.0, rehearsal=kept, rehearsal_weight=weight)
        )
    assert steps[1].rehearsal_loss == pytest.approx(0.0, abs=1e-5)
    assert steps[1].grad_norm == pytest.approx(steps[0].grad_norm, rel=1e-4)
    assert steps[1].loss == steps[0].loss


def test_a_rehearsing_student_learns_and_keeps_what_an_unheld_one_forgets() -> None:
    states, _ = rehearsed(TableStudent(), CORRIDOR, SETTINGS, randomness=Randomness(0))
    drift = {}
    for weight in (0.0, 3.0):
        trainer = Trainer(small_policy(), SFT, seed=0)
        items, kept = trainer.items(TAUGHT), trainer.items(states)
        before = trainer.scores(kept)
        first = trainer.step(items, 0.0).loss
        for number in range(25):
            last = trainer.step(items, 5e-3, number=number, rehearsal=kept, rehearsal_weight=weight)
        assert last.loss < 0.5 * first
        gaps = [
            np.abs(softmax(now) - softmax(was)).sum()
            for now, was in zip(trainer.scores(kept), before, strict=True)
        ]
        drift[weight] = float(np.mean(gaps))
    assert drift[3.0] < 0.5 * drift[0.0]


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
