"""Steps a second of the environments, one thread: random valid actions, `valid_actions()` included.

    python benchmarks/environments.py [corridor shop babyai textworld ...]

`branching`: many episodes of few tasks, as labels need them; `new tasks`: another task every
episode; `with text`: branching, and the prompt of every step is written. The clock is CPU time;
the best of three rounds. An environment whose package is not installed is reported as absent.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any, get_args

from cupel.errors import UsageError
from cupel.teach.environments.base import (
    Environment,
    EnvironmentConfig,
    EnvironmentName,
    make_environment,
)
from cupel.teach.students.prompts import build_prompt

RESULTS = Path(__file__).parent / "results" / "environments.json"
ROUNDS = 3
EPISODE = 15
TASKS = 8
BUDGET_S = 2.0


def steps_per_second(environment: Environment, *, with_text: bool) -> float:
    """Play random episodes of few tasks, each from a copy of its start; copies are in the time."""
    rng = random.Random(0)
    starts: list[Environment] = []
    for seed in range(TASKS):
        environment.reset(seed)
        starts.append(environment.copy())
    steps = episode = 0
    began = time.process_time()
    while time.process_time() - began < BUDGET_S:
        actor = starts[episode % TASKS].copy()
        episode += 1
        for _ in range(EPISODE):
            actions = actor.valid_actions()
            if with_text:
                build_prompt(actor.task(), actor.observe(), actions)
            steps += 1
            if actor.step(actions[int(rng.random() * len(actions))]).done:
                break
    return steps / (time.process_time() - began)


def with_resets_per_second(environment: Environment) -> float:
    """Reset to a new task and play it, over and over; the reset is in the time."""
    rng = random.Random(0)
    steps = seed = 0
    began = time.process_time()
    while time.process_time() - began < BUDGET_S:
        environment.reset(seed)
        seed += 1
        for _ in range(EPISODE):
            actions = environment.valid_actions()
            steps += 1
            if environment.step(actions[int(rng.random() * len(actions))]).done:
                break
    return steps / (time.process_time() - began)


def measure(name: EnvironmentName) -> dict[str, Any]:
    """Measure one environment, or say why it cannot be."""
    try:
        environment = make_environment(EnvironmentConfig(name=name))
    except UsageError as error:
        return {"absent": str(error)}
    rounds = range(ROUNDS)
    return {
        "branching": max(steps_per_second(environment, with_text=False) for _ in rounds),
        "new tasks": max(with_resets_per_second(environment) for _ in rounds),
        "with text": max(steps_per_second(environment, with_text=True) for _ in rounds),
    }


def main() -> None:
    """Measure, print and write the results."""
    names = sys.argv[1:] or list(get_args(EnvironmentName))
    found = {name: measure(name) for name in names}
    for name, figures in found.items():
        for what, value in figures.items():
            shown = value if isinstance(value, str) else f"{value:,.0f} steps/s"
            print(f"{name:10} {what:10} {shown}")
    known = json.loads(RESULTS.read_text())["environments"] if RESULTS.exists() else {}
    result = {
        "benchmark": "environments",
        "command": "python benchmarks/environments.py",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "episode_steps": EPISODE,
        "environments": {**known, **found},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
