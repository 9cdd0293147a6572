"""The rows a training step leaves: metrics, emergence steps, and every completion.

Knows the documented keys and what each is computed from. Refuses to decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.lab.metrics import Scalar
from cupel.lab.recipe import RunContext
from cupel.policy.gate import SamplerStatistics
from cupel.policy.protocol import Scores, UpdateResult
from cupel.rlvr.advantages import group_outcomes
from cupel.rlvr.backpressure import Reading
from cupel.rlvr.batch import GradedBatch
from cupel.rlvr.credit import Moments, moments, sepa_pool
from cupel.rlvr.shaping import Shaping

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """All that one training step produced.

    Attributes:
        scores: of every row, under the policy before the update.
        update: the optimizer step, or None when no group was mixed.
        uncertainty_NT: uncertainty of every sampled token under the policy before the update.
        penalties_PG: overlong penalties, None where the run has none.
        sepa_gate_open: of the schedule state that this step used.
        pressure: what back pressure saw of this step, None where it is off.
    """

    step: int
    batch: GradedBatch
    shaping: Shaping
    scores: Scores
    update: UpdateResult | None
    uncertainty_NT: Float
    penalties_PG: Float | None
    sampler: SamplerStatistics
    sepa_gate_open: bool
    running_correct_rate: float
    sample_time_s: float
    train_time_s: float
    step_time_s: float
    pressure: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyMoments:
    """Moments of the uncertainty over all completions: off and on planning tokens, and off them
    after SEPA's pooling."""

    execution: Moments
    planning: Moments
    pooled: Moments


def entropy_moments(record: StepRecord) -> EntropyMoments:
    """Compute the moments with the one detector and the one uncertainty of the run."""
    shaping = record.shaping
    mask_NT, planning_NT = shaping.mask_NT, shaping.planning_NT
    pooled_NT = sepa_pool(
        record.uncertainty_NT, mask_NT, planning_NT, sepa_lambda=shaping.effective_lambda
    )
    return EntropyMoments(
        execution=moments(record.uncertainty_NT, mask_NT & ~planning_NT),
        planning=moments(record.uncertainty_NT, mask_NT & planning_NT),
        pooled=moments(pooled_NT, mask_NT & ~planning_NT),
    )


def metrics_row(
    record: StepRecord, found: EntropyMoments, context: RunContext
) -> dict[str, Scalar]:
    """Return the row of metrics.jsonl; missing values are None."""
    batch, config = record.batch, record.shaping.config
    groups = group_outcomes(batch.rewards_PG)
    lengths_N = batch.completions.lengths_N
    tokens = int(lengths_N.sum())
    return {
        "step": record.step,
        "condition": context.condition,
        "seed": context.seed,
        "algorithm": config.label,
        "advantage_mode": config.advantage_mode,
        "transform_mode": config.transform_mode,
        "uncertainty_kind": config.uncertainty_kind,
        "status": "skipped" if record.update is None else "trained",
        "correct_rate": batch.correct_rate,
        "running_correct_rate": record.running_correct_rate,
        "mean_reward": float(batch.rewards_PG.mean()),
        "correct_count": batch.count("correct"),
        "incorrect_count": batch.count("incorrect"),
        "ungradable_count": batch.count("ungradable"),
        "grader_failure_count": batch.grader_failures,
        "total_count": batch.size,
        "groups_all_right": groups.all_right,
        "groups_all_wrong": groups.all_wrong,
        "groups_mixed": groups.mixed,
        "sampling_rounds": batch.rounds,
        **_update_columns(record),
        **_mask_columns(record),
        "sampler_kl": record.sampler.sampler_kl,
        "sampler_ratio_mean": record.sampler.sampler_ratio_mean,
        "sampler_gap_max": record.sampler.sampler_gap_max,
        "completion_length_mean": float(lengths_N.mean()),
        "completion_length_max": int(lengths_N.max()),
        "max_token_hit_rate": float(1 - batch.completions.finished_N.mean()),
        "distinct_in_group": batch.distinct_in_group,
        "exec_entropy_mean": found.execution.mean,
        "exec_entropy_var": found.execution.variance,
        "plan_entropy_mean": found.planning.mean,
        "plan_entropy_var": found.planning.variance,
        "exec_token_count": found.execution.count,
        "plan_token_count": found.planning.count,
        "planning_token_rate": found.planning.count / tokens,
        "post_exec_entropy_var": found.pooled.variance,
        "sepa_lambda": record.shaping.effective_lambda,
        "sepa_gate_open": record.sepa_gate_open,
        **_pressure_columns(record.pressure),
        "sampled_tokens": tokens,
        "sample_time_s": record.sample_time_s,
        "train_time_s": record.train_time_s,
        "step_time_s": record.step_time_s,
        "tokens_per_second": tokens / record.step_time_s,
    }


def _pressure_columns(reading: Reading | None) -> dict[str, Scalar]:
    names = (
        *("action", "warmup", "concurrency", "throughput"),
        *("p_star", "sigma", "kappa", "utilization"),
    )
    if reading is None:
        return {"bp_regime": "off", **{f"bp_{name}": None for name in names}}
    return {f"bp_{name}": getattr(reading, name) for name in ("regime", *names)}


def _update_columns(record: StepRecord) -> dict[str, Scalar]:
    update = record.update
    names = (
        *("loss", "grad_norm", "ratio_mean", "ratio_max", "clip_fraction"),
        *("reference_kl", "sampler_truncated_rate"),
    )
    rate: dict[str, Scalar] = {"learning_rate": record.shaping.learning_rate}
    if update is None:
        counts = dict.fromkeys(("groups_trained", "num_datums", "trained_tokens"), 0)
        return {**counts, **rate, **dict.fromkeys(names)}
    rows = int(record.shaping.trained_N.sum())
    columns: dict[str, Scalar] = {
        "groups_trained": rows // record.shaping.config.group_size,
        "num_datums": rows,
        "trained_tokens": update.trained_tokens,
    }
    return columns | rate | {name: getattr(update, name) for name in names}


def _mask_columns(record: StepRecord) -> dict[str, Scalar]:
    """Return what the entropy mask kept and the length penalty took; None where there is none."""
    shaping, penalties_PG = record.shaping, record.penalties_PG
    threshold = shaping.threshold(record.uncertainty_NT)
    kept = None
    if threshold is not None:
        used_NT = shaping.mask_NT & shaping.trained_N[:, None]
        kept = float((record.uncertainty_NT[used_NT] >= threshold).mean())
    return {
        "entropy_threshold": threshold,
        "credited_token_rate": kept,
        "overlong_penalty_mean": None if penalties_PG is None else float(penalties_PG.mean()),
    }


def emergence_step_row(
    record: StepRecord, found: EntropyMoments, context: RunContext
) -> dict[str, Any]:
    """Return the row of emergence/steps.jsonl, with the fields that the litmus needs."""
    batch = record.batch
    _, _, delta_N = gram_statistics(
        record.shaping.mask_NT, record.shaping.planning_NT, record.uncertainty_NT
    )
    paired_N = delta_N[~np.isnan(delta_N)]
    return {
        "step": record.step,
        "condition": context.condition,
        "seed": context.seed,
        "mean_reward": float(batch.rewards_PG.mean()),
        "correct_count": batch.count("correct"),
        "total_count": batch.size,
        "ungradable_count": batch.count("ungradable"),
        "mean_completion_length": float(batch.completions.lengths_N.mean()),
        "max_tokens_hit_rate": float(1 - batch.completions.finished_N.mean()),
        "planning_token_ratio": found.planning.count / int(batch.completions.lengths_N.sum()),
        "gram_entropy_delta": float(paired_N.mean()) if paired_N.size else None,
        "gram_entropy_pair_count": int(paired_N.size),
        "exec_entropy_mean": found.execution.mean,
        "exec_entropy_var": found.execution.variance,
        "plan_entropy_mean": found.planning.mean,
        "plan_entropy_var": found.planning.variance,
        "sepa_lambda": record.shaping.effective_lambda,
        "sepa_gate_open": record.sepa_gate_open,
    }


def generation_rows(record: StepRecord) -> list[dict[str, Any]]:
    """Return one row a completion for emergence/generations.jsonl, uniform groups included.

    `gram_entropy_delta` is the mean uncertainty on planning tokens minus that off them; missing
    where a completion has only one kind.
    """
    batch = record.batch
    lengths, finished = batch.completions.lengths_N.tolist(), batch.completions.finished_N.tolist()
    _, ratio_N, delta_N = gram_statistics(
        record.shaping.mask_NT, record.shaping.planning_NT, record.uncertainty_NT
    )
    group = batch.completions.group_size
    rows = []
    for n, grade in enumerate(batch.grades):
        problem = batch.problems[n // group]
        row: dict[str, Any] = {
            "step": record.step,
            "problem_id": problem.id,
            "group": n // group,
            "sample": n % group,
            "prompt": problem.prompt,
            "completion": batch.texts[n],
            "reward": grade.reward,
            "correct": grade.correct,
            "answer": problem.answer,
            "answer_found": grade.answer_found,
            "ungradable_cause": grade.cause,
            "finish_reason": "stop" if finished[n] else "length",
            "num_tokens": lengths[n],
            "planning_token_ratio": round(float(ratio_N[n]), 6),
            "gram_entropy_delta": None if np.isnan(delta_N[n]) else round(float(delta_N[n]), 6),
            "metadata": {"correctness": grade.correct},
        }
        if record.shaping.config.log_tokens:
            row |= _token_columns(record, n, lengths[n])
        rows.append(row)
    return rows


def gram_statistics(
    mask_NT: NDArray[np.bool_], planning_NT: NDArray[np.bool_], uncertainty_NT: Float
) -> tuple[NDArray[np.int64], Float, Float]:
    """Return per completion: planning tokens, their share, and uncertainty on minus off them.

    The difference is NaN where a completion has no planning or no other token.
    """
    on_NT, off_NT = planning_NT & mask_NT, ~planning_NT & mask_NT
    planned_N, other_N = on_NT.sum(axis=1), off_NT.sum(axis=1)
    sum_on_N = np.einsum("nt,nt->n", uncertainty_NT, on_NT.astype(np.float64))
    sum_off_N = np.einsum("nt,nt->n", uncertainty_NT, off_NT.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        delta_N = sum_on_N / planned_N - sum_off_N / other_N
    return planned_N, planned_N / (planned_N + other_N), delta_N


def _token_columns(record: StepRecord, n: int, length: int) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "tokens": record.batch.completions.tokens_NT[n, :length].tolist(),
        "logprobs": _rounded(record.scores.logprobs_NT[n, :length]),
        "planning": record.shaping.planning_NT[n, :length].astype(int).tolist(),
    }
    if record.scores.entropies_NT is not None:
        columns["entropies"] = _rounded(record.scores.entropies_NT[n, :length])
    return columns


def _rounded(values_T: NDArray[np.float32]) -> list[float]:
    return [round(value, 5) for value in values_T.tolist()]
