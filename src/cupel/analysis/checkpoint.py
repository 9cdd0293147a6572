"""Two runs, one per arm: what may be said about these two checkpoints, and not about the methods.

Knows prompts that both runs answered. Refuses the word `method`: the spread between training
runs is not in the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupel.analysis.completions import Completions
from cupel.stats.clustered import clustered_mean
from cupel.stats.permutation import EXACT_LIMIT, sign_flip
from cupel.stats.proportions import mcnemar

SAYS = "compares these two trained checkpoints on these prompts, never the methods"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    right: int
    answers: int

    @property
    def rate(self) -> float:
        return self.right / self.answers


Prompts = Mapping[tuple[int, str], _Prompt]


def checkpoint_block(
    baseline: Completions | None, candidate: Completions | None, *, alpha: float
) -> dict[str, Any] | None:
    """Return the prompt-clustered paired comparison of correctness; None below two problems.

    Answers pair by (step, problem); each pair gives the difference of mean correctness, and
    differences of one problem at several steps share a cluster. McNemar's test where every prompt
    has one answer in each arm; sign flips of the problems' mean differences up to 20 problems.

    Source: Miller 2024 (arXiv:2411.00640), paired differences with clustered errors; McNemar 1947.
    """
    if baseline is None or candidate is None:
        return None
    by_b, by_c = _by_prompt(baseline), _by_prompt(candidate)
    shared = [prompt for prompt in by_b if prompt in by_c]
    problems = sorted({problem for _, problem in shared})
    if len(problems) < 2:
        return None
    place = {problem: number for number, problem in enumerate(problems)}
    cluster_N = np.array([place[problem] for _, problem in shared], dtype=np.int64)
    difference_N = np.array([by_c[one].rate - by_b[one].rate for one in shared])
    found = clustered_mean(difference_N, cluster_N, alpha=alpha)
    by_problem = np.bincount(cluster_N, weights=difference_N) / np.bincount(cluster_N)
    few = len(problems) <= EXACT_LIMIT
    interval = found.interval
    return {
        "scope": "checkpoint",
        "unit": "prompt",
        "n_prompts": len(problems),
        "n_pairs": len(shared),
        "delta": found.mean,
        "standard_error": found.error,
        "independent_error": found.independent_error,
        "ci95": [interval.low, interval.high] if interval is not None else None,
        "ci_level": 1 - alpha,
        "ci_method": "prompt_clustered_t",
        "p": found.p,
        "p_sign_flip": sign_flip(by_problem, alpha=alpha).p if few else None,
        "mcnemar": _mcnemar(shared, by_b, by_c),
        "says": SAYS,
    }


def _mcnemar(
    shared: list[tuple[int, str]], baseline: Prompts, candidate: Prompts
) -> dict[str, Any] | None:
    """Return McNemar's test, or None where a prompt has several answers or comes at two steps."""
    one_answer = all(arm[one].answers == 1 for one in shared for arm in (baseline, candidate))
    if not one_answer or len({problem for _, problem in shared}) < len(shared):
        return None
    only_b = sum(baseline[one].right > candidate[one].right for one in shared)
    only_c = sum(candidate[one].right > baseline[one].right for one in shared)
    found = mcnemar(only_b, only_c)
    return {
        "only_baseline": only_b,
        "only_candidate": only_c,
        "discordant": only_b + only_c,
        "p": found.p,
        "mid_p": found.mid_p,
    }


def _by_prompt(completions: Completions) -> dict[tuple[int, str], _Prompt]:
    kept_C = ~np.isnan(completions.correct_C)
    codes, counts = completions.prompt_C[kept_C], completions.count_C[kept_C]
    number = len(completions.prompts)
    right = completions.correct_C[kept_C] * counts
    right_Q = np.bincount(codes, weights=right, minlength=number)
    count_Q = np.bincount(codes, weights=counts, minlength=number)
    return {
        prompt: _Prompt(right=int(right_Q[code]), answers=int(count_Q[code]))
        for code, prompt in enumerate(completions.prompts)
        if count_Q[code]
    }
