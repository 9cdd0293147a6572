"""The symbolic teacher: the environment's own expert, asked in the restored state.

Knows experts and counted flips. Refuses to invent an action where success is out of reach: such a
moment gets an invalid hint that says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from cupel.lab.randomness import Randomness, counter_of
from cupel.teach.environments.base import (
    Environment,
    EnvironmentConfig,
    make_environment,
    restore,
)
from cupel.teach.records import Hint, Moment
from cupel.teach.teacher import TeacherForecast, TeacherRequest, leaks_action

_PURPOSE = "teacher_flips"


class ExpertTeacher:
    """Answers by `Environment.expert`; with a flip rate, sometimes by another valid action."""

    def __init__(
        self, environment: EnvironmentConfig, *, flip_rate: float = 0.0, randomness: Randomness
    ) -> None:
        self.name = f"noisy_expert({flip_rate:g})" if flip_rate else "expert"
        self._config = environment
        self._flip_rate = flip_rate
        self._randomness = randomness

    def answer(self, requests: Sequence[TeacherRequest]) -> list[Hint]:
        """Return one hint a request; a flip depends on the seed and the snapshot alone.

        Raises:
            DataError: a snapshot does not restore.
        """
        environment = make_environment(self._config)
        hints = []
        for request in requests:
            restore(request.moment.snapshot, environment)
            hints.append(self._hint(request.moment, environment))
        return hints

    def estimate(self, requests: Sequence[TeacherRequest]) -> TeacherForecast:
        """Say that nothing is called and nothing paid."""
        return TeacherForecast(requests=len(requests))

    def _hint(self, moment: Moment, environment: Environment) -> Hint:
        action = environment.expert()
        if action is None:
            return Hint(
                snapshot_id=moment.id,
                teacher=self.name,
                valid=False,
                problem="success is out of reach here: the expert knows no action",
            )
        named, flipped = self._flip(action, moment)
        rationale, diagnosis, error_type = explain(moment, environment, named)
        return Hint(
            snapshot_id=moment.id,
            teacher=self.name,
            valid=True,
            suggested_action=named,
            rationale=rationale,
            diagnosis=diagnosis,
            error_type=error_type,
            confidence="high",
            leaks_action=leaks_action(f"{rationale} {diagnosis}", named),
            usage={"flipped": float(flipped)} if self._flip_rate else {},
        )

    def _flip(self, action: str, moment: Moment) -> tuple[str, bool]:
        others = [other for other in moment.valid_actions if other != action]
        if not self._flip_rate or not others:
            return action, False
        key = (counter_of(moment.id),)
        chance, place = self._randomness.uniforms(_PURPOSE, [key], 2)[0]
        if chance >= self._flip_rate:
            return action, False
        return others[int(place * len(others))], True


def explain(moment: Moment, environment: Environment, action: str) -> tuple[str, str, str]:
    """Return rationale, diagnosis and error type for an action in a restored state.

    An environment with reasons of its own gives them by `explain(environment, action,
    student_action)` in a module `<its name>_expert`; the others get what follows from values.
    """
    reasons = _reasons(environment.name)
    if reasons is not None:
        rationale, diagnosis, error_type = reasons(environment, action, moment.student_action)
        return str(rationale), str(diagnosis), str(error_type)
    return (
        f"It is a step on the way to the task: {moment.task}.",
        _diagnosis(moment, environment, action),
        "unknown",
    )


def _diagnosis(moment: Moment, environment: Environment, action: str) -> str:
    if moment.student_action == action:
        return "This choice was right; what goes wrong comes later."
    probe = environment.copy()
    if moment.student_action in probe.valid_actions():
        probe.step(moment.student_action)
        if probe.expert() is None and probe.valid_actions():
            return "This choice puts success out of reach."
    return "This choice is not on the way to success."


def _reasons(name: str) -> Any | None:
    try:
        module = importlib.import_module(f"cupel.teach.environments.{name}_expert")
    except ModuleNotFoundError as error:
        if error.name != f"cupel.teach.environments.{name}_expert":
            raise
        return None
    return getattr(module, "explain", None)
