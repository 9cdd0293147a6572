"""Which labelled moments one training run is given: a quadrant, a baseline, a control, a ranking.

Knows the rules and what each of them needs. Refuses to fall back: a rule whose input is missing
stops and names it, and nothing of another split than train ever passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cupel.config import Config
from cupel.errors import DataError
from cupel.lab.randomness import Randomness, counter_of
from cupel.teach.environments.base import (
    EnvironmentConfig,
    Snapshot,
    make_environment,
    take_snapshot,
)
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.records import Episode, Hint, Moment
from cupel.teach.selection.ranking import common_pool, select
from cupel.teach.splits import refuse_leaks
from cupel.teach.training.supervision import usable

RuleName = Literal[
    "none",
    "quadrant",
    "uniform",
    "all",
    "matched_uniform",
    "dagger",
    "shuffled_labels",
    "random",
    "entropy",
    "predictor",
    "oracle",
]
QuadrantName = Literal["Q1_highU_highL", "Q2_highU_lowL", "Q3_lowU_lowL", "Q4_lowU_highL"]

BASELINE_SIZE = 500
"""Moments of the uniform baseline where neither its size nor a maximum is given."""


class SelectionRule(Config):
    """Which moments are trained on, of those of training tasks with a usable hint."""

    rule: RuleName = "all"
    """none: nothing is trained (BASE); quadrant: one quadrant; uniform: a random subset (B1); all
    (B2); matched_uniform: a random subset as large as `quadrant` gives; dagger: every state of
    the student's own episodes with the expert's action; shuffled_labels: as quadrant or all, with
    random valid actions as targets; random, entropy, predictor, oracle: the `budget` best."""
    quadrant: QuadrantName | None = None
    """Of rules quadrant and matched_uniform; narrows shuffled_labels."""
    baseline_n_samples: Annotated[int, Field(ge=1)] | None = None
    """Size of rule uniform; None: max_train_samples, else 500."""
    max_train_samples: Annotated[int, Field(ge=1)] | None = None
    """Most moments of a run; a random part of them where a rule gives more."""
    budget: Annotated[int, Field(ge=1)] | None = None
    """Moments that a ranking may choose."""
    predictor: str | None = None
    """Run folder of teach.predict, for rule predictor."""
    episodes: str | None = None
    """Run folder or file of the student's episodes, for rule dagger."""
    compared: tuple[Literal["random", "entropy", "predictor", "oracle"], ...] = ()
    """Rankings that this one is compared with: all of them choose from the moments that have the
    input of each, or the comparison is of pools."""

    @model_validator(mode="after")
    def _inputs_are_given(self) -> Self:
        needs: Mapping[str, str] = {
            "quadrant": "quadrant",
            "matched_uniform": "quadrant",
            "dagger": "episodes",
            "random": "budget",
            "entropy": "budget",
            "predictor": "budget",
            "oracle": "budget",
        }
        needed = needs.get(self.rule)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"selection rule '{self.rule}' needs '{needed}'; it is missing")
        if "predictor" in (self.rule, *self.compared) and self.predictor is None:
            raise ValueError(
                "selection by 'predictor' needs 'predictor', a run folder of teach.predict; it "
                "is missing, and no other ranking stands in for it"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The moments of a run.

    Attributes:
        labels: in an order that does not depend on the file's.
        targets: another action to be taught than the teacher's, by moment id (shuffled_labels).
        pool: usable moments of training tasks that the rule chose from.
        notes: what a reader should know, e.g. that fewer were there than asked for.
    """

    labels: tuple[LabelledMoment, ...]
    targets: Mapping[str, str] | None = None
    pool: int = 0
    notes: tuple[str, ...] = field(default=())


def choose(
    rule: SelectionRule,
    labels: Sequence[LabelledMoment],
    *,
    randomness: Randomness,
    predictions: Mapping[str, float] | None = None,
    on_policy: Sequence[LabelledMoment] | None = None,
) -> Chosen:
    """Apply a rule. Moments of other splits than train are passed over.

    Args:
        predictions: predicted payoff by moment id, for rule predictor.
        on_policy: from `on_policy_moments`, for rule dagger.

    Raises:
        DataError: nothing is left to train on; a quadrant is empty; a ranking's input is missing.
    """
    if rule.rule == "none":
        return Chosen(labels=())
    source = labels if rule.rule != "dagger" else on_policy
    if source is None:
        raise DataError("selection rule 'dagger' needs the student's episodes; none were given")
    pool = usable([label for label in source if label.moment.split == "train"])
    if not pool:
        raise DataError(
            f"selection rule '{rule.rule}': of {len(source)} moments none is of a training task "
            "with a usable hint; label more tasks, or check the teacher's answers"
        )
    pool.sort(key=lambda label: label.id)
    chosen, notes = _chosen(rule, pool, randomness, predictions)
    chosen, cut = _at_most(chosen, rule.max_train_samples, randomness)
    refuse_leaks([label.moment.task_id for label in chosen], "train", where="training moments")
    targets = _random_targets(chosen, randomness) if rule.rule == "shuffled_labels" else None
    return Chosen(labels=tuple(chosen), targets=targets, pool=len(pool), notes=(*notes, *cut))


def on_policy_moments(
    episodes: Sequence[Episode], environment: EnvironmentConfig
) -> tuple[LabelledMoment, ...]:
    """Return every distinct state of training tasks that the student was in, with what the expert
    would do there; states where the expert knows nothing are left out.

    Raises:
        DataError: an episode cannot be walked again.

    Source: Ross, Gordon, Bagnell 2011, arXiv:1011.0686 (DAgger, one round).
    """
    world = make_environment(environment)
    found: dict[str, LabelledMoment] = {}
    for episode in episodes:
        world.reset(episode.seed)
        for at, step in enumerate(episode.steps):
            snapshot, answer = take_snapshot(world), world.expert()
            if answer is not None and snapshot.id not in found:
                found[snapshot.id] = _as_label(episode, at, snapshot, answer)
            world.step(step.action)
    return tuple(label for label in found.values() if label.moment.split == "train")


def _as_label(episode: Episode, at: int, snapshot: Snapshot, answer: str) -> LabelledMoment:
    step = episode.steps[at]
    moment = Moment(
        snapshot=snapshot,
        task=episode.task,
        observation=step.observation,
        valid_actions=step.valid_actions,
        step_idx=at,
        trajectory_id=episode.id,
        outcome="success" if episode.success else "failure",
        student_action=step.action,
        student_probs=step.probs,
        failure_type="none",
        anchor_step=at,
        anchor_rule="sampled",
        offset=0,
        key_hash=step.key_hash,
    )
    hint = Hint(snapshot_id=snapshot.id, teacher="expert", valid=True, suggested_action=answer)
    return LabelledMoment(moment=moment, hint=hint)


def _chosen(
    rule: SelectionRule,
    pool: list[LabelledMoment],
    randomness: Randomness,
    predictions: Mapping[str, float] | None,
) -> tuple[list[LabelledMoment], tuple[str, ...]]:
    match rule.rule:
        case "quadrant":
            return _of_quadrant(pool, rule.quadrant), ()
        case "shuffled_labels":
            return (_of_quadrant(pool, rule.quadrant) if rule.quadrant else pool), ()
        case "uniform":
            size = rule.baseline_n_samples or rule.max_train_samples or BASELINE_SIZE
            return _sample(pool, size, randomness)
        case "matched_uniform":
            size = len(_of_quadrant(pool, rule.quadrant))
            if rule.max_train_samples is not None:
                size = min(size, rule.max_train_samples)
            return _sample(pool, size, randomness)
        case "random" | "entropy" | "predictor" | "oracle":
            assert rule.budget is not None
            if rule.compared:
                methods = (rule.rule, *rule.compared)
                pool = list(common_pool(pool, methods, predictions=predictions).labels)
            best = select(
                pool, rule.rule, rule.budget, predictions=predictions, seed=randomness.seed
            )
            return [pool[index] for index in best.indices], ()
        case _:
            return pool, ()


def _of_quadrant(pool: Sequence[LabelledMoment], quadrant: str | None) -> list[LabelledMoment]:
    found = [label for label in pool if label.quadrant == quadrant]
    if not found:
        counts = Counter(label.quadrant for label in pool)
        there = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        raise DataError(
            f"quadrant {quadrant}: 0 usable moments of training tasks (there are: {there}); "
            "label more snapshots or choose other thresholds"
        )
    return found


def _sample(
    pool: list[LabelledMoment], size: int, randomness: Randomness
) -> tuple[list[LabelledMoment], tuple[str, ...]]:
    if size >= len(pool):
        note = f"asked for {size} moments, {len(pool)} are there" if size > len(pool) else ""
        return pool, (note,) if note else ()
    return _at_most(pool, size, randomness)[0], ()


def _at_most(
    labels: list[LabelledMoment], most: int | None, randomness: Randomness
) -> tuple[list[LabelledMoment], tuple[str, ...]]:
    """Keep a random `most` of them in their order; a larger number keeps these and more."""
    if most is None or len(labels) <= most:
        return labels, ()
    draws_N = randomness.uniforms("selection", [(counter_of(label.id),) for label in labels], 1)
    kept = sorted(np.argsort(draws_N[:, 0], kind="stable")[:most].tolist())
    return [labels[at] for at in kept], (f"kept {most} of {len(labels)} moments at random",)


def _random_targets(labels: Sequence[LabelledMoment], randomness: Randomness) -> dict[str, str]:
    """Draw a valid action for each moment, the right one as likely as any other."""
    draws_N = randomness.uniforms("shuffled_labels", [(counter_of(row.id),) for row in labels], 1)
    return {
        label.id: label.moment.valid_actions[int(draw * len(label.moment.valid_actions))]
        for label, draw in zip(labels, draws_N[:, 0], strict=True)
    }
