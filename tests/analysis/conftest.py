"""Run and study folders made by hand, of Cupel and of earlier systems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from cupel.config import to_dict
from cupel.lab.files import write_json
from cupel.lab.study import Condition, Decision, Endpoint, StudyConfig
from cupel.lab.study_dir import StudyFolder, study_toml

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

MakeRun = Callable[..., Path]


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def outcomes_of(rate: float, *, steps: int, prompts: int, samples: int, seed: int) -> np.ndarray:
    """Return right/wrong by step, prompt and sample, close to a rate and fixed by a seed."""
    rng = np.random.default_rng(seed)
    return rng.random((steps, prompts, samples)) < rate


def make_run(
    folder: Path,
    *,
    seed: int | None = None,
    condition: str | None = None,
    rate: float = 0.3,
    right: np.ndarray | None = None,
    steps: int = 10,
    status: str = "done",
    failure: Mapping[str, Any] | None = None,
    old: bool = False,
    grams: bool = False,
    evaluations: Mapping[int, float] | None = None,
) -> Path:
    """Write a run folder; `old` leaves out what earlier systems did not write."""
    if right is None:
        right = outcomes_of(rate, steps=steps, prompts=2, samples=4, seed=seed or 0)
    rows, generations = [], []
    for step, of_step in enumerate(right):
        row: dict[str, Any] = {"step": step, "mean_reward": float(of_step.mean())}
        row |= {"correct_count": int(of_step.sum()), "total_count": of_step.size}
        if grams:
            row |= {"gram_entropy_delta": 0.1 * float(of_step.mean()), "gram_entropy_pair_count": 4}
        rows.append(row)
        for prompt, of_prompt in enumerate(of_step):
            for sample, is_right in enumerate(of_prompt.tolist()):
                made = {"step": step, "prompt": f"{prompt + 1}+1=", "completion": "2"}
                made |= {"reward": float(is_right), "num_tokens": 1}
                made["metadata"] = {"correctness": is_right}
                if not old:
                    made |= {"problem_id": f"p{prompt}", "sample": sample, "correct": is_right}
                generations.append(made)
    write_lines(folder / "emergence" / "steps.jsonl", rows)
    write_lines(folder / "emergence" / "generations.jsonl", generations)
    if old:
        return folder
    metrics = [
        {
            "step": row["step"],
            "condition": condition,
            "seed": seed,
            "correct_rate": row["correct_count"] / row["total_count"],
            **{k: v for k, v in row.items() if k != "step"},
        }
        for row in rows
    ]
    write_lines(folder / "metrics.jsonl", metrics)
    if evaluations is not None:
        scored = [{"step": step, "accuracy": value} for step, value in evaluations.items()]
        write_lines(folder / "evaluations.jsonl", scored)
    state = {"status": status, "condition": condition, "seed": seed, "failure": failure}
    write_json(folder / "run.json", {**state, "events": []})
    write_json(folder / "config.json", {"condition": condition, "seed": seed})
    if status == "done":
        write_json(folder / "result.json", {"values": {}})
    return folder


@pytest.fixture
def run_at() -> MakeRun:
    return make_run


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write one arm: a run per seed at a rate per seed."""

    def write(label: str, rates: Mapping[int, float], **more: Any) -> list[Path]:
        return [
            make_run(
                tmp_path / "runs" / f"{label}_s{seed}",
                seed=seed,
                condition=label,
                right=np.arange(80).reshape(10, 2, 4) % 40 < 40 * rate,
                **more,
            )
            for seed, rate in rates.items()
        ]

    return write


@pytest.fixture
def study_at(tmp_path: Path) -> Callable[..., Path]:
    """Write a study folder: {label: {seed: rate or a dict of run settings}}."""

    def write(
        cells: Mapping[str, Mapping[int, Any]],
        *,
        lock: bool = True,
        started_at: str | None = "2999-01-01T00:00:00+00:00",
        endpoint: Mapping[str, Any] | None = None,
        **decision: Any,
    ) -> Path:
        folder = tmp_path / "study"
        folder.mkdir()
        study = StudyConfig(
            seeds=list(next(iter(cells.values()))),
            conditions=[Condition(label=label) for label in cells],
            endpoint=Endpoint(**(endpoint or {})),
            decision=Decision(**decision),
        )
        (folder / "study.toml").write_bytes(study_toml(study))
        entries = []
        for label, runs in cells.items():
            for seed, cell in runs.items():
                name = f"runs/{label}_s{seed}"
                entries.append(
                    {"condition": label, "seed": seed, "folder": name, "started_at": started_at}
                )
                if cell is not None:
                    settings = cell if isinstance(cell, dict) else {"rate": cell}
                    make_run(folder / name, seed=seed, condition=label, **settings)
        write_json(folder / "manifest.json", {"runs": entries})
        if lock:
            declared = {key: to_dict(study)[key] for key in ("endpoint", "decision", "seeds")}
            StudyFolder(folder).write_lock(declared)
        return folder

    return write
