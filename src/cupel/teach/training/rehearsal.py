"""What a student is to keep doing while it is corrected: its own way in what it already solves.

Knows that corrections are a biased lesson: taken from failures, they hardly ever contain the last
step of a success, and a small model taught nothing else unlearns it within tens of updates. So
the student's own distribution is held fast on states of its own successful episodes on training
tasks. Refuses to teach anything by it: at the start this loss and its gradient are 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, islice
from typing import Annotated

from pydantic import Field

from cupel.config import Config
from cupel.lab.randomness import Randomness
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.environments.base import EnvironmentConfig, task_id
from cupel.teach.records import Episode
from cupel.teach.rollouts.recipe import run_episodes
from cupel.teach.splits import split_of
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Student
from cupel.teach.training.supervision import Example

PURPOSE = "rehearsal"


class RehearsalSettings(Config):
    """How a student is held to what it already solves."""

    weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of KL(start || now) on rehearsed states beside the supervised loss; 0: none, as
    documented."""
    tasks: Annotated[int, Field(ge=1)] = 64
    """Training tasks that the student acts on before it is trained."""
    replicates: Annotated[int, Field(ge=1)] = 4
    """Episodes of each."""


def rehearsed(
    student: Student,
    environment: EnvironmentConfig,
    settings: RehearsalSettings,
    *,
    randomness: Randomness,
) -> tuple[list[Example], int]:
    """Return one example a distinct state of the student's successful episodes, and how many
    episodes succeeded; states with one action have nothing to keep."""
    names = ((seed, task_id(environment.name, environment.level, seed)) for seed in count())
    seeds = [seed for seed, name in islice(_training(names), settings.tasks)]
    episodes = run_episodes(
        environment,
        student,
        seeds,
        uniforms=uniforms_of(randomness, PURPOSE),
        replicates=settings.replicates,
        keep_probs=False,
    )
    solved = [episode for episode in episodes if episode.success]
    found: dict[str, Example] = {}
    for episode in solved:
        for example in _states(episode):
            found.setdefault(example.prompt, example)
    return list(found.values()), len(solved)


def _training(names: Iterable[tuple[int, str]]) -> Iterable[tuple[int, str]]:
    return ((seed, name) for seed, name in names if split_of(name) == "train")


def _states(episode: Episode) -> Iterable[Example]:
    for step in episode.steps:
        if len(step.valid_actions) > 1:
            prompt = build_prompt(episode.task, step.observation, step.valid_actions)
            yield Example(
                prompt=prompt,
                completion="",
                guided_prompt=prompt,
                actions=step.valid_actions,
                task_id=episode.task_id,
            )
