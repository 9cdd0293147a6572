"""Settings of one training run of the matrix, what it writes down, and what it would cost.

Knows names and files. Refuses to import torch, so that a matrix can be planned without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cupel.config import Config, merge
from cupel.errors import PlanError
from cupel.lab.metrics import Metric
from cupel.lab.randomness import Randomness
from cupel.lab.recipe import Forecast
from cupel.teach.evaluation.judging import EvaluationSettings
from cupel.teach.labelling.files import read_labels
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment
from cupel.teach.selection.rules import Chosen, SelectionRule, choose, on_policy_moments
from cupel.teach.students.student import StudentConfig
from cupel.teach.training.rehearsal import RehearsalSettings
from cupel.teach.training.sft_config import TINY_DEFAULTS, SftSettings, total_steps
from cupel.teach.training.supervision import ContrastAs, Format, HintAs, Supervision, supervise


class FinetuneConfig(Config):
    """One run: which moments, in which format, how trained, on what evaluated."""

    labels: str
    """labeled_snapshots.jsonl of phase 1."""
    run_id: str | None = None
    """Name of the model in every row; None: the condition's label."""
    student: StudentConfig = Field(default_factory=StudentConfig)
    """The model that is trained."""
    selection: SelectionRule = Field(default_factory=SelectionRule)
    """Which moments are trained on."""
    format: Format = "demo"
    """demo: state, then the teacher's action; contrast: against the student's own action; hint:
    with the teacher's diagnosis."""
    contrast_as: ContrastAs = "text"
    """text: a note in the prompt, as documented; the answer stands in it, the record says how
    often; loss: no note, the teacher's action is raised against the student's."""
    hint_as: HintAs = "text"
    """text: a note in the prompt, as documented; distill: the model with the note teaches the
    model without it."""
    sft: SftSettings = Field(default_factory=SftSettings)
    """How it is trained."""
    rehearsal: RehearsalSettings = Field(default_factory=RehearsalSettings)
    """What it is held to meanwhile; on for backend `tiny`, off otherwise."""
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """What it is evaluated on, before and after."""
    evaluate_start: bool = True
    """Evaluate before training too. The pass that chooses the retention tasks is always made."""


TRAINING: Sequence[Metric] = (
    Metric(name="step", meaning="Updates done before this one.", unit="count"),
    Metric(name="condition", meaning="Label of the condition.", unit="text"),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    Metric(name="epoch", meaning="Pass over the examples, from 0.", unit="count"),
    Metric(
        name="loss",
        meaning="Mean loss over completion tokens (or over examples, for pairs and distillation).",
        unit="nats",
        higher_is_better=False,
    ),
    Metric(name="lr", meaning="Learning rate of the update.", unit="rate"),
    Metric(name="grad_norm", meaning="Gradient norm before clipping.", unit="1"),
    Metric(name="examples", meaning="Examples of the update.", unit="count"),
    Metric(name="loss_tokens", meaning="Tokens that carried next-token loss.", unit="tokens"),
    Metric(
        name="rehearsal_loss",
        meaning="Mean KL from the starting model on rehearsed states; None without rehearsal.",
        unit="nats",
        higher_is_better=False,
    ),
)


def _rate(name: str, meaning: str) -> Metric:
    return Metric(name=name, meaning=meaning, unit="rate", higher_is_better=True)


def _count(name: str, meaning: str) -> Metric:
    return Metric(name=name, meaning=meaning, unit="count")


EVALUATIONS: Sequence[Metric] = (
    Metric(name="step", meaning="Updates done: 0, and all.", unit="count"),
    Metric(name="condition", meaning="Label of the condition.", unit="text"),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    _rate("success_rate", "Test tasks solved, acting greedily."),
    _rate("success_probability", "Mean success probability on test tasks at temperature 1."),
    _rate("panel_success_rate", "Failure states recovered, acting greedily."),
    _rate("panel_success_probability", "Mean success probability from failure states."),
    *(_rate(f"panel_success_rate_{name[:2]}", f"Recovered, of {name}.") for name in QUADRANTS),
    *(
        _rate(f"panel_success_probability_{name[:2]}", f"Mean success probability, of {name}.")
        for name in QUADRANTS
    ),
    _rate("retention_rate", "Solved, of the tasks the start solves in a pass of its own."),
    _count("retention_tasks", "Tasks the start solves in a pass of its own."),
    Metric(name="mean_reward", meaning="Mean return on test tasks.", unit="1"),
    Metric(name="mean_steps", meaning="Mean steps on test tasks.", unit="count"),
    _count("n_tasks", "Test tasks evaluated."),
    _count("n_snapshots", "Failure states evaluated."),
    _count("n_errors", "Episodes that the instrument broke off; no outcomes of the model."),
)


TINY_REHEARSAL = 1.0
"""Weight of the rehearsal for a tiny student: without it a hundred updates on corrections took its
success on the shop from 0.37 to 0.06; with it they brought 0.43."""


def with_student_defaults(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lay the tiny student's training defaults under what the user passed."""
    student = data.get("student", {})
    backend = student.get("backend", "tiny") if isinstance(student, Mapping) else "tiny"
    if backend != "tiny":
        return data
    return merge({"sft": TINY_DEFAULTS, "rehearsal": {"weight": TINY_REHEARSAL}}, data)


def moments_of(
    config: FinetuneConfig, labels: Sequence[LabelledMoment], randomness: Randomness
) -> Chosen:
    """Return the moments that a run trains on, reading what its rule needs.

    Raises:
        DataError: the rule's input is missing, or nothing is left.
    """
    rule, predictions, on_policy = config.selection, None, None
    if rule.predictor is not None:
        from cupel.teach.prediction.files import predicted_elp

        predictions = predicted_elp(Path(rule.predictor), labels)
    if rule.rule == "dagger":
        from cupel.teach.rollouts.files import read_episodes

        assert rule.episodes is not None
        episodes = read_episodes(Path(rule.episodes))
        on_policy = on_policy_moments(episodes, config.evaluation.environment)
    return choose(rule, labels, randomness=randomness, predictions=predictions, on_policy=on_policy)


def supervision_of(config: FinetuneConfig, chosen: Chosen) -> Supervision:
    """Return the examples of the chosen moments in the run's format."""
    return supervise(
        chosen.labels,
        config.format,
        contrast_as=config.contrast_as,
        hint_as=config.hint_as,
        targets=chosen.targets,
    )


def forecast_of(config: FinetuneConfig) -> Forecast:
    """Count updates where the labels are there already.

    Raises:
        PlanError: the student cannot be trained, or a control contradicts its format.
    """
    rule = config.selection.rule
    if rule == "none":
        return Forecast(costs={"steps": 0, "examples": 0}, preload=("torch",))
    if config.student.backend == "uniform":
        raise PlanError(
            "teach.finetune: student.backend 'uniform' has nothing to train; use tiny or torch"
        )
    if rule in ("shuffled_labels", "dagger") and config.format != "demo":
        raise PlanError(
            f"teach.finetune: selection rule '{rule}' goes with format demo, not {config.format}"
        )
    if not Path(config.labels).exists():
        return Forecast(
            warnings=(f"teach.finetune: {config.labels} is not there yet; its cost is unknown",),
            preload=("torch",),
        )
    chosen = moments_of(config, read_labels(Path(config.labels)), Randomness(0))
    n = len(supervision_of(config, chosen).examples)
    costs = {"steps": total_steps(n, config.sft), "examples": n}
    return Forecast(costs=costs, notes=chosen.notes, preload=("torch",))
