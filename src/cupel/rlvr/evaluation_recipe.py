"""The recipe `rlvr.evaluate`: held-out problems put to one checkpoint or model, in parts.

Knows the files of an evaluation and in which order its parts are decoded. Refuses to compute a
number from anything but the rows it wrote. A part is what the policy decodes side by side, so that
the same arithmetic is done as in the training's own evaluations, and a killed evaluation continues
at its next part to the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.lab.files import read_json_lines
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.policy.protocol import Policy
from cupel.rlvr.batch import GradedBatch
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.evaluate import (
    Totals,
    ask,
    problem_rows,
    problem_scores,
    reported,
    summary,
    totals,
)
from cupel.rlvr.evaluation_config import EvaluateConfig, changes, with_defaults
from cupel.rlvr.evaluation_rates import ProblemScore, rate_rows, score_of
from cupel.rlvr.forecast import PRELOAD, check_backend
from cupel.rlvr.graders import check_grader, describe_grader
from cupel.rlvr.grading import Outcome
from cupel.rlvr.metrics import EVALUATED, PARTS
from cupel.rlvr.problems import Problem, load_problems
from cupel.rlvr.train import policy_of
from cupel.rlvr.trained import seal_of, training_of

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"
PROBLEMS, RATES = "evaluation_problems.jsonl", "evaluation_rates.jsonl"
GENERATIONS, GREEDY_GENERATIONS = "emergence/generations.jsonl", "emergence/greedy.jsonl"

_SUMMED = {
    "completions": "completions",
    "correct": "correct_count",
    "incorrect": "incorrect_count",
    "ungradable_count": "ungradable_count",
    "grader_failure_count": "grader_failure_count",
    "tokens": "tokens",
    "finished": "finished",
}
"""Keys of metrics.jsonl by the total they hold. Parts decoded greedily and sampled ones are no
series of a rate, so no key may be taken for one."""

SEEDS_NOTE = (
    "the seeds of an evaluation draw samples, not trainings: what is found holds for these "
    "checkpoints, never for the methods that trained them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Problems `first` to `last` - 1, decoded side by side."""

    decoding: Literal["greedy", "sampled"]
    first: int
    last: int


class EvaluateRecipe:
    """`rlvr.evaluate`: held-out problems put to one checkpoint or model."""

    name = "rlvr.evaluate"
    config_type = EvaluateConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        METRICS: PARTS,
        EVALUATIONS: EVALUATED,
        PROBLEMS: None,
        RATES: None,
        GENERATIONS: None,
        GREEDY_GENERATIONS: None,
    }
    preload = ("cupel.rlvr.evaluation_recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Name the very checkpoint, and take from its training what the user did not pass."""
        return with_defaults(data)

    def forecast(self, config: EvaluateConfig) -> Forecast:
        """Bound the completions; refuse what cannot be evaluated before anything is written."""
        train = config.as_training
        check_backend(train)
        check_grader(train.problems)
        problems = load_problems(train.problems)
        count = len(problems.held_out(train.evaluation.problems))
        completions = count * (train.evaluation.samples + int(train.evaluation.greedy))
        return Forecast(
            preload=PRELOAD[config.backend],
            costs={
                "steps": float(len(parts(train))),
                "completions": float(completions),
                "sampled tokens": float(completions * config.max_tokens),
            },
            notes=(*problems.notes, *changed(config), SEEDS_NOTE),
        )

    def run(self, config: EvaluateConfig, context: RunContext) -> Result:
        """Decode part after part, then count from the rows."""
        return evaluate_checkpoint(config, context)


RECIPE = EvaluateRecipe()


def evaluate_checkpoint(
    config: EvaluateConfig, context: RunContext, policy: Policy | None = None
) -> Result:
    """Evaluate from the start, or from the part after the checkpoint in `context`.

    Args:
        policy: load the checkpoint into this one instead of building the one `config` names.

    Raises:
        DataError: the checkpoint is not the one that was planned, or is of another model.
    """
    train = config.as_training
    step, source = _source(config)
    policy = policy or policy_of(train, context)
    if config.checkpoint is not None:
        policy.load(Path(config.checkpoint))
    weights = policy.weights_sha256()
    done = context.resume.state["done"] if context.resume is not None else 0
    if done == 0:
        context.recorder.event(f"evaluates {source}, weights {weights}")
        context.recorder.event(f"policy: {canonical_json(policy.describe())}")
        context.recorder.event(f"grader: {canonical_json(describe_grader(train.problems))}")
        context.recorder.event(f"prompt template: {train.problems.template!r}")
        for change in changed(config):
            context.recorder.event(change)
    problems = load_problems(train.problems).held_out(train.evaluation.problems)
    todo = parts(train)
    greedy: list[Outcome] | None = None
    for number, part in enumerate(todo[done:], start=done):
        context.recorder.doing = f"{part.decoding}, part {number + 1} of {len(todo)}"
        started = time.perf_counter()
        if part.decoding == "sampled" and train.evaluation.greedy and greedy is None:
            greedy = greedy_outcomes(context.folder)
        batch = answer(part, problems, policy, train, context)
        if part.decoding == "sampled":
            own = None if greedy is None else greedy[part.first : part.last]
            scores = problem_scores(batch, own)
            context.recorder.log_many(PROBLEMS, problem_rows(scores, step=step))
        row = part_row(part, batch, context, number=number)
        context.recorder.log(METRICS, {**row, "part_time_s": time.perf_counter() - started})
        context.checkpoints.save(number + 1, lambda folder: None, {"done": number + 1})
    return conclude(train, context, step=step, weights=weights)


def parts(config: TrainConfig) -> list[Part]:
    """Cut the problems into what the policy decodes side by side; greedy decoding comes first."""
    settings, rows = config.evaluation, config.policy.sample_rows
    sizes: dict[Literal["greedy", "sampled"], int] = {"greedy": rows} if settings.greedy else {}
    sizes["sampled"] = max(1, rows // settings.samples)
    return [
        Part(decoding=decoding, first=first, last=min(first + size, settings.problems))
        for decoding, size in sizes.items()
        for first in range(0, settings.problems, size)
    ]


def answer(
    part: Part,
    problems: Sequence[Problem],
    policy: Policy,
    config: TrainConfig,
    context: RunContext,
) -> GradedBatch:
    """Decode one part and write its completions."""
    greedy = part.decoding == "greedy"
    batch = ask(
        policy,
        problems[part.first : part.last],
        config,
        context.randomness,
        greedy=greedy,
        first_place=part.first,
    )
    stream = GREEDY_GENERATIONS if greedy else GENERATIONS
    context.recorder.log_many(stream, completion_rows(batch, first_place=part.first))
    return batch


def part_row(
    part: Part, batch: GradedBatch, context: RunContext, *, number: int
) -> dict[str, Scalar]:
    """Return the part's row of metrics.jsonl, without its time."""
    sums = totals(batch)
    return {
        "step": number,
        "condition": context.condition,
        "seed": context.seed,
        "decoding": part.decoding,
        "problems": part.last - part.first,
        **{name: getattr(sums, field) for name, field in _SUMMED.items()},
    }


def completion_rows(batch: GradedBatch, *, first_place: int) -> list[dict[str, Any]]:
    """Return one row a completion, keyed as the completions of a training are.

    `step` is 0: all completions of an evaluation belong to one batch, and those of two
    evaluations are compared problem by problem.
    """
    lengths, finished = batch.completions.lengths_N.tolist(), batch.completions.finished_N.tolist()
    size = batch.completions.group_size
    rows = []
    for n, grade in enumerate(batch.grades):
        problem = batch.problems[n // size]
        rows.append(
            {
                "step": 0,
                "problem_id": problem.id,
                "group": first_place + n // size,
                "sample": n % size,
                "subject": problem.subject,
                "level": problem.level,
                "prompt": problem.prompt,
                "completion": batch.texts[n],
                "reward": grade.reward,
                "correct": grade.correct,
                "answer": problem.answer,
                "answer_found": grade.answer_found,
                "outcome": grade.outcome,
                "finish_reason": "stop" if finished[n] else "length",
                "num_tokens": lengths[n],
                "metadata": {"correctness": grade.correct},
            }
        )
    return rows


def greedy_outcomes(folder: Path) -> list[Outcome]:
    """Return the outcomes of greedy decoding, in the order of the problems."""
    return [row["outcome"] for row in read_json_lines(folder / GREEDY_GENERATIONS)]


def conclude(config: TrainConfig, context: RunContext, *, step: int, weights: str | None) -> Result:
    """Count from the rows on disk, and write the rates and the one evaluation row."""
    scores = read_scores(context.folder)
    sums = _sums(read_json_lines(context.folder / METRICS))
    found = summary(scores, sums, config)
    seconds = sum(row["part_time_s"] for row in read_json_lines(context.folder / METRICS))
    context.recorder.log_many(RATES, rate_rows(scores, reported(config), step=step))
    context.recorder.log(
        EVALUATIONS,
        {
            "step": step,
            "condition": context.condition,
            "seed": context.seed,
            **found,
            "eval_time_s": seconds,
            "weights_sha256": weights,
        },
    )
    return Result(values={"step": step, **found, "weights_sha256": weights})


def read_scores(folder: Path) -> list[ProblemScore]:
    """Read what became of every problem of an evaluation.

    Raises:
        DataError: the rows are missing or damaged.
    """
    path = folder / PROBLEMS
    rows = read_json_lines(path)
    return [score_of(row, where=f"{path}:{number}") for number, row in enumerate(rows, start=1)]


def changed(config: EvaluateConfig) -> list[str]:
    """Return in words what is asked otherwise than in the training's own evaluations."""
    if config.checkpoint is None:
        return []
    found = changes(config, training_of(Path(config.checkpoint)).config)
    return [f"changed: {change}" for change in found]


def _source(config: EvaluateConfig) -> tuple[int, str]:
    """Return the updates that the weights had, and whose they are; verify a checkpoint."""
    if config.checkpoint is None:
        return 0, f"the {config.backend} model {config.model or 'as it ships'}"
    folder = Path(config.checkpoint)
    if seal_of(folder) != config.checkpoint_sha256:
        raise DataError(
            f"{folder}: another checkpoint than the one this evaluation was planned for; the "
            "training was done again. Evaluate it anew, in another folder"
        )
    step = int(folder.name.removeprefix("step_"))
    return step, f"step {step} of {folder.parent.parent.name}"


def _sums(rows: Sequence[Mapping[str, Any]]) -> Totals:
    """Add the parts that were sampled."""
    sampled = [row for row in rows if row["decoding"] == "sampled"]
    return Totals(**{f: sum(row[name] for row in sampled) for name, f in _SUMMED.items()})
