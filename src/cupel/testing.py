"""Checks for those who bring an environment or problems of their own: do they keep the contract?

Knows what the phases of teaching rely on: pure views that are functions of the key, refused actions
that lose nothing, independent copies, snapshots that restore exactly in any process, values that
agree with the rules; and that a grader must tell right from wrong. Refuses to judge whether a task
is worth solving.

    from cupel.testing import check_environment
    check_environment(make)         # raises ContractViolation at the first breach

`check_problems` tries a grader on the references of your problems, and on wrong answers of the same
form; `check_problem_set` opens what a config names and does so for all of it.

    from cupel.testing import check_problem_set
    check_problem_set({"source": "jsonl", "path": "mine.jsonl", "grading": "math"}).ok
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupel.config import validate
from cupel.errors import UsageError
from cupel.rlvr.graders import grader_of
from cupel.rlvr.problem_check import ProblemCheck, check_problems
from cupel.rlvr.problem_sources import read_problems
from cupel.rlvr.problems_config import ProblemsConfig
from cupel.teach.environments import contract
from cupel.teach.environments.base import Environment, Snapshot, Step, state_hash, take_snapshot
from cupel.teach.environments.contract import ContractViolation

__all__ = [
    "Contract",
    "ContractViolation",
    "ProblemCheck",
    "check_environment",
    "check_problem_set",
    "check_problems",
]


def check_problem_set(settings: Mapping[str, Any]) -> ProblemCheck:
    """Try the grader that settings name on every problem they name, held-out ones included.

    Args:
        settings: the table `[config.problems]` of a study; the source is a file or a data set.

    Raises:
        ConfigError: the settings contradict each other.
        DataError: the problems cannot be read.
        UsageError: an embedded source, which has no list of problems.
    """
    config = validate(ProblemsConfig, settings, where="check_problem_set")
    if config.source in ("arithmetic", "toy"):
        raise UsageError(
            f"check_problem_set: source '{config.source}' is generated; draw problems from it and "
            "give them to check_problems"
        )
    read = read_problems(config)
    problems = [*read.main.values(), *(read.held_out or {}).values()]
    return check_problems(problems, grader_of(config), config.grading_kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What was checked, once all of it held.

    Attributes:
        states: random states visited; `distinct`: different ones among them (by hash).
        ended, successes: those that were over, and those where the task was accomplished.
        dead_ends: states that were not over and whose exact values were all 0.
        keys, values, experts: states with a key, with exact values, and with an expert's action.
        processes: other processes, with other hash salts, that found the same states
            and the same expert.
    """

    states: int
    distinct: int
    ended: int
    successes: int
    dead_ends: int
    keys: int
    values: int
    experts: int
    processes: int


def check_environment(
    make: Callable[[], Environment],
    *,
    seeds: Sequence[int] = tuple(range(20)),
    states: int = 200,
    steps: int = 15,
    continuation: int = 5,
    processes: int = 2,
    rng: np.random.Generator | None = None,
) -> Contract:
    """Visit random states and hold the environment to its contract in each.

    Args:
        make: makes an environment; importable (a function of a module, or a partial of one) where
            `processes` > 0.
        seeds: tasks to visit, in turn.
        states: random states to visit, each reached by 0 to `steps` random actions.
        steps: longest way to a state, and largest horizon of the exact values.
        continuation: random actions after each restore that must go as in the original.
        processes: other processes to restore in, each with a hash salt of its own.
        rng: draws the ways; default: a fixed one.

    Raises:
        ContractViolation: a breach; the first that was found.
        UsageError: `make` cannot be given to another process.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    contract.check_attributes(make())
    seen: dict[Hashable, Any] = {}
    outcomes: dict[Hashable, Any] = {}
    foreign: set[str] = set()
    found: list[tuple[Snapshot, str | None]] = []
    counts = dict.fromkeys(("ended", "successes", "dead_ends", "keys", "values", "experts"), 0)
    for environment, last in _visits(make, seeds, states, steps, rng):
        contract.check_views(environment)
        contract.check_key(environment, seen)
        contract.check_refusals(environment, foreign)
        contract.check_copy(environment, outcomes, rng)
        snapshot = take_snapshot(environment)
        contract.check_restore(make, environment, snapshot, continuation, rng)
        contract.check_tampered(make, snapshot, rng)
        values = contract.check_values(environment, steps)
        foreign.update(environment.valid_actions())
        found.append((snapshot, environment.expert()))
        over = not environment.valid_actions()
        counts["ended"] += over
        counts["successes"] += last is not None and last.success
        counts["keys"] += environment.key() is not None
        counts["values"] += values is not None
        counts["experts"] += environment.expert() is not None
        counts["dead_ends"] += not over and values is not None and not any(values.values())
    for salt in range(processes):
        _check_process(make, found, salt)
    distinct = len({(snapshot.seed, snapshot.state_hash) for snapshot, _ in found})
    return Contract(states=states, distinct=distinct, processes=processes, **counts)


def _visits(
    make: Callable[[], Environment],
    seeds: Sequence[int],
    states: int,
    steps: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Environment, Step | None]]:
    environment = make()
    for number in range(states):
        seed = seeds[number % len(seeds)]
        environment.reset(seed)
        found = state_hash(environment)
        if found != state_hash(environment):
            contract.fail(environment, "looking changes what is seen: two hashes of one state")
        environment.reset(seed)
        if found != state_hash(environment) or environment.actions != ():
            contract.fail(environment, "reset does not lead to the same start again")
        last: Step | None = None
        for _ in range(int(rng.integers(steps + 1))):
            action = contract.pick(environment.valid_actions(), rng)
            if action is None:
                break
            last = contract.stepped(environment, action)
        yield environment, last


def _check_process(
    make: Callable[[], Environment], found: Sequence[tuple[Snapshot, str | None]], salt: int
) -> None:
    """Another process, with another hash salt, finds the same states and the same advice."""
    try:
        task = pickle.dumps((make, list(found)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"check_environment: `make` cannot be given to another process ({error}); give a "
            "function of a module, or functools.partial of one, or processes=0"
        ) from None
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *filter(None, sys.path)],
        input=task,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": str(salt)},
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        contract.fail(make(), f"in another process (PYTHONHASHSEED={salt}): {lines[-1]}")


_CHILD = """
import pickle, sys
sys.path[:0] = sys.argv[1:]
from cupel.teach.environments.base import restore
make, found = pickle.load(sys.stdin.buffer)
environment = make()
for snapshot, advice in found:
    restore(snapshot, environment)
    if environment.expert() != advice:
        sys.exit(f"the expert says {environment.expert()!r} instead of {advice!r}: {snapshot}")
"""
