"""Labelled moments of the corridor: real states, labels from its exact values, noise by choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cupel.stats.intervals import newcombe, wilson
from cupel.teach.environments.base import (
    EnvironmentConfig,
    make_environment,
    state_hash,
    take_snapshot,
)
from cupel.teach.environments.corridor import Corridor
from cupel.teach.labelling.labels import (
    Estimate,
    LabelledMoment,
    Leverage,
    PatchTest,
    Quadrant,
    Uncertainty,
)
from cupel.teach.records import Hint, Moment
from cupel.teach.splits import split_of

FORMATS = ("demo", "contrast", "hint")
PULL = {"demo": 0.8, "contrast": 0.5, "hint": 0.25, "placebo": 0.0}
"""How far each note pulls the first action towards the expert's."""


def policy(world: Corridor) -> dict[str, float]:
    """A student that depends on the state alone."""
    rng = np.random.default_rng([7, world.seed % 2, int(world.observe().split()[-1])])
    actions = world.valid_actions()
    weights = np.exp(1.5 * rng.normal(size=len(actions)))
    return dict(zip(actions, (weights / weights.sum()).tolist(), strict=True))


def value(world: Corridor, horizon: int, known: dict | None = None) -> float:
    """Success probability of the student."""
    known = {} if known is None else known
    if world.observe() == "pit" or horizon == 0:
        return 0.0
    key = (world.key(), horizon)
    if key not in known:
        known[key] = sum(
            share * action_value(world, action, horizon, known)
            for action, share in policy(world).items()
        )
    return known[key]


def action_value(world: Corridor, action: str, horizon: int, known: dict | None = None) -> float:
    after = world.copy()
    step = after.step(action)
    return 1.0 if step.success else value(after, horizon - 1, known)


def moments(n_tasks: int, per_task: int = 3, *, seed: int = 0) -> list[Moment]:
    """Random walks in many corridors, stopped before they end."""
    rng = np.random.default_rng(seed)
    world = make_environment(EnvironmentConfig(name="corridor"))
    found: dict[str, Moment] = {}
    for task in range(n_tasks):
        for _ in range(per_task):
            world.reset(task)
            for _ in range(int(rng.integers(0, 7))):
                after = world.copy()
                after.step(str(rng.choice(world.valid_actions())))
                if after.observe() == "pit" or not after.valid_actions():
                    break
                world = after
            moment = _moment(world, rng)
            found[moment.id] = moment
    return list(found.values())


def _moment(world: Corridor, rng: np.random.Generator) -> Moment:
    snapshot = take_snapshot(world)
    probs = policy(world)
    return Moment(
        snapshot=snapshot,
        task=world.task(),
        observation=world.observe(),
        valid_actions=world.valid_actions(),
        step_idx=len(snapshot.actions),
        trajectory_id=f"student_{world.seed}",
        outcome="failure",
        student_action=str(rng.choice(list(probs), p=list(probs.values()))),
        student_probs=tuple(probs.values()),
        failure_type="wrong_action",
        anchor_step=len(snapshot.actions),
        anchor_rule="sampled",
        offset=0,
        key_hash=state_hash(world),
    )


def labelled(
    n_tasks: int, per_task: int = 3, *, rollouts: int | None = None, seed: int = 0, noise: int = 1
) -> list[LabelledMoment]:
    """Label moments exactly, or as so many rollouts a condition would."""
    rng = np.random.default_rng([seed, noise])
    rows = [_label(moment, rollouts, rng) for moment in moments(n_tasks, per_task, seed=seed)]
    middle_u = float(np.median([row.U for row in rows]))
    middle_l = float(np.median([row.leverage.L_local.value for row in rows]))
    return [replace(row, quadrant=_quadrant(row, middle_u, middle_l)) for row in rows]


def train_only(rows: list[LabelledMoment]) -> list[LabelledMoment]:
    return [row for row in rows if split_of(row.moment.task_id) == "train"]


def _label(moment: Moment, rollouts: int | None, rng: np.random.Generator) -> LabelledMoment:
    world = make_environment(EnvironmentConfig(name="corridor"))
    world.reset(moment.snapshot.seed)
    for action in moment.snapshot.actions:
        world.step(action)
    horizon, expert = 8, world.expert()
    probs, base = policy(world), value(world, 8)
    right = action_value(world, expert, horizon)

    def pulled(share: float) -> float:
        return base + share * (right - base)

    def arm(p: float) -> Estimate:
        if rollouts is None:
            return Estimate(value=p, lo=p, hi=p)
        k = int(rng.binomial(rollouts, min(1.0, max(0.0, p))))
        interval = wilson(k, rollouts)
        return Estimate(value=k / rollouts, lo=interval.low, hi=interval.high, n=rollouts)

    values = np.array(list(probs.values()))
    entropy = float(-(values * np.log(values)).sum())
    ranked = np.sort(values)[::-1]
    p = {name: arm(pulled(PULL[name])) for name in FORMATS}
    placebo, no_note, forced = arm(base), arm(base), arm(right)
    gains = {name: minus(placebo, each) for name, each in p.items()}
    best = max(FORMATS, key=lambda name: gains[name].value)
    half = None if rollouts is None else float(gains[best].value)
    return LabelledMoment(
        moment=moment,
        hint=Hint(snapshot_id=moment.id, teacher="expert", valid=True, suggested_action=expert),
        U=entropy,
        uncertainty=Uncertainty(
            entropy=entropy,
            entropy_norm=float(entropy / np.log(len(values))),
            margin=float(1 - (ranked[0] - ranked[1])),
            topk_spread=float(1 - (ranked[0] - ranked[-1])),
            effective_actions=float(np.exp(entropy)),
            n_actions=len(values),
        ),
        leverage=Leverage(
            p_policy=no_note,
            p_force=forced,
            p_expert=arm(1.0),
            L_local=minus(no_note, forced),
            L_upper=minus(no_note, arm(1.0)),
        ),
        patch_test=PatchTest(
            p_base=no_note,
            p_placebo=placebo,
            p_shuffled=None,
            p=p,
            gain_raw={name: minus(no_note, each) for name, each in p.items()},
            gain_net=gains,
            ELP_raw=max(each.value - no_note.value for each in p.values()),
            ELP_net=gains[best].value,
            route_net=best,
            ELP_split=None if rollouts is None else gains["demo"],
            route_split=best,
            oracle_half=half,
            total_episodes=5 * (rollouts or 0),
        ),
    )


def minus(first: Estimate, second: Estimate) -> Estimate:
    """second - first."""
    if first.n is None or second.n is None:
        gap = second.value - first.value
        return Estimate(value=gap, lo=gap, hi=gap)
    k = [round(each.value * each.n) for each in (first, second)]
    interval = newcombe((k[0], first.n), (k[1], second.n))
    gap = second.value - first.value
    return Estimate(value=gap, lo=interval.low, hi=interval.high, n=first.n)


def _quadrant(row: LabelledMoment, middle_u: float, middle_l: float) -> Quadrant:
    high_u, high_l = middle_u < row.U, row.leverage.L_local.value > middle_l
    if high_u:
        return "Q1_highU_highL" if high_l else "Q2_highU_lowL"
    return "Q4_lowU_highL" if high_l else "Q3_lowU_lowL"
