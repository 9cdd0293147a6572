"""Probability mass spreading from a root through the states of an environment, and read back.

Knows levels (the states after t steps), who is followed, and the backward pass. Refuses to know
what the root stands for. Everything is ordered by the flow's own history, so a flow's numbers
are the same to the bit whatever other flows share its graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cupel.teach.branches.state_graph import StateGraph
from cupel.teach.rollouts.walks import PatchSteps, Scorer
from cupel.teach.students.student import Query

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_UNKNOWN, _LOST, _WON = -3, -2, -1
"""Where an edge may lead besides a state."""

_ENDS_LO = np.array([0.0, 0.0, 1.0])
_ENDS_HI = np.array([1.0, 0.0, 1.0])
"""What those ends are worth, indexed by them from the end."""


@dataclass(slots=True, kw_only=True)
class Level:
    """The states of a flow after t steps, in the order in which mass first reached them.

    Attributes:
        states_N, mass_N: which, and how likely.
        followed_N: which of them were followed; the others are worth [0, 1].
        owner_E, probs_E, next_E: the ways out of the followed ones: from which (position among
            the followed), how likely, and to which position of the next level or to which end.
    """

    states_N: IntArray
    mass_N: FloatArray
    followed_N: NDArray[np.bool_]
    owner_E: IntArray
    probs_E: FloatArray
    next_E: IntArray


@dataclass(slots=True, kw_only=True)
class Flow:
    """Mass spreading from one root.

    Attributes:
        at, horizon: the root's state, and the steps it has.
        patch, patch_steps, first_action: as in `Branch`.
        every_action: mass 1 on every action of the first step, instead of the student's choice.
        root_probs: what the student's distribution at the root was, once known.
        queries: what this root needed to know; followed: (state, step) pairs followed.
    """

    at: int
    horizon: int
    patch: str | None = None
    patch_steps: PatchSteps = "first"
    first_action: str | None = None
    every_action: bool = False
    root_probs: FloatArray = field(default_factory=lambda: np.zeros(0))
    levels: list[Level] = field(default_factory=list)
    queries: set[Query] = field(default_factory=set)
    followed: int = 0
    complete: bool = True

    def note(self) -> str | None:
        """Return the note in the prompts of the level that is next."""
        return self.patch if not self.levels or self.patch_steps == "every" else None

    def edge_values(self) -> tuple[FloatArray, FloatArray]:
        """Read values backwards; return the bounds of every action of the first step [A]."""
        lo_N, hi_N = np.zeros(0), np.zeros(0)
        lo_E, hi_E = lo_N, hi_N
        for level in reversed(self.levels):
            lo_E = _worth(level.next_E, lo_N, _ENDS_LO)
            hi_E = _worth(level.next_E, hi_N, _ENDS_HI)
            lo_N, hi_N = np.zeros(len(level.states_N)), np.ones(len(level.states_N))
            for bound_N, bound_E in ((lo_N, lo_E), (hi_N, hi_E)):
                bound_N[level.followed_N] = np.bincount(
                    level.owner_E,
                    weights=level.probs_E * bound_E,
                    minlength=int(level.followed_N.sum()),
                )
        return lo_E, hi_E


def spread(
    flows: Sequence[Flow],
    graph: StateGraph,
    scorer: Scorer,
    *,
    prune_mass: float,
    max_states: int,
) -> None:
    """Let all flows spread to their horizons, level by level."""
    fans = _Fans(graph, scorer)
    fronts = [(np.array([flow.at], dtype=np.int64), np.ones(1)) for flow in flows]
    for t in range(max((flow.horizon for flow in flows), default=0)):
        live = [number for number, flow in enumerate(flows) if t < flow.horizon]
        chosen = {
            number: _choose(flows[number], fronts[number][1], prune_mass, max_states)
            for number in live
        }
        asked = {
            number: fronts[number][0][chosen[number]].tolist()
            for number in live
            if t > 0 or flows[number].first_action is None
        }
        fans.know([(flows[number], states) for number, states in asked.items()])
        for number in live:
            last = t == flows[number].horizon - 1
            fronts[number] = _spread_one(
                flows[number], fans, *fronts[number], chosen[number], last=last
            )


def _choose(
    flow: Flow, mass_N: FloatArray, prune_mass: float, max_states: int
) -> NDArray[np.bool_]:
    """Return which states to follow: all but the lightest, the heaviest while the budget lasts."""
    chosen_N = mass_N >= prune_mass
    room = max(max_states - flow.followed, 0)
    if int(chosen_N.sum()) > room:
        flow.complete = False
        chosen_N = np.zeros(len(mass_N), dtype=np.bool_)
        chosen_N[np.argsort(-mass_N, kind="stable")[:room]] = True
    flow.followed += int(chosen_N.sum())
    return chosen_N


def _spread_one(
    flow: Flow,
    fans: _Fans,
    states_N: IntArray,
    mass_N: FloatArray,
    followed_N: NDArray[np.bool_],
    *,
    last: bool,
) -> tuple[IntArray, FloatArray]:
    """Add a level; return the states and masses of the next one."""
    ways = [fans.fan(flow, state) for state in states_N[followed_N].tolist()]
    owner_E = np.repeat(np.arange(len(ways)), [len(to) for _, to in ways])
    probs_E = np.concatenate([probs for probs, _ in ways]) if ways else np.zeros(0)
    to_E = np.concatenate([to for _, to in ways]) if ways else np.zeros(0, dtype=np.int64)
    goes_E = to_E >= 0
    next_E = to_E.copy()
    if last:
        next_E[goes_E] = _LOST  # out of steps
        goes_E = np.zeros(len(to_E), dtype=np.bool_)
    found, first, inverse = np.unique(to_E[goes_E], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    next_E[goes_E] = place[inverse]
    mass_E = mass_N[followed_N][owner_E] * probs_E
    flow.levels.append(
        Level(
            states_N=states_N,
            mass_N=mass_N,
            followed_N=followed_N,
            owner_E=owner_E,
            probs_E=probs_E,
            next_E=next_E,
        )
    )
    masses: FloatArray = np.bincount(
        next_E[goes_E], weights=mass_E[goes_E], minlength=len(order)
    ).astype(np.float64)
    return found[order].astype(np.int64), masses


def _worth(next_E: IntArray, values_N: FloatArray, ends: FloatArray) -> FloatArray:
    return np.concatenate([values_N, ends])[next_E]


class _Fans:
    """The ways out of states, each worked out once: likely actions and where they lead."""

    def __init__(self, graph: StateGraph, scorer: Scorer) -> None:
        self._graph = graph
        self._scorer = scorer
        self._known: dict[tuple[int, str | None], tuple[FloatArray, IntArray]] = {}

    def know(self, asked: Sequence[tuple[Flow, list[int]]]) -> None:
        """Ask the student, in one batch, about the states that flows are about to follow.

        A state from which success is out of reach is worth 0 whatever the student does there.
        """
        new: list[Query] = []
        for flow, numbers in asked:
            for number in numbers:
                query = self._query(number, flow.note())
                if query.actions and not self._is_lost(flow, number):
                    flow.queries.add(query)
                    new.append(query)
        self._scorer.know(new)

    def fan(self, flow: Flow, number: int) -> tuple[FloatArray, IntArray]:
        """Return probabilities and targets of the ways out of a state, [E] each."""
        opening = not flow.levels
        if opening and flow.first_action is not None:
            return np.ones(1), self._targets(number, (flow.first_action,))
        note = flow.note()
        query = self._query(number, note)
        if opening:
            flow.root_probs = self._scorer.probs(query) if query.actions else np.zeros(0)
            if flow.every_action:
                return np.ones(len(query.actions)), self._targets(number, query.actions)
        if self._is_lost(flow, number):
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        fan = self._known.get((number, note))
        if fan is None:
            fan = self._known[(number, note)] = self._fan(number, query)
        return fan

    def _fan(self, number: int, query: Query) -> tuple[FloatArray, IntArray]:
        if not query.actions:
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        probs_A = self._scorer.probs(query)
        likely = np.flatnonzero(probs_A)
        actions = [query.actions[action] for action in likely]
        return probs_A[likely], self._targets(number, actions)

    def _is_lost(self, flow: Flow, number: int) -> bool:
        """Say whether nothing is to be won; the root is asked about all the same."""
        return bool(flow.levels) and self._graph.is_lost(number, flow.horizon - len(flow.levels))

    def _query(self, number: int, note: str | None) -> Query:
        state = self._graph.states[number]
        return state.query if note is None else state.seen.query(note)

    def _targets(self, number: int, actions: Sequence[str]) -> IntArray:
        return np.array([self._target(number, action) for action in actions], dtype=np.int64)

    def _target(self, number: int, action: str) -> int:
        edge = self._graph.follow(number, action)
        if edge.problem:
            return _UNKNOWN
        if edge.done:
            return _WON if edge.success else _LOST
        return edge.to
