"""Rows and labels for tests of the evaluation: labelled moments of real tasks, episodes by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from cupel.teach.environments.base import EnvironmentConfig, make_environment, take_snapshot
from cupel.teach.evaluation.judging import Dataset, EpisodeRow
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment, Quadrant
from cupel.teach.records import Hint, Moment
from cupel.teach.splits import Split, split_of

CORRIDOR = EnvironmentConfig(name="corridor", max_steps=8)


def seeds_of(split: Split, environment: EnvironmentConfig = CORRIDOR) -> Iterator[int]:
    """Yield the seeds of a split."""
    world = make_environment(environment)
    for seed in count():
        world.reset(seed)
        if split_of(take_snapshot(world).task_id) == split:
            yield seed


def labelled(
    seed: int, actions: Sequence[str], quadrant: Quadrant, environment: EnvironmentConfig = CORRIDOR
) -> LabelledMoment:
    """A labelled moment of a real task, with the expert's advice."""
    world = make_environment(environment)
    world.reset(seed)
    for action in actions:
        world.step(action)
    snapshot = take_snapshot(world)
    valid = world.valid_actions()
    expert = world.expert()
    hint = Hint(
        snapshot_id=snapshot.id,
        teacher="expert",
        valid=expert is not None,
        suggested_action=expert,
    )
    moment = Moment(
        snapshot=snapshot,
        task=world.task(),
        observation=world.observe(),
        valid_actions=valid,
        step_idx=len(actions),
        trajectory_id=f"t-{seed}",
        outcome="failure",
        student_action=valid[0],
        student_probs=None,
        failure_type="wrong_action",
        anchor_step=len(actions),
        anchor_rule="sampled",
        offset=0,
        key_hash="",
    )
    return LabelledMoment(moment=moment, hint=hint, quadrant=quadrant)


def some_labels(split: Split, per_quadrant: int) -> list[LabelledMoment]:
    """Labelled moments of one split, `per_quadrant` of each quadrant, two of every task."""
    rows: list[LabelledMoment] = []
    ways = (("right",), ("right", "left"))
    seeds = seeds_of(split)
    while len(rows) < 4 * per_quadrant:
        seed = next(seeds)
        for way in ways:
            rows.append(labelled(seed, way, QUADRANTS[len(rows) % 4]))
    return rows[: 4 * per_quadrant]


def row(
    model: str,
    start: str,
    success: bool | None,
    *,
    dataset: Dataset = "tasks",
    quadrant: str = "",
    task: str = "",
    train_seed: int | None = None,
    probability: float | None = None,
) -> EpisodeRow:
    """An episode row by hand."""
    return EpisodeRow(
        model=model,
        train_seed=train_seed,
        dataset=dataset,
        task_id=task or start,
        snapshot_id=start if dataset == "snapshots" else "",
        quadrant=quadrant,
        success=success,
        total_reward=None if success is None else float(success),
        steps=0 if success is None else 3,
        repeat_rate=None if success is None else 0.25,
        loop_rate=None if success is None else 0.0,
        stop_reason="error" if success is None else "success" if success else "limit",
        success_probability=probability,
    )
