"""Branches, exact values and rollouts of a real language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupel.lab.randomness import Randomness
from cupel.lab.store import read_jsonl
from cupel.policy.distribution_cache import DistributionCache
from cupel.teach.branches.branching import Branch, run_branches, uniforms_of
from cupel.teach.branches.exact import Root, action_values, success_bounds
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.students.language import LanguageStudent
from cupel.teach.students.student import StudentConfig
from tests.teach.phase_runs import run_phase
from tests.teach.small_language import small_model, small_policy
from tests.teach.teach_students import snapshots_of

CORRIDOR = EnvironmentConfig(name="corridor")
UNIFORMS = uniforms_of(Randomness(5), "labels")
SNAPSHOTS = snapshots_of(CORRIDOR, seeds=range(3), walks=3, steps=2)


@pytest.fixture
def student() -> LanguageStudent:
    return LanguageStudent(
        small_policy(), StudentConfig(backend="torch", model="small"), DistributionCache(None)
    )


def test_together_equals_one_by_one_to_the_bit(student: LanguageStudent) -> None:
    branches = [
        Branch(snapshot=s, condition=c, replicate=r, horizon=6, patch=p)
        for s in SNAPSHOTS
        for c, p in (("policy", None), ("hint", "the floor is weak"))
        for r in range(4)
    ]
    together = run_branches(branches, student, CORRIDOR, uniforms=UNIFORMS)
    scored = student.counters.scored
    assert scored < sum(result.n_steps for result in together) / 2
    fresh = [
        run_branches(
            [branch],
            LanguageStudent(
                small_policy(),
                StudentConfig(backend="torch", model="small"),
                DistributionCache(None),
            ),
            CORRIDOR,
            uniforms=UNIFORMS,
        )[0]
        for branch in branches[::5]
    ]
    assert fresh == together[::5]


def test_exact_values_share_their_prompts_over_conditions(student: LanguageStudent) -> None:
    (values,) = action_values([(SNAPSHOTS[0], 6)], student, CORRIDOR, prune_mass=0.0)
    scored = student.counters.scored
    plain, forced = success_bounds(
        [
            Root(snapshot=SNAPSHOTS[0], horizon=6),
            Root(snapshot=SNAPSHOTS[0], horizon=6, first_action=values.actions[0]),
        ],
        student,
        CORRIDOR,
        prune_mass=0.0,
    )
    assert student.counters.scored == scored
    assert plain.value == pytest.approx(values.under(values.probs).value, abs=1e-12)
    assert forced.value == pytest.approx(values.of(values.actions[0]).value, abs=1e-12)
    assert 0 < plain.value < 1


def test_rollouts_of_a_model_folder_are_those_of_its_own_distributions(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    settings = {
        "environment": {"name": "corridor", "max_steps": 6},
        "student": {"backend": "torch", "model": str(model)},
        "n_tasks": 12,
    }
    for name, block in (("one", 1), ("all", 64)):
        run_phase(tmp_path / name, "teach.rollouts", {**settings, "block": block})
    one, other = (read_jsonl(tmp_path / name / "episodes.jsonl") for name in ("one", "all"))
    assert one == other
    assert all(step["probs"] for row in one for step in row["steps"])
