"""Labelled snapshots of a teaching run: what was seen, what could be done, and what it is worth.

Reads labeled_snapshots.jsonl, and distributions.jsonl where the run measured one. Refuses to
derive a label: what a row lacks stays away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import read_json_lines
from cupel.report.viewer.content import MORE, Content, Filter, RunContent

LABELS = "labeled_snapshots.jsonl"
DISTRIBUTIONS = "distributions.jsonl"

_FORMATS = ("demo", "contrast", "hint")
_QUADRANTS = {
    "Q1_highU_highL": "Q1: high U, high L",
    "Q2_highU_lowL": "Q2: high U, low L",
    "Q3_lowU_lowL": "Q3: low U, low L",
    "Q4_lowU_highL": "Q4: low U, high L",
    "UNASSIGNED": "unassigned",
}


def snapshots_content(folders: Sequence[tuple[Path, str, int | None]], *, limit: int) -> Content:
    """Return what the page shows of labelling runs, given as folder, condition and seed."""
    runs, notes, total, shown = [], [], 0, 0
    share = max(1, limit // max(1, len(folders)))
    for folder, condition, seed in folders:
        try:
            rows, probs = read_json_lines(folder / LABELS), _distributions(folder)
            groups = [_group(row, probs, f"{folder / LABELS}") for row in rows[:share]]
        except DataError as error:
            notes.append(f"{condition} is left out: {error}")
            continue
        total, shown = total + len(rows), shown + len(groups)
        runs.append(RunContent(condition=condition, seed=seed, groups=groups))
    if shown < total:
        notes.insert(
            0, f"Showing {shown:,} of {total:,} snapshots, the first of each run. More: {MORE}"
        )
    return Content(
        kind="snapshots",
        levels=("", "Snapshot", ""),
        filters=[Filter(tag=tag, label=label) for tag, label in _QUADRANTS.items()],
        runs=runs,
        notes=notes,
    )


def _distributions(folder: Path) -> dict[str, Sequence[float]]:
    path = folder / DISTRIBUTIONS
    rows = read_json_lines(path) if path.is_file() else []
    return {row["snapshot_id"]: row["probs"] for row in rows}


def _group(
    row: Mapping[str, Any], probs: Mapping[str, Sequence[float]], where: str
) -> dict[str, Any]:
    try:
        snapshot, moment = row["snapshot"], row.get("moment") or {}
        hint = snapshot.get("teacher_hint") or {}
        return {
            "step": 0,
            "group": 0,
            "problem": row["snapshot_id"],
            "prompt": snapshot.get("instruction_text") or snapshot.get("agent_prefix") or "",
            "rows": [
                {
                    "n": 0,
                    "tags": [row.get("quadrant", "UNASSIGNED")],
                    "quadrant": _QUADRANTS.get(row.get("quadrant", ""), "unassigned"),
                    "text": snapshot["observation"],
                    "actions": _actions(row, snapshot, moment, hint, probs),
                    "facts": _facts(row, snapshot),
                    "measures": _measures(row),
                    "gains": _gains(row.get("cpt")),
                    "hint": hint.get("rationale"),
                }
            ],
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: no labelled snapshot ({type(error).__name__} {error})") from None


def _actions(
    row: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    moment: Mapping[str, Any],
    hint: Mapping[str, Any],
    probs: Mapping[str, Sequence[float]],
) -> list[dict[str, Any]]:
    actions = snapshot["valid_actions"]
    known = probs.get(row["snapshot_id"])
    known = known if known is not None else moment.get("student_probs")
    if known is not None and len(known) != len(actions):
        known = None
    return [
        {
            "name": name,
            "p": None if known is None else known[place],
            "done": name == moment.get("student_action"),
            "taught": name == hint.get("suggested_action"),
        }
        for place, name in enumerate(actions)
    ]


def _facts(row: Mapping[str, Any], snapshot: Mapping[str, Any]) -> list[list[str]]:
    named = (
        ("task", row.get("task_id")),
        ("step of the episode", snapshot.get("step_idx")),
        ("last action", snapshot.get("last_action")),
        ("kind of failure", snapshot.get("action_type")),
        ("how the episode ended", snapshot.get("trajectory_outcome")),
        ("split", row.get("split")),
    )
    return [[name, str(value)] for name, value in named if value is not None]


def _measures(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return U, L and what they are made of, each with its interval and rollouts."""
    found = []
    features, leverage = row.get("uncertainty_features") or {}, row.get("leverage") or {}
    if row.get("U") is not None:
        found.append({"name": "U (uncertainty)", "value": row["U"]})
    for key, name in (
        ("entropy", "entropy of the actions, nats"),
        ("effective_actions", "effective actions"),
        ("margin", "margin"),
    ):
        if features.get(key) is not None:
            found.append({"name": name, "value": features[key]})
    intervals = leverage.get("intervals", {})
    for key, name in (
        ("L_local", "L (leverage of the next action)"),
        ("L_upper", "L, expert to the end"),
        ("p_policy", "success of the student alone"),
        ("p_force", "success after the teacher's action"),
        ("p_expert", "success of the expert"),
    ):
        if leverage.get(key) is not None:
            found.append({"name": name, "value": leverage[key], **intervals.get(key, {})})
    return found


def _gains(test: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the patch gains by format: success with the note, raw and net gain."""
    if test is None:
        return []
    beside = test.get("intervals", {})
    rows = []
    for name in _FORMATS:
        if name in test.get("patch_gain_raw", {}):
            rows.append(
                {
                    "format": name,
                    "p": test.get(f"p_{name}"),
                    "raw": {
                        "value": test["patch_gain_raw"][name],
                        **beside.get("patch_gain_raw", {}).get(name, {}),
                    },
                    "net": {
                        "value": test["patch_gain_net"][name],
                        **beside.get("patch_gain_net", {}).get(name, {}),
                    },
                    "best": test.get("route_net") == name,
                }
            )
    return rows
