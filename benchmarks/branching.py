"""Success probabilities in the shop: rollouts a second, and exact values a second, one thread.

    python benchmarks/branching.py

The student costs next to nothing here (it looks its answers up), so that the machinery is
measured; with a language model the number of distinct queries is what counts, so it is reported
too. The student does what the expert does half of the time where it has been shown it, and
anything else alike. The clock is CPU time; the best of three rounds.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cupel.lab.randomness import Randomness
from cupel.teach.branches.branching import Branch, run_branches, uniforms_of
from cupel.teach.branches.exact import action_values
from cupel.teach.environments.base import EnvironmentConfig, Snapshot, make_environment
from cupel.teach.mining.anchors import replay
from cupel.teach.rollouts.export import snapshot_at
from cupel.teach.rollouts.recipe import ExpertActor, run_episodes
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import ActionProbs, Query

RESULTS = Path(__file__).parent / "results" / "branching.json"
ROUNDS = 3
SHOP = EnvironmentConfig(name="shop")
TASKS = 32
REPLICATES = 50
CONDITIONS = ("policy", "placebo")
UNIFORMS = uniforms_of(Randomness(0), "benchmark")


class Shown:
    """Half of the time the expert's action, where it was shown one."""

    identity = "shown"

    def __init__(self) -> None:
        self.experts: dict[Query, str] = {}
        self.asked = 0
        self._answers: dict[Query, ActionProbs] = {}

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        """Return the same arrays for the same queries."""
        self.asked += len(queries)
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> ActionProbs:
        if query in self._answers:
            return self._answers[query]
        probs = np.full(len(query.actions), 1.0 / len(query.actions))
        if query in self.experts:
            probs /= 2
            probs[query.actions.index(self.experts[query])] += 0.5
        self._answers[query] = probs
        return probs


def states_of(student: Shown) -> list[Snapshot]:
    """Show the student what noisy experts pass through; return some of those states."""
    environment = make_environment(SHOP)
    found: dict[str, Snapshot] = {}
    for episode in run_episodes(
        SHOP, ExpertActor(flip_rate=0.5), range(TASKS), uniforms=UNIFORMS, replicates=8
    ):
        for number, here in enumerate(replay(episode, environment)[:-1]):
            expert = here.expert()
            if expert is not None:
                prompt = build_prompt(here.task(), here.observe(), here.valid_actions())
                student.experts[Query(prompt=prompt, actions=here.valid_actions())] = expert
            if episode.replicate == 0 and number % 2 == 0:
                snapshot = snapshot_at(episode, number)
                found[snapshot.id] = snapshot
    return list(found.values())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work returns, and the least CPU seconds it took."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        result = work()
        seconds.append(time.process_time() - began)
    return result, min(seconds)


def sampled(student: Shown, states: Sequence[Snapshot]) -> dict[str, float]:
    """Measure rollouts."""
    branches = [
        Branch(snapshot=s, condition=c, replicate=r, horizon=SHOP.max_steps - len(s.actions),
               patch="Look carefully before you act." if c == "placebo" else None)
        for s in states
        for c in CONDITIONS
        for r in range(REPLICATES)
    ]  # fmt: skip
    student.asked = 0
    results, seconds = timed(lambda: run_branches(branches, student, SHOP, uniforms=UNIFORMS))
    decisions = sum(result.n_steps for result in results)
    asked = student.asked / ROUNDS
    return {
        "branches_per_s": len(branches) / seconds,
        "decisions_per_s": decisions / seconds,
        "decisions_per_query": decisions / asked,
        "queries_per_snapshot": asked / len(states),
    }


def exact(student: Shown, states: Sequence[Snapshot], prune_mass: float) -> dict[str, float]:
    """Measure exact values of all actions."""
    roots = [(state, SHOP.max_steps - len(state.actions)) for state in states]
    student.asked = 0
    values, seconds = timed(lambda: action_values(roots, student, SHOP, prune_mass=prune_mass))
    widths = [(b := value.under(value.probs)).hi - b.lo for value in values]
    return {
        "prune_mass": prune_mass,
        "snapshots_per_s": len(states) / seconds,
        "queries_per_snapshot": student.asked / ROUNDS / len(states),
        "mean_width": float(np.mean(widths)),
        "largest_width": float(np.max(widths)),
    }


def main() -> None:
    """Measure, print and write the results."""
    student = Shown()
    states = states_of(student)
    result = {
        "benchmark": "branching",
        "command": "python benchmarks/branching.py",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "snapshots": len(states),
        "sampled": {"replicates": REPLICATES, **sampled(student, states)},
        "exact": [exact(student, states, mass) for mass in (1e-2, 1e-3, 1e-4, 1e-5)],
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
