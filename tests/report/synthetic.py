"""A study folder drawn from formulas: conditions x seeds with curves, evaluations and one failure.

Written by hand, key by key, so that the report is tested against the folder format and not against
the code that writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

SEEDS = (42, 101, 202, 303)
CONDITIONS = ("grpo+none", "maxrl+gtpo_sepa")
FAILURE = "step 31: loss is nan <after> a step of lr=1 & no clipping"
LOCK_SHA256 = "5f" * 32


def write_study(
    folder: Path,
    *,
    conditions: Sequence[str] = CONDITIONS,
    seeds: Sequence[int] = SEEDS,
    steps: int = 60,
    fail: tuple[str, int] | None = (CONDITIONS[0], SEEDS[2]),
    running: bool = False,
    judged: bool = True,
    locked: bool = True,
) -> Path:
    """Write a study; `running` leaves the last seed planned and the one before it half done."""
    folder.mkdir(parents=True)
    _write_plan(folder, conditions, seeds, locked=locked)
    endpoints: dict[tuple[str, int], float] = {}
    for place, condition in enumerate(conditions):
        for seed in seeds:
            run = folder / "runs" / f"{condition}_s{seed}"
            status, reached = "done", steps
            if fail == (condition, seed):
                status, reached = "failed", steps // 2
            elif running and seed == seeds[-1]:
                status, reached = "planned", 0
            elif running and seed == seeds[-2]:
                status, reached = "running", steps // 3
            rng = np.random.default_rng([seed, place])
            rows = _metrics(condition, seed, place, steps, rng)[:reached]
            _write_run(run, condition, seed, status, rows, rng)
            late = [row["correct_rate"] for row in rows[-max(1, steps // 5) :]]
            if late:
                endpoints[condition, seed] = float(np.mean(late))
    if judged:
        _write_analysis(folder, conditions, seeds, endpoints)
    return folder


def _write_plan(
    folder: Path, conditions: Sequence[str], seeds: Sequence[int], *, locked: bool
) -> None:
    study = {
        "name": "sepa-vs-grpo",
        "question": "Does SEPA with MaxRL beat plain GRPO on <two-digit> sums & differences?",
        "recipe": "rlvr.train",
        "seeds": list(seeds),
        "conditions": [{"label": label} for label in conditions],
        "decision": {
            "alpha": 0.05,
            "margin": 0.02,
            "effect": 0.05,
            "secondary": [[conditions[0], label] for label in conditions[1:-1]],
        },
    }
    (folder / "study.toml").write_text(tomli_w.dumps(study))
    entries = [
        {"condition": label, "seed": seed, "folder": f"runs/{label}_s{seed}"}
        for seed in seeds
        for label in conditions
    ]
    manifest = {
        "schema": 1,
        "name": "sepa-vs-grpo",
        "runs": entries,
        "provenance": {
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "python": "3.11.9",
            "os": "Linux",
            "cpu": "a processor",
            "cpu_count": 2,
            "packages": {"numpy": "2.4.0", "scipy": "1.17.0"},
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if locked:
        lock = {
            "lock": {"seeds": list(seeds)},
            "sha256": LOCK_SHA256,
            "locked_at": "2026-01-02T03:04:05Z",
            "amendments": [],
        }
        (folder / "plan.lock").write_text(json.dumps(lock))


def _metrics(
    condition: str, seed: int, place: int, steps: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    start = 0.12 + 0.03 * rng.standard_normal()
    height = 0.42 + 0.09 * place + 0.03 * rng.standard_normal()
    sepa = "sepa" in condition
    rows = []
    for step in range(steps):
        progress = step / max(1, steps - 1)
        rate = start + height * (1 - math.exp(-3.2 * progress)) + 0.035 * rng.standard_normal()
        correct = round(128 * min(1.0, max(0.0, rate)))
        opened = sepa and progress > 0.15
        planned = bool(rng.random() > 0.1)
        rows.append(
            {
                "step": step,
                "condition": condition,
                "seed": seed,
                "algorithm": condition,
                "status": "trained",
                "correct_rate": correct / 128,
                "running_correct_rate": correct / 128,
                "mean_reward": correct / 128,
                "loss": -0.02 * rng.random(),
                "max_token_hit_rate": 0.04 * rng.random(),
                "exec_entropy_mean": 0.9 - 0.5 * progress + 0.03 * rng.standard_normal(),
                "exec_entropy_var": 0.5 - (0.3 if sepa else 0.12) * progress + 0.02 * rng.random(),
                "plan_entropy_mean": 1.1 + 0.05 * rng.standard_normal() if planned else None,
                "planning_token_rate": 0.03 + 0.01 * rng.random() if planned else 0.0,
                "sepa_lambda": min(1.0, max(0.0, (progress - 0.15) / 0.6)) if opened else 0.0,
                "sepa_gate_open": opened,
                "ungradable_count": int(rng.integers(0, 4)),
                "total_count": 128,
                "completion_length_mean": 20 + 3 * rng.standard_normal(),
                "step_time_s": 0.4 + 0.05 * rng.random(),
                "tokens_per_second": 6000 + 400 * rng.standard_normal(),
            }
        )
    return rows


def _write_run(
    folder: Path,
    condition: str,
    seed: int,
    status: str,
    rows: Sequence[dict[str, Any]],
    rng: np.random.Generator,
) -> None:
    folder.mkdir(parents=True)
    failure = {"kind": "algorithmic", "message": FAILURE} if status == "failed" else None
    events = [{"step": 3, "kind": "skipped", "message": "no mixed group"}] if seed == 42 else []
    state = {
        "schema": 1,
        "condition": condition,
        "seed": seed,
        "status": status,
        "failure": failure,
        "events": events,
    }
    (folder / "run.json").write_text(json.dumps(state))
    if status == "planned":
        return
    _write_rows(folder / "metrics.jsonl", rows)
    before = 0.14 + 0.02 * rng.standard_normal()
    evaluations = [_evaluation(0, before)]
    if status == "done":
        last = rows[-1]["correct_rate"] - 0.03
        evaluations.append(_evaluation(len(rows), max(0.0, last)))
        (folder / "result.json").write_text(json.dumps({"values": {"accuracy": last}}))
    _write_rows(folder / "evaluations.jsonl", evaluations)


def _evaluation(step: int, accuracy: float) -> dict[str, Any]:
    return {
        "step": step,
        "accuracy": round(accuracy, 4),
        "problems": 100,
        "samples": 4,
        "ungradable_count": 1,
    }


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def _write_analysis(
    folder: Path,
    conditions: Sequence[str],
    seeds: Sequence[int],
    endpoints: dict[tuple[str, int], float],
) -> None:
    baseline, candidate = conditions[0], conditions[-1]
    pairs = [[seed, endpoints[baseline, seed], endpoints[candidate, seed]] for seed in seeds]
    differences = [after - before for _, before, after in pairs]
    delta = float(np.mean(differences))
    entry = {
        "scope": "method",
        "unit": "seed",
        "n_seeds": len(seeds),
        "pairs": pairs,
        "delta": delta,
        "ci95": [delta - 0.08, delta + 0.08],
        "ci_method": "sign_flip_inversion",
        "p": 0.125,
        "p_method": "exact_sign_flip",
        "p_floor": 2 / 2 ** len(seeds),
        "alpha": 0.05,
        "verdict": "inconclusive",
        "reasons": ["resolution_floor"],
        "mde80": 0.11,
        "margin": 0.02,
        "multiplicity": {"family": "primary", "p_holm": None},
        "disagreement": "The pooled-completion test (Fisher p = .0002) disagrees.",
    }
    report = {
        "schema": "cupel.significance/1",
        "lock_sha256": LOCK_SHA256,
        "mode": "confirmatory",
        "primary": "correct_rate",
        "baseline": baseline,
        "candidate": candidate,
        "recommendation": "insufficient_statistical_evidence",
        "metrics": {"correct_rate": entry},
    }
    (folder / "analysis").mkdir()
    (folder / "analysis" / "significance.json").write_text(json.dumps(report))
