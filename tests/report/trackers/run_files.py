"""Run folders and rows for the follower's tests, and what each tracker holds, read back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FACTS = {"recipe": "rlvr.train", "condition": "maxrl+gtpo_sepa", "seed": 42}


def row(step: int, *, attempt: int = 0) -> dict[str, Any]:
    """Return a row: results that depend on the step, a timing that depends on the attempt too."""
    return {
        "step": step,
        "condition": FACTS["condition"],
        "seed": FACTS["seed"],
        "correct_rate": (step * 7 % 11) / 11,
        "correct_count": step % 64,
        "loss": None if step % 5 == 0 else -0.1 * step,
        "exec_entropy_var": 1 / (step + 1),
        "sepa_lambda": min(1.0, step / 20),
        "sepa_gate_open": step > 3,
        "bp_regime": "off",
        "step_time_s": 0.5 + attempt + step / 1000,
    }


def line(row: dict[str, Any]) -> bytes:
    """Return a row as the recorder writes it."""
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return rows as a file."""
    return b"".join(line(row) for row in rows)


def make_run(folder: Path, rows: Sequence[dict[str, Any]], *, status: str = "running") -> Path:
    """Write a run folder with these rows."""
    folder.mkdir(parents=True)
    config = {**FACTS, "resolved": {"lr": 0.1, "max_steps": 30}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps({**FACTS, "status": status, "ended_at": None}))
    (folder / "metrics.jsonl").write_bytes(lines(rows))
    if status == "done":
        end_run(folder)
    return folder


def end_run(folder: Path) -> None:
    """Write what says that a run is complete."""
    (folder / "result.json").write_text("{}")


def state(folder: Path, tracker: str) -> dict[str, Any]:
    """Return the follower's state file."""
    found: dict[str, Any] = json.loads((folder / "follow" / f"{tracker}.json").read_text())
    return found


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a tracker must show of a row: the documented names, nothing that is missing."""
    names = {
        "correct_rate": "train/rewards/correct_rate",
        "loss": "train/loss",
        "exec_entropy_var": "train/entropy/exec_var",
        "sepa_lambda": "train/sepa_lambda",
        "sepa_gate_open": "train/sepa_gate_open",
        "bp_regime": "train/backpressure/regime",
        "step_time_s": "train/step_time_s",
    }
    return {names.get(key, key): value for key, value in row.items() if value is not None}


def shown_numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return what TensorBoard must show: numbers, at 32 bit."""
    numbers = {key: value for key, value in shown(row).items() if not isinstance(value, str)}
    return {key: float(np.float32(value)) for key, value in numbers.items()}


def tensorboard_rows(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Return the rows of the event file as TensorBoard's own reader finds them, in file order."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    (path,) = (folder / "tensorboard").glob("events.out.tfevents.*")
    found = []
    for event in LegacyEventFileLoader(str(path)).Load():
        values = {value.tag: value.simple_value for value in event.summary.value}
        values.pop("config/text_summary", None)
        if values:
            found.append((event.step, values))
    return found


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of W&B's offline files, without what W&B adds to each."""
    from cupel.report.trackers.wandb_files import offline_rows

    added = ("_runtime", "_timestamp")
    rows = offline_rows(folder, state(folder, "wandb")["run_id"])
    return [{key: row[key] for key in row if key not in added} for row in rows]


def trackio_rows(store: Path, project: str, run_id: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a run in Trackio's store."""
    with sqlite3.connect(store / f"{project}.db") as database:
        found = database.execute(
            "SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY id", (run_id,)
        ).fetchall()
    return [(step, json.loads(values)) for step, values in found]
