"""The completions of one run as counts: how often which outcome and reward, for which prompt.

Reads emergence/generations.jsonl of Cupel and of earlier systems. A completion without a readable
answer did not solve its problem: it stands in every rate's denominator and is counted apart.
Refuses to turn a value that was not logged into a zero: it stays missing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cupel.analysis import count_cache
from cupel.analysis.ingest import (
    RIGHT,
    RIGHT_REWARD,
    UNGRADABLE,
    UNKNOWN,
    Columns,
    Source,
    read_file,
)
from cupel.lab.store import RunRecord

__all__ = ["GENERATIONS", "RIGHT_REWARD", "Completions", "Tally", "read_completions", "tally"]

GENERATIONS = "emergence/generations.jsonl"
T = TypeVar("T", np.int64, np.float64)
STEP_STREAMS = ("metrics.jsonl", "emergence/steps.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """All completions of one run: distinct (prompt, reward, outcome) with how often each came.

    Attributes:
        step_P: step of each prompt; prompts ascend by (step, problem), so that the order of rows
            in the file is forgotten.
        problem_P: problem of each prompt.
        prompt_C: prompt of each distinct completion, ascending.
        outcome_C: RIGHT, WRONG, UNGRADABLE or UNKNOWN of `ingest`.
        reward_C: its reward; NaN where none was logged.
        count_C: how many completions were like it.
        gram_pairs, gram_total: number and exact sum of the gram entropy differences.
        correct_from: `correct`, `metadata.correctness` or `reward`: where correctness was read.
    """

    step_P: NDArray[np.int64]
    problem_P: tuple[str, ...]
    prompt_C: NDArray[np.int64]
    outcome_C: NDArray[np.int8]
    reward_C: NDArray[np.float64]
    count_C: NDArray[np.int64]
    gram_pairs: int
    gram_total: float
    correct_from: Source

    @property
    def prompts(self) -> list[tuple[int, str]]:
        """(step, problem) of each prompt."""
        return list(zip(self.step_P.tolist(), self.problem_P, strict=True))

    @property
    def total(self) -> int:
        """Number of completions."""
        return int(self.count_C.sum())

    @property
    def ungradable(self) -> int:
        """Number of completions whose answer could not be graded."""
        return int(self.count_C[self.outcome_C == UNGRADABLE].sum())

    @property
    def unrewarded(self) -> int:
        """Number of completions without a logged reward."""
        return int(self.count_C[np.isnan(self.reward_C)].sum())

    @property
    def counts(self) -> tuple[int, int]:
        """(right, all that were logged with an outcome)."""
        right = self.count_C[self.outcome_C == RIGHT].sum()
        return int(right), int(self.count_C[self.outcome_C != UNKNOWN].sum())

    @property
    def correct_C(self) -> NDArray[np.float64]:
        """1.0 or 0.0 (also where the answer could not be graded); NaN where nothing was logged."""
        right_C = (self.outcome_C == RIGHT).astype(np.float64)
        return np.where(self.outcome_C == UNKNOWN, np.nan, right_C)

    @property
    def prompt_N(self) -> NDArray[np.int64]:
        """Prompt of every completion."""
        return np.repeat(self.prompt_C, self.count_C)

    @property
    def correct_N(self) -> NDArray[np.float64]:
        """`correct_C` of every completion."""
        return np.repeat(self.correct_C, self.count_C)

    @property
    def reward_N(self) -> NDArray[np.float64]:
        """Reward of every completion."""
        return np.repeat(self.reward_C, self.count_C)


def read_completions(run: RunRecord) -> Completions | None:
    """Read a run's completions; None when the run logged none.

    In a study of Cupel the counts are kept beside the study; a file that changed since is read
    again.

    Raises:
        DataError: a row is malformed, or holds what is no outcome (names file and line).
    """
    if not run.has(GENERATIONS):
        return None
    return run.once(GENERATIONS, "completions", lambda: _read(run))


def _read(run: RunRecord) -> Completions | None:
    path = run.folder / GENERATIONS
    run.refuse_changed(GENERATIONS)
    place = count_cache.place_of(run, GENERATIONS)
    found = count_cache.load(place, path) if place is not None else None
    if found is not None:
        digest, kept = found
        run.once(GENERATIONS, "sha256", lambda: digest)
        return Completions(**{**kept, "problem_P": tuple(kept["problem_P"])})
    state = count_cache.signature(path) if place is not None else None
    columns, digest = read_file(path, still_written=run.status == "running")
    run.once(GENERATIONS, "sha256", lambda: digest)
    if columns is None:
        return None
    completions = _counted(columns)
    if place is not None and state is not None:
        values = {key.name: getattr(completions, key.name) for key in fields(completions)}
        count_cache.store(place, path, state, digest, values)
    return completions


def _counted(columns: Columns) -> Completions:
    """Sort and count: one number stands for (step, problem, reward, outcome) of a row."""
    names = sorted(columns.problems)
    rank = {name: place for place, name in enumerate(names)}
    rank_K = np.array([rank[name] for name in columns.problems], dtype=np.int64)
    steps, step_N = _codes(columns.step_N)
    rewards, reward_N = _codes(columns.reward_N)
    prompt_N = step_N * len(names) + rank_K[columns.problem_N]
    most = 4 * len(rewards)
    if len(steps) * len(names) >= 2**62 // most:
        pair_P, prompt_N = np.unique(prompt_N, return_inverse=True)
    else:
        pair_P = None
    key_C, count_C = np.unique(
        prompt_N * most + reward_N * 4 + columns.outcome_N, return_counts=True
    )
    present_P, prompt_C = np.unique(key_C // most, return_inverse=True)
    pair_P = present_P if pair_P is None else pair_P[present_P]
    return Completions(
        step_P=steps[pair_P // len(names)],
        problem_P=tuple(names[place] for place in (pair_P % len(names)).tolist()),
        prompt_C=prompt_C.astype(np.int64),
        outcome_C=(key_C % 4).astype(np.int8),
        reward_C=rewards[key_C % most // 4],
        count_C=count_C.astype(np.int64),
        gram_pairs=columns.gram_pairs,
        gram_total=columns.gram_total,
        correct_from=columns.correct_from,
    )


def _codes(values_N: NDArray[T]) -> tuple[NDArray[T], NDArray[np.int64]]:
    """Return the distinct values, ascending, and the place of each value among them."""
    distinct = np.unique(values_N)
    return distinct, np.searchsorted(distinct, values_N).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a run counted: right and all completions, the ungradable among them, and the source.

    `logged` is the number of completions that were written down, None where that is unknown.
    """

    correct: int
    total: int
    ungradable: int
    source: str
    logged: int | None = None

    @property
    def is_subset(self) -> bool:
        """Say whether fewer completions were written down than the steps counted."""
        return self.logged is not None and self.logged < self.total


def tally(run: RunRecord, completions: Completions | None) -> Tally | None:
    """Count a run's completions, or else what its steps counted; None when neither is there.

    Where the steps counted more completions than were written down, the steps are believed: what
    was left out was not left out at random.

    Raises:
        DataError: a stream is damaged.
    """
    counted = _of_steps(run)
    logged = completions.total if completions is not None else 0
    if completions is None or (counted is not None and counted.total > logged):
        known = run.has(GENERATIONS)
        return replace(counted, logged=logged) if counted is not None and known else counted
    correct, total = completions.counts
    return Tally(
        correct=correct,
        total=total,
        ungradable=completions.ungradable,
        source=GENERATIONS,
        logged=logged,
    )


def _of_steps(run: RunRecord) -> Tally | None:
    for stream in STEP_STREAMS:
        if not run.has(stream):
            continue
        rows = [row for row in run.rows(stream) if row.get("total_count") is not None]
        if rows and all(row.get("correct_count") is not None for row in rows):
            return Tally(
                correct=sum(int(row["correct_count"]) for row in rows),
                total=sum(int(row["total_count"]) for row in rows),
                ungradable=sum(int(row.get("ungradable_count") or 0) for row in rows),
                source=stream,
            )
    return None
