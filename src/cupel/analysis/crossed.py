"""Whether an answer reaches beyond its prompts: seeds and prompts both drawn anew.

Knows completions by seed and problem inside the endpoint's window. Refuses prompts that not every
run answered, and outcomes that were logged without their prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cupel.analysis.completions import Completions
from cupel.analysis.endpoint import window
from cupel.errors import DataError
from cupel.lab.store import RunRecord
from cupel.stats.clustered import two_way
from cupel.stats.samples import FloatArray

EVALUATED = "evaluation_problems.jsonl"
"""One row a held-out problem and evaluation: `step, problem_id, correct_count, samples`."""

ByProblem = Mapping[str, float]
"""Mean outcome of each problem inside the endpoint's window, in one run."""


def crossed_block(
    pairs: Sequence[tuple[ByProblem | None, ByProblem | None]], *, alpha: float
) -> dict[str, Any]:
    """Return the interval for new seeds and new prompts, or the reason why there is none.

    Each cell is a seed's difference of mean outcomes on one problem, over all its completions
    inside the window; problems count equally. Only problems that all runs answered take part.

    Source: Cameron, Gelbach & Miller 2011 (two-way clustered variance).
    """
    tables = [(b, c) for b, c in pairs if b is not None and c is not None]
    if len(tables) < 2 or len(tables) < len(pairs):
        return {"available": False, "reason": "no_prompt_level_data"}
    shared = set.intersection(*(set(one) for pair in tables for one in pair))
    if len(shared) < 2:
        return {"available": False, "reason": "prompts_not_shared_by_all_runs"}
    problems = sorted(shared)
    table_SQ: FloatArray = np.array([[c[q] - b[q] for q in problems] for b, c in tables])
    found = two_way(table_SQ, alpha=alpha)
    union = set.union(*(set(one) for pair in tables for one in pair))
    interval = found.interval
    return {
        "available": True,
        "scope": "method+prompts",
        "unit": "seed x prompt",
        "n_seeds": len(tables),
        "n_prompts": len(problems),
        "prompts_left_out": len(union) - len(problems),
        "delta": found.mean,
        "standard_error": found.variance**0.5,
        "ci95": [interval.low, interval.high] if interval is not None else None,
        "ci_level": 1 - alpha,
        "ci_method": "two_way_clustered_t",
        "df": found.df,
        "p": found.p,
        "floored": found.floored,
    }


def trained_by_problem(completions: Completions, metric: str, over: str) -> dict[str, float]:
    """Return the mean outcome of each problem trained on inside the window."""
    values_C = completions.correct_C if metric == "correct_rate" else completions.reward_C
    steps = sorted(set(completions.step_P.tolist()))
    inside = window(over, steps, evaluation=False)
    names = sorted(set(completions.problem_P))
    place = {name: number for number, name in enumerate(names)}
    problem_P = np.array([place[problem] for problem in completions.problem_P], dtype=np.int64)
    inside_P = np.array([inside(step) for step in completions.step_P.tolist()], dtype=bool)
    prompt_C = completions.prompt_C
    kept_C = inside_P[prompt_C] & ~np.isnan(values_C)
    codes, counts = problem_P[prompt_C[kept_C]], completions.count_C[kept_C]
    total_K = np.bincount(codes, weights=values_C[kept_C] * counts, minlength=len(names))
    count_K = np.bincount(codes, weights=counts, minlength=len(names))
    return {name: float(total_K[k] / count_K[k]) for k, name in enumerate(names) if count_K[k] > 0}


def evaluated_by_problem(run: RunRecord, over: str) -> dict[str, float] | None:
    """Return the mean outcome of each held-out problem inside the window; None if not logged.

    Raises:
        DataError: a row is damaged (names file and line).
    """
    if not run.has(EVALUATED):
        return None
    rows = run.rows(EVALUATED)
    for number, row in enumerate(rows, start=1):
        whole = (row.get("step"), row.get("correct_count"), row.get("samples"))
        if not all(isinstance(value, int) for value in whole) or "problem_id" not in row:
            raise DataError(
                f"{run.folder / EVALUATED}:{number}: expected whole numbers step, correct_count "
                "and samples, and a problem_id"
            )
    inside = window(over, sorted({row["step"] for row in rows}), evaluation=True)
    totals: dict[str, list[int]] = {}
    for row in rows:
        if inside(row["step"]):
            total = totals.setdefault(str(row["problem_id"]), [0, 0])
            total[0] += row["correct_count"]
            total[1] += row["samples"]
    return {problem: right / samples for problem, (right, samples) in totals.items() if samples}
