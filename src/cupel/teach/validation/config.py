"""Settings of phase 1B, which moments it takes, and what it writes down about each.

Knows the documented keys of its files. Refuses to import torch, and to take moments of training
tasks unless it is told to.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cupel.config import Config, did_you_mean, merge
from cupel.errors import DataError
from cupel.lab.metrics import Metric
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.evaluation.panel import panel_ids
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment
from cupel.teach.splits import Split, refuse_leaks
from cupel.teach.students.student import StudentConfig
from cupel.teach.training.sft_config import SftSettings
from cupel.teach.training.supervision import ContrastAs, Example, Format, HintAs, supervise


class MicroSettings(Config):
    """How a model is trained on one moment; always from the same start."""

    n_steps: Annotated[int, Field(ge=1)] = 2
    """Updates on the moment. Raise it, or the rate, when all effects are about 0."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Constant rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm."""
    max_length: Annotated[int, Field(ge=16)] = 1024
    """Tokens an example may have."""
    lora_rank: Annotated[int, Field(ge=0)] = 8
    """Rank of the adapters (extra `lora`); 0: all weights."""
    lora_alpha: Annotated[int, Field(ge=1)] = 16
    """Adapters are scaled by lora_alpha / lora_rank."""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the matrices that get an adapter; `c_attn` for GPT-2."""

    def sft(self) -> SftSettings:
        """Return the same as settings of a trainer."""
        return SftSettings(
            batch_size=1,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            max_length=self.max_length,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_targets=self.lora_targets,
            lora_dropout=0.0,
        )


class ValidateConfig(Config):
    """Phase 1B: train on single moments and compare with their patch gains."""

    labels: str
    """labeled_snapshots.jsonl (or .json) of phase 1."""
    panel: str | None = None
    """File of snapshot ids to take instead of a stratified choice; key `panel` or `tasks`."""
    n_per_quadrant: Annotated[int, Field(ge=1)] = 50
    """Moments of each quadrant."""
    splits: tuple[Split, ...] = ("calibration",)
    """Splits the moments may come from; calibration tasks are neither trained on nor judged."""
    student: StudentConfig = Field(default_factory=StudentConfig)
    """The model that the labels are about."""
    environment: EnvironmentConfig = Field(default_factory=EnvironmentConfig)
    """Where the moments were mined; `max_steps` bounds every rollout."""
    horizon: Literal["remaining", "fresh"] = "remaining"
    """Steps of a rollout: what was left there, or `max_steps` anew; as in the labels."""
    route: Literal["net", "split", "demo", "contrast", "hint"] = "net"
    """Format that is trained. net: the one with the largest patch gain, as documented; split: the
    one both halves of the rollouts chose, undecided moments left out; or the same for all."""
    contrast_as: ContrastAs = "text"
    """As in training: text (a note in the prompt) or loss (no note)."""
    hint_as: HintAs = "text"
    """As in training: text (a note in the prompt) or distill (no note)."""
    micro: MicroSettings = Field(default_factory=MicroSettings)
    """How one moment is trained on."""
    values: Literal["auto", "exact", "sampled"] = "auto"
    """How success is measured before and after. exact: by mass propagation; sampled: by
    `n_validation_rollouts` rollouts; auto: exact where the environment can name its states."""
    n_validation_rollouts: Annotated[int, Field(ge=1)] = 3
    """Rollouts before and after, where success is sampled; never those of the labels."""
    prune_mass: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Probability that mass propagation may leave undecided."""
    max_states: Annotated[int, Field(ge=1)] = 20_000
    """States of one moment that mass propagation may visit."""
    retention_tasks: Annotated[int, Field(ge=0)] = 0
    """Test tasks whose success is measured before and after each training; 0: none."""
    least_spearman: Annotated[float, Field(ge=-1, le=1)] = 0.3
    """Spearman's rho that the gate asks for."""
    block: Annotated[int, Field(ge=1)] = 8
    """Moments between two checkpoints."""


TINY_MICRO: Mapping[str, Any] = {"lora_rank": 0, "max_length": 512}
"""What a tiny model is trained with unless told otherwise: all weights."""

METRICS: Sequence[Metric] = (
    Metric(name="step", meaning="Number of the moment.", unit="count"),
    Metric(name="condition", meaning="Label of the condition.", unit="text"),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    Metric(name="quadrant", meaning="Quadrant of the moment.", unit="text"),
    Metric(name="route", meaning="Format it was trained in.", unit="text"),
    Metric(name="cpt_elp_net", meaning="Its largest net patch gain.", unit="rate"),
    Metric(name="train_loss", meaning="Loss of the first update.", unit="nats"),
    Metric(name="base_success_rate", meaning="Success before.", unit="rate"),
    Metric(name="tuned_success_rate", meaning="Success after.", unit="rate"),
    Metric(name="delta_success_rate", meaning="After less before.", unit="rate"),
    Metric(name="delta_log_pi", meaning="Change of log pi(expert action).", unit="nats"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A moment to be trained on, with its format and example."""

    label: LabelledMoment
    route: Format
    example: Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The moments of a validation.

    Attributes:
        counts: by quadrant; short: those with fewer than were asked for.
        dropped: moments that could not be taken, by reason.
    """

    candidates: tuple[Candidate, ...]
    counts: Mapping[str, int]
    asked: int | None
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def short(self) -> dict[str, int]:
        """Quadrants with fewer moments than were asked for."""
        if self.asked is None:
            return {}
        return {name: count for name, count in self.counts.items() if count < self.asked}


def with_micro_defaults(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lay the tiny student's settings under what the user passed."""
    student = data.get("student", {})
    backend = student.get("backend", "tiny") if isinstance(student, Mapping) else "tiny"
    return merge({"micro": TINY_MICRO}, data) if backend == "tiny" else data


def sample_of(config: ValidateConfig, labels: Sequence[LabelledMoment]) -> Sample:
    """Choose the moments: those of the panel file, or `n_per_quadrant` of each quadrant by hash.

    Raises:
        DataError: the panel names unknown moments or moments of other splits; nothing is left.
    """
    dropped: Counter[str] = Counter()
    listed = labels if config.panel is None else _listed(config, labels)
    ours = sorted((each for each in listed if each.moment.split in config.splits), key=_rank)
    taken: dict[str, list[Candidate]] = {name: [] for name in QUADRANTS}
    for label in ours:
        made = _candidate(config, label)
        if isinstance(made, str):
            dropped[made] += 1
        elif config.panel is not None or len(taken[label.quadrant]) < config.n_per_quadrant:
            taken[label.quadrant].append(made)
    candidates = tuple(each for name in QUADRANTS for each in taken[name])
    if not candidates:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        raise DataError(
            f"teach.validate: no moment of split {' or '.join(config.splits)} to train on "
            f"(of {len(labels)} labelled; {told or 'none of these splits'}). Label tasks of that "
            "split, or allow another one with splits"
        )
    return Sample(
        candidates=candidates,
        counts={name: len(rows) for name, rows in taken.items()},
        asked=config.n_per_quadrant if config.panel is None else None,
        dropped=dict(sorted(dropped.items())),
    )


def _listed(config: ValidateConfig, labels: Sequence[LabelledMoment]) -> list[LabelledMoment]:
    path = Path(str(config.panel))
    by_id = {each.id: each for each in labels}
    found = []
    for number, name in enumerate(panel_ids(path), start=1):
        if name not in by_id:
            raise DataError(
                f"{path}: entry {number}: no labelled snapshot '{name}'; "
                f"{did_you_mean(name, sorted(by_id)[:20])}"
            )
        found.append(by_id[name])
    refuse_leaks((each.moment.task_id for each in found), config.splits, where=str(path))
    return found


def _candidate(config: ValidateConfig, label: LabelledMoment) -> Candidate | str:
    """Return the moment with its example, or why it cannot be taken."""
    test = label.patch_test
    if label.quadrant == "UNASSIGNED":
        return "without a quadrant"
    if test is None:
        return "without a patch test"
    if config.horizon == "remaining" and label.moment.step_idx >= config.environment.max_steps:
        return "without steps left"
    names: Mapping[str, str | None] = {"net": test.route_net, "split": test.route_split}
    route = names.get(config.route, config.route)
    if route is None:
        return "with an undecided route"
    made = supervise(
        [label], _format(route), contrast_as=config.contrast_as, hint_as=config.hint_as
    )
    if not made.examples:
        return f"with {next(iter(made.dropped))}"
    return Candidate(label=label, route=_format(route), example=made.examples[0])


def _format(name: str) -> Format:
    match name:
        case "demo" | "contrast" | "hint":
            return name
    raise DataError(f"teach.validate: route '{name}'; allowed: demo, contrast, hint")


def _rank(label: LabelledMoment) -> str:
    return hashlib.sha256(f"validation/{label.id}".encode()).hexdigest()
