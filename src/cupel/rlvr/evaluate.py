"""Held-out evaluation: fixed problems, sampled at a fixed temperature and greedily.

Knows accuracy. Refuses to know training. The same problems and the same random numbers serve
every evaluation of a run, so that a difference between two evaluations is the policy's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cupel.errors import GateFailure
from cupel.lab.metrics import Scalar
from cupel.lab.recipe import RunContext
from cupel.policy.protocol import Policy
from cupel.rlvr.batch import EVALUATION_ROUND, GradedBatch, sample_batch
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.problems import ProblemSet
from cupel.stats.intervals import clopper_pearson

START_ALPHA = 0.001
"""Chance of refusing a start that lies at the very edge of its band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The row of evaluations.jsonl, and those of evaluation_problems.jsonl."""

    row: dict[str, Scalar]
    problems: list[dict[str, Any]]


def evaluate(
    policy: Policy, problems: ProblemSet, config: TrainConfig, context: RunContext, *, step: int
) -> Evaluation:
    """Evaluate the policy after `step` updates."""
    started = time.perf_counter()
    settings = config.evaluation
    held_out = problems.held_out(settings.problems)
    batch = sample_batch(
        policy,
        held_out,
        config,
        context.randomness,
        purpose=EVALUATION_ROUND,
        round_number=0,
        group_size=settings.samples,
        temperature=settings.temperature,
    )
    greedy: float | None = None
    if settings.greedy:
        greedy = sample_batch(
            policy,
            held_out,
            config,
            context.randomness,
            purpose=EVALUATION_ROUND,
            round_number=0,
            group_size=1,
            temperature=0.0,
        ).correct_rate
    lengths = batch.completions.lengths_N
    row: dict[str, Scalar] = {
        "step": step,
        "condition": context.condition,
        "seed": context.seed,
        "accuracy": batch.correct_rate,
        "greedy_accuracy": greedy,
        "problems": len(held_out),
        "samples": settings.samples,
        "correct_count": batch.count("correct"),
        "incorrect_count": batch.count("incorrect"),
        "ungradable_count": batch.count("ungradable"),
        "grader_failure_count": batch.grader_failures,
        "completion_length_mean": float(lengths.mean()),
        "max_token_hit_rate": float(1 - batch.completions.finished_N.mean()),
        "eval_time_s": time.perf_counter() - started,
    }
    return Evaluation(row=row, problems=problem_rows(batch, step))


def problem_rows(batch: GradedBatch, step: int) -> list[dict[str, Any]]:
    """Return one row a held-out problem, from which intervals for new problems are made."""
    right_P = batch.rewards_PG.sum(axis=1).astype(int).tolist()
    return [
        {
            "step": step,
            "problem_id": problem.id,
            "subject": problem.subject,
            "level": problem.level,
            "correct_count": right,
            "samples": batch.completions.group_size,
        }
        for problem, right in zip(batch.problems, right_P, strict=True)
    ]


def check_start(row: Mapping[str, Scalar], config: TrainConfig) -> None:
    """Refuse a run whose accuracy before training does not fit `evaluation.start_band`.

    The evaluation is a sample: what is compared with the band is its exact 99.9 % interval, so
    that one run in thousands, and not one in twenty, is refused by chance.

    Raises:
        GateFailure: the wrong checkpoint, the wrong problems or the wrong template.
    """
    band = config.evaluation.start_band
    if band is None:
        return
    correct, total = int(row["correct_count"] or 0), _total(row)
    interval = clopper_pearson(correct, total, alpha=START_ALPHA)
    low, high = band
    if interval.high < low or interval.low > high:
        raise GateFailure(
            f"accuracy before training is {correct / total:.3f} on {row['problems']} held-out "
            f"problems (99.9 % interval {interval.low:.3f} to {interval.high:.3f}), outside "
            f"evaluation.start_band [{low:g}, {high:g}]: is this the right checkpoint?"
        )


def _total(row: Mapping[str, Scalar]) -> int:
    names = ("correct_count", "incorrect_count", "ungradable_count")
    return sum(int(row[name] or 0) for name in names)
