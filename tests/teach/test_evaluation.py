"""One student on tasks and failure states: the engine beneath every table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cupel.lab.randomness import Randomness
from cupel.teach.environments import corridor
from cupel.teach.environments.base import Step
from cupel.teach.evaluation.judging import (
    EvaluationSettings,
    Panel,
    at_temperature,
    evaluate_model,
    retention_pass,
    summary,
)
from cupel.teach.evaluation.panel import build_panel, evaluation_tasks
from cupel.teach.students.student import ActionProbs, Query, UniformStudent
from tests.teach.evaluation_rows import CORRIDOR, labelled, some_labels
from tests.teach.teach_students import TableStudent

SETTINGS = EvaluationSettings(environment=CORRIDOR, n_tasks=12, n_snapshots_per_quadrant=3)
TASKS = evaluation_tasks(CORRIDOR, 12)
PANEL = build_panel(some_labels("panel", 3), 3)
NOBODY = Panel(moments=(), counts={}, asked=0)


@dataclass
class Walker:
    """Takes `right` with probability `p`, the other moves alike."""

    p: float
    identity: str = "walker"

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        found = []
        for query in queries:
            n = len(query.actions)
            if "right" not in query.actions:
                found.append(np.full(n, 1 / n))
                continue
            probs = np.full(n, (1 - self.p) / (n - 1))
            probs[query.actions.index("right")] = self.p
            found.append(probs)
        return found


def test_rows_stand_in_the_order_of_tasks_then_panel() -> None:
    rows = evaluate_model(
        Walker(0.9), SETTINGS, tasks=TASKS, panel=PANEL, randomness=Randomness(1), model="M"
    )
    assert [row.dataset for row in rows] == ["tasks"] * 12 + ["snapshots"] * 12
    assert [row.snapshot_id for row in rows[12:]] == [each.id for each in PANEL.moments]
    assert {row.model for row in rows} == {"M"}
    assert {row.success for row in rows} == {True}, "always right reaches the goal"


def test_greedy_episodes_need_no_randomness() -> None:
    def rows_of(seed: int) -> object:
        return evaluate_model(
            TableStudent("a"),
            SETTINGS,
            tasks=TASKS,
            panel=PANEL,
            randomness=Randomness(seed),
            model="M",
        )

    assert rows_of(1) == rows_of(2)


def test_a_model_is_judged_alike_alone_and_on_more_tasks() -> None:
    def rows_of(tasks: Sequence[int], panel: Panel) -> list[object]:
        return list(
            evaluate_model(
                TableStudent("a"),
                replace_probability("sampled"),
                tasks=tasks,
                panel=panel,
                randomness=Randomness(3),
                model="M",
            )
        )

    assert rows_of(TASKS, PANEL)[:5] == rows_of(TASKS[:5], NOBODY)


def replace_probability(mode: str) -> EvaluationSettings:
    return SETTINGS.model_validate(SETTINGS.model_dump() | {"probability": mode})


def test_exact_probability_lies_where_rollouts_say() -> None:
    """Bounds of every start against the rates of 400 rollouts, all starts together."""
    exact = evaluate_model(
        Walker(0.6), SETTINGS, tasks=TASKS, panel=PANEL, randomness=Randomness(1), model="M"
    )
    sampled = evaluate_model(
        Walker(0.6),
        SETTINGS.model_validate(
            SETTINGS.model_dump() | {"probability": "sampled", "probability_rollouts": 400}
        ),
        tasks=TASKS,
        panel=PANEL,
        randomness=Randomness(1),
        model="M",
    )
    gaps = [
        (a.success_probability or 0) - (b.success_probability or 0)
        for a, b in zip(exact, sampled, strict=True)
    ]
    assert all(row.probability_hi - row.probability_lo < 0.05 for row in exact)  # type: ignore[operator]
    assert max(abs(gap) for gap in gaps) < 4 * 0.5 / 20
    assert abs(float(np.mean(gaps))) < 0.03


def test_wide_bounds_are_missing_and_not_their_middle() -> None:
    settings = SETTINGS.model_validate(SETTINGS.model_dump() | {"max_states": 2})
    rows = evaluate_model(
        Walker(0.5), settings, tasks=TASKS, panel=NOBODY, randomness=Randomness(1), model="M"
    )
    assert any(row.success_probability is None for row in rows)
    assert all(row.probability_lo is not None for row in rows)


def test_first_action_is_held_to_what_keeps_success_in_reach() -> None:
    """In the pit nothing is right; one cell from the goal `right` is."""
    near = labelled(3, ("right",) * 5, "Q1_highU_highL")
    pit = labelled(3, ("leap",), "Q2_highU_lowL")
    assert pit.moment.observation == "pit"
    panel = Panel(moments=(near, pit), counts={}, asked=1)
    rows = evaluate_model(
        Walker(0.9), SETTINGS, tasks=(), panel=panel, randomness=Randomness(1), model="M"
    )
    assert [row.first_action_correct for row in rows] == [True, None]
    assert rows[0].expert_probability == pytest.approx(0.9, abs=0.9)
    assert rows[1].expert_probability is None
    assert (rows[1].success, rows[1].wasted_rate) == (False, 1.0)


def test_snapshots_have_the_steps_that_were_left_unless_asked_otherwise() -> None:
    late = labelled(3, ("right", "left") * 3, "Q1_highU_highL")
    panel = Panel(moments=(late,), counts={}, asked=1)

    def success(horizon: str) -> bool | None:
        settings = SETTINGS.model_validate(SETTINGS.model_dump() | {"horizon": horizon})
        return evaluate_model(
            Walker(0.9), settings, tasks=(), panel=panel, randomness=Randomness(1), model="M"
        )[0].success

    assert success("remaining") is False
    assert success("fresh") is True


def test_hot_and_cold_students() -> None:
    query = Query(prompt="x", actions=("left", "right", "leap"))
    assert at_temperature(Walker(0.6), 0).distributions([query])[0].tolist() == [0.0, 1.0, 0.0]
    hot = at_temperature(Walker(0.6), 1e9).distributions([query])[0]
    assert hot.tolist() == pytest.approx([1 / 3] * 3)
    student = Walker(0.6)
    assert at_temperature(student, 1) is student


def test_certainty_survives_tempering() -> None:
    query = Query(prompt="x", actions=("left", "right"))
    assert at_temperature(Walker(1.0), 0.5).distributions([query])[0].tolist() == [0.0, 1.0]


def test_the_retention_pass_is_independent_of_what_is_scored() -> None:
    """BASE is not at 1.0 on its own retention set unless it is always right."""
    tasks = evaluation_tasks(CORRIDOR, 150)
    hot = SETTINGS.model_validate(
        SETTINGS.model_dump() | {"temperature": 1.0, "probability": "none"}
    )
    passed = retention_pass(UniformStudent(), hot, tasks=tasks, randomness=Randomness(5))
    rows = evaluate_model(
        UniformStudent(), hot, tasks=tasks, panel=NOBODY, randomness=Randomness(5), model="BASE"
    )
    kept = [row for row in rows if passed[row.task_id]]
    assert 20 < len(kept) < 150
    rate = np.mean([bool(row.success) for row in kept])
    assert rate < 1.0, "the scored episode is not the one that chose the task"


def test_summary_of_a_real_evaluation() -> None:
    rows = evaluate_model(
        UniformStudent(), SETTINGS, tasks=TASKS, panel=PANEL, randomness=Randomness(1), model="M"
    )
    found = summary(rows)
    assert (found["n_tasks"], found["n_snapshots"], found["n_errors"]) == (12, 12, 0)
    assert 0 < float(found["success_probability"] or 0) < 1
    assert all(replace(row, success=None).success is None for row in rows)


class Breaking(corridor.Corridor):
    """A corridor whose machinery gives way at cell 5."""

    def step(self, action: str) -> Step:
        if self.observe() == "cell 5":
            raise OSError("the game does not answer")
        return super().step(action)

    def copy(self) -> Breaking:
        twin = Breaking(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin


def test_an_environment_that_breaks_is_no_failure_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of the instrument is counted apart: success is missing, not False."""
    monkeypatch.setattr(corridor, "make", Breaking)
    rows = evaluate_model(
        Walker(0.9),
        replace_probability("none"),
        tasks=TASKS,
        panel=NOBODY,
        randomness=Randomness(1),
        model="M",
    )
    assert {row.stop_reason for row in rows} == {"error"}
    assert {row.success for row in rows} == {None}
    assert {row.total_reward for row in rows} == {None}
    assert rows[0].message == "OSError: the game does not answer"
    found = summary(rows)
    assert (found["success_rate"], found["n_tasks"], found["n_errors"]) == (None, 0, 12)
