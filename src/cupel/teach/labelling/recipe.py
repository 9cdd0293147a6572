"""Phase 1, `teach.label`: hints, uncertainty, leverage, patch gains, depth and quadrants.

Knows the order of the stages and the files of this phase. Refuses to hold what was measured
anywhere but in the streams: labels are derived from them at the end, over all rows at once, so a
labelling that was killed and resumed ends in the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.errors import ConfigError
from cupel.lab.files import file_sha256, write_json
from cupel.lab.metrics import Metric
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.branches.allocation import Need, Round, first_moments, next_round
from cupel.teach.branches.arms import Arms, arms_of
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.labelling.config import (
    DISTRIBUTIONS,
    HINTS,
    METRICS,
    OUTCOMES,
    LabelConfig,
)
from cupel.teach.labelling.derive import (
    counts_and_means,
    gates_of,
    labelled,
    metadata_row,
)
from cupel.teach.labelling.files import write_labels
from cupel.teach.labelling.measure import measure, measure_more
from cupel.teach.labelling.patching import shuffled_notes
from cupel.teach.labelling.plan import Lab, Plan, distributions, modes, plans_of
from cupel.teach.labelling.progress import (
    Progress,
    blocks_of,
    errors_in,
    open_progress,
    read_rows,
    record,
    save,
)
from cupel.teach.labelling.quadrants import counts_of, thresholds_row
from cupel.teach.records import to_row
from cupel.teach.students.student import Student, StudentConfig, UniformStudent
from cupel.teach.teachers.teacher import TeacherRequest, build_teacher

PURPOSE = "labels"
"""Randomness of labels; whatever validates them uses another purpose."""


class LabelRecipe:
    """`teach.label`: labelled snapshots, their thresholds and quadrants."""

    name = "teach.label"
    config_type = LabelConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": METRICS,
        HINTS: None,
        DISTRIBUTIONS: None,
        OUTCOMES: None,
    }
    preload = ("cupel.teach.labelling.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add nothing: no default depends on another setting."""
        return data

    def forecast(self, config: LabelConfig) -> Forecast:
        """Bound blocks and teacher calls; refuse snapshots that cannot be read."""
        moments = len(read_rows(config))
        blocks = -(-moments // config.block)
        stages = set(config.stages)
        passes = ("hints" in stages) + bool(stages & {"uncertainty", "leverage", "patch"})
        extra = config.allocation.rounds if config.allocation.budget is not None else 0
        calls = moments if "hints" in stages and config.teacher.kind == "api" else 0
        return Forecast(
            costs={
                "steps": blocks * passes + extra,
                "moments": moments,
                **({"teacher_calls": calls * (1 + config.teacher.retries)} if calls else {}),
            }
        )

    def run(self, config: LabelConfig, context: RunContext) -> Result:
        """Measure block after block, then derive the labels."""
        return label(config, context)


RECIPE = LabelRecipe()


def label(config: LabelConfig, context: RunContext, student: Student | None = None) -> Result:
    """Label from the start or from the checkpoint in `context`.

    Args:
        student: label this one instead of building the one that `config` names.

    Raises:
        ConfigError, DataError: snapshots, environment or models do not fit together.
        BudgetExhausted: the teacher's budget ends before the last hint; all answers are kept.
    """
    state = open_progress(config, context)
    _ask_hints(state, config, context)
    if set(config.stages) & {"uncertainty", "leverage", "patch"}:
        lab = _lab(state, config, context, student)
        plans = plans_of(state.moments, lab)
        _measure(state, plans, lab, config, context)
        _add_rollouts(state, plans, lab, config, context)
    return _finish(state, config, context)


def _ask_hints(state: Progress, config: LabelConfig, context: RunContext) -> None:
    """Ask the teacher about every moment; hints of an earlier stage stay where none is asked."""
    if "hints" in config.stages:
        teacher = build_teacher(
            config.teacher,
            config.environment,
            cache=context.folder / "hint.sqlite",
            randomness=context.randomness,
        )
        for block in blocks_of(state, "hints", state.moments, config):
            context.recorder.doing = "asking the teacher"
            answers = teacher.answer([TeacherRequest(moment=moment) for moment in block])
            context.recorder.log_many(HINTS, (to_row(hint) for hint in answers))
            state.hints.update({hint.snapshot_id: hint for hint in answers})
            save(state, "hints", len(block), len(state.rows), context)


def _measure(
    state: Progress, plans: Sequence[Plan], lab: Lab, config: LabelConfig, context: RunContext
) -> None:
    """Take distributions and first outcomes, as far as the budget of episodes goes."""
    costs = [plan.episodes if lab.sampled else 0 for plan in plans]
    affordable = first_moments(costs, config.allocation.budget)
    state.unaffordable = len(plans) - affordable
    payable = {plan.moment.id for plan in plans[:affordable]}
    for block in blocks_of(state, "measure", plans, config):
        context.recorder.doing = "measuring moments"
        if "uncertainty" in config.stages:
            moments = [plan.moment for plan in block]
            for moment, probs in zip(moments, distributions(moments, lab.student), strict=True):
                state.probs[moment.id] = probs.tolist()
                context.recorder.log(
                    DISTRIBUTIONS,
                    {
                        "snapshot_id": moment.id,
                        "student": lab.student.identity,
                        "probs": probs.tolist(),
                    },
                )
        record(measure([p for p in block if p.moment.id in payable], lab), state, context)
        save(state, "measure", len(block), len(plans), context)


def _add_rollouts(
    state: Progress, plans: Sequence[Plan], lab: Lab, config: LabelConfig, context: RunContext
) -> None:
    """Give further rollouts to undecided moments, round by round; log why it ended."""
    if not lab.sampled:
        return
    by_id = {plan.moment.id: plan for plan in plans}
    while True:
        if not state.todo:
            chosen = _next_round(state, config)
            if chosen.stop is not None:
                state.stop = chosen.stop
                context.recorder.event(
                    f"rollouts: stopped after {state.round} rounds and {state.episodes} episodes "
                    f"({chosen.stop}); {chosen.undecided} moments undecided, "
                    f"{state.unaffordable} without any"
                )
                return
            state.todo = [
                {"snapshot_id": need.snapshot_id, "arms": dict(need.arms), "doubt": need.doubt}
                for need in chosen.needs
            ]
        needs = [Need(**need) for need in state.todo[: config.block]]
        state.todo = state.todo[config.block :]
        context.recorder.doing = f"adding rollouts, round {state.round + 1}"
        added = measure_more(
            needs, [by_id[need.snapshot_id] for need in needs], _arms(state, needs), lab
        )
        record(added, state, context)
        if not state.todo:
            state.round += 1
        save(state, "rounds", len(needs), len(plans), context)


def _next_round(state: Progress, config: LabelConfig) -> Round:
    allocation = config.allocation
    if config.quadrants.L_threshold is not None:
        allocation = allocation.model_copy(update={"L_threshold": config.quadrants.L_threshold})
    return next_round(state.arms, allocation, spent=state.episodes, number=state.round)


def _arms(state: Progress, needs: Sequence[Need]) -> Mapping[str, Arms]:
    wanted = {need.snapshot_id for need in needs}
    return arms_of(row for row in state.outcomes if row.snapshot_id in wanted)


def _finish(state: Progress, config: LabelConfig, context: RunContext) -> Result:
    """Derive the labels from all rows, write the files, and say how many of what there are."""
    asked = {row.id: row.hint for row in state.rows if row.hint is not None} | state.hints
    arms = state.arms
    labelling = labelled(state.rows, config, hints=asked, probs=state.probs, arms=arms)
    gates = gates_of(labelling, config)
    counts = {
        **counts_and_means(labelling.rows),
        "hints_invalid": sum(not hint.valid for hint in asked.values()),
        "hints_leaking": sum(hint.valid and hint.leaks_action for hint in asked.values()),
        "without_hint": sum(row.id not in asked for row in state.rows),
        "without_budget": state.unaffordable,
        "instrument_errors": errors_in(state),
        "episodes": state.episodes,
        "rounds": state.round,
    }
    metadata = metadata_row(
        labelling, config, student=state.student, seed=context.seed, stop=state.stop, arms=arms
    )
    metadata["input_sha256"] = file_sha256(Path(config.snapshots))
    write_labels(context.folder, labelling.rows)
    if labelling.thresholds is not None:
        write_json(
            context.folder / "quadrant_thresholds_auto.json", thresholds_row(labelling.thresholds)
        )
    write_json(
        context.folder / "labeling_metadata.json",
        metadata | {"counts": counts, "gates": gates},
    )
    if labelling.refusal is not None:
        context.recorder.event(labelling.refusal)
    passed = {gate["gate"]: gate["passed"] for gate in gates}
    quadrants = counts_of(labelling.rows)
    return Result(
        values={
            **counts,
            **{f"n_{name}": count for name, count in quadrants.items()},
            **{f"gate_{name}": value for name, value in passed.items()},
            "stop": state.stop,
        }
    )


def _lab(state: Progress, config: LabelConfig, context: RunContext, student: Student | None) -> Lab:
    needed = set(config.stages) & {"leverage", "patch"}
    hints = {row.id: row.hint for row in state.rows if row.hint is not None} | state.hints
    if needed and not hints:
        raise ConfigError(
            f"stages {', '.join(sorted(needed))} need hints and {config.snapshots} has none; add "
            "stage 'hints', or label hints first with cupel teach hints"
        )
    exact, sampled = modes(config, state.moments) if needed else (False, False)
    student = student or _student(config.student, context)
    state.student = student.identity
    return Lab(
        config=config,
        student=student,
        expert=None if config.expert is None else _student(config.expert, context),
        uniforms=uniforms_of(context.randomness, PURPOSE),
        hints=hints,
        shuffled=shuffled_notes(state.moments, hints),
        exact=exact,
        sampled=sampled,
    )


def _student(chosen: StudentConfig, context: RunContext) -> Student:
    if chosen.backend == "uniform":
        return UniformStudent()
    from cupel.teach.students.language import build_student

    return build_student(
        chosen,
        device=context.slot.device,
        threads=context.slot.threads,
        cache=context.folder / "distributions.sqlite",
    )
