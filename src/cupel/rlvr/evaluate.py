"""Held-out evaluation: fixed problems, sampled at a fixed temperature and greedily.

Knows accuracy. Refuses to know training. The same problems and the same random numbers serve
every evaluation of a run, so that a difference between two evaluations is the policy's.
"""

from __future__ import annotations

import time

from cupel.errors import GateFailure
from cupel.lab.metrics import Scalar
from cupel.lab.recipe import RunContext
from cupel.policy.protocol import Policy
from cupel.rlvr.batch import EVALUATION_ROUND, sample_batch
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.problems import ProblemSet


def evaluate(
    policy: Policy, problems: ProblemSet, config: TrainConfig, context: RunContext, *, step: int
) -> dict[str, Scalar]:
    """Evaluate the policy after `step` updates; one row of evaluations.jsonl."""
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
    return {
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
        "completion_length_mean": float(lengths.mean()),
        "max_token_hit_rate": float(1 - batch.completions.finished_N.mean()),
        "eval_time_s": time.perf_counter() - started,
    }


def check_start(row: dict[str, Scalar], config: TrainConfig) -> None:
    """Refuse a run whose accuracy before training lies outside `evaluation.start_band`.

    Raises:
        GateFailure: the wrong checkpoint, the wrong problems or the wrong template.
    """
    band = config.evaluation.start_band
    accuracy = row["accuracy"]
    if band is None or not isinstance(accuracy, float):
        return
    low, high = band
    if not low <= accuracy <= high:
        raise GateFailure(
            f"accuracy before training is {accuracy:.3f} on {row['problems']} held-out problems, "
            f"outside evaluation.start_band [{low:g}, {high:g}]: is this the right checkpoint?"
        )
