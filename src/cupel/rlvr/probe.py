"""A few steps of a training run, and what the whole run will take by them.

Knows which parts of a run cost time: building the policy, steps, evaluations. Refuses to know how
many runs there are and where they run. Checkpoints are not counted: their cost is the disk's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from cupel.errors import DataError
from cupel.lab.estimate import Measured, Range, RunEstimate
from cupel.lab.recipe import RunContext
from cupel.lab.store import read_jsonl
from cupel.rlvr.config import BackPressureConfig, TrainConfig
from cupel.rlvr.evaluate import evaluate
from cupel.rlvr.forecast import forecast
from cupel.rlvr.train import open_state, policy_of, train_step

STEPS = 3
"""The first pays for first use and is told apart; two are the least that shows any scatter."""


def probe(config: TrainConfig, context: RunContext) -> Iterator[Measured]:
    """Build the policy, take three steps at the run's own settings, evaluate on a part.

    Evaluation samples as many completions as a step does, or all of them where that is fewer.
    Back pressure is off: its sweep is no ordinary step.

    Raises:
        RunError: a step fails.
    """
    plain = config.model_copy(update={"backpressure": BackPressureConfig()})
    started = time.perf_counter()
    state = open_state(plain, context, policy_of(plain, context))
    yield Measured(what="start", seconds=time.perf_counter() - started)
    for step in range(STEPS):
        started = time.perf_counter()
        train_step(state, plain, context, step)
        seconds = time.perf_counter() - started
        row = read_jsonl(context.folder / "metrics.jsonl")[-1]
        counts = _counts_of_step(row) | {"asked": float(plain.batch_size * plain.group_size)}
        yield Measured(what="step", seconds=seconds, counts=counts)
    part = _part(plain)
    found = evaluate(state.policy, state.problems, part, context, step=STEPS)
    settings = part.evaluation
    yield Measured(
        what="evaluation",
        seconds=float(found.row["eval_time_s"] or 0.0),
        counts={
            "completions": settings.problems * (settings.samples + int(settings.greedy)),
            "length_mean": float(found.row["completion_length_mean"] or 0.0),
        },
    )


def estimate_run(config: TrainConfig, measured: Sequence[Measured]) -> RunEstimate:
    """Say what a run of this config takes, from a probe of it or of a condition like it.

    Expected: every step as the warm ones of the probe, every evaluated completion as those of its
    evaluation. Low: the fastest step. High: the slowest, at completions of `max_tokens`.

    Raises:
        DataError: the probe took no step.
    """
    steps = [each for each in measured if each.what == "step"]
    if not steps:
        raise DataError("estimate_run: the probe took no step; give it more time")
    first, warm = steps[0], steps[1:] or steps
    size = config.batch_size * config.group_size
    each_s = [step.seconds / step.counts["completions"] for step in warm]
    slowest = max(step.seconds / step.counts["completions"] for step in steps)
    length = fmean(step.counts["tokens"] / step.counts["completions"] for step in warm)
    longer = config.max_tokens / length
    opened = sum(each.seconds for each in measured if each.what == "start")
    excess = max(0.0, first.seconds - fmean(each_s) * first.counts["completions"])
    evaluation, evaluated_length, assumption = _evaluation(measured, warm)
    rounds = 1.0
    if config.uninformative_groups == "resample":
        rounds = fmean(step.counts["completions"] / step.counts["asked"] for step in steps)
    training = config.max_steps * size * rounds
    costs = forecast(config).costs
    evaluated = costs["completions"] - costs["training completions"]
    tokens = training * length + evaluated * evaluated_length
    return RunEstimate(
        seconds=Range(
            low=opened + training * min(each_s) + evaluated * evaluation / 2,
            expected=opened + excess + training * fmean(each_s) + evaluated * evaluation,
            high=opened + excess + training * slowest * longer + evaluated * evaluation * longer,
        ),
        tokens=Range(low=tokens / 2, expected=tokens, high=max(costs["sampled tokens"], tokens)),
        assumptions=(
            f"completions stay {length:.0f} tokens long on average, as in the probe; low takes the "
            f"fastest step (tokens: half as many), high max_tokens = {config.max_tokens} for all",
            assumption,
            "a condition costs what the probed one costs a completion",
            "checkpoints are not counted",
        ),
    )


def _counts_of_step(row: dict[str, Any]) -> dict[str, float]:
    return {
        "completions": float(row["total_count"]),
        "tokens": float(row["sampled_tokens"]),
        "sample_s": float(row["sample_time_s"]),
        "train_s": float(row["train_time_s"]),
    }


def _part(config: TrainConfig) -> TrainConfig:
    """Return the config with an evaluation that samples about as much as a step."""
    settings = config.evaluation
    most = max(1, config.batch_size * config.group_size // settings.samples)
    fewer = settings.model_copy(update={"problems": min(settings.problems, most)})
    return config.model_copy(update={"evaluation": fewer})


def _evaluation(measured: Sequence[Measured], warm: Sequence[Measured]) -> tuple[float, float, str]:
    """Return seconds and tokens of an evaluated completion, and what they rest on."""
    for each in measured:
        if each.what == "evaluation":
            completions = each.counts["completions"]
            text = (
                f"evaluation costs a completion what {completions:.0f} of them cost; low takes "
                "half, as larger batches do better"
            )
            return each.seconds / completions, each.counts["length_mean"], text
    sampled = sum(step.counts["completions"] for step in warm)
    text = "no evaluation was reached: it is taken to cost what sampling in training costs"
    return (
        sum(step.counts["sample_s"] for step in warm) / sampled,
        sum(step.counts["tokens"] for step in warm) / sampled,
        text,
    )
