"""The symbolic teacher: the environment's own expert, asked in the restored state.

Knows experts and counted flips. Refuses to invent an action where success is out of reach: such a
moment gets an invalid hint that says so.
"""

from __future__ import annotations

import importlib
import importlib.util
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
from cupel.teach.teachers.teacher import TeacherForecast, TeacherRequest, leaks_action

_PURPOSE = "teacher_flips"


class ExpertTeacher:
    """Answers by `Environment.expert`; with a flip rate, sometimes by another valid action.

    A flip changes the action and nothing else of the hint; `usage["flipped"]` records it.
    """

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
        rationale, diagnosis, error_type = explain(moment, environment)
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


def explain(moment: Moment, environment: Environment) -> tuple[str, str, str]:
    """Return rationale, diagnosis and error type in a restored state where an expert acts.

    An environment with reasons of its own has them in a module `<its name>_expert`, as
    `rationale(environment)`, `diagnosis(environment, action)` and `error_type(environment,
    action)`, the action being the student's; the others get what the expert alone can tell. Where
    nothing is wrong with the student's action, the diagnosis is empty and the type unknown.
    """
    reasons = _reasons(environment.name)
    given = moment.student_action
    judged = given in environment.valid_actions() and given != environment.expert()
    if reasons is None:
        diagnosis = _diagnosis(environment, given) if judged else ""
        return f"this is a step on the way : {moment.task}", diagnosis, "unknown"
    diagnosis = str(reasons.diagnosis(environment, given)) if judged else ""
    kind = str(reasons.error_type(environment, given)) if diagnosis else "unknown"
    return str(reasons.rationale(environment)), diagnosis, kind


def _diagnosis(environment: Environment, action: str) -> str:
    probe = environment.copy()
    if probe.step(action).success:
        return ""
    lost = probe.expert() is None
    return "success is out of reach after that" if lost else "the expert goes another way here"


def _reasons(name: str) -> Any | None:
    module = f"cupel.teach.environments.{name}_expert"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None
