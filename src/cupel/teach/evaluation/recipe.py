"""Phase 3, `teach.evaluate`: BASE and every trained model on the same tasks and failure states.

Knows models by name and the files of this phase. Refuses to evaluate on what was trained on, and
to write a table from anything but the rows on disk. One model is one block: killed and resumed,
the tables are the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field

from cupel.config import Config, did_you_mean, fingerprint, to_dict
from cupel.errors import ConfigError, DataError
from cupel.lab.files import file_sha256, read_json_lines, write_atomically, write_json
from cupel.lab.metrics import Metric
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.evaluation.gates import gates
from cupel.teach.evaluation.judging import (
    EvaluationSettings,
    Panel,
    evaluate_model,
    retention_pass,
    summary,
)
from cupel.teach.evaluation.panel import (
    PANEL_SHARE,
    build_panel,
    evaluation_tasks,
    name_of,
    panel_from_file,
    panel_rows,
    refuse_trained,
)
from cupel.teach.evaluation.tables import (
    BASE,
    Evidence,
    overall,
    per_quadrant,
    read_episodes,
    retention,
    stuckness_table,
    transfer_matrix,
    write_csv,
)
from cupel.teach.labelling.files import read_labels
from cupel.teach.students.student import Student, StudentConfig, UniformStudent
from cupel.teach.training.summary import TrainedModel, TrainingSummary, read_training_summary

EPISODES = "episodes.jsonl"
BASE_PASS = "base_pass.jsonl"


class EvaluateConfig(Config):
    """What is evaluated."""

    training_summary: str
    """training_summary.json of a training, or a map from run ids to model folders."""
    labels: str
    """labeled_snapshots.jsonl: the failure panel is taken from its panel split."""
    student: StudentConfig | None = None
    """The untrained model, BASE; None: the one that the summary names."""
    run_ids: list[str] = Field(default_factory=list)
    """Evaluate these models only; empty: every one that is there. BASE always is."""
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """Tasks, failure states and episodes."""
    panel_file: str | None = None
    """A list of snapshot ids to use as the panel instead of choosing one."""
    holdout_frac: Annotated[float, Field(gt=0, lt=1)] = PANEL_SHARE
    """Share of all tasks whose failure states may be in the panel; at most the panel split."""
    candidate: str | None = None
    """The model that the gates are about; None: Q1_highU_highL_hint, or the first."""


METRICS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Number of the model, BASE being 0.", unit="count"),
    Metric(name="condition", meaning="Condition of the run.", unit="text"),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    Metric(name="model", meaning="Name of the model.", unit="text"),
    Metric(name="train_seed", meaning="Seed it was trained with; none for BASE.", unit="count"),
    Metric(
        name="success_rate",
        meaning="Share of test tasks solved.",
        unit="rate",
        higher_is_better=True,
    ),
    Metric(
        name="success_probability",
        meaning="Mean success probability on test tasks at temperature 1.",
        unit="rate",
        higher_is_better=True,
    ),
    Metric(
        name="panel_success_rate",
        meaning="Share of failure states from which the task is solved.",
        unit="rate",
        higher_is_better=True,
    ),
    Metric(
        name="panel_success_probability",
        meaning="Mean success probability from failure states at temperature 1.",
        unit="rate",
        higher_is_better=True,
    ),
    Metric(name="mean_reward", meaning="Mean return on test tasks.", unit="reward"),
    Metric(name="mean_steps", meaning="Mean steps on test tasks.", unit="count"),
    Metric(name="n_tasks", meaning="Test tasks that count.", unit="count"),
    Metric(name="n_snapshots", meaning="Failure states that count.", unit="count"),
    Metric(name="n_errors", meaning="Episodes that an instrument broke.", unit="count"),
)


class EvaluateRecipe:
    """`teach.evaluate`: tables of BASE and every trained model."""

    name = "teach.evaluate"
    config_type = EvaluateConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": METRICS,
        EPISODES: None,
        BASE_PASS: None,
    }
    preload = ("cupel.teach.evaluation.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add nothing: no default depends on another setting."""
        return data

    def forecast(self, config: EvaluateConfig) -> Forecast:
        """Bound the episodes; whatever refuses the input does so before anything is written."""
        work = _open(config)
        trained = read_training_summary(Path(config.training_summary))
        models, tasks = 1 + len(work.models), len(work.tasks)
        left_out = sorted({each.run_id for each in trained.models if each.path is None})
        return Forecast(
            costs={
                "steps": models,
                "episodes": models * (tasks + len(work.panel.moments)) + tasks,
            },
            warnings=[f"runs that left no model: {', '.join(left_out)}"] if left_out else [],
        )

    def run(self, config: EvaluateConfig, context: RunContext) -> Result:
        """Evaluate model after model, then write the tables from the rows."""
        return evaluate(config, context)


RECIPE = EvaluateRecipe()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is evaluated, on what."""

    base: StudentConfig
    models: tuple[TrainedModel, ...]
    tasks: tuple[int, ...]
    panel: Panel
    trained_known: bool


def evaluate(config: EvaluateConfig, context: RunContext) -> Result:
    """Evaluate from the start or from the checkpoint in `context`.

    Raises:
        ConfigError: the base model is not known, or a run id is not in the summary.
        DataError: an input is damaged, or an evaluated task was trained on.
    """
    work = _open(config)
    done = 0 if context.resume is None else context.resume.step
    everyone = [TrainedModel(run_id=BASE, seed=None, path=None), *work.models]
    for number, model in enumerate(everyone):
        if number >= done:
            _evaluate_one(number, model, work, config, context)
            context.checkpoints.save(number + 1, lambda folder: None, {})
    return write_tables(config, context, work)


def write_tables(config: EvaluateConfig, context: RunContext, work: _Work) -> Result:
    """Write every derived file from the rows on disk."""
    folder, settings = context.folder, config.evaluation
    rows = read_episodes(folder / EPISODES)
    solved = [row["task_id"] for row in read_json_lines(folder / BASE_PASS) if row["success"]]
    evidence = Evidence(
        rows=rows,
        retention=frozenset(solved),
        asked=work.panel.asked,
    )
    tasks_table, kept = overall(evidence), retention(evidence)
    write_csv(folder / "overall_task_results.csv", tasks_table)
    write_csv(folder / "per_quadrant_results.csv", per_quadrant(evidence))
    write_csv(folder / "transfer_matrix.csv", transfer_matrix(evidence))
    write_csv(folder / "retention_results.csv", kept)
    write_csv(folder / "stuckness_results.csv", stuckness_table(evidence))
    names = [name_of(settings.environment, seed) for seed in work.tasks]
    write_list(folder / "task_ids.json", names)
    write_list(folder / "snapshot_panel.json", panel_rows(work.panel))
    judged = gates(evidence, overall=tasks_table, retention=kept, candidate=config.candidate)
    write_json(folder / "gates.json", judged)
    write_json(folder / "eval_config.json", _facts(config, work, sorted(solved)))
    led = {gate["gate"]: gate for gate in judged["gates"] if gate["headline"]}
    return Result(
        values={
            "models": len(evidence.models) - 1,
            "episodes": len(rows),
            "n_errors": sum(row.success is None for row in rows),
            "base_success_rate": tasks_table[0]["success_rate"],
            "candidate": judged["candidate"],
            "delta_success": led["success"]["figure"] if "success" in led else None,
            "transfer_diagonal": led["transfer_diagonal"]["figure"],
            "retention_drop": led["retention"]["figure"] if "retention" in led else None,
            "gates_passed": judged["passed"],
        }
    )


def write_list(path: Path, rows: Sequence[Any]) -> None:
    """Write a JSON list, whole or not at all."""
    write_atomically(
        path, orjson.dumps(list(rows), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )


def _open(config: EvaluateConfig) -> _Work:
    trained = read_training_summary(Path(config.training_summary))
    base = config.student or trained.student
    if base is None:
        raise ConfigError(
            f"{config.training_summary}: no base model is named there, nor in a training_meta.json "
            "beside it; give --base-model"
        )
    labels = read_labels(Path(config.labels))
    settings = config.evaluation
    panel = (
        build_panel(labels, settings.n_snapshots_per_quadrant, share=config.holdout_frac)
        if config.panel_file is None
        else panel_from_file(Path(config.panel_file), labels)
    )
    tasks = evaluation_tasks(settings.environment, settings.n_tasks)
    environment = settings.environment
    refuse_trained(tasks, panel, environment=environment, trained=trained.trained or {})
    for each in panel.moments[:1]:
        _refuse_other_environment(each.moment.snapshot.environment, settings)
    return _Work(
        base=base,
        models=_chosen(trained, config),
        tasks=tasks,
        panel=panel,
        trained_known=trained.trained is not None,
    )


def _refuse_other_environment(found: str, settings: EvaluationSettings) -> None:
    if found != settings.environment.name:
        raise DataError(
            f"labels are of environment {found}, the evaluation is of "
            f"{settings.environment.name}; give --environment {found}"
        )


def _chosen(trained: TrainingSummary, config: EvaluateConfig) -> tuple[TrainedModel, ...]:
    known = sorted({each.run_id for each in trained.models})
    for name in config.run_ids:
        if name not in known:
            raise ConfigError(
                f"{config.training_summary}: no run '{name}'; {did_you_mean(name, known)}"
            )
    wanted = set(config.run_ids or known)
    return tuple(each for each in trained.complete if each.run_id in wanted)


def _evaluate_one(
    number: int, model: TrainedModel, work: _Work, config: EvaluateConfig, context: RunContext
) -> None:
    """Evaluate one model and log its rows; BASE also makes its independent pass."""
    context.recorder.doing = f"evaluating {model.run_id}"
    student = _student(model, work.base, context)
    rows = evaluate_model(
        student,
        config.evaluation,
        tasks=work.tasks,
        panel=work.panel,
        randomness=context.randomness,
        model=model.run_id,
        train_seed=model.seed,
    )
    if model.run_id == BASE:
        passed = retention_pass(
            student, config.evaluation, tasks=work.tasks, randomness=context.randomness
        )
        context.recorder.log_many(
            BASE_PASS, ({"task_id": task, "success": right} for task, right in passed.items())
        )
    context.recorder.log_many(EPISODES, (row.to_row() for row in rows))
    context.recorder.log(
        "metrics.jsonl",
        {
            "step": number,
            "condition": context.condition,
            "seed": context.seed,
            "model": model.run_id,
            "train_seed": model.seed,
            **summary(rows),
        },
    )


def _student(model: TrainedModel, base: StudentConfig, context: RunContext) -> Student:
    config = base if model.path is None else base.model_copy(update={"model": str(model.path)})
    if config.backend == "uniform":
        return UniformStudent()
    from cupel.teach.students.language import build_student

    slot = context.slot
    return build_student(config, device=slot.device, threads=slot.threads, cache=None)


def _facts(config: EvaluateConfig, work: _Work, solved: Sequence[str]) -> dict[str, Any]:
    """Return eval_config.json: everything a reader needs to know of what was compared."""
    panel = panel_rows(work.panel)
    return {
        "training_summary": config.training_summary,
        "labeled_snapshots": config.labels,
        "labeled_snapshots_sha256": file_sha256(Path(config.labels)),
        "base_student": to_dict(work.base),
        "models": [
            {"model": each.run_id, "train_seed": each.seed, "path": str(each.path)}
            for each in work.models
        ],
        "evaluation": to_dict(config.evaluation),
        "n_tasks": len(work.tasks),
        "max_steps": config.evaluation.environment.max_steps,
        "n_snapshots_per_quadrant": config.evaluation.n_snapshots_per_quadrant,
        "holdout_frac": config.holdout_frac,
        "panel_counts": dict(work.panel.counts),
        "panel_short": dict(work.panel.short),
        "panel_fingerprint": fingerprint(panel),
        "retention_task_ids": list(solved),
        "retention_rule": "BASE solved the task in a pass of its own at temperature 1",
        "trained_snapshots_known": work.trained_known,
    }
