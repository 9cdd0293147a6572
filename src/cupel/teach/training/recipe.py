"""One run of the training matrix: choose moments, train on them, evaluate before and after.

Reads like the run: rows, examples, updates, a model folder, two evaluations. Refuses to train on
a task of another split than train, and to stand one selection in for another. What a rule, a
format, an update and an evaluation are stands elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupel.errors import DataError
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.evaluation.judging import (
    Panel,
    evaluate_model,
    retention_pass,
    summary,
)
from cupel.teach.evaluation.panel import build_panel, evaluation_tasks, refuse_trained
from cupel.teach.labelling.files import read_labels
from cupel.teach.students.student import Student
from cupel.teach.training.config import (
    EVALUATIONS,
    TRAINING,
    FinetuneConfig,
    forecast_of,
    moments_of,
    supervision_of,
    with_student_defaults,
)
from cupel.teach.training.record import MODEL, by_quadrant, retention, write_configs
from cupel.teach.training.rehearsal import rehearsed
from cupel.teach.training.sft_config import rate_at, steps_per_epoch, total_steps
from cupel.teach.training.supervision import Supervision

if TYPE_CHECKING:
    from cupel.teach.training.sft import Item, Trainer


class FinetuneRecipe:
    """`teach.finetune`: one training of the matrix with its evaluations."""

    name = "teach.finetune"
    config_type = FinetuneConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": TRAINING,
        "evaluations.jsonl": EVALUATIONS,
        "episodes.jsonl": None,
    }
    preload = ("cupel.teach.training.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Lay the student's defaults under what the user passed."""
        return with_student_defaults(data)

    def forecast(self, config: FinetuneConfig) -> Forecast:
        """Count updates; refuse what cannot be trained."""
        return forecast_of(config)

    def run(self, config: FinetuneConfig, context: RunContext) -> Result:
        """Train and evaluate."""
        return finetune(config, context)


RECIPE = FinetuneRecipe()


@dataclass(slots=True, kw_only=True)
class _Judge:
    """Evaluates one student after another on the same tasks and failure states.

    Attributes:
        kept: by test task, whether the start solves it in a pass that is not scored.
        rows: the latest evaluation's numbers; first: the first one's.
    """

    config: FinetuneConfig
    context: RunContext
    name: str
    tasks: tuple[int, ...]
    panel: Panel
    kept: dict[str, bool | None] = field(default_factory=dict)
    first: dict[str, Scalar] = field(default_factory=dict)
    latest: dict[str, Scalar] = field(default_factory=dict)

    def measure_retention(self, start: Student) -> None:
        """Find the tasks that the start solves, in a pass of its own."""
        self.context.recorder.doing = "retention pass"
        self.kept = retention_pass(
            start,
            self.config.evaluation,
            tasks=self.tasks,
            randomness=self.context.randomness,
        )

    def evaluate(self, student: Student, step: int, *, trained: bool) -> None:
        """Evaluate after `step` updates and write the rows."""
        self.context.recorder.doing = "evaluating"
        rows = evaluate_model(
            student,
            self.config.evaluation,
            tasks=self.tasks,
            panel=self.panel,
            randomness=self.context.randomness,
            model=self.name if trained else "BASE",
            train_seed=self.context.seed if trained else None,
        )
        recorder = self.context.recorder
        recorder.log_many("episodes.jsonl", ({"step": step, **row.to_row()} for row in rows))
        numbers = summary(rows) | by_quadrant(rows) | retention(rows, self.kept)
        cell = {"step": step, "condition": self.context.condition, "seed": self.context.seed}
        recorder.log("evaluations.jsonl", {**cell, **numbers})
        self.first = self.first or numbers
        self.latest = numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """What is taught, and what is to be kept meanwhile."""

    items: Sequence[Item]
    kept: Sequence[Item]

    def rehearsal_of(self, step: int, size: int, context: RunContext) -> list[Item]:
        """Draw the rehearsed items of one update, as many as it has examples."""
        if not self.kept:
            return []
        rng = context.randomness.generator("rehearsal_order", step)
        return [self.kept[at] for at in rng.permutation(len(self.kept))[:size]]


def finetune(config: FinetuneConfig, context: RunContext) -> Result:
    """Run one cell of the matrix, or continue it from its checkpoint."""
    labels = read_labels(Path(config.labels))
    chosen = moments_of(config, labels, context.randomness)
    supervision = supervision_of(config, chosen)
    training = config.selection.rule != "none"
    if training and not supervision.examples:
        raise DataError(
            f"teach.finetune: {len(chosen.labels)} moments give no {config.format} example: "
            f"{dict(supervision.dropped)}; label with a teacher, or choose another format"
        )
    judge = _judge(config, context, build_panel(
        labels, config.evaluation.n_snapshots_per_quadrant
    ))  # fmt: skip
    refuse_trained(
        judge.tasks,
        judge.panel,
        environment=config.evaluation.environment,
        trained={label.id: label.moment.task_id for label in chosen.labels},
    )
    write_configs(config, context, judge.name, chosen, supervision)
    student = _start(config, context)
    if not training:
        judge.measure_retention(student)
        judge.evaluate(student, 0, trained=False)
        return _result(judge, supervision, steps=0, losses=())
    return _train_and_judge(config, context, judge, supervision, student)


def _train_and_judge(
    config: FinetuneConfig,
    context: RunContext,
    judge: _Judge,
    supervision: Supervision,
    student: Any,
) -> Result:
    from cupel.policy.distribution_cache import DistributionCache
    from cupel.teach.students.language import LanguageStudent
    from cupel.teach.training.sft import Trainer

    trainer = Trainer(student.policy, config.sft, seed=context.seed)
    lesson = _lesson(config, context, trainer, supervision, student)
    losses: list[float] = []
    done = 0
    if context.resume is not None:
        trainer.load(context.resume.folder)
        state = context.resume.state
        done, losses = state["done"], list(state["losses"])
        judge.kept, judge.first = dict(state["kept"]), dict(state["first"])
    else:
        judge.measure_retention(student)
        if config.evaluate_start:
            judge.evaluate(student, 0, trained=False)
        _save(trainer, context, judge, done, losses)
    _train(config, context, trainer, lesson, judge, done, losses)
    folder = _save_model(trainer, context.folder / MODEL)
    tuned = config.student.model_copy(update={"model": str(folder)})
    acting = LanguageStudent(trainer.policy, tuned, DistributionCache(None))
    judge.evaluate(acting, len(losses), trained=True)
    return _result(judge, supervision, steps=len(losses), losses=losses)


def _lesson(
    config: FinetuneConfig,
    context: RunContext,
    trainer: Trainer,
    supervision: Supervision,
    student: Student,
) -> _Lesson:
    """Encode the examples, and what the student is to keep; both by the model as it starts."""
    items, settings = trainer.items(supervision.examples), config.rehearsal
    if not settings.weight:
        return _Lesson(items=items, kept=())
    context.recorder.doing = "rehearsal episodes"
    states, solved = rehearsed(
        student, config.evaluation.environment, settings, randomness=context.randomness
    )
    if context.resume is None:
        episodes = settings.tasks * settings.replicates
        context.recorder.event(
            f"rehearsal: {len(states)} states of {solved} solved episodes of {episodes}"
        )
    return _Lesson(items=items, kept=trainer.items(states))


def _train(
    config: FinetuneConfig,
    context: RunContext,
    trainer: Trainer,
    lesson: _Lesson,
    judge: _Judge,
    done: int,
    losses: list[float],
) -> None:
    """Take the remaining updates; a checkpoint at the end of every pass over the examples."""
    settings, n = config.sft, len(lesson.items)
    steps, a_pass = total_steps(n, settings), steps_per_epoch(n, settings)
    size = settings.batch_size * settings.gradient_accumulation_steps
    context.recorder.doing = "training"
    for step in range(done, steps):
        epoch, at = divmod(step, a_pass)
        order = context.randomness.generator("example_order", epoch).permutation(n)
        batch = [lesson.items[index] for index in order[at * size : (at + 1) * size]]
        rate = rate_at(step, steps, settings)
        found = trainer.step(
            batch,
            rate,
            number=step,
            rehearsal=lesson.rehearsal_of(step, size, context),
            rehearsal_weight=config.rehearsal.weight,
        )
        losses.append(found.loss)
        context.recorder.log(
            "metrics.jsonl",
            {
                "step": step,
                "condition": context.condition,
                "seed": context.seed,
                "epoch": epoch,
                "loss": found.loss,
                "lr": rate,
                "grad_norm": found.grad_norm,
                "examples": len(batch),
                "loss_tokens": found.loss_tokens,
                "rehearsal_loss": found.rehearsal_loss,
            },
        )
        if at + 1 == a_pass or step + 1 == steps:
            _save(trainer, context, judge, step + 1, losses)


def _judge(config: FinetuneConfig, context: RunContext, panel: Panel) -> _Judge:
    for quadrant, count in panel.short.items():
        context.recorder.event(f"panel: {quadrant} has {count} failure states of {panel.asked}")
    tasks = evaluation_tasks(config.evaluation.environment, config.evaluation.n_tasks)
    name = config.run_id or context.condition
    return _Judge(config=config, context=context, name=name, tasks=tasks, panel=panel)


def _start(config: FinetuneConfig, context: RunContext) -> Any:
    """Build the student that training starts from."""
    from cupel.teach.students.language import build_student

    return build_student(
        config.student, device=context.slot.device, threads=context.slot.threads, cache=None
    )


def _save(
    trainer: Trainer, context: RunContext, judge: _Judge, done: int, losses: Sequence[float]
) -> None:
    state = {"done": done, "losses": list(losses), "kept": judge.kept, "first": judge.first}
    context.checkpoints.save(done, trainer.save, state)


def _save_model(trainer: Trainer, folder: Path) -> Path:
    """Write the model folder whole."""
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    trainer.save_model(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    return folder


_TOLD = (
    "success_rate",
    "success_probability",
    "panel_success_rate",
    "panel_success_probability",
    "retention_rate",
)


def _result(
    judge: _Judge, supervision: Supervision, *, steps: int, losses: Sequence[float]
) -> Result:
    """Return the run's numbers; `_start` ones are None where the start was not evaluated."""
    before = judge.first if judge.first is not judge.latest or not steps else {}
    values: dict[str, Scalar] = {
        "run_id": judge.name,
        "steps": steps,
        "n_examples": len(supervision.examples),
        "n_dropped": sum(supervision.dropped.values()),
        "answer_in_prompt_rate": supervision.answer_in_prompt_rate,
        "loss_start": losses[0] if losses else None,
        "loss_end": losses[-1] if losses else None,
        "model_path": MODEL if steps else None,
    }
    for name in _TOLD:
        values[f"{name}_start"] = before.get(name)
        values[f"{name}_end"] = judge.latest.get(name)
    return Result(values=values)
