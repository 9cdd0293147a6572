"""Microbatches hold every chosen row once, keep to the budget, and split no group without need."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cupel.policy import Completions
from cupel.policy.microbatch import plan_microbatches


def completions(prompt_lengths: list[int], group_size: int, lengths: list[int]) -> Completions:
    rows = len(prompt_lengths) * group_size
    blank = np.zeros((rows, max(lengths)), dtype=np.float32)
    return Completions(
        prompts=tuple((index,) * length for index, length in enumerate(prompt_lengths)),
        group_size=group_size,
        tokens_NT=np.zeros((rows, max(lengths)), dtype=np.int32),
        lengths_N=np.array(lengths, dtype=np.int32),
        finished_N=np.ones(rows, dtype=np.bool_),
        sampler_logprobs_NT=blank,
        policy_logprobs_NT=blank,
    )


@given(st.data())
def test_every_chosen_row_once_and_the_budget_kept(data: st.DataObject) -> None:
    prompt_lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    group_size = data.draw(st.integers(1, 4))
    rows = len(prompt_lengths) * group_size
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=rows, max_size=rows))
    chosen_N = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    budget = data.draw(st.integers(1, 200))
    batch = completions(prompt_lengths, group_size, lengths)
    planned = plan_microbatches(batch, chosen_N, token_budget=budget)
    seen = [row for part in planned for row in part.rows_B.tolist()]
    assert sorted(seen) == np.flatnonzero(chosen_N).tolist()
    home: dict[int, set[int]] = {}
    for number, part in enumerate(planned):
        assert len(set(part.prompts)) == len(part.prompts)
        for row, owner in zip(part.rows_B.tolist(), part.row_prompt_B.tolist(), strict=True):
            assert part.prompts[owner] == batch.prompts[row // group_size]
            home.setdefault(row // group_size, set()).add(number)
        assert part.length == batch.lengths_N[part.rows_B].max()
        widest = max(len(prompt) for prompt in part.prompts)
        cost = len(part.rows_B) * part.length + len(part.prompts) * widest
        assert cost <= budget or len(part.rows_B) == 1
    for group, numbers in home.items():
        rows = [row for row in seen if row // group_size == group]
        whole = len(rows) * batch.lengths_N[rows].max() + len(batch.prompts[group])
        assert (len(numbers) == 1) == (whole <= budget or len(rows) == 1)


def test_a_prompt_asked_twice_is_one_group() -> None:
    batch = completions([3, 4], 2, [5, 5, 5, 5])
    twice = Completions(
        prompts=(batch.prompts[0], batch.prompts[0]),
        group_size=2,
        tokens_NT=batch.tokens_NT,
        lengths_N=batch.lengths_N,
        finished_N=batch.finished_N,
        sampler_logprobs_NT=batch.sampler_logprobs_NT,
        policy_logprobs_NT=batch.policy_logprobs_NT,
    )
    (only,) = plan_microbatches(twice, np.ones(4, dtype=np.bool_), token_budget=99)
    assert only.prompts == (batch.prompts[0],)
    assert only.rows_B.tolist() == [0, 1, 2, 3]
