"""Measuring moments: the outcomes of their branches, bounded exactly or sampled.

Knows which branches a plan stands for. Refuses to derive anything: it returns primary records,
and the same ones whatever else is measured with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cupel.teach.branches.allocation import Need
from cupel.teach.branches.arms import Arms
from cupel.teach.branches.branching import Branch, BranchResult, run_branches
from cupel.teach.branches.exact import ActionValues, Bounds, Root, action_values, success_bounds
from cupel.teach.labelling.plan import NOTES, Lab, Plan, query_of
from cupel.teach.records import CONDITIONS, Condition, Outcomes
from cupel.teach.students.student import Student

_LEVERAGE: tuple[Condition, ...] = ("policy", "force", "expert")


def measure(plans: Sequence[Plan], lab: Lab) -> list[Outcomes]:
    """Measure all plans together; rows in the order of the plans, then of the conditions."""
    rows = [row for plan in plans if plan.dead_end for row in _nothing_helps(plan, lab)]
    open_plans = [plan for plan in plans if plan.counts]
    if lab.exact:
        rows += _bounded(open_plans, lab)
    if lab.sampled:
        requests = {plan.moment.id: {n: (0, c) for n, c in plan.counts.items()} for plan in plans}
        rows += _sampled(open_plans, requests, lab)
    order = {plan.moment.id: number for number, plan in enumerate(plans)}
    return sorted(rows, key=lambda row: (order[row.snapshot_id], CONDITIONS.index(row.condition)))


def measure_more(
    needs: Sequence[Need], plans: Sequence[Plan], arms: Mapping[str, Arms], lab: Lab
) -> list[Outcomes]:
    """Run the rollouts that a round allots; `plans` are those of the needs, in order."""
    requests = {
        need.snapshot_id: {
            name: (arms[need.snapshot_id][name].n + arms[need.snapshot_id][name].errors, count)
            for name, count in need.arms.items()
        }
        for need in needs
    }
    return _sampled(plans, requests, lab)


def _nothing_helps(plan: Plan, lab: Lab) -> list[Outcomes]:
    never = Bounds(lo=0.0, hi=0.0, queries=0)
    return [_exact_row(plan, name, never, lab) for name in _LEVERAGE]


def _bounded(plans: Sequence[Plan], lab: Lab) -> list[Outcomes]:
    config = lab.config
    values = action_values(
        [(plan.moment.snapshot, plan.horizon) for plan in plans],
        lab.student,
        config.environment,
        prune_mass=config.prune_mass,
        max_states=config.max_states,
    )
    rows = []
    for plan, known in zip(plans, values, strict=True):
        rows.append(_exact_row(plan, "policy", known.under(known.probs), lab))
        if "force" in plan.counts and plan.hint is not None:
            forced = known.of(plan.hint.suggested_action or "")
            rows.append(_exact_row(plan, "force", forced, lab))
    rows += _bounded_expert([plan for plan in plans if "expert" in plan.counts], lab)
    if config.patch_steps == "first":
        return rows + _bounded_first_notes(plans, values, lab)
    noted = [(plan, name) for plan in plans for name in NOTES if name in plan.notes]
    roots = [
        Root(
            snapshot=plan.moment.snapshot,
            horizon=plan.horizon,
            patch=plan.notes[name],
            patch_steps="every",
        )
        for plan, name in noted
    ]
    bounds = _success_bounds(roots, lab.student, lab)
    return rows + [
        _exact_row(plan, name, bound, lab)
        for (plan, name), bound in zip(noted, bounds, strict=True)
    ]


def _success_bounds(roots: Sequence[Root], actor: Student, lab: Lab) -> list[Bounds]:
    return success_bounds(
        roots,
        actor,
        lab.config.environment,
        prune_mass=lab.config.prune_mass,
        max_states=lab.config.max_states,
    )


def _bounded_first_notes(
    plans: Sequence[Plan], values: Sequence[ActionValues], lab: Lab
) -> list[Outcomes]:
    """Weigh the values of the first actions by the distribution that each note brings about."""
    noted = [
        (plan, known, name)
        for plan, known in zip(plans, values, strict=True)
        for name in NOTES
        if name in plan.notes
    ]
    probs = lab.student.distributions(
        [query_of(plan.moment, plan.notes[name]) for plan, _, name in noted]
    )
    rows = []
    for (plan, known, name), patched in zip(noted, probs, strict=True):
        rows.append(_exact_row(plan, name, known.under(patched), lab))
    return rows


def _bounded_expert(plans: Sequence[Plan], lab: Lab) -> list[Outcomes]:
    """Bound a model as expert; run the environment's own once, for it goes one way only."""
    if lab.expert is not None:
        roots = [Root(snapshot=plan.moment.snapshot, horizon=plan.horizon) for plan in plans]
        bounds = _success_bounds(roots, lab.expert, lab)
        return [
            _exact_row(plan, "expert", bound, lab)
            for plan, bound in zip(plans, bounds, strict=True)
        ]
    branches = [_branch(plan, "expert", 0, lab) for plan in plans]
    rows = []
    for plan, one in zip(plans, _run(branches, lab), strict=True):
        if one.success is None:
            rows.append(_sampled_row(plan, "expert", 0, [one], lab))
        else:
            certain = Bounds(lo=float(one.success), hi=float(one.success), queries=0)
            rows.append(_exact_row(plan, "expert", certain, lab))
    return rows


def _sampled(
    plans: Sequence[Plan], requests: Mapping[str, Mapping[Condition, tuple[int, int]]], lab: Lab
) -> list[Outcomes]:
    """Run the rollouts asked for: by snapshot and condition, the first replicate and how many."""
    asked = [
        (plan, name, *requests[plan.moment.id][name])
        for plan in plans
        for name in CONDITIONS
        if name in requests[plan.moment.id]
        # the environment's expert goes one way only, and that is known by then
        and not (lab.exact and name == "expert" and lab.expert is None)
    ]
    branches = [
        _branch(plan, name, first + number, lab)
        for plan, name, first, count in asked
        for number in range(count)
    ]
    results = iter(_run(branches, lab))
    return [
        _sampled_row(plan, name, first, [next(results) for _ in range(count)], lab)
        for plan, name, first, count in asked
    ]


def _run(branches: Sequence[Branch], lab: Lab) -> list[BranchResult]:
    """Run branches with the student, those of a model as expert with that model."""
    environment = lab.config.environment
    modelled = lab.expert is not None
    by_expert = [modelled and branch.condition == "expert" for branch in branches]
    found: list[BranchResult | None] = [None] * len(branches)
    for actor, wanted in ((lab.student, False), (lab.expert, True)):
        chosen = [number for number, expert in enumerate(by_expert) if expert == wanted]
        if actor is None or not chosen:
            continue
        results = run_branches(
            [branches[number] for number in chosen], actor, environment, uniforms=lab.uniforms
        )
        for number, result in zip(chosen, results, strict=True):
            found[number] = result
    return [result for result in found if result is not None]


def _branch(plan: Plan, name: Condition, replicate: int, lab: Lab) -> Branch:
    forced = plan.hint.suggested_action if name == "force" and plan.hint is not None else None
    return Branch(
        snapshot=plan.moment.snapshot,
        condition=name,
        replicate=replicate,
        horizon=plan.horizon,
        first_action=forced,
        patch=plan.notes.get(name),
        patch_steps=lab.config.patch_steps,
        controller="expert" if name == "expert" and lab.expert is None else "student",
    )


def _exact_row(plan: Plan, name: Condition, bound: Bounds, lab: Lab) -> Outcomes:
    return Outcomes(
        snapshot_id=plan.moment.id,
        condition=name,
        mode="exact",
        horizon=plan.horizon,
        student=_actor(name, lab),
        lo=bound.lo,
        hi=bound.hi,
    )


def _sampled_row(
    plan: Plan, name: Condition, first: int, results: Sequence[BranchResult], lab: Lab
) -> Outcomes:
    return Outcomes(
        snapshot_id=plan.moment.id,
        condition=name,
        mode="monte_carlo",
        horizon=plan.horizon,
        student=_actor(name, lab),
        first_replicate=first,
        success=tuple(one.success for one in results),
        steps=tuple(one.n_steps for one in results),
    )


def _actor(name: Condition, lab: Lab) -> str:
    if name != "expert":
        return lab.student.identity
    return "expert" if lab.expert is None else lab.expert.identity
