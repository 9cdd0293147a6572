"""The study file: question, conditions, seeds, endpoint and decision rule, stated before any run.

Knows the words of a study. Refuses to know what a condition's config means (the recipe does).
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cupel.config import Config, did_you_mean

DEFAULT_SEEDS = (42, 101, 202, 303, 404, 505, 606, 707)
"""The eight seeds of the standard campaign."""

_WINDOW = re.compile(r"^(all|last|last \d{1,2}%|steps \d+:\d+)$")
_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9+._~=,-]*$")


class Condition(Config):
    """One condition of a study: a label and the settings that make it differ."""

    label: str
    """Name in every table and folder, e.g. `maxrl+gtpo_sepa`: letters, digits and + . _ ~ = , -."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings laid over the study's shared `[config]`."""

    @field_validator("label")
    @classmethod
    def _label_is_a_folder_name(cls, label: str) -> str:
        if not _LABEL.match(label):
            raise ValueError("a label may hold letters, digits and + . _ ~ = , - only")
        return label


class Endpoint(Config):
    """The one number a run is judged by."""

    metric: str = "correct_rate"
    """A key of metrics.jsonl, or `eval/<key>` for a key of evaluations.jsonl."""
    over: str = "last 20%"
    """Window of steps, averaged: `all`, `last`, `last 20%` (any percent), `steps 400:500`."""
    higher_is_better: bool = True
    """Direction of improvement."""

    @field_validator("over")
    @classmethod
    def _window_is_known(cls, over: str) -> str:
        if not _WINDOW.match(over):
            raise ValueError("use 'all', 'last', 'last 20%' or 'steps 400:500'")
        return over

    @field_validator("metric")
    @classmethod
    def _metric_is_not_cumulative(cls, metric: str) -> str:
        if metric == "running_correct_rate":
            raise ValueError(
                "running_correct_rate is cumulative and must not be tested; "
                "use correct_rate, whose window mean says the same without the memory"
            )
        return metric


class Decision(Config):
    """The rule that turns the endpoint of every run into a verdict."""

    baseline: str | None = None
    """Label of the baseline condition; default: the first condition."""
    candidate: str | None = None
    """Label of the candidate condition; default: the last condition."""
    secondary: list[tuple[str, str]] = Field(default_factory=list)
    """More (baseline, candidate) contrasts; tested together, corrected as `family` says."""
    family: Literal["holm", "max_t"] = "holm"
    """Correction of the secondary contrasts: `holm` holds for any dependence; `max_t` flips all
    contrasts of a seed together, uses their correlation, and assumes joint symmetry."""
    exploratory: list[Endpoint] = Field(default_factory=list)
    """More outcomes of the primary contrast, each with its window and direction, e.g. a mechanism:
    `{ metric = "exec_entropy_var", higher_is_better = false }`. Reported under
    Benjamini-Hochberg at q = .10 with correct_rate and mean_reward; they never decide."""
    looks: list[int] = Field(default_factory=list)
    """Seeds at each look, ascending, e.g. `[8, 16]`; the order is that of `seeds`, then
    `reserve_seeds`. Empty: one look, when all seeds are done."""
    spending: Literal["pocock", "obrien_fleming"] = "pocock"
    """What each look may spend: `pocock` the same everywhere (.0294 at two equal looks),
    `obrien_fleming` little at first (.0052, then .0480)."""
    combination: Literal["cumulative", "inverse_normal"] = "cumulative"
    """`cumulative` tests all seeds so far; `inverse_normal` combines the stages with weights fixed
    by `looks`, which stays valid when the last number of seeds was chosen after a look."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Two-sided size of the primary test."""
    primary_test: Literal["sign_flip", "paired_t"] = "sign_flip"
    """sign_flip is exact and assumes only symmetry; paired_t (from 4 seeds) assumes normality."""
    margin: float | None = Field(default=None, gt=0)
    """Equivalence margin in units of the endpoint; without it `equivalent` is never said."""
    effect: float | None = Field(default=None, gt=0)
    """Smallest effect worth finding, in units of the endpoint; used for planning."""
    effect_sd: float | None = Field(default=None, gt=0)
    """Guess of the standard deviation of the seed differences; used for planning only."""
    failure: Literal["carry_forward", "worst"] = "carry_forward"
    """Endpoint of a run that failed by its own doing: last logged value, or the worst possible."""
    failure_value: float = 0.0
    """The worst possible endpoint, for `failure = "worst"` and the sensitivity rows."""
    resamples: int = Field(default=20_000, ge=100)
    """Resamples of the permutation and bootstrap in the legacy block."""

    @field_validator("looks")
    @classmethod
    def _looks_ascend(cls, looks: list[int]) -> list[int]:
        if any(size < 2 for size in looks) or sorted(set(looks)) != looks:
            raise ValueError("looks must be ascending numbers of seeds, each at least 2")
        return looks

    @model_validator(mode="after")
    def _stages_have_looks(self) -> Decision:
        if self.combination == "inverse_normal" and len(self.looks) < 2:
            raise ValueError("inverse_normal combines stages; declare at least two looks")
        if self.combination == "inverse_normal" and self.primary_test == "paired_t":
            raise ValueError("inverse_normal combines sign flips; use primary_test = 'sign_flip'")
        return self


class Tuning(Config):
    """What makes a study a sweep: its runs choose the value of one setting for each method."""

    setting: str = "lr"
    """The numeric setting that is chosen; every condition's config holds its value of it."""
    select: Literal["within_1se", "seed"] = "within_1se"
    """within_1se: on the log scale, the middle of the values whose mean endpoint is within one
    standard error of the best; seed: the highest final running_correct_rate."""
    extend: int = Field(default=2, ge=0)
    """How many values may be added beyond each end of the grid while the choice lies there."""
    values: list[float] = Field(default_factory=list)
    """The grid as declared, in order; the conditions hold it too, and what was added since.
    Empty: the values of the conditions."""


class Follow(Config):
    """A tracker that follows the study's runs from outside, in a process of its own."""

    tracker: Literal["none", "wandb", "tensorboard", "trackio"] = "none"
    """Where the rows go while the study runs; it is no part of what is declared or measured."""
    project: str = ""
    """Project in the tracker; empty: the name of the study."""
    entity: str = ""
    """W&B entity; empty: yours."""
    offline: bool = False
    """Write W&B's files without sending them; `wandb sync` does."""


class StudyConfig(Config):
    """A study file."""

    name: str = "study"
    """Name of the study and of its folder under results/."""
    question: str = ""
    """The question in one sentence."""
    recipe: str = "rlvr.train"
    """Which recipe every run uses."""
    seeds: list[int] = Field(default_factory=lambda: list(DEFAULT_SEEDS))
    """Seeds, in the order in which they are used; every condition runs every seed."""
    reserve_seeds: list[int] = Field(default_factory=list)
    """Seeds that may be added later, in this order."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The recipe's settings, shared by all conditions."""
    conditions: list[Condition] = Field(default_factory=list)
    """What varies."""
    endpoint: Endpoint = Field(default_factory=Endpoint)
    """The primary endpoint."""
    decision: Decision = Field(default_factory=Decision)
    """The decision rule."""
    tuning: Tuning | None = None
    """Makes the study a sweep: its runs choose a setting, and no contrast is tested on them."""
    follow: Follow = Field(default_factory=Follow)
    """A tracker that follows the runs; it can be changed at any time, no plan knows it."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not _LABEL.match(name):
            raise ValueError("a study name may hold letters, digits and + . _ ~ = , - only")
        return name

    @field_validator("seeds")
    @classmethod
    def _seeds_are_usable(cls, seeds: list[int]) -> list[int]:
        if not seeds:
            raise ValueError("the list of seeds is empty; give at least one seed")
        if any(seed < 0 for seed in seeds):
            raise ValueError("a seed must be >= 0")
        return seeds

    @model_validator(mode="after")
    def _study_is_consistent(self) -> StudyConfig:
        repeated = _repeated([*self.seeds, *self.reserve_seeds])
        if repeated is not None:
            raise ValueError(f"seed {repeated} appears twice; every seed counts once")
        available = len(self.seeds) + len(self.reserve_seeds)
        if self.decision.looks and self.decision.looks[-1] > available:
            raise ValueError(
                f"decision.looks ends at {self.decision.looks[-1]} seeds, but seeds and "
                f"reserve_seeds hold {available}"
            )
        labels = self.labels
        if not labels:
            raise ValueError("no conditions; add at least one [[conditions]] with a label")
        twice = _repeated(labels)
        if twice is not None:
            raise ValueError(f"condition '{twice}' appears twice; labels must differ")
        pairs = [*self.decision.secondary]
        for name in (self.decision.baseline, self.decision.candidate):
            if name is not None:
                pairs.append((name, name))
        for label in (label for pair in pairs for label in pair):
            if label not in labels:
                raise ValueError(
                    f"decision names condition '{label}'; {did_you_mean(label, labels)}"
                )
        return self

    @property
    def labels(self) -> list[str]:
        """Labels of the conditions, in order."""
        return [condition.label for condition in self.conditions]

    @property
    def primary(self) -> tuple[str, str] | None:
        """(baseline, candidate) of the primary contrast; None with one condition or in a sweep."""
        if len(self.conditions) < 2 or self.tuning is not None:
            return None
        return (
            self.decision.baseline or self.labels[0],
            self.decision.candidate or self.labels[-1],
        )


def _repeated(values: list[Any]) -> Any | None:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
