"""Depth over a ladder of one trajectory."""

from __future__ import annotations

from dataclasses import replace

from cupel.teach.branches.arms import Arm
from cupel.teach.labelling.depth import with_depth
from cupel.teach.labelling.labels import Depth, LabelledMoment
from cupel.teach.labelling.leverage import leverage_of
from tests.teach.label_runs import corridor_moments

MOMENT = corridor_moments(range(2))[0]


def rung(step: int, force: float, expert: float, trajectory: str = "t") -> LabelledMoment:
    moment = replace(MOMENT, step_idx=step, trajectory_id=trajectory)
    arms = {"policy": 0.0, "force": force, "expert": expert}
    leverage = leverage_of({name: Arm(lo=p, hi=p) for name, p in arms.items()})  # type: ignore[misc]
    return LabelledMoment(moment=moment, hint=None, leverage=leverage)


def test_depth_is_the_fewest_steps_back_that_recover() -> None:
    ladder = [rung(6, 0.1, 0.2), rung(5, 0.2, 0.6), rung(3, 0.7, 1.0), rung(1, 0.9, 1.0)]
    depths = [row.depth for row in with_depth(ladder)]
    assert depths[0] == Depth(d_expert=1, d_force=3, offsets=(0, 1, 3, 5))
    assert depths[1] == Depth(d_expert=0, d_force=2, offsets=(0, 2, 4))
    assert depths[3] == Depth(d_expert=0, d_force=0, offsets=(0,))


def test_what_no_tried_step_recovers_is_none_and_not_the_step_number() -> None:
    (found, _) = with_depth([rung(6, 0.0, 0.0), rung(3, 0.1, 0.1)])
    assert found.depth == Depth(d_expert=None, d_force=None, offsets=(0, 3))


def test_later_steps_and_other_trajectories_do_not_count() -> None:
    rows = with_depth([rung(3, 0, 0), rung(5, 1, 1), rung(1, 1, 1, trajectory="u")])
    assert rows[0].depth == Depth(d_expert=None, d_force=None, offsets=(0,))


def test_without_leverage_there_is_no_depth() -> None:
    bare = replace(rung(3, 0, 0), leverage=None)
    assert with_depth([bare])[0].depth is None
    missing_rung, _ = with_depth([bare, rung(1, 0, 1)])
    assert missing_rung.depth == Depth(d_expert=2, d_force=None, offsets=(2,))


def test_tau_moves_the_line() -> None:
    ladder = [rung(2, 0, 0.6), rung(1, 0, 0.9)]
    depth = with_depth(ladder, tau=0.8)[0].depth
    assert depth is not None
    assert depth.d_expert == 1
