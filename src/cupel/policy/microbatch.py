"""Which rows are scored together: groups, sorted by length, under a token budget.

Pure. Knows lengths and budgets only. Order and size change the speed of a pass, never its result
beyond float rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.policy.protocol import Completions


@dataclass(frozen=True, slots=True, kw_only=True)
class Microbatch:
    """Rows that go through the model together.

    Attributes:
        rows_B: row indices into the batch, prompt by prompt.
        prompts: their distinct prompts.
        row_prompt_B: index of each row's prompt in `prompts`.
        length: tokens of the longest completion.
    """

    rows_B: NDArray[np.intp]
    prompts: tuple[tuple[int, ...], ...]
    row_prompt_B: NDArray[np.intp]
    length: int


def plan_microbatches(
    completions: Completions, chosen_N: NDArray[np.bool_], *, token_budget: int
) -> list[Microbatch]:
    """Split the chosen rows into microbatches.

    A group's cost is its prompt once and its rows at the microbatch's longest completion. A group
    that exceeds the budget alone is split, its prompt read once in each part; one row always fits.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row in np.flatnonzero(chosen_N).tolist():
        prompt = completions.prompts[row // completions.group_size]
        rows_of.setdefault(prompt, []).append(row)
    lengths_N = completions.lengths_N
    parts = [
        (prompt, part)
        for prompt, rows in rows_of.items()
        for part in _fitting(prompt, rows, lengths_N, token_budget)
    ]
    groups = sorted(
        (int(lengths_N[rows].max()), len(prompt), index, prompt, rows)
        for index, (prompt, rows) in enumerate(parts)
    )
    batches: list[Microbatch] = []
    current: list[tuple[tuple[int, ...], list[int]]] = []
    widest = 0
    for length, _, _, prompt, rows in groups:
        held = sum(len(member_rows) for _, member_rows in current)
        wide = max(widest, len(prompt))
        cost = (held + len(rows)) * length + (len(current) + 1) * wide
        if current and cost > token_budget:
            batches.append(_microbatch(current, lengths_N))
            current, wide = [], len(prompt)
        current.append((prompt, rows))
        widest = wide
    if current:
        batches.append(_microbatch(current, lengths_N))
    return batches


def _fitting(
    prompt: tuple[int, ...], rows: list[int], lengths_N: NDArray[np.int32], token_budget: int
) -> list[list[int]]:
    """Return a group's rows whole where they fit the budget, else in runs of rising length."""
    if len(rows) * int(lengths_N[rows].max()) + len(prompt) <= token_budget:
        return [rows]
    parts: list[list[int]] = [[]]
    for row in sorted(rows, key=lambda row: int(lengths_N[row])):
        if parts[-1] and (len(parts[-1]) + 1) * lengths_N[row] + len(prompt) > token_budget:
            parts.append([])
        parts[-1].append(row)
    return parts


def _microbatch(
    groups: list[tuple[tuple[int, ...], list[int]]], lengths_N: NDArray[np.int32]
) -> Microbatch:
    rows_B = np.array([row for _, rows in groups for row in rows], dtype=np.intp)
    return Microbatch(
        rows_B=rows_B,
        prompts=tuple(prompt for prompt, _ in groups),
        row_prompt_B=np.repeat(np.arange(len(groups)), [len(rows) for _, rows in groups]),
        length=int(lengths_N[rows_B].max()),
    )
