"""Labelling end to end: values by hand, one prompt, missing stays missing, killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError
from cupel.lab import RunContext
from cupel.lab.files import read_json_lines
from cupel.teach.branches.exact import Root, success_bounds
from cupel.teach.labelling.config import LabelConfig
from cupel.teach.labelling.files import LINES, LIST, write_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.plan import query_of
from cupel.teach.labelling.recipe import label
from cupel.teach.records import Hint
from cupel.teach.students.student import ActionProbs, Query, UniformStudent
from tests.teach.label_runs import (
    CORRIDOR,
    UNIFORM,
    Labelled,
    corridor_moments,
    label_context,
    label_with,
    resumed,
    run_labels,
    write_moments,
)
from tests.teach.teach_students import TableStudent

MOMENTS = corridor_moments()
DERIVED = (LINES, LIST, "labeling_metadata.json", "quadrant_thresholds_auto.json")
SAMPLED: dict[str, Any] = {"estimate": "monte_carlo"}


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moments(tmp_path_factory.mktemp("moments") / "snapshots.jsonl", MOMENTS)


@pytest.fixture(scope="module")
def exact(snapshots: Path, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    return label_with(TableStudent(), tmp_path_factory.mktemp("exact"), snapshots)


@pytest.fixture(scope="module")
def sampled(snapshots: Path, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    return label_with(TableStudent(), tmp_path_factory.mktemp("sampled"), snapshots, **SAMPLED)


def test_values_by_hand_near_the_goal(tmp_path: Path) -> None:
    # cell 5 of an even corridor, one step left: right and leap both win, left loses
    moment = next(
        m for m in corridor_moments(range(0, 60, 2), walks=8, steps=6)
        if m.observation == "cell 5" and m.step_idx == 3
    )  # fmt: skip
    path = write_moments(tmp_path / "m.jsonl", [moment])
    changes = {"environment": {"name": "corridor", "max_steps": 4}}
    found = label_with(UniformStudent(), tmp_path / "out", path, **changes)
    leverage = found.rows[0].leverage
    assert leverage is not None
    assert leverage.p_policy.value == pytest.approx(2 / 3)
    assert (leverage.p_force.value, leverage.p_expert.value) == (1.0, 1.0)
    assert leverage.L_local.value == pytest.approx(1 / 3)
    assert leverage.p_policy.n is None


def test_the_horizon_is_what_the_episode_had_left(tmp_path: Path) -> None:
    moment = next(m for m in MOMENTS if m.step_idx == 2 and m.observation.startswith("cell"))
    path = write_moments(tmp_path / "m.jsonl", [moment])
    for horizon, steps in (("remaining", 6), ("fresh", 8)):
        found = label_with(UniformStudent(), tmp_path / horizon, path, horizon=horizon)
        assert {row["horizon"] for row in found.outcomes} == {steps}
    with pytest.raises(DataError, match="step 2 of 2: no step is left"):
        label_with(
            UniformStudent(), tmp_path / "none", path,
            environment={"name": "corridor", "max_steps": 2},
        )  # fmt: skip


def test_uncertainty_is_of_the_prompt_that_is_acted_by(snapshots: Path, tmp_path: Path) -> None:
    student = TableStudent()
    found = label_with(student, tmp_path, snapshots, **SAMPLED)
    for row in found.rows:
        query = query_of(row.moment)
        assert f"task: {row.moment.task}\n" in query.prompt
        assert student.asked.count(query) >= 2  # once for U, and in acting
    assert all(f"task: {MOMENTS[0].task[:12]}" in query.prompt for query in student.asked)


def test_every_valid_action_and_the_whole_state_stand_in_every_prompt(
    snapshots: Path, tmp_path: Path
) -> None:
    student = TableStudent()
    label_with(student, tmp_path, snapshots, patch_steps="every")
    noted = [query for query in student.asked if "\nnote: " in query.prompt]
    assert noted
    for query in student.asked:
        assert f"\nactions: {' ; '.join(query.actions)}\naction:" in query.prompt
        assert "\nstate: cell" in query.prompt or "\nstate: pit" in query.prompt


def test_notes_stand_at_the_first_step_only_unless_asked_for(
    snapshots: Path, tmp_path: Path
) -> None:
    first, every = TableStudent(), TableStudent()
    label_with(first, tmp_path / "first", snapshots, **SAMPLED)
    label_with(every, tmp_path / "every", snapshots, patch_steps="every", **SAMPLED)
    starts = {moment.observation for moment in MOMENTS}
    noted = {q.prompt for q in first.asked if "note:" in q.prompt}
    more = {q.prompt for q in every.asked if "note:" in q.prompt}
    assert noted < more
    assert all(any(f"state: {at}\n" in prompt for at in starts) for prompt in noted)


def test_exact_and_sampled_labels_agree(exact: Labelled, snapshots: Path, tmp_path: Path) -> None:
    rollouts = {"policy": 48, "force": 48, "patch": 48}
    both = label_with(TableStudent(), tmp_path, snapshots, estimate="both", rollouts=rollouts)
    told = both.metadata["exact_against_rollouts"]
    assert told["conditions"] > 200
    assert told["within_3"] > 0.98
    assert [row.leverage for row in both.rows] == [row.leverage for row in exact.rows]
    assert exact.metadata["exact_against_rollouts"] is None


def test_documented_counts_are_what_is_run(sampled: Labelled) -> None:
    hinted = {row.id for row in sampled.rows if row.hint is not None and row.hint.valid}
    counts = {
        row["condition"]: len(row["success"])
        for row in sampled.outcomes
        if row["snapshot_id"] in hinted
    }
    assert counts == {
        "policy": 7, "force": 7, "expert": 2, "placebo": 2, "shuffled": 2, "demo": 2,
        "contrast": 2, "hint": 2,
    }  # fmt: skip
    assert sampled.values["episodes"] == len(hinted) * 26
    assert sampled.values["stop"] == "no_budget_given"


def test_conditions_share_random_numbers(snapshots: Path, tmp_path: Path) -> None:
    # a student that does not read notes does the same under every note, rollout by rollout
    found = label_with(UniformStudent(), tmp_path, snapshots, rollouts={"patch": 7}, **SAMPLED)
    by_moment: dict[str, dict[str, Any]] = {}
    for row in found.outcomes:
        by_moment.setdefault(row["snapshot_id"], {})[row["condition"]] = row["success"]
    assert len(by_moment) == len(MOMENTS)
    for outcomes in by_moment.values():
        for name in ("placebo", "demo", "hint"):
            assert outcomes.get(name, outcomes["policy"]) == outcomes["policy"]
    assert found.gate("placebo")["figure"] == 0.0


def test_a_proven_dead_end_has_leverage_zero_and_no_note(exact: Labelled) -> None:
    pits = [row for row in exact.rows if row.moment.observation == "pit"]
    assert pits
    for row in pits:
        assert row.hint is not None
        assert not row.hint.valid
        assert row.leverage is not None
        assert (row.leverage.L_local.value, row.leverage.p_expert.value) == (0.0, 0.0)
        assert row.patch_test is None
    assert exact.values["hints_invalid"] == len(pits)


def test_an_invalid_hint_is_marked_and_replaced_by_nothing(tmp_path: Path) -> None:
    moment = next(m for m in MOMENTS if m.observation == "cell 1")
    bad = Hint(snapshot_id=moment.id, teacher="t", valid=False, problem="not one of the actions")
    good = replace(bad, valid=True, suggested_action="right", rationale="it is near", problem="")
    other = next(m for m in MOMENTS if m.task_id != moment.task_id and m.observation == "cell 1")
    rows = [
        LabelledMoment(moment=moment, hint=bad),
        LabelledMoment(moment=other, hint=replace(good, snapshot_id=other.id)),
    ]
    write_labels(tmp_path, rows)
    stages = ["uncertainty", "leverage", "patch"]
    found = label_with(UniformStudent(), tmp_path / "out", tmp_path / LINES, stages=stages)
    first, second = found.rows
    assert first.hint == bad
    assert (first.leverage, first.patch_test) == (None, None)
    assert first.U is not None
    assert first.quadrant == "UNASSIGNED"
    assert second.leverage is not None
    assert found.values["hints_invalid"] == 1
    assert {row["snapshot_id"] for row in found.outcomes} == {other.id}


def test_the_teachers_action_is_forced_once_and_then_the_student_acts(
    exact: Labelled, sampled: Labelled
) -> None:
    hinted = [row for row in exact.rows if row.hint is not None and row.hint.valid]
    roots = [
        Root(
            snapshot=row.moment.snapshot,
            horizon=8 - row.moment.step_idx,
            first_action=row.hint.suggested_action if row.hint else None,
        )
        for row in hinted
    ]
    bounds = success_bounds(roots, TableStudent(), CORRIDOR)
    for row, bound in zip(hinted, bounds, strict=True):
        assert row.leverage is not None
        assert row.leverage.p_force.value == pytest.approx(bound.value)
    assert sampled.gate("leverage_order")["passed"] is True


def test_missing_stages_leave_missing_labels(snapshots: Path, tmp_path: Path) -> None:
    found = run_labels(tmp_path / "out", snapshots, stages=["hints", "uncertainty"])
    for row in found.rows:
        assert row.U is not None
        assert (row.leverage, row.patch_test, row.depth) == (None, None, None)
        assert row.quadrant == "UNASSIGNED"
    assert found.outcomes == []
    assert found.values["mean_L_local"] is None
    assert "nothing to fit on" in found.metadata["quadrants"]["problem"]


def test_leverage_without_hints_is_refused(snapshots: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"need hints and .* has none"):
        label_with(UniformStudent(), tmp_path, snapshots, stages=["leverage"])


def test_stages_one_by_one_are_the_stages_together(
    exact: Labelled, snapshots: Path, tmp_path: Path
) -> None:
    source = snapshots
    for stage in ("hints", "uncertainty", "leverage", "patch", "depth"):
        found = label_with(TableStudent(), tmp_path / stage, source, stages=[stage])
        source = tmp_path / stage / LINES
    assert found.rows == exact.rows


def test_thresholds_come_from_all_rows_however_few_are_new(
    exact: Labelled, snapshots: Path, tmp_path: Path
) -> None:
    # leverage measured again for rows that have everything: cuts are those of the whole file
    again = label_with(TableStudent(), tmp_path, exact.folder / LINES, stages=["leverage"])
    assert again.metadata["quadrants"]["thresholds"] == exact.metadata["quadrants"]["thresholds"]
    assert [row.quadrant for row in again.rows] == [row.quadrant for row in exact.rows]
    assert exact.metadata["quadrants"]["thresholds"]["fitted_on"] == "train"


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_labels_do_not_depend_on_the_blocks(
    sampled: Labelled, snapshots: Path, tmp_path: Path, block: int
) -> None:
    found = label_with(TableStudent(), tmp_path, snapshots, block=block, **SAMPLED)
    assert (found.folder / LINES).read_bytes() == (sampled.folder / LINES).read_bytes()
    assert found.outcomes == sampled.outcomes


def test_labels_do_not_depend_on_the_company(
    sampled: Labelled, snapshots: Path, tmp_path: Path
) -> None:
    few = write_moments(tmp_path / "few.jsonl", MOMENTS[5:9])
    found = label_with(TableStudent(), tmp_path / "out", few, **SAMPLED)
    kept = {row.id: row for row in sampled.rows}
    for row in found.rows:
        assert row.leverage == kept[row.id].leverage
        assert row.U == kept[row.id].U


class Killed(Exception):
    """Stands for a kill."""


class MortalStudent(TableStudent):
    """Dies when it was asked often enough."""

    lives = 10**9

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        return super().distributions(queries)


def killed_and_resumed(config: LabelConfig, folder: Path, *, lives: int) -> int:
    """Label with one death after `lives` calls a life, from checkpoint to checkpoint."""
    folder.mkdir()
    context: RunContext = label_context(folder, seed=3)
    deaths = 0
    while True:
        student = MortalStudent()
        student.lives = lives + 2 * deaths
        try:
            with context.recorder:
                label(config, context, student)
        except Killed:
            deaths += 1
            fresh = context.checkpoints.latest() is None
            context = label_context(folder, seed=3) if fresh else resumed(context)
            continue
        return deaths


@pytest.mark.parametrize("estimate", ["exact", "monte_carlo"])
def test_killed_and_resumed_is_byte_for_byte_unbroken(
    snapshots: Path, tmp_path: Path, estimate: str
) -> None:
    passed = {
        **UNIFORM, "snapshots": str(snapshots), "estimate": estimate, "block": 8,
        "allocation": {"budget": 2500},
    }  # fmt: skip
    config = validate(LabelConfig, passed, where="here")
    (tmp_path / "whole").mkdir()
    unbroken = label_context(tmp_path / "whole", seed=3)
    with unbroken.recorder:
        label(config, unbroken, TableStudent())
    deaths = killed_and_resumed(config, tmp_path / "broken", lives=8)
    assert deaths >= 3
    for name in (*DERIVED, "outcomes.jsonl", "hints.jsonl", "distributions.jsonl", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_a_budget_goes_to_the_undecided_and_its_end_is_named(
    snapshots: Path, tmp_path: Path
) -> None:
    found = label_with(
        TableStudent(), tmp_path, snapshots, allocation={"budget": 3000, "batch": 8}, **SAMPLED
    )
    assert 2000 < found.values["episodes"] <= 3000
    assert found.values["stop"] == "budget_spent"
    assert found.values["rounds"] >= 1
    counts = {}
    for row in found.outcomes:
        if row["condition"] == "force" and row["mode"] == "monte_carlo":
            counts[row["snapshot_id"]] = counts.get(row["snapshot_id"], 0) + len(row["success"])
    assert min(counts.values()) == 7
    assert max(counts.values()) > 20
    events = read_json_lines(tmp_path / "events.jsonl")
    assert any("budget_spent" in event["message"] for event in events)


def test_a_budget_that_ends_early_leaves_the_rest_unlabelled_and_counted(
    snapshots: Path, tmp_path: Path
) -> None:
    found = label_with(
        TableStudent(), tmp_path, snapshots, allocation={"budget": 26 * 10}, **SAMPLED
    )
    assert found.values["episodes"] <= 260
    assert found.values["without_budget"] > 0
    bare = [row for row in found.rows if row.leverage is None]
    assert len(bare) == found.values["without_budget"]
    assert all(row.U is not None and row.quadrant == "UNASSIGNED" for row in bare)


def test_a_greedy_student_is_told_and_not_classed(snapshots: Path, tmp_path: Path) -> None:
    found = label_with(TableStudent(temperature=0.0), tmp_path, snapshots)
    assert all(row.U == 0.0 for row in found.rows)
    assert {row.quadrant for row in found.rows} == {"UNASSIGNED"}
    assert "median of U is 0" in found.metadata["quadrants"]["problem"]
    assert found.gate("warm_start")["passed"] is False
    assert not (tmp_path / "quadrant_thresholds_auto.json").exists()


def test_rows_say_their_split_and_what_is_held_out(exact: Labelled) -> None:
    rows = [json.loads(line) for line in (exact.folder / LINES).read_text().splitlines()]
    assert {row["split"] for row in rows} > {"train"}
    for row in rows:
        assert row["held_out"] == (row["split"] != "train")


def test_a_model_may_be_the_expert(snapshots: Path, tmp_path: Path) -> None:
    for estimate in ("exact", "monte_carlo"):
        found = label_with(
            TableStudent(), tmp_path / estimate, snapshots, estimate=estimate,
            expert={"backend": "uniform"}, stages=["hints", "leverage"],
        )  # fmt: skip
        rows = [row for row in found.rows if row.leverage is not None]
        assert any(0 < row.leverage.p_expert.value < 1 for row in rows if row.leverage)
        experts = {row["student"] for row in found.outcomes if row["condition"] == "expert"}
        assert experts == {"uniform"}
