"""Held-out evaluation: fixed problems, sampled at a fixed temperature and greedily.

Knows how problems are asked, and the rows of one evaluation. Refuses to know training. The same
problems and the same random numbers serve every evaluation of a run, so that a difference between
two evaluations is the policy's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cupel.errors import GateFailure
from cupel.lab.metrics import Scalar
from cupel.lab.randomness import Randomness
from cupel.lab.ranks import ALONE, Ranks
from cupel.lab.recipe import RunContext
from cupel.policy.protocol import Policy
from cupel.rlvr.batch import EVALUATION_ROUND, GradedBatch, sample_batch
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.evaluation_rates import GREEDY, ProblemScore, rate_rows, rates
from cupel.rlvr.grading import Outcome
from cupel.rlvr.problems import Problem, ProblemSet
from cupel.stats.intervals import clopper_pearson

START_ALPHA = 0.001
"""Chance of refusing a start that lies at the very edge of its band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The row of evaluations.jsonl, and those of evaluation_problems and evaluation_rates."""

    row: dict[str, Scalar]
    problems: list[dict[str, Any]]
    rates: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over sampled completions; sums of parts are the sum of the whole."""

    completions: int
    correct_count: int
    incorrect_count: int
    ungradable_count: int
    grader_failure_count: int
    tokens: int
    finished: int


def evaluate(
    policy: Policy, problems: ProblemSet, config: TrainConfig, context: RunContext, *, step: int
) -> Evaluation:
    """Evaluate the policy after `step` updates."""
    started = time.perf_counter()
    held_out = problems.held_out(config.evaluation.problems)
    batch = ask(policy, held_out, config, context.randomness, ranks=context.ranks)
    greedy = None
    if config.evaluation.greedy:
        greedy = ask(policy, held_out, config, context.randomness, greedy=True, ranks=context.ranks)
    scores = problem_scores(batch, None if greedy is None else outcomes(greedy))
    row: dict[str, Scalar] = {
        "step": step,
        "condition": context.condition,
        "seed": context.seed,
        **summary(scores, totals(batch), config),
        "eval_time_s": time.perf_counter() - started,
    }
    return Evaluation(
        row=row,
        problems=problem_rows(scores, step=step),
        rates=rate_rows(scores, reported(config), step=step),
    )


def ask(
    policy: Policy,
    problems: Sequence[Problem],
    config: TrainConfig,
    randomness: Randomness,
    *,
    greedy: bool = False,
    first_place: int = 0,
    ranks: Ranks = ALONE,
) -> GradedBatch:
    """Sample held-out problems as `config.evaluation` says, or decode them greedily, once each.

    Args:
        first_place: place of the first problem among all that are evaluated.
        ranks: the processes that hold the policy.
    """
    settings = config.evaluation
    return sample_batch(
        policy,
        problems,
        config,
        randomness,
        purpose=EVALUATION_ROUND,
        round_number=0,
        group_size=1 if greedy else settings.samples,
        temperature=0.0 if greedy else settings.temperature,
        top_p=1.0 if greedy else settings.top_p,
        first_place=first_place,
        ranks=ranks,
    )


def outcomes(batch: GradedBatch) -> list[Outcome]:
    """Return the outcome of every completion."""
    return [grade.outcome for grade in batch.grades]


def problem_scores(batch: GradedBatch, greedy_P: Sequence[Outcome] | None) -> list[ProblemScore]:
    """Count the outcomes of every problem.

    Args:
        greedy_P: outcomes of greedy decoding, one a problem; None when it was not measured.
    """
    group, found = batch.completions.group_size, outcomes(batch)
    scores = []
    for place, problem in enumerate(batch.problems):
        own = found[place * group : (place + 1) * group]
        scores.append(
            ProblemScore(
                problem_id=problem.id,
                subject=problem.subject,
                level=problem.level,
                correct_count=own.count("correct"),
                ungradable_count=own.count("ungradable"),
                samples=group,
                greedy=None if greedy_P is None else greedy_P[place],
            )
        )
    return scores


def problem_rows(scores: Sequence[ProblemScore], *, step: int) -> list[dict[str, Any]]:
    """Return one row a held-out problem, from which intervals for new problems are made."""
    return [{"step": step, **asdict(score)} for score in scores]


def totals(batch: GradedBatch) -> Totals:
    """Sum up a batch."""
    return Totals(
        completions=batch.size,
        correct_count=batch.count("correct"),
        incorrect_count=batch.count("incorrect"),
        ungradable_count=batch.count("ungradable"),
        grader_failure_count=batch.grader_failures,
        tokens=int(batch.completions.lengths_N.sum()),
        finished=int(batch.completions.finished_N.sum()),
    )


def summary(scores: Sequence[ProblemScore], sums: Totals, config: TrainConfig) -> dict[str, Scalar]:
    """Return what evaluations.jsonl says of one evaluation, apart from whose and when it was.

    pass@k stands there when there is more than one sample a problem.
    """
    found = {rate.metric: rate.value for rate in rates(scores, reported(config))}
    return {
        "accuracy": sums.correct_count / sums.completions,
        GREEDY: found.get(GREEDY),
        **{name: value for name, value in found.items() if name.startswith("pass@")},
        "problems": len(scores),
        "samples": config.evaluation.samples,
        "correct_count": sums.correct_count,
        "incorrect_count": sums.incorrect_count,
        "ungradable_count": sums.ungradable_count,
        "grader_failure_count": sums.grader_failure_count,
        "completion_length_mean": sums.tokens / sums.completions,
        "max_token_hit_rate": 1 - sums.finished / sums.completions,
    }


def reported(config: TrainConfig) -> tuple[int, ...]:
    """Return every k of pass@k that is reported: none when each problem has one sample."""
    return config.evaluation.pass_at if config.evaluation.samples > 1 else ()


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
