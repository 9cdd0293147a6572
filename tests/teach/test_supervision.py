"""Promises: training reads what acting reads; leaked answers and dropped rows are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cupel.errors import DataError
from cupel.teach.environments.base import Snapshot
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.records import Hint, Moment
from cupel.teach.students.prompts import build_prompt
from cupel.teach.training.supervision import examples, supervise, usable


def moment(seed: int = 1, **changes: Any) -> Moment:
    snapshot = Snapshot(
        environment="corridor", level="", version="1", seed=seed, actions=("right",), state_hash="0"
    )
    values: dict[str, Any] = {
        "snapshot": snapshot,
        "task": "reach cell 6 of corridor 1",
        "observation": "cell 2",
        "valid_actions": ("left", "right", "leap"),
        "step_idx": 1,
        "trajectory_id": "t",
        "outcome": "failure",
        "student_action": "leap",
        "student_probs": (0.2, 0.3, 0.5),
        "failure_type": "wrong_action",
        "anchor_step": 1,
        "anchor_rule": "regret",
        "offset": 0,
        "key_hash": "k",
    }
    return Moment(**(values | changes))


def label(seed: int = 1, hint: dict[str, Any] | None = None, **changes: Any) -> LabelledMoment:
    made = moment(seed, **changes)
    values: dict[str, Any] = {
        "snapshot_id": made.id,
        "teacher": "expert",
        "valid": True,
        "suggested_action": "right",
        "rationale": "the floor is weak on even cells",
        "diagnosis": "you jump too soon",
    }
    return LabelledMoment(moment=made, hint=Hint(**(values | (hint or {}))))


PLAIN = build_prompt("reach cell 6 of corridor 1", "cell 2", ("left", "right", "leap"))


def test_demo_trains_on_the_very_prompt_that_acting_reads() -> None:
    (made,) = examples([label()], "demo")
    assert made.prompt == PLAIN
    assert made.completion == " right"
    assert (made.rejected, made.guided_prompt, made.answer_in_prompt) == (None, None, False)


@pytest.mark.parametrize("format", ["contrast", "hint"])
def test_a_note_is_the_only_difference_to_the_prompt_that_acting_reads(format: Any) -> None:
    (made,) = examples([label()], format)
    note = made.prompt.split("note: ")[1].split("\nstate:")[0]
    actions = ("left", "right", "leap")
    assert made.prompt == build_prompt("reach cell 6 of corridor 1", "cell 2", actions, patch=note)
    assert made.completion == " right"


def test_the_answer_in_the_prompt_is_flagged_and_its_rate_recorded() -> None:
    assert supervise([label()], "contrast").answer_in_prompt_rate == 1.0
    assert supervise([label()], "hint").answer_in_prompt_rate == 0.0
    leaking = label(2, {"rationale": "Right is the way"})
    assert supervise([label(), leaking], "hint").answer_in_prompt_rate == 0.5
    assert supervise([], "hint").answer_in_prompt_rate is None


def test_contrast_as_loss_and_hint_as_distillation_need_no_note_at_test_time() -> None:
    (contrast,) = examples([label()], "contrast", contrast_as="loss")
    assert (contrast.prompt, contrast.completion, contrast.rejected) == (PLAIN, " right", " leap")
    (hint,) = examples([label()], "hint", hint_as="distill")
    assert hint.prompt == PLAIN
    assert hint.guided_prompt is not None
    assert "too soon" in hint.guided_prompt
    assert not contrast.answer_in_prompt
    assert not hint.answer_in_prompt


def test_where_the_student_was_right_the_likeliest_other_action_is_rejected() -> None:
    right = label(student_action="right")
    (made,) = examples([right], "contrast", contrast_as="loss")
    assert made.rejected == " leap"


def test_unusable_hints_are_dropped_and_counted() -> None:
    rows = [
        label(1),
        replace(label(2), hint=None),
        label(3, {"valid": False}),
        label(4, {"suggested_action": "fly"}),
        label(5, {"diagnosis": "", "rationale": ""}),
        label(6, valid_actions=("right",), student_action="right", student_probs=(1.0,)),
    ]
    assert [row.id for row in usable(rows)] == [rows[0].id, rows[4].id, rows[5].id]
    bad = {"hint names no valid action": 1, "invalid hint": 1, "no hint": 1}
    assert supervise(rows, "demo").dropped == bad
    assert supervise(rows, "hint").dropped == bad | {"hint without words": 1}
    assert supervise(rows, "contrast").dropped == bad | {"no other action to contrast with": 1}


def test_no_example_at_all_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match="2 moments give no example \\(2 invalid hint\\)"):
        examples([label(1, {"valid": False}), label(2, {"valid": False})], "demo")


def test_other_targets_are_for_demonstrations_and_must_be_valid() -> None:
    row = label()
    assert supervise([row], "demo", targets={row.id: "left"}).examples[0].completion == " left"
    with pytest.raises(DataError, match="format demo, not hint"):
        supervise([row], "hint", targets={row.id: "left"})
    with pytest.raises(DataError, match="'fly' is not valid"):
        supervise([row], "demo", targets={row.id: "fly"})
