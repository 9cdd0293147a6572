"""The states that branches pass through, each met once: what is seen there, and where steps lead.

Knows environments. Merges states by `key()` within a task; states that cannot be named are told
apart by the way to them. Refuses to know who acts, and to step an environment twice the same way.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from cupel.errors import DataError
from cupel.teach.environments.base import (
    Environment,
    EnvironmentConfig,
    Snapshot,
    make_environment,
    restore,
    state_hash,
)
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import ActionProbs, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What can be told of a state without acting; `state_hash` as in `Snapshot`."""

    task: str
    observation: str
    actions: tuple[str, ...]
    state_hash: str

    def query(self, patch: str | None = None) -> Query:
        """Return what a student is asked here."""
        prompt = build_prompt(self.task, self.observation, self.actions, patch=patch)
        return Query(prompt=prompt, actions=self.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Where one action leads; `problem` says how the environment broke down, `to` is -1 then."""

    to: int
    reward: float = 0.0
    done: bool = False
    success: bool = False
    problem: str = ""


@dataclass(slots=True, kw_only=True)
class State:
    """One state of the graph.

    Attributes:
        probs: the student's distribution here without a note, once it is known.
        ladder: cumulative sums of `probs`, for drawing.
        lost_within: most steps within which success is known to be out of reach.
        reach_within: fewest steps within which it is not known to be.
    """

    environment: Environment | None
    parent: int
    edges: dict[str, Edge] = field(default_factory=dict)
    probs: ActionProbs | None = None
    ladder: list[float] | None = None
    lost_within: int = 0
    reach_within: float = float("inf")
    _seen: Seen | None = None
    _query: Query | None = None

    @property
    def seen(self) -> Seen:
        """What is seen here; looked at when first asked for, since many states never are."""
        if self._seen is None:
            assert self.environment is not None
            self._seen = see(self.environment)
        return self._seen

    @property
    def query(self) -> Query:
        """What a student without a note is asked here."""
        if self._query is None:
            self._query = self.seen.query()
        return self._query


def see(environment: Environment) -> Seen:
    """Return what can be told of the state an environment is in."""
    return Seen(
        task=environment.task(),
        observation=environment.observe(),
        actions=environment.valid_actions(),
        state_hash=state_hash(environment),
    )


class StateGraph:
    """Grows as its edges are followed.

    Attributes:
        states: by number.
        named: whether the environment names its states; None before the first one.
    """

    def __init__(self, environment: EnvironmentConfig) -> None:
        self.states: list[State] = []
        self.named: bool | None = None
        self._config = environment
        self._numbers: dict[Hashable, int] = {}
        self._origins: dict[int | Snapshot, tuple[int, Environment]] = {}
        self._spare: Environment | None = None

    def origin(self, start: int | Snapshot) -> int:
        """Return the state of a task's start or of a snapshot, restored and verified once.

        Raises:
            ConfigError, DataError: the snapshot cannot be restored.
        """
        return self._origin(start)[0]

    def environment(self, start: int | Snapshot) -> Environment:
        """Return a new environment at a start that came there by the start's own way.

        Raises:
            as `origin`.
        """
        return self._origin(start)[1].copy()

    def follow(self, number: int, action: str) -> Edge:
        """Return where a valid action leads, stepping the environment the first time."""
        state = self.states[number]
        edge = state.edges.get(action)
        if edge is None:
            edge = state.edges[action] = self._step(number, action)
        return edge

    def is_lost(self, number: int, left: int) -> bool:
        """Say whether success is known to be out of reach in the steps left."""
        state = self.states[number]
        if state.lost_within < left < state.reach_within and state.environment is not None:
            reach = state.environment.optimal_q(left)
            if reach is None or any(reach.values()):
                state.reach_within = left
            else:
                state.lost_within = left
        return left <= state.lost_within

    def _origin(self, start: int | Snapshot) -> tuple[int, Environment]:
        found = self._origins.get(start)
        if found is None:
            if self._spare is None:
                self._spare = make_environment(self._config)
            if isinstance(start, int):
                self._spare.reset(start)
            else:
                restore(start, self._spare)
            environment = self._spare.copy()
            found = self._origins[start] = (self._number(environment, parent=-1), environment)
        return found

    def _number(self, environment: Environment, *, parent: int) -> int:
        """Return the number of the state an environment is in, keeping the environment if new."""
        key = environment.key()
        self.named = key is not None
        name = (environment.seed, environment.actions if key is None else key)
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.states)
            self.states.append(State(environment=environment, parent=parent))
        return number

    def _step(self, number: int, action: str) -> Edge:
        environment = self._at(number)
        try:
            step = environment.step(action)
            to = self._number(environment, parent=number)
        except Exception as error:  # noqa: BLE001 - an environment breaking down is recorded
            return Edge(to=-1, problem=f"{type(error).__name__}: {error}")
        return Edge(to=to, reward=step.reward, done=step.done, success=step.success)

    def _at(self, number: int) -> Environment:
        """Return an environment in a state, to be stepped.

        Copies may be dear and unnamed states are rarely left twice, so theirs is given away, and
        made again from the nearest one kept if another way on is wanted after all.
        """
        state = self.states[number]
        if state.environment is None:
            at, way = number, []
            while self.states[at].environment is None:
                parent = self.states[at].parent
                way.append(next(a for a, e in self.states[parent].edges.items() if e.to == at))
                at = parent
            kept = self.states[at].environment
            assert kept is not None
            environment = kept.copy()
            for action in reversed(way):
                environment.step(action)
            return environment
        if self.named or state.parent < 0:
            return state.environment.copy()
        _ = state.seen
        environment, state.environment = state.environment, None
        return environment


def check_action(seen: Seen, action: str, where: str) -> None:
    """Refuse an action that is not valid in a state.

    Raises:
        DataError: names the action and the valid ones.
    """
    if action not in seen.actions:
        raise DataError(
            f"{where}: action '{action}' is not valid there; valid: "
            f"{', '.join(seen.actions) or 'none, the episode is over'}"
        )
