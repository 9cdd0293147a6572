"""The single promises of an environment, each with the check that finds it broken.

Knows what to look for in one state. Refuses to choose the states; `cupel.testing` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from cupel.errors import CupelError, DataError, UsageError
from cupel.teach.environments.base import (
    Environment,
    Snapshot,
    Step,
    restore,
    state_hash,
)

NO_ACTION = "no such action, for certain"


class ContractViolation(CupelError, AssertionError):
    """An environment does not keep its contract; the message says where and what was found."""


def stepped(environment: Environment, action: str) -> Step:
    """Take a valid action and check what it says and records."""
    before = environment.actions
    try:
        brought = environment.step(action)
    except DataError as error:
        fail(environment, f"the valid action '{action}' is refused: {error}")
    if environment.actions != (*before, action):
        fail(environment, f"`actions` does not end in '{action}' after it was taken")
    if brought.success and not brought.done:
        fail(environment, f"action '{action}' brings success and the episode goes on")
    if not math.isfinite(brought.reward):
        fail(environment, f"action '{action}' brings the reward {brought.reward}")
    if brought.done == bool(environment.valid_actions()):
        state, actions = ("over", "actions") if brought.done else ("not over", "no actions")
        fail(environment, f"after '{action}' the episode is {state} and there are {actions}")
    return brought


def check_attributes(environment: Environment) -> None:
    """Names are text and no method is missing."""
    for name in ("name", "level", "version"):
        if not isinstance(getattr(environment, name, None), str):
            fail(environment, f"attribute '{name}' must be text")
    for name in ("reset", "task", "observe", "valid_actions", "step", "key", "copy", "expert",
                 "optimal_q"):  # fmt: skip
        if not callable(getattr(environment, name, None)):
            fail(environment, f"method '{name}' is missing")


def _views(environment: Environment) -> tuple[Any, ...]:
    return (
        environment.key(),  # before the others: looking must not move it
        environment.seed,
        environment.actions,
        environment.task(),
        environment.observe(),
        environment.valid_actions(),
    )


def check_views(environment: Environment) -> None:
    """Looking shows well-formed things, the same every time."""
    before = _views(environment)
    actions = environment.valid_actions()
    if not isinstance(actions, tuple) or len(set(actions)) != len(actions):
        fail(environment, f"valid actions must be a tuple of distinct texts: {actions!r}")
    for action in actions:
        if not isinstance(action, str) or action != " ".join(action.split()) or not action:
            fail(environment, f"an action is text in one line, without outer spaces: {action!r}")
    if not environment.task() or "\n" in environment.task():
        fail(environment, f"the task must be one line of text: {environment.task()!r}")
    advice = environment.expert()
    if advice is not None and advice not in actions:
        fail(environment, f"the expert's action '{advice}' is not valid; valid: {actions}")
    environment.optimal_q(3)
    for was, now in zip(before, _views(environment), strict=True):
        if was != now:
            fail(environment, f"looking changes what is seen: {was!r} became {now!r}")
    if environment.expert() != advice:
        fail(environment, f"the expert says '{advice}', then '{environment.expert()}'")


def check_key(environment: Environment, seen: dict[Hashable, Any]) -> None:
    """Equal keys are seen alike, in this and in any other history."""
    key = environment.key()
    if key is None:
        return
    try:
        hash(key)
    except TypeError:
        fail(environment, f"the key cannot be hashed: {key!r}")
    view = (environment.observe(), environment.valid_actions())
    if seen.setdefault(key, view) != view:
        fail(environment, f"one key, two views: {key!r} shows {seen[key]!r} and {view!r}")


def check_refusals(environment: Environment, foreign: set[str]) -> None:
    """What is not valid is refused with a DataError and changes nothing."""
    elsewhere = sorted(foreign - set(environment.valid_actions()))
    before, found = _views(environment), state_hash(environment)
    for action in (NO_ACTION, "", *elsewhere[:5]):
        try:
            environment.step(action)
        except DataError:
            if _views(environment) != before or state_hash(environment) != found:
                fail(environment, f"the refused action '{action}' changed the state")
        except Exception as error:  # noqa: BLE001 a breach of any kind is reported as one
            fail(environment, f"action '{action}' must raise DataError; it raised {error!r}")
        else:
            fail(environment, f"action '{action}' is not valid and was accepted")


def check_copy(
    environment: Environment, outcomes: dict[Hashable, Any], rng: np.random.Generator
) -> None:
    """A copy is the same, goes its own way, and comes to the same as any other of its key."""
    before, key = _views(environment), environment.key()
    twin = environment.copy()
    if _views(twin) != before or state_hash(twin) != state_hash(environment):
        fail(environment, "a copy is not in the same state")
    if twin.expert() != environment.expert():
        fail(environment, "the copy's expert says something else")
    action = pick(environment.valid_actions(), rng)
    if action is None:
        return
    brought = stepped(twin, action)
    if _views(environment) != before:
        fail(environment, f"action '{action}' of a copy changed the original")
    if key is not None:
        came = (brought, twin.key())
        known = outcomes.setdefault((key, action), came)
        if known != came:
            fail(environment, f"one key, two outcomes of '{action}': {known!r} and {came!r}")
    other = environment.copy()
    again = stepped(other, action)
    if again != brought or _views(other) != _views(twin):
        fail(environment, f"two copies come to different ends by '{action}'")


def check_restore(
    make: Callable[[], Environment],
    environment: Environment,
    snapshot: Snapshot,
    continuation: int,
    rng: np.random.Generator,
) -> None:
    """A restored state is the same state and goes on in the same way."""
    restored = make()
    try:
        restore(snapshot, restored)
    except UsageError as error:
        fail(environment, f"a snapshot does not restore: {error}")
    if _views(restored) != _views(environment) or restored.expert() != environment.expert():
        fail(environment, "a restored state is not the one that was left")
    original = environment.copy()
    for _ in range(continuation):
        action = pick(original.valid_actions(), rng)
        if action is None:
            return
        if stepped(original, action) != stepped(restored, action):
            fail(environment, f"after a restore, '{action}' brings something else")
        if _views(original) != _views(restored):
            fail(environment, f"after a restore, '{action}' leads elsewhere")


def check_tampered(
    make: Callable[[], Environment], snapshot: Snapshot, rng: np.random.Generator
) -> None:
    """A snapshot whose hash or way was changed is refused by its id."""
    false_hash = f"{int(snapshot.state_hash, 16) ^ 1:032x}"
    tampered = [replace(snapshot, state_hash=false_hash)]
    if snapshot.actions:
        at = int(rng.integers(len(snapshot.actions)))
        way = list(snapshot.actions)
        way[at] = NO_ACTION
        tampered.append(replace(snapshot, actions=tuple(way)))
        other = make()
        other.reset(snapshot.seed)
        for action in snapshot.actions[:-1]:
            other.step(action)
        for action in other.valid_actions():
            twin = other.copy()
            twin.step(action)
            if state_hash(twin) != snapshot.state_hash:
                tampered.append(replace(snapshot, actions=(*snapshot.actions[:-1], action)))
                break
    for false in tampered:
        environment = make()
        try:
            restore(false, environment)
        except UsageError as error:
            if false.id not in str(error):
                fail(environment, f"a tampered snapshot is refused without its id: {error}")
        else:
            fail(environment, f"a tampered snapshot is accepted: {false}")


def check_values(environment: Environment, steps: int) -> Mapping[str, float] | None:
    """Exact values obey the rules one step ahead, and the expert loses none of them."""
    values = environment.optimal_q(steps)
    if values is None:
        return None
    actions = environment.valid_actions()
    for horizon in (1, 2, steps):
        now = environment.optimal_q(horizon)
        if now is None or tuple(now) != actions:
            fail(environment, f"values are not those of the valid actions {actions}: {now!r}")
        for action in actions:
            twin = environment.copy()
            brought = twin.step(action)
            later = twin.optimal_q(horizon - 1) or {}
            ahead = float(brought.success or (horizon > 1 and any(later.values())))
            if now[action] != ahead:
                fail(
                    environment,
                    f"within {horizon} steps '{action}' is worth {now[action]}; by the rules one "
                    f"step ahead it is {ahead}",
                )
        advice = environment.expert()
        if any(now.values()) and (advice is None or not now[advice]):
            best = [action for action in actions if now[action]]
            fail(
                environment,
                f"success is {horizon} steps within reach by {best}; the expert says '{advice}'",
            )
    return values


def pick(actions: Sequence[str], rng: np.random.Generator) -> str | None:
    """Draw one of the actions; None where there is none."""
    return actions[int(rng.integers(len(actions)))] if actions else None


def fail(environment: Environment, what: str) -> NoReturn:
    """Raise the breach, with where it was found."""
    name = getattr(environment, "name", type(environment).__name__)
    level = getattr(environment, "level", "")
    seed, actions = getattr(environment, "seed", None), getattr(environment, "actions", ())
    raise ContractViolation(
        f"{name}{f' {level}' if level else ''}, task {seed}, after {list(actions)}: {what}"
    )
