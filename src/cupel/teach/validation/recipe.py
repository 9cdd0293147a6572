"""Phase 1B: does a moment's patch gain foretell what training on it brings?

From the same start, again and again: a few updates on one moment in the format its patch test
chose, and success from that state measured before and after. Refuses to reuse a rollout of the
labels, for then both sides would share their luck, and to call a correlation foresight without
the partial one beside it. The verdict is data: a run that says "revise" is complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupel.errors import PlanError
from cupel.lab.files import read_json_lines
from cupel.lab.metrics import Metric
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.labelling.files import read_labels
from cupel.teach.labelling.labels import Estimate, LabelledMoment
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Query, Student
from cupel.teach.validation.config import (
    METRICS,
    Candidate,
    Sample,
    ValidateConfig,
    sample_of,
    with_micro_defaults,
)
from cupel.teach.validation.measure import Measured, Meter
from cupel.teach.validation.report import conclude

if TYPE_CHECKING:
    from cupel.teach.students.language import LanguageStudent
    from cupel.teach.training.sft import Trainer

ROWS = "micro_training.jsonl"


class ValidateRecipe:
    """`teach.validate`: micro-training on single moments."""

    name = "teach.validate"
    config_type = ValidateConfig
    streams: Mapping[str, Sequence[Metric] | None] = {"metrics.jsonl": METRICS, ROWS: None}
    preload = ("cupel.teach.validation.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Lay the student's defaults under what the user passed."""
        return with_micro_defaults(data)

    def forecast(self, config: ValidateConfig) -> Forecast:
        """Count the trainings; refuse a student without weights."""
        if config.student.backend == "uniform":
            raise PlanError(
                "teach.validate: student.backend 'uniform' has nothing to train; use tiny or torch"
            )
        sample = sample_of(config, read_labels(Path(config.labels)))
        n = len(sample.candidates)
        notes = [f"{name}: {count} moments of {sample.asked}" for name, count in _short(sample)]
        costs = {"steps": n, "updates": n * config.micro.n_steps}
        return Forecast(costs=costs, notes=notes, preload=("torch",))

    def run(self, config: ValidateConfig, context: RunContext) -> Result:
        """Train on each moment, then correlate."""
        return validate_labels(config, context)


RECIPE = ValidateRecipe()


def validate_labels(config: ValidateConfig, context: RunContext) -> Result:
    """Run phase 1B, or continue it behind its last block."""
    labels = read_labels(Path(config.labels))
    sample = sample_of(config, labels)
    done = 0
    if context.resume is None:
        _tell(sample, context)
    else:
        done = int(context.resume.state["done"])
    if done < len(sample.candidates):
        trainer = _trainer(config, context)
        start = trainer.weights()
        meter = Meter(config, context.randomness)
        retained = meter.retention(_student(config, trainer))
        for first in range(done, len(sample.candidates), config.block):
            block = sample.candidates[first : first + config.block]
            trainer.reset(start)
            for number, row in enumerate(_block(config, block, trainer, meter, retained), first):
                context.recorder.log(ROWS, row)
                context.recorder.log("metrics.jsonl", _metrics_row(number, row, context))
            done = first + len(block)
            context.checkpoints.save(done, lambda _: None, {"done": done})
    rows = read_json_lines(context.folder / ROWS)
    return conclude(config, context, sample, rows)


def _block(
    config: ValidateConfig,
    block: Sequence[Candidate],
    trainer: Trainer,
    meter: Meter,
    retained: float | None,
) -> list[dict[str, Any]]:
    """Return the rows of a block; each training starts from the weights found here."""
    start = trainer.weights()
    base = _student(config, trainer)
    before = meter.success(base, [each.label.moment.snapshot for each in block])
    log_before = _log_pi(base, [each.label for each in block])
    items = trainer.items([each.example for each in block])
    rows = []
    for each, item, was, log_was in zip(block, items, before, log_before, strict=True):
        trainer.reset(start)
        losses = [
            trainer.step([item], config.micro.learning_rate, number=number).loss
            for number in range(config.micro.n_steps)
        ]
        tuned = _student(config, trainer)
        (now,) = meter.success(tuned, [each.label.moment.snapshot])
        (log_now,) = _log_pi(tuned, [each.label])
        kept = (retained, meter.retention(tuned))
        rows.append(_row(each, was, now, losses, (log_was, log_now), kept))
    trainer.reset(start)
    return rows


def _row(
    each: Candidate,
    was: Measured,
    now: Measured,
    losses: Sequence[float],
    log_pi: tuple[float, float],
    kept: tuple[float | None, float | None],
) -> dict[str, Any]:
    """Return one row of micro_training_results.json: the documented keys, then ours."""
    test = each.label.patch_test
    assert test is not None
    gain = test.gain_net.get(each.route)
    return {
        "snapshot_id": each.label.id,
        "quadrant": each.label.quadrant,
        "task_id": each.label.moment.task_id,
        "route_net": test.route_net,
        "cpt_elp_net": test.ELP_net,
        "base_success_rate": was.success,
        "base_reward_mean": was.reward,
        "base_steps_mean": was.steps,
        "base_retention": kept[0],
        "train_loss": losses[0],
        "tuned_success_rate": now.success,
        "tuned_reward_mean": now.reward,
        "tuned_steps_mean": now.steps,
        "delta_success_rate": _less(now.success, was.success),
        "delta_reward_mean": _less(now.reward, was.reward),
        "delta_steps_mean": _less(now.steps, was.steps),
        "tuned_retention": kept[1],
        "delta_retention": _less(kept[1], kept[0]),
        "route": each.route,
        "cpt_gain": None if gain is None else gain.value,
        "cpt_noise": None if gain is None else _variance(gain),
        "cpt_elp_split": None if test.ELP_split is None else test.ELP_split.value,
        "cpt_p_base": test.p_base.value,
        "U": each.label.U,
        "L_local": None if each.label.leverage is None else each.label.leverage.L_local.value,
        "answer_in_prompt": each.example.answer_in_prompt,
        "train_loss_last": losses[-1],
        "log_pi_expert_before": log_pi[0],
        "log_pi_expert_after": log_pi[1],
        "delta_log_pi": log_pi[1] - log_pi[0],
        "values": was.mode,
        "base_lo": was.lo,
        "base_hi": was.hi,
        "tuned_lo": now.lo,
        "tuned_hi": now.hi,
        "effect_noise": was.noise + now.noise,
        "n_rollouts": was.n,
        "n_errors": was.errors + now.errors,
    }


def _metrics_row(number: int, row: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    cell = {"step": number, "condition": context.condition, "seed": context.seed}
    return cell | {metric.name: row[metric.name] for metric in METRICS[3:]}


def _tell(sample: Sample, context: RunContext) -> None:
    for name, count in _short(sample):
        context.recorder.event(f"{name}: {count} moments of {sample.asked}")
    for reason, count in sample.dropped.items():
        context.recorder.event(f"{count} moments left out: {reason}")


def _short(sample: Sample) -> list[tuple[str, int]]:
    return list(sample.short.items())


def _trainer(config: ValidateConfig, context: RunContext) -> Trainer:
    from cupel.teach.students.language import LanguageStudent, build_student
    from cupel.teach.training.sft import Trainer

    student = build_student(
        config.student, device=context.slot.device, threads=context.slot.threads, cache=None
    )
    assert isinstance(student, LanguageStudent)
    return Trainer(student.policy, config.micro.sft(), seed=context.seed)


def _student(config: ValidateConfig, trainer: Trainer) -> LanguageStudent:
    """Return the model as it is now, with an empty memory."""
    from cupel.policy.distribution_cache import DistributionCache
    from cupel.teach.students.language import LanguageStudent

    return LanguageStudent(trainer.policy, config.student, DistributionCache(None))


def _log_pi(student: Student, labels: Sequence[LabelledMoment]) -> list[float]:
    """Return log pi(teacher's action) in the plain prompt of each moment."""
    queries, answers = [], []
    for label in labels:
        moment, hint = label.moment, label.hint
        assert hint is not None
        prompt = build_prompt(moment.task, moment.observation, moment.valid_actions)
        queries.append(Query(prompt=prompt, actions=moment.valid_actions))
        answers.append(moment.valid_actions.index(str(hint.suggested_action)))
    found = student.distributions(queries)
    floor = float(np.finfo(np.float64).tiny)
    return [
        math.log(max(float(probs[at]), floor)) for probs, at in zip(found, answers, strict=True)
    ]


def _variance(gain: Estimate) -> float:
    """Return a sampled gain's variance, read from its 95 % interval; 0 where it is exact."""
    return 0.0 if gain.n is None else ((gain.hi - gain.lo) / (2 * 1.959964)) ** 2


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
