"""How far a labelling is: what its streams hold, and where it goes on after a kill.

Knows the streams and the checkpoint. Refuses to hold what the streams do not: everything but
counters is read back from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import read_json_lines
from cupel.lab.recipe import RunContext
from cupel.teach.branches.allocation import StopRule
from cupel.teach.branches.arms import Arm, arms_of
from cupel.teach.labelling.config import DISTRIBUTIONS, HINTS, OUTCOMES, LabelConfig
from cupel.teach.labelling.files import read_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.records import Condition, Hint, Moment, Outcomes, hint_of, outcomes_of, to_row


@dataclass(slots=True, kw_only=True)
class Progress:
    """What is known so far; the streams hold all of it, the checkpoint only where to go on."""

    rows: tuple[LabelledMoment, ...]
    hints: dict[str, Hint] = field(default_factory=dict)
    probs: dict[str, list[float]] = field(default_factory=dict)
    outcomes: list[Outcomes] = field(default_factory=list)
    blocks: int = 0
    done: dict[str, int] = field(default_factory=dict)
    round: int = 0
    todo: list[dict[str, Any]] = field(default_factory=list)
    unaffordable: int = 0
    student: str | None = None
    stop: StopRule = "no_budget_given"

    @property
    def moments(self) -> list[Moment]:
        """The moments, in the order of the input."""
        return [row.moment for row in self.rows]

    @property
    def arms(self) -> dict[str, dict[Condition, Arm]]:
        """What was measured, by snapshot and condition."""
        return arms_of(self.outcomes)

    @property
    def episodes(self) -> int:
        """Rollouts so far."""
        return sum(len(row.success) for row in self.outcomes)


def open_progress(config: LabelConfig, context: RunContext) -> Progress:
    """Read the snapshots, and what the streams already hold."""
    state = Progress(rows=read_rows(config))
    if context.resume is None:
        return state
    saved, folder = context.resume.state, context.folder
    state.hints = {row["snapshot_id"]: hint_of(row) for row in read_json_lines(folder / HINTS)}
    state.probs = {
        row["snapshot_id"]: row["probs"] for row in read_json_lines(folder / DISTRIBUTIONS)
    }
    state.outcomes = [outcomes_of(row) for row in read_json_lines(folder / OUTCOMES)]
    state.blocks, state.done = context.resume.step, dict(saved["done"])
    state.round, state.todo = saved["round"], list(saved["todo"])
    return state


def read_rows(config: LabelConfig) -> tuple[LabelledMoment, ...]:
    """Read the snapshots to be labelled.

    Raises:
        DataError: the file is missing, malformed or empty.
    """
    rows = read_labels(Path(config.snapshots))
    if not rows:
        raise DataError(f"{config.snapshots}: no snapshots; mine some with cupel teach mine")
    return rows


def blocks_of(
    state: Progress, stage: str, items: Sequence[Any], config: LabelConfig
) -> Iterator[Sequence[Any]]:
    """Yield the blocks of a stage that are still to do; `save` moves on to the next."""
    while state.done.get(stage, 0) < len(items):
        done = state.done.get(stage, 0)
        yield items[done : done + config.block]


def record(rows: Sequence[Outcomes], state: Progress, context: RunContext) -> None:
    """Write outcomes to their stream and keep them."""
    context.recorder.log_many(OUTCOMES, (to_row(row) for row in rows))
    state.outcomes.extend(rows)


def save(state: Progress, stage: str, done: int, total: int, context: RunContext) -> None:
    """Log progress and write the checkpoint of one block."""
    state.blocks += 1
    state.done[stage] = state.done.get(stage, 0) + done
    context.recorder.log(
        "metrics.jsonl",
        {
            "step": state.blocks - 1,
            "condition": context.condition,
            "seed": context.seed,
            "stage": stage,
            "moments": state.done[stage],
            "moments_total": total,
            "episodes": state.episodes,
            "hints_invalid": sum(not hint.valid for hint in state.hints.values()),
            "instrument_errors": errors_in(state),
            "undecided": len(state.todo) if stage == "rounds" else None,
        },
    )
    context.checkpoints.save(
        state.blocks,
        lambda folder: None,
        {"done": state.done, "round": state.round, "todo": state.todo},
    )


def errors_in(state: Progress) -> int:
    """Count the rollouts whose instrument broke down."""
    return sum(won is None for row in state.outcomes for won in row.success)
