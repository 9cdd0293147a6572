"""Two runs, one per arm: what may be said about these two checkpoints, and not about the methods.

Knows prompts that both runs answered. Refuses the word `method`: the spread between training
runs is not in the data.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from cupel.analysis.completions import Completions


def checkpoint_block(
    baseline: Completions | None, candidate: Completions | None, *, alpha: float
) -> dict[str, Any] | None:
    """Return the prompt-clustered paired comparison of correctness; None below two shared prompts.

    Prompts pair by (step, problem). Each contributes the difference of its mean correctness.

    Source: Miller 2024 (arXiv:2411.00640), paired differences with clusters of one prompt.
    """
    if baseline is None or candidate is None:
        return None
    means_b, means_c = _by_prompt(baseline), _by_prompt(candidate)
    shared = [prompt for prompt in means_b if prompt in means_c]
    if len(shared) < 2:
        return None
    difference_Q = np.array([means_c[prompt] - means_b[prompt] for prompt in shared])
    delta = float(difference_Q.mean())
    error = float(difference_Q.std(ddof=1)) / math.sqrt(len(shared))
    z = float(stats.norm.isf(alpha / 2))
    return {
        "scope": "checkpoint",
        "unit": "prompt",
        "n_prompts": len(shared),
        "delta": delta,
        "standard_error": error,
        "ci95": [delta - z * error, delta + z * error],
        "ci_level": 1 - alpha,
        "ci_method": "prompt_clustered_normal",
        "says": "compares these two trained checkpoints on these prompts, never the methods",
    }


def _by_prompt(completions: Completions) -> dict[tuple[int, str], float]:
    kept = ~np.isnan(completions.correct_N)
    codes = completions.prompt_N[kept]
    number = len(completions.prompts)
    total_Q = np.bincount(codes, weights=completions.correct_N[kept], minlength=number)
    count_Q = np.bincount(codes, minlength=number)
    return {
        prompt: float(total_Q[code] / count_Q[code])
        for code, prompt in enumerate(completions.prompts)
        if count_Q[code]
    }
