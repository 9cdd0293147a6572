"""The experiment record: every number from a run folder, every gap said to be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cupel.arc.config import ArcTrainConfig
from cupel.arc.presets import preset
from cupel.config import merge, to_dict, validate
from cupel.errors import DataError
from cupel.lab.files import write_json
from cupel.report.arc.template import read_experiment, template


def run(folder: Path, recipe: str, config: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    passed = {"lr": 1e-3, "encoder": {"kind": "standard"}}
    made = {"recipe": recipe, "condition": "x", "seed": 3, "resolved": config, "passed": passed}
    write_json(folder / "config.json", made)
    started = "2026-02-03T04:05:06.000+00:00"
    state: dict[str, Any] = {"status": "done", "started_at": started, "failure": None}
    state |= {"condition": "x", "seed": 3, "events": []}
    write_json(folder / "run.json", state)
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "result.json", {"values": {}})
    return folder


def training(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    settings = merge(preset("cpu"), changes)
    return run(folder, "arc.train", to_dict(validate(ArcTrainConfig, settings, where="test")), rows)


ROWS: list[dict[str, Any]] = [
    {"step": 500, "em_at_halt": 0.4, "puzzles": 32},
    {"step": 1000, "em_at_halt": 0.95, "em_at_halt_lo": 0.82, "em_at_halt_hi": 0.99, "puzzles": 32,
     "context_gain": 0.6, "context_gain_lo": 0.4, "context_gain_hi": 0.8, "context_gain_n": 120,
     "steps_at_halt": 3.5, "health": "ok"},
]  # fmt: skip


def test_phase_1_is_filled_in_and_phase_2_is_said_to_be_missing(tmp_path: Path) -> None:
    text = template(read_experiment([training(tmp_path / "std_overfit", ROWS)]), goal="Learn.")
    for line in (
        "### Experiment: std_overfit",
        "**Date**: 2026-02-03",
        "**Goal**: Learn.",
        "**Changes from baseline**: lr=0.001, encoder.kind=standard",
        "- Encoder: standard",
        "- Pre-trained decoder: no",
        "**Phase 1 results (overfit, 32 groups)**:",
        "- Train exact match at halt: 95.0 % [82.0, 99.0], n = 32",
        "- Context gain: +60.0 % [+40.0, +80.0], n = 120",
        "- Steps to converge (over 90%): 1000",
        "- Status: ✅ Pass",
        "**Phase 2 results (full data set)**: no run",
    ):
        assert line in text.splitlines(), line


def test_an_evaluation_gives_the_test_columns(tmp_path: Path) -> None:
    full = training(tmp_path / "full", ROWS, max_train_groups=None)
    judged = {"step": 1000, "view": "heldout", "contamination": "unknown",
              "all.exact_accuracy": 0.02, "all.exact_accuracy_lo": 0.01,
              "all.exact_accuracy_hi": 0.04, "all.exact_accuracy_n": 400,
              "ARC/pass@2": 0.05, "ARC/pass@2_lo": 0.03, "ARC/pass@2_hi": 0.08,
              "ARC/pass@2_n": 400}  # fmt: skip
    heldout = run(tmp_path / "heldout", "arc.evaluate", {"view": "heldout"}, [judged])
    text = template(read_experiment([heldout, full]))
    assert "- Test EM: 2.0 % [1.0, 4.0], n = 400 (unknown)" in text
    assert "- Pass@2: 5.0 % [3.0, 8.0], n = 400" in text
    assert "- Status: ⚠️ Partial (some generalization)" in text
    assert "**Phase 1 results (overfit)**: no run" in text


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    text = template(read_experiment([training(tmp_path / "early", [])]))
    assert "- Train exact match at halt: not measured" in text
    assert "- Status: not measured" in text


def test_two_runs_for_one_place_are_refused(tmp_path: Path) -> None:
    one, two = training(tmp_path / "one", ROWS), training(tmp_path / "two", ROWS)
    with pytest.raises(DataError, match="both the overfit run"):
        read_experiment([one, two])
    with pytest.raises(DataError, match=r"a run of rlvr\.train"):
        read_experiment([run(tmp_path / "other", "rlvr.train", {}, [])])
