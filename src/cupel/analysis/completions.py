"""The completions of one run as columns: which were right, what they earned, for which prompt.

Reads emergence/generations.jsonl of Cupel and of earlier systems. A completion without a readable
answer did not solve its problem: it stands in every rate's denominator and is counted apart.
Refuses to turn a value that was not logged into a zero: it stays missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.lab.store import RunRecord

GENERATIONS = "emergence/generations.jsonl"
UNGRADABLE = object()
"""Stands for an answer that was looked at and could not be graded."""
RIGHT_REWARD = 0.99
"""Reward from which a completion of an earlier system counts as right when nothing else says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """All completions of one run; NaN is missing.

    Attributes:
        prompt_N: code of (step, problem), ascending; the order of rows in the file is forgotten.
        prompts: what the codes stand for, sorted.
        correct_N: 1.0 or 0.0 (also where the answer could not be graded); NaN where nothing was
            logged.
        ungradable: number of completions whose answer could not be graded.
        correct_from: `correct`, `metadata.correctness` or `reward`: where correctness was read.
    """

    prompt_N: NDArray[np.int64]
    prompts: Sequence[tuple[int, str]]
    correct_N: NDArray[np.float64]
    reward_N: NDArray[np.float64]
    gram_entropy_delta_N: NDArray[np.float64]
    ungradable: int
    correct_from: str

    @property
    def total(self) -> int:
        """Number of completions."""
        return len(self.reward_N)

    @property
    def counts(self) -> tuple[int, int]:
        """(right, all that were logged with an outcome)."""
        known = self.correct_N[~np.isnan(self.correct_N)]
        return int(known.sum()), len(known)


def read_completions(run: RunRecord) -> Completions | None:
    """Read a run's completions; None when the run logged none.

    Raises:
        DataError: a row is malformed, or holds what is no outcome (names file and line).
    """
    if not run.has(GENERATIONS):
        return None
    rows = run.rows(GENERATIONS)
    if not rows:
        return None
    where = str(run.folder / GENERATIONS)
    source = _correct_from(rows)
    keys = [_prompt(row) for row in rows]
    prompts = sorted(set(keys))
    codes = {prompt: code for code, prompt in enumerate(prompts)}
    prompt_N = np.array([codes[key] for key in keys], dtype=np.int64)
    outcomes = [_correct(row, source) for row in rows]
    correct_N = _column(
        [False if outcome is UNGRADABLE else outcome for outcome in outcomes],
        f"{where}: correct",
        binary=True,
    )
    reward_N = _column([row.get("reward") for row in rows], f"{where}: reward")
    grams = [row.get("gram_entropy_delta") for row in rows]
    gram_N = _column(grams, f"{where}: gram_entropy_delta")
    order = np.lexsort((gram_N, reward_N, correct_N, prompt_N))
    return Completions(
        prompt_N=prompt_N[order],
        prompts=prompts,
        correct_N=correct_N[order],
        reward_N=reward_N[order],
        gram_entropy_delta_N=gram_N[order],
        ungradable=sum(outcome is UNGRADABLE for outcome in outcomes),
        correct_from=source,
    )


def _correct_from(rows: Sequence[Mapping[str, Any]]) -> str:
    if any("correct" in row for row in rows):
        return "correct"
    if any("correctness" in (row.get("metadata") or {}) for row in rows):
        return "metadata.correctness"
    return "reward"


def _correct(row: Mapping[str, Any], source: str) -> Any:
    """Return the logged outcome, UNGRADABLE where null was logged, None where nothing was."""
    if source == "reward":
        reward = row.get("reward")
        return None if reward is None else reward >= RIGHT_REWARD
    holder = row if source == "correct" else row.get("metadata") or {}
    key = source.removeprefix("metadata.")
    return UNGRADABLE if key in holder and holder[key] is None else holder.get(key)


def _prompt(row: Mapping[str, Any]) -> tuple[int, str]:
    problem = row.get("problem_id")
    if problem is None:
        problem = row.get("prompt", row.get("group", ""))
    return int(row.get("step", 0)), str(problem)


def _column(values: Sequence[Any], where: str, *, binary: bool = False) -> NDArray[np.float64]:
    column = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or (binary and value not in (0, 1)):
            allowed = "true, false or null" if binary else "a number or null"
            raise DataError(f"{where} on line {index + 1} is {value!r}; expected {allowed}")
        column[index] = float(value)
    return column


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a run counted: right and all completions, the ungradable among them, and the source."""

    correct: int
    total: int
    ungradable: int
    source: str


def tally(run: RunRecord, completions: Completions | None) -> Tally | None:
    """Count a run's completions, from the completions or else from its steps; None when neither.

    Raises:
        DataError: a stream is damaged.
    """
    if completions is not None:
        correct, total = completions.counts
        return Tally(
            correct=correct, total=total, ungradable=completions.ungradable, source=GENERATIONS
        )
    for stream in ("metrics.jsonl", "emergence/steps.jsonl"):
        if not run.has(stream):
            continue
        rows = [row for row in run.rows(stream) if row.get("total_count") is not None]
        if rows and all(row.get("correct_count") is not None for row in rows):
            ungradable = sum(int(row.get("ungradable_count") or 0) for row in rows)
            total = sum(int(row["total_count"]) for row in rows)
            correct = sum(int(row["correct_count"]) for row in rows)
            return Tally(correct=correct, total=total, ungradable=ungradable, source=stream)
    return None
