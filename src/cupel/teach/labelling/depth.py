"""How many steps before a state success was still likely: recovery depth.

Pure. Knows leverage at several steps of one trajectory, which needs a mined ladder of offsets.
Refuses to call "never" a number: a state that none of the tried steps recovers has depth None.

d_expert, d_force: smallest number of steps back at which p_expert, p_force >= tau. Departure from
the documents, which put the step's index where nothing recovers, as if it had been measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cupel.teach.labelling.labels import Depth, LabelledMoment

TAU_RECOVER = 0.5


def with_depth(
    labels: Sequence[LabelledMoment], *, tau: float = TAU_RECOVER
) -> tuple[LabelledMoment, ...]:
    """Return the labels with the depth of each, from the moments of its own trajectory.

    A moment keeps None where no moment of its trajectory, itself included, has leverage.
    """
    by_trajectory: dict[str, list[LabelledMoment]] = {}
    for label in labels:
        by_trajectory.setdefault(label.moment.trajectory_id, []).append(label)
    return tuple(
        replace(label, depth=depth_of(label, by_trajectory[label.moment.trajectory_id], tau=tau))
        for label in labels
    )


def depth_of(
    label: LabelledMoment, trajectory: Iterable[LabelledMoment], *, tau: float = TAU_RECOVER
) -> Depth | None:
    """Return the depth of one moment.

    Args:
        trajectory: labelled moments of the same trajectory; later ones and those without leverage
            are passed over.
    """
    at = label.moment.step_idx
    ladder = sorted(
        (at - other.moment.step_idx, other.leverage)
        for other in _one_a_step(trajectory)
        if other.leverage is not None and other.moment.step_idx <= at
    )
    if not ladder:
        return None
    expert = [back for back, leverage in ladder if leverage.p_expert.value >= tau]
    force = [back for back, leverage in ladder if leverage.p_force.value >= tau]
    return Depth(
        d_expert=min(expert, default=None),
        d_force=min(force, default=None),
        offsets=tuple(back for back, _ in ladder),
    )


def _one_a_step(trajectory: Iterable[LabelledMoment]) -> Iterable[LabelledMoment]:
    return {label.moment.step_idx: label for label in trajectory}.values()
