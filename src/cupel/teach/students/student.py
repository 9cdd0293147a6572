"""What acts: a distribution over the valid actions of a state, for many states at once.

Knows the protocol and the students that need no model. Refuses to know environments: it sees
prompts and action names. Students over language models are in `cupel.teach.students.language`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cupel.config import Config

ActionProbs = NDArray[np.float64]
"""Probabilities over one state's valid actions [A], summing to 1."""


class StudentConfig(Config):
    """Which model acts, and how its scores become a distribution."""

    backend: Literal["tiny", "torch", "uniform"] = "tiny"
    """tiny: the shipped decoder warm-started on the shop; torch: any Hugging Face causal language
    model; uniform: every valid action alike, for checks without a model."""
    model: str | None = None
    """Model folder or hub id (torch), or a fine-tuned tiny model's folder (tiny; None: the shipped
    start)."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divides the actions' log-probabilities; 0: the likeliest action, ties to the first."""
    length: Literal["sum", "mean"] = "sum"
    """sum: an action's log-probability is that of all its tokens and the end token; mean: their
    mean, which acts like a temperature as large as the action is long."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A state as the student sees it: `prompt` from `build_prompt`, and the valid actions."""

    prompt: str
    actions: tuple[str, ...]


class Student(Protocol):
    """A distribution over actions."""

    @property
    def identity(self) -> str:
        """Hash of all that the distribution depends on besides the query: weights, template,
        temperature, length mode."""
        ...

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        """Return one distribution a query; equal queries get equal bits, in any company.

        Raises:
            DataError: a query has no actions, or its prompt is longer than the model reads.
        """
        ...


@dataclass(frozen=True, slots=True)
class UniformStudent:
    """Every valid action alike."""

    identity: str = "uniform"

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        """Return 1 / A for each action."""
        return [np.full(len(query.actions), 1.0 / len(query.actions)) for query in queries]


def tempered(log_scores_A: NDArray[np.float64], temperature: float) -> ActionProbs:
    """Return softmax(log scores / temperature); at 0 all mass on the first of the best.

    >>> tempered(np.log([0.2, 0.6, 0.2]), 1.0).round(3).tolist()
    [0.2, 0.6, 0.2]
    """
    if temperature == 0:
        chosen = np.zeros(len(log_scores_A))
        chosen[int(np.argmax(log_scores_A))] = 1.0
        return chosen
    shifted = (log_scores_A - log_scores_A.max()) / temperature
    weights: ActionProbs = np.exp(shifted)
    weights /= weights.sum()
    return weights


def draw(probs_A: ActionProbs, uniform: float) -> int:
    """Return the action at a uniform in [0, 1), by inverse CDF in the actions' order.

    >>> [draw(np.array([0.25, 0.0, 0.75]), u) for u in (0.0, 0.24, 0.25, 0.99)]
    [0, 0, 2, 2]
    """
    at = int(np.searchsorted(np.cumsum(probs_A), uniform, side="right"))
    return min(at, int(np.flatnonzero(probs_A)[-1]))
