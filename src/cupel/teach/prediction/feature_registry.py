"""Every feature of a moment: its name, where it comes from, what it means, how it is computed.

Knows moments. Refuses to know labels, and which features a predictor is given.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.teach.records import Moment

Provenance = Literal["structural", "student", "label", "future"]
"""structural: task, state and valid actions; student: what the student did until and including
now; label: a function of the distribution that U is computed from; future: known only when the
episode is over."""

VERSION = "teach-features-1"
"""Enters the fingerprint of a feature set; changes whenever the meaning of a feature does."""

TYPES = 8
"""Buckets that action types are hashed into."""

_WORD = re.compile(r"[a-z0-9]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PRODUCT = ("price", "color", "size", "brand", "material", "rating", "option", "product")
_ESCAPE = ("back", "prev", "search", "undo", "left", "look", "return")
_CONSTRAINT = re.compile(
    r"\b(?:under|below|less than|lower than|at most|at least|more than|over|between|with|without|"
    r"not|only|then|after|before|and)\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One number of a moment; `compute` gives None where the record does not hold it."""

    name: str
    provenance: Provenance
    meaning: str
    compute: Callable[[Moment], float | None]


def is_loop(actions: Sequence[str]) -> bool:
    """Tell whether the last six actions are all equal, or begin with a repeated pair or triple.

    >>> is_loop(["a", "b", "a", "b", "a", "b"]), is_loop(["a", "b", "c", "d", "e", "f"])
    (True, False)
    """
    last = tuple(actions[-6:])
    if len(last) < 6:
        return False
    return len(set(last)) == 1 or last[:2] == last[2:4] or last[:3] == last[3:]


def action_type(action: str) -> str:
    """Return the kind of an action: the text before a bracket, else its first word.

    >>> action_type("search[red shoes]"), action_type("go forward")
    ('search', 'go')
    """
    return re.split(r"[\[\s(:]", action.strip().lower(), maxsplit=1)[0]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _overlap(text: str, task: str) -> float:
    """Return the share of a text's words that stand in the task."""
    words = _words(text)
    goal = set(_words(task))
    return sum(word in goal for word in words) / len(words) if words else 0.0


def _complexity(task: str) -> float:
    return min(1.0, 0.1 * len(_CONSTRAINT.findall(task.lower())) + 0.02 * len(_words(task)))


def _since_new(actions: Sequence[str]) -> float:
    """Return how many actions ago an action was taken for the first time; 0: the last one."""
    seen: set[str] = set()
    latest = -1
    for number, action in enumerate(actions):
        if action not in seen:
            seen.add(action)
            latest = number
    return float(len(actions) - 1 - latest)


def _repeat_rate(actions: Sequence[str]) -> float:
    return 1.0 - len(set(actions)) / len(actions) if actions else 0.0


def _bucket(action: str) -> int:
    return hashlib.sha256(action_type(action).encode()).digest()[0] % TYPES


def _share_of_type(bucket: int) -> Callable[[Moment], float]:
    def share(moment: Moment) -> float:
        actions = moment.valid_actions
        return sum(_bucket(action) == bucket for action in actions) / max(1, len(actions))

    return share


def _did_type(bucket: int) -> Callable[[Moment], float]:
    return lambda moment: float(_bucket(moment.student_action) == bucket)


def _of_probs(reading: Callable[[NDArray[np.float64]], float]) -> Callable[[Moment], float | None]:
    def value(moment: Moment) -> float | None:
        if moment.student_probs is None:
            return None
        return reading(np.sort(np.array(moment.student_probs, dtype=np.float64))[::-1])

    return value


def _entropy(probs_A: NDArray[np.float64]) -> float:
    positive_A = probs_A[probs_A > 0]
    return float(-(positive_A * np.log(positive_A)).sum())


def _second(probs_A: NDArray[np.float64]) -> float:
    return float(probs_A[1]) if len(probs_A) > 1 else 0.0


def _registry() -> Mapping[str, Feature]:
    rows: list[tuple[str, Provenance, str, Callable[[Moment], float | None]]] = [
        ("step_index", "structural", "actions before it", lambda m: float(m.step_idx)),
        ("n_available_actions", "structural", "valid actions",
         lambda m: float(len(m.valid_actions))),
        ("log_available_actions", "structural", "ln of the valid actions",
         lambda m: math.log(max(1, len(m.valid_actions)))),
        ("state_length", "structural", "characters seen", lambda m: float(len(m.observation))),
        ("n_numeric_tokens", "structural", "numbers seen",
         lambda m: float(len(_NUMBER.findall(m.observation)))),
        ("n_product_mentions", "structural", "product words seen, of eight",
         lambda m: float(sum(word in m.observation.lower() for word in _PRODUCT))),
        ("task_complexity", "structural", "min(1, .1 constraints + .02 words)",
         lambda m: _complexity(m.task)),
        ("n_constraints", "structural", "constraint words in the task",
         lambda m: float(len(_CONSTRAINT.findall(m.task.lower())))),
        ("goal_overlap", "structural", "share of the observation's words that the task names",
         lambda m: _overlap(m.observation, m.task)),
        ("best_action_overlap", "structural", "largest share of an action's words in the task",
         lambda m: max((_overlap(action, m.task) for action in m.valid_actions), default=0.0)),
        ("has_escape", "structural", "an action leads back or searches anew",
         lambda m: float(any(word in a.lower() for a in m.valid_actions for word in _ESCAPE))),
        *((f"actions_of_type_{i}", "structural", "share of valid actions whose type hashes here",
           _share_of_type(i)) for i in range(TYPES)),
        ("repeat_rate", "student", "1 - distinct / all actions until now",
         lambda m: _repeat_rate(m.snapshot.actions)),
        ("in_loop", "student", "the last six actions repeat",
         lambda m: float(is_loop((*m.snapshot.actions, m.student_action)))),
        ("same_action_before", "student", "times the action was taken before",
         lambda m: float(Counter(m.snapshot.actions)[m.student_action])),
        ("steps_since_progress", "student", "actions since one that was new",
         lambda m: _since_new(m.snapshot.actions)),
        ("action_overlap", "student", "share of the action's words that the task names",
         lambda m: _overlap(m.student_action, m.task)),
        ("action_place", "student", "place of the action among the valid ones, in [0, 1]",
         lambda m: m.valid_actions.index(m.student_action) / len(m.valid_actions)
         if m.student_action in m.valid_actions else 1.0),
        *((f"action_is_type_{i}", "student", "the action's type hashes here", _did_type(i))
          for i in range(TYPES)),
        ("action_space_entropy", "label", "needs the student's distribution; it is U itself",
         _of_probs(_entropy)),
        ("margin", "label", "needs the student's distribution; 1 - (p1 - p2)",
         _of_probs(lambda p: 1.0 - float(p[0]) + _second(p))),
        ("max_prob", "label", "needs the student's distribution", _of_probs(lambda p: float(p[0]))),
        ("effective_actions", "label", "needs the student's distribution; exp(U)",
         _of_probs(lambda p: math.exp(_entropy(p)))),
        ("trajectory_length", "future", "steps of the whole episode", lambda m: None),
        ("relative_position", "future", "step_index / trajectory_length", lambda m: None),
        ("steps_before_failure", "future", "how far before the failure it was taken",
         lambda m: float(m.offset)),
        ("episode_failed", "future", "how the episode ended",
         lambda m: float(m.outcome != "success")),
    ]  # fmt: skip
    return {
        name: Feature(name=name, provenance=provenance, meaning=meaning, compute=compute)
        for name, provenance, meaning, compute in rows
    }


REGISTRY: Mapping[str, Feature] = _registry()
"""Every feature by name."""
