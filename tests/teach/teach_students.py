"""Students made of a hash: real distributions over any state's actions, without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cupel.teach.environments.base import (
    EnvironmentConfig,
    Snapshot,
    make_environment,
    take_snapshot,
)
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import ActionProbs, Query, tempered


@dataclass
class TableStudent:
    """Scores each action by a hash of prompt and action; counts what it is asked."""

    salt: str = ""
    temperature: float = 1.0
    sharpness: float = 3.0
    batches: list[int] = field(default_factory=list)
    asked: list[Query] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"table-{self.salt}-{self.temperature}"

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        self.batches.append(len(queries))
        self.asked.extend(queries)
        return [tempered(self.scores(query), self.temperature) for query in queries]

    def scores(self, query: Query) -> ActionProbs:
        bits = [
            hashlib.sha256(f"{self.salt}|{query.prompt}|{action}".encode()).digest()
            for action in query.actions
        ]
        units = np.array([int.from_bytes(b[:6], "big") / 2.0**48 for b in bits])
        return self.sharpness * units


def snapshots_of(
    environment: EnvironmentConfig, *, seeds: Sequence[int], walks: int, steps: int
) -> list[Snapshot]:
    """Snapshots after random steps, some of them dead ends; none where the episode is over."""
    rng = np.random.default_rng(0)
    found: dict[str, Snapshot] = {}
    for seed in seeds:
        for _ in range(walks):
            walker = make_environment(environment)
            walker.reset(seed)
            for _ in range(int(rng.integers(0, steps + 1))):
                twin = walker.copy()
                if twin.step(str(rng.choice(walker.valid_actions()))).done:
                    break
                walker = twin
            snapshot = take_snapshot(walker)
            found[snapshot.id] = snapshot
    return list(found.values())


class ExpertishStudent(TableStudent):
    """Does what the expert does with probability `weight` wherever it has learned it, and else
    what its table says: succeeds now and then also where success needs many right steps."""

    def __init__(
        self,
        environment: EnvironmentConfig,
        seeds: Sequence[int],
        *,
        weight: float = 0.6,
        states: int = 400,
    ) -> None:
        super().__init__(salt="expertish")
        self.weight = weight
        self.learned: dict[Query, str] = {}
        for seed in seeds:
            self._learn(environment, seed, states)

    def _learn(self, environment: EnvironmentConfig, seed: int, states: int) -> None:
        start = make_environment(environment)
        start.reset(seed)
        queue, met = [start], {start.key()}
        for walker in queue:
            expert = walker.expert()
            if expert is not None:
                prompt = build_prompt(walker.task(), walker.observe(), walker.valid_actions())
                self.learned[Query(prompt=prompt, actions=walker.valid_actions())] = expert
            for action in walker.valid_actions() if len(queue) < states else ():
                twin = walker.copy()
                if not twin.step(action).done and twin.key() not in met:
                    met.add(twin.key())
                    queue.append(twin)

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        answers = super().distributions(queries)
        for at, query in enumerate(queries):
            if query in self.learned:
                answers[at] = answers[at] * (1 - self.weight)
                answers[at][query.actions.index(self.learned[query])] += self.weight
        return answers
