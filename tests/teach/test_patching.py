"""Notes: what they say, what they must not say, and how long a neutral one is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.teach.environments.base import take_snapshot
from cupel.teach.environments.corridor import Corridor
from cupel.teach.labelling.patching import (
    PATCH_WORDS,
    build_notes,
    count_words,
    hint_note,
    neutral_note,
    rejected_action,
    shuffled_notes,
)
from cupel.teach.records import Hint, Moment


def moment_of_task(seed: int) -> Moment:
    corridor = Corridor()
    corridor.reset(seed)
    return Moment(
        snapshot=take_snapshot(corridor), task=corridor.task(), observation=corridor.observe(),
        valid_actions=corridor.valid_actions(), step_idx=0, trajectory_id="t", outcome="failure",
        student_action="leap", student_probs=(0.1, 0.2, 0.7), failure_type="wrong_action",
        anchor_step=0, anchor_rule="regret", offset=0, key_hash="k",
    )  # fmt: skip


def hint_for(moment: Moment) -> Hint:
    return Hint(
        snapshot_id=moment.id, teacher="expert", valid=True, suggested_action="right",
        rationale="the floor is safe there", diagnosis="you did not see the pit .",
    )  # fmt: skip


MOMENT = moment_of_task(1)
HINT = hint_for(MOMENT)


def test_each_format_says_what_it_is_for() -> None:
    notes = build_notes(MOMENT, HINT)
    assert notes["demo"] == "in a case like this do right . the floor is safe there"
    assert notes["contrast"] == "do not leap here . do right . the floor is safe there"
    assert notes["hint"] == "you did not see the pit . the floor is safe there"
    assert "right" not in notes["hint"].split()


def test_the_placebo_is_as_long_as_the_median_note() -> None:
    notes = build_notes(MOMENT, HINT)
    lengths = sorted(count_words(notes[name]) for name in ("demo", "contrast", "hint"))
    assert count_words(notes["placebo"]) == lengths[1]


@given(length=st.integers(1, 300))
def test_neutral_notes_have_the_length_asked_for_and_name_no_action(length: int) -> None:
    words = neutral_note(length).split()
    assert len(words) == length
    assert set(words) <= set(PATCH_WORDS)
    assert not {"left", "right", "leap", "buy", "search", "click"} & set(words)


def test_length_is_matched_in_the_unit_asked_for() -> None:
    assert abs(len(neutral_note(50, count=len)) - 50) <= 6


def test_an_invalid_hint_makes_no_note_at_all() -> None:
    assert build_notes(MOMENT, replace(HINT, valid=False), shuffled="anything") == {}


def test_a_student_that_was_right_is_contrasted_with_its_likeliest_other_action() -> None:
    right = replace(MOMENT, student_action="right", student_probs=(0.1, 0.6, 0.3))
    assert rejected_action(right, "right") == "leap"
    assert rejected_action(replace(right, valid_actions=("right",)), "right") is None


def test_a_state_with_one_action_has_no_contrast() -> None:
    alone = replace(MOMENT, student_action="right", valid_actions=("right",), student_probs=(1.0,))
    assert set(build_notes(alone, HINT)) == {"demo", "hint", "placebo"}


def test_a_teacher_without_reasons_gives_no_hint_note() -> None:
    bare = replace(HINT, rationale="", diagnosis="")
    assert hint_note(bare) is None
    assert "hint" not in build_notes(MOMENT, bare)


@pytest.mark.parametrize("order", [1, -1])
def test_shuffled_hints_come_from_another_task_in_any_order(order: int) -> None:
    moments = [moment_of_task(seed) for seed in range(12)][::order]
    hints = {moment.id: replace(hint_for(moment), rationale=moment.task_id) for moment in moments}
    notes = shuffled_notes(moments, hints)
    assert set(notes) == set(hints)
    for moment in moments:
        assert moment.task_id not in notes[moment.id]
    assert notes == shuffled_notes(moments[::-1], hints)


def test_hints_of_one_task_cannot_be_shuffled() -> None:
    assert shuffled_notes([MOMENT], {MOMENT.id: HINT}) == {}
