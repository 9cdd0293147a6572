"""Which rows are scored together: whole groups, sorted by length, under a token budget.

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

    A group's cost is its prompt once and its rows at the microbatch's longest completion.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row in np.flatnonzero(chosen_N).tolist():
        prompt = completions.prompts[row // completions.group_size]
        rows_of.setdefault(prompt, []).append(row)
    lengths_N = completions.lengths_N
    groups = sorted(
        (int(lengths_N[rows].max()), len(prompt), index, prompt, rows)
        for index, (prompt, rows) in enumerate(rows_of.items())
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
