"""What one training run leaves in words and rates: its two documented files and derived numbers.

Knows keys and rows. Refuses to train and to evaluate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cupel.config import to_dict
from cupel.lab.files import write_json
from cupel.lab.metrics import Scalar
from cupel.lab.recipe import RunContext
from cupel.teach.evaluation.judging import EpisodeRow, mean_or_none
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.selection.rules import Chosen
from cupel.teach.training.config import FinetuneConfig
from cupel.teach.training.supervision import Supervision

MODEL = "model"
"""Folder of the trained model in the run folder."""


def write_configs(
    config: FinetuneConfig,
    context: RunContext,
    name: str,
    chosen: Chosen,
    supervision: Supervision,
) -> None:
    """Write what was trained, how, and on which snapshots, before training starts."""
    rule = config.selection
    documented = {
        "quadrant": "quadrant_specific",
        "uniform": "uniform_random",
        "all": "all_quadrants",
    }
    for note in chosen.notes:
        context.recorder.event(f"selection: {note}")
    for reason, count in supervision.dropped.items():
        context.recorder.event(f"supervision: {count} moments dropped: {reason}")
    trained = rule.rule != "none"
    write_json(
        context.folder / "run_config.json",
        {
            "run_config": {
                "run_id": name,
                "quadrant": rule.quadrant or "all",
                "supervision": config.format,
                "selection": documented.get(rule.rule, rule.rule),
                "contrast_as": config.contrast_as,
                "hint_as": config.hint_as,
            },
            "n_examples": len(supervision.examples),
            "model_path": str(context.folder / MODEL) if trained else "",
            "pool": chosen.pool,
            "dropped": dict(supervision.dropped),
            "answer_in_prompt_rate": supervision.answer_in_prompt_rate,
            "trained_snapshots": {each.snapshot_id: each.task_id for each in supervision.examples},
        },
    )
    write_json(
        context.folder / "training_config.json",
        {
            "run_id": name,
            "seed": context.seed,
            "base_model": config.student.model or config.student.backend,
            "student": to_dict(config.student),
            "labels": config.labels,
            **to_dict(config.sft),
            "rehearsal": to_dict(config.rehearsal),
        },
    )


def by_quadrant(rows: Sequence[EpisodeRow]) -> dict[str, Scalar]:
    """Return the panel's rates of each quadrant; None where it has no states."""
    found: dict[str, Scalar] = {}
    for name in QUADRANTS:
        ours = [row for row in rows if row.quadrant == name and row.success is not None]
        found[f"panel_success_rate_{name[:2]}"] = mean_or_none([row.success for row in ours])
        odds = mean_or_none([row.success_probability for row in ours])
        found[f"panel_success_probability_{name[:2]}"] = odds
    return found


def retention(rows: Sequence[EpisodeRow], kept: Mapping[str, bool | None]) -> dict[str, Scalar]:
    """Return how many of the tasks that the start solved in a pass of its own are solved."""
    ours = [row for row in rows if row.dataset == "tasks" and kept.get(row.task_id)]
    return {
        "retention_rate": mean_or_none([row.success for row in ours]),
        "retention_tasks": len(ours),
    }
