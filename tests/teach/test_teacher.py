"""The symbolic teachers: right where success is within reach, silent where it is not."""

from __future__ import annotations

import pytest

from cupel.errors import ConfigError, DataError
from cupel.lab.randomness import Randomness
from cupel.teach.environments.base import EnvironmentConfig, make_environment, take_snapshot
from cupel.teach.records import Hint, Moment
from cupel.teach.teachers.teacher import (
    ERROR_TYPES,
    TeacherConfig,
    TeacherRequest,
    build_teacher,
    leaks_action,
)


def moment_at(name: str, seed: int, actions: tuple[str, ...], student_action: str) -> Moment:
    environment = make_environment(EnvironmentConfig(name=name))
    environment.reset(seed)
    for action in actions:
        environment.step(action)
    return Moment(
        snapshot=take_snapshot(environment),
        task=environment.task(),
        observation=environment.observe(),
        valid_actions=environment.valid_actions(),
        step_idx=len(actions),
        trajectory_id="t",
        outcome="failure",
        student_action=student_action,
        student_probs=None,
        failure_type="wrong_action",
        anchor_step=len(actions),
        anchor_rule="regret",
        offset=0,
        key_hash="k",
    )


def ask(
    moments: list[Moment], name: str = "corridor", *, seed: int = 1, **settings: object
) -> list[Hint]:
    teacher = build_teacher(
        TeacherConfig(**settings),
        EnvironmentConfig(name=name),
        cache=None,
        randomness=Randomness(seed),
    )
    return teacher.answer([TeacherRequest(moment=moment) for moment in moments])


def test_the_expert_names_its_action_in_the_restored_state() -> None:
    (hint,) = ask([moment_at("corridor", 1, ("right",), "leap")])
    assert hint.valid
    assert hint.suggested_action == "right"
    assert hint.diagnosis == "success is out of reach after that"
    assert hint.teacher == "expert"


def test_a_dead_end_gets_no_invented_action() -> None:
    (hint,) = ask([moment_at("corridor", 1, ("right", "leap"), "wait")])
    assert not hint.valid
    assert hint.suggested_action is None
    assert "out of reach" in hint.problem


def test_the_shops_expert_gives_reasons_of_its_own() -> None:
    environment = make_environment(EnvironmentConfig(name="shop"))
    moments = []
    for seed in range(30):
        environment.reset(seed)
        given = [each for each in environment.valid_actions() if each != environment.expert()]
        moments.append(moment_at("shop", seed, (), given[0]))
    hints = ask(moments, "shop")
    assert all(hint.valid for hint in hints)
    assert all(hint.rationale for hint in hints)
    assert {hint.error_type for hint in hints} <= {*ERROR_TYPES, "unknown"}
    assert any(hint.error_type in ERROR_TYPES for hint in hints)
    assert not any(hint.leaks_action for hint in hints)


def test_the_noisy_expert_flips_at_its_rate_and_says_so() -> None:
    moments = [moment_at("corridor", seed, (), "leap") for seed in range(600)]
    right = ask(moments)
    noisy = ask(moments, kind="noisy_expert", flip_rate=0.3)
    differ = [
        one.suggested_action != two.suggested_action for one, two in zip(right, noisy, strict=True)
    ]
    assert differ == [bool(hint.usage["flipped"]) for hint in noisy]
    assert 0.24 <= sum(differ) / len(differ) <= 0.36  # 0.3 within 3 standard errors
    for moment, hint in zip(moments, noisy, strict=True):
        assert hint.suggested_action in moment.valid_actions
    assert noisy[0].teacher == "noisy_expert(0.3)"


def test_a_flip_depends_on_seed_and_snapshot_only() -> None:
    moments = [moment_at("corridor", seed, (), "leap") for seed in range(60)]
    noisy = {"kind": "noisy_expert", "flip_rate": 0.5}
    assert ask(moments, **noisy)[::-1] == ask(moments[::-1], **noisy)
    assert ask(moments, **noisy) != ask(moments, seed=2, **noisy)


def test_a_wrong_snapshot_is_refused() -> None:
    other = moment_at("corridor", 1, ("right",), "leap")
    with pytest.raises(ConfigError, match="taken in corridor"):
        ask([other], "shop")
    broken = moment_at("corridor", 1, ("right",), "leap")
    object.__setattr__(broken.snapshot, "state_hash", "0" * 32)
    with pytest.raises(DataError, match="restored to state"):
        ask([broken])


def test_offline_teachers_cost_nothing() -> None:
    teacher = build_teacher(
        TeacherConfig(), EnvironmentConfig(name="corridor"), cache=None, randomness=Randomness(1)
    )
    told = teacher.estimate([TeacherRequest(moment=moment_at("corridor", 1, (), "leap"))])
    assert (told.requests, told.calls, told.cost) == (1, 0, 0.0)


@pytest.mark.parametrize(
    ("text", "action", "leaks"),
    [
        ("then click[Buy Now]!", "click[buy-now]", True),
        ("choose size_small", "choose size small", True),
        ("buying is too early", "buy", False),
        ("anything", "", False),
        ("anything", None, False),
    ],
)
def test_leaks_are_found_by_words(text: str, action: str | None, leaks: bool) -> None:
    assert leaks_action(text, action) is leaks
