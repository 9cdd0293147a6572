"""Walking through an environment: many students' walks together, or one expert's alone.

Knows ticks, distributions and uniforms. Refuses to know why anybody walks: episodes and branches
are both made of walks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.teach.branches.state_graph import Seen, StateGraph, see
from cupel.teach.environments.base import Environment
from cupel.teach.records import StopReason
from cupel.teach.students.student import ActionProbs, Query, Student

PatchSteps = Literal["first", "every"]
"""first: the note stands in the prompt of the first step only, so all conditions share the
student's later distributions; every: at every step, as the seeds' system does."""

Uniforms = Callable[[Sequence[tuple[int, int, int]]], NDArray[np.float64]]
"""From keys (counter of the start, replicate, step) to one uniform in [0, 1) each."""

EXPERT_SILENT = "the expert gives no action, though success is not known to be out of reach"
"""Message of a walk whose expert had nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One step of a walk; `probs` is None where no student was asked."""

    seen: Seen
    action: str
    probs: ActionProbs | None
    reward: float


@dataclass(slots=True, kw_only=True)
class Walk:
    """A walk under way.

    Attributes:
        at: number of the state in the graph (students), unused by experts.
        counter, replicate: with the step they key the walk's uniforms.
        horizon: most steps.
        first_action, patch, patch_steps: as in `Branch`.
        stop: why it ended; None while it goes on.
        final: what was seen last, once it ended.
    """

    counter: int
    replicate: int
    horizon: int
    at: int = -1
    first_action: str | None = None
    patch: str | None = None
    patch_steps: PatchSteps = "first"
    taken: list[Taken] = field(default_factory=list)
    stop: StopReason | None = None
    message: str = ""
    final: Seen | None = None

    @property
    def success(self) -> bool | None:
        """Whether it ended in success; None where the instrument failed."""
        return None if self.stop == "error" else self.stop == "success"

    @property
    def total_reward(self) -> float:
        """Sum of the steps' rewards."""
        return float(sum(step.reward for step in self.taken))

    def note(self) -> str | None:
        """Return the note that stands in the prompt of the next step."""
        first = not self.taken
        return self.patch if first or self.patch_steps == "every" else None


class Scorer:
    """A student whose every answer is kept: equal queries are asked once."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._known: dict[Query, ActionProbs] = {}

    def know(self, queries: Iterable[Query]) -> None:
        """Ask what is not known yet of these queries, in one batch."""
        new = [query for query in dict.fromkeys(queries) if query not in self._known]
        if new:
            answers = self._student.distributions(new)
            self._known.update(zip(new, answers, strict=True))

    def probs(self, query: Query) -> ActionProbs:
        """Return the distribution of a query that is known."""
        return self._known[query]

    def __len__(self) -> int:
        """Return the number of distinct queries asked."""
        return len(self._known)


def advance(walks: Sequence[Walk], graph: StateGraph, scorer: Scorer, uniforms: Uniforms) -> None:
    """Walk all to their ends, tick by tick; each tick asks for what is new in one batch.

    Walks that have ended already are left alone.
    """
    live = [walk for walk in walks if not _over(walk, graph)]
    while live:
        asked = [walk for walk in live if walk.taken or walk.first_action is None]
        _ask(asked, graph, scorer)
        keys = [(walk.counter, walk.replicate, len(walk.taken)) for walk in asked]
        drawn = iter(uniforms(keys).tolist() if keys else ())
        for walk in live:
            state = graph.states[walk.at]
            if not walk.taken and walk.first_action is not None:
                _go(walk, graph, walk.first_action, None)
                continue
            note = walk.note()
            if note is None:
                probs, ladder = state.probs, state.ladder
            else:
                probs = scorer.probs(state.seen.query(note))
                ladder = ladder_of(probs)
            assert probs is not None
            assert ladder is not None
            _go(walk, graph, state.seen.actions[bisect_right(ladder, next(drawn))], probs)
        live = [walk for walk in live if not _over(walk, graph)]


def _ask(walks: Sequence[Walk], graph: StateGraph, scorer: Scorer) -> None:
    """Make sure that every walk's distribution is known; without a note it is kept in the state."""
    unnoted = list({walk.at: None for walk in walks if walk.note() is None})
    fresh = [number for number in unnoted if graph.states[number].probs is None]
    noted = [(walk.at, note) for walk in walks if (note := walk.note()) is not None]
    asked = [graph.states[number].seen.query(note) for number, note in dict.fromkeys(noted)]
    scorer.know([*(graph.states[number].query for number in fresh), *asked])
    for number in fresh:
        state = graph.states[number]
        state.probs = scorer.probs(state.query)
        state.ladder = ladder_of(state.probs)


def ladder_of(probs_A: ActionProbs) -> list[float]:
    """Return cumulative sums such that `bisect_right(ladder, uniform)` is `student.draw`.

    The last action of positive probability takes all that rounding leaves above it.
    """
    ladder: list[float] = probs_A.cumsum().tolist()
    last = int(np.flatnonzero(probs_A)[-1])
    return [*ladder[:last], float("inf")]


def _go(walk: Walk, graph: StateGraph, action: str, probs: ActionProbs | None) -> None:
    state = graph.states[walk.at]
    edge = graph.follow(walk.at, action)
    if edge.problem:
        walk.stop, walk.message, walk.final = "error", edge.problem, state.seen
        return
    walk.taken.append(Taken(seen=state.seen, action=action, probs=probs, reward=edge.reward))
    walk.at = edge.to
    if edge.done:
        walk.stop = "success" if edge.success else "ended"
        walk.final = graph.states[edge.to].seen


def _over(walk: Walk, graph: StateGraph) -> bool:
    """Say whether a walk has ended, ending it where nothing can be done or no step is left."""
    if walk.stop is None:
        seen = graph.states[walk.at].seen
        if not seen.actions:
            walk.stop, walk.final = "ended", seen
        elif len(walk.taken) >= walk.horizon:
            walk.stop, walk.final = "limit", seen
    return walk.stop is not None


def walk_expert(
    walk: Walk,
    environment: Environment,
    *,
    flip_rate: float = 0.0,
    uniforms: Uniforms | None = None,
) -> None:
    """Let the environment's own expert walk to the end; `environment` is used up.

    With probability `flip_rate` a step takes another valid action, all alike. Where the expert
    has nothing to say, the walk ends as "ended" if success is out of reach in the steps left, and
    as "error" if that is not so or not known: what was not measured is not a failure.

    Args:
        uniforms: needed only to flip.
    """
    try:
        _walk_expert(walk, environment, flip_rate, uniforms)
    except Exception as error:  # noqa: BLE001 - an expert breaking down is recorded
        walk.stop, walk.message = "error", f"{type(error).__name__}: {error}"


def _walk_expert(
    walk: Walk, environment: Environment, flip_rate: float, uniforms: Uniforms | None
) -> None:
    while walk.stop is None:
        seen = walk.final = see(environment)
        left = walk.horizon - len(walk.taken)
        if not seen.actions:
            walk.stop = "ended"
        elif left <= 0:
            walk.stop = "limit"
        else:
            forced = walk.first_action if not walk.taken else None
            action = environment.expert() if forced is None else forced
            if action is None:
                walk.stop, walk.message = _given_up(environment, left)
                return
            if flip_rate and forced is None:
                assert uniforms is not None
                key = (walk.counter, walk.replicate, len(walk.taken))
                action = _flipped(action, seen.actions, flip_rate, float(uniforms([key])[0]))
            step = environment.step(action)
            walk.taken.append(Taken(seen=seen, action=action, probs=None, reward=step.reward))
            if step.done:
                walk.stop = "success" if step.success else "ended"
                walk.final = see(environment)


def _given_up(environment: Environment, left: int) -> tuple[StopReason, str]:
    reach = environment.optimal_q(left)
    if reach is not None and not any(reach.values()):
        return "ended", "the expert gives no action; success is out of reach"
    return "error", EXPERT_SILENT


def _flipped(action: str, actions: Sequence[str], rate: float, uniform: float) -> str:
    """Return another action when the uniform is below the rate: the uniform says which."""
    others = [other for other in actions if other != action]
    if uniform >= rate or not others:
        return action
    return others[min(int(uniform / rate * len(others)), len(others) - 1)]
