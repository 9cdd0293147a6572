"""A small results folder of the teaching pipeline, made by hand and written by the real writers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tomli_w

from cupel.lab.files import write_json
from cupel.lab.randomness import Randomness
from cupel.teach.environments.base import take_snapshot
from cupel.teach.environments.corridor import Corridor
from cupel.teach.evaluation.gates import gates
from cupel.teach.evaluation.judging import EpisodeRow
from cupel.teach.evaluation.tables import (
    Evidence,
    overall,
    per_quadrant,
    retention,
    stuckness_table,
    transfer_matrix,
    write_csv,
)
from cupel.teach.labelling.files import write_labels
from cupel.teach.labelling.labels import (
    QUADRANTS,
    Estimate,
    LabelledMoment,
    Leverage,
    PatchTest,
    Uncertainty,
)
from cupel.teach.prediction.ranking import Judged
from cupel.teach.prediction.report import evaluation
from cupel.teach.prediction.targets import Predicted, targets_of
from cupel.teach.records import FORMATS, Moment

MATRIX = [f"{quadrant}_{supervision}" for quadrant in QUADRANTS for supervision in FORMATS]
METHODS = ("random", "entropy", "predictor", "oracle")
PILOT = {"phase1": "phase1_labeling", "phase1b": "phase1b_micro", "phase3/v8": "phase3_eval",
         "phase4": "phase4_predictor", "phase5/selection": "phase5_selection"}  # fmt: skip


def write_results(folder: Path, *, pilot: bool = False, n: int = 120) -> Path:
    """Write results of all phases in the full layout or in the pilot's."""
    place = {name: folder / (PILOT[name] if pilot else name) for name in PILOT}
    for path in place.values():
        path.mkdir(parents=True)
    labels = make_labels(n)
    write_labels(place["phase1"], labels)
    write_json(
        place["phase1"] / "quadrant_thresholds_auto.json",
        {"U_threshold": 0.7, "L_threshold": 0.2, "method": "median"},
    )
    write_correlation(place["phase1b"], labels)
    write_evaluation(place["phase3/v8"], [*MATRIX, "B1_uniform", "B2_all"])
    write_predictor(place["phase4"], labels)
    write_selection(place["phase5/selection"])
    return folder


def make_labels(n: int, *, seed: int = 3) -> list[LabelledMoment]:
    """Moments whose U and L_local are spread over all quadrants, some without a patch test."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        u, low = float(rng.uniform(0.05, 1.4)), float(rng.integers(-1, 8)) / 10
        name = _quadrant(u, low)
        gain = float(np.clip(0.3 * low + 0.15 * u + rng.normal(0, 0.12), -0.6, 0.9))
        made.append(
            LabelledMoment(
                moment=_moment(number),
                hint=None,
                U=u,
                uncertainty=Uncertainty(
                    entropy=u, entropy_norm=u / 1.4, margin=0.5, topk_spread=0.5,
                    effective_actions=float(np.exp(u)), n_actions=3,
                ),
                leverage=_leverage(low),
                patch_test=None if number % 9 == 0 else _patch_test(gain, rng),
                quadrant=name,  # type: ignore[arg-type]
                quadrant_probs={name: 0.8},
            )
        )  # fmt: skip
    return made


def _quadrant(u: float, low: float) -> str:
    return QUADRANTS[{(1, 1): 0, (1, 0): 1, (0, 0): 2, (0, 1): 3}[int(u > 0.7), int(low > 0.2)]]


def _moment(number: int) -> Moment:
    corridor = Corridor()
    corridor.reset(number // 2)
    for turn in range(number % 2):
        corridor.step("right" if turn == 0 else "left")
    return Moment(
        snapshot=take_snapshot(corridor), task=corridor.task(), observation=corridor.observe(),
        valid_actions=corridor.valid_actions(), step_idx=number % 2, trajectory_id=f"t{number}",
        outcome="failure", student_action="leap", student_probs=None, failure_type="timeout",
        anchor_step=number % 2, anchor_rule="timeout", offset=0, key_hash="k",
    )  # fmt: skip


def near(value: float, half: float = 0.1, n: int | None = 8) -> Estimate:
    return Estimate(value=value, lo=value - half, hi=value + half, n=n)


def _leverage(low: float) -> Leverage:
    return Leverage(
        p_policy=near(0.2), p_force=near(0.2 + low), p_expert=near(0.97), L_local=near(low),
        L_upper=near(0.77),
    )  # fmt: skip


def _patch_test(gain: float, rng: np.random.Generator) -> PatchTest:
    gains = {name: near(gain - float(rng.uniform(0, 0.3))) for name in FORMATS}
    route = FORMATS[int(rng.integers(3))]
    gains[route] = near(gain)
    return PatchTest(
        p_base=near(0.2), p_placebo=near(0.22), p_shuffled=near(0.25),
        p={name: near(0.22 + each.value) for name, each in gains.items()},
        gain_raw={name: near(each.value + 0.02) for name, each in gains.items()}, gain_net=gains,
        ELP_raw=gain + 0.02, ELP_net=gain, route_net=route, ELP_split=near(gain - 0.05),
        route_split=route, oracle_half=gain - 0.03, total_episodes=40,
    )  # fmt: skip


def write_correlation(folder: Path, labels: list[LabelledMoment]) -> None:
    """cpt_correlation.json with the documented keys."""
    rng = np.random.default_rng(5)
    points = [
        {
            "snapshot_id": label.id,
            "quadrant": label.quadrant,
            "cpt": label.patch_test.ELP_net,
            "elp": float(0.5 * label.patch_test.ELP_net + rng.normal(0, 0.12)),
            "route_net": label.patch_test.route_net,
        }
        for label in labels
        if label.patch_test is not None
    ]
    write_json(
        folder / "cpt_correlation.json",
        {"pearson_r": 0.5, "pearson_p": 0.001, "n": len(points), "data_points": points},
    )


def write_evaluation(folder: Path, models: list[str], *, seed: int = 11) -> None:
    """The five tables, gates.json and episodes.jsonl of models that differ in what they gain."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for place, model in enumerate(["BASE", *models]):
        better = 0.0 if model == "BASE" else 0.03 + 0.02 * (place % 7)
        rows += _episodes(model, better, rng)
    solved = frozenset(row.task_id for row in rows if row.model == "BASE" and row.success)
    evidence = Evidence(rows=tuple(rows), retention=solved, asked=25)
    tables = {
        "overall_task_results.csv": overall(evidence),
        "per_quadrant_results.csv": per_quadrant(evidence),
        "transfer_matrix.csv": transfer_matrix(evidence),
        "retention_results.csv": retention(evidence),
        "stuckness_results.csv": stuckness_table(evidence),
    }
    for name, table in tables.items():
        write_csv(folder / name, table)
    judged = gates(
        evidence,
        overall=tables["overall_task_results.csv"],
        retention=tables["retention_results.csv"],
    )
    write_json(folder / "gates.json", judged)
    lines = [json.dumps(row.to_row()) for row in rows]
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")


def _episodes(model: str, better: float, rng: np.random.Generator) -> list[EpisodeRow]:
    plain = EpisodeRow(
        model=model, train_seed=None if model == "BASE" else 1, dataset="tasks", task_id="",
        snapshot_id="", quadrant="", success=False, total_reward=0.0, steps=9, repeat_rate=0.3,
        loop_rate=0.0, stop_reason="limit",
    )  # fmt: skip
    rows = []
    for number in range(80):
        success = bool(rng.random() < 0.45 + better)
        rows.append(
            replace(plain, task_id=f"task-{number}", success=success, total_reward=float(success))
        )
    for number in range(100):
        quadrant = QUADRANTS[number % 4]
        own = 0.15 if model.startswith(quadrant) else 0.0
        success = bool(rng.random() < 0.25 + better + own)
        rows.append(
            replace(
                plain, dataset="snapshots", task_id=f"panel-{number // 2}",
                snapshot_id=f"s{number}", quadrant=quadrant, success=success,
                total_reward=float(success), repeat_rate=0.4, loop_rate=float(number % 3 == 0),
            )
        )  # fmt: skip
    return rows


def write_predictor(folder: Path, labels: list[LabelledMoment]) -> None:
    """evaluation_metrics.json, computed by the real report from made-up predictions."""
    targets = targets_of(labels)
    rng = np.random.default_rng(8)

    def said(noise: float) -> Predicted:
        values = {
            head: np.nan_to_num(each) + rng.normal(0, noise * float(np.nanstd(each)), len(each))
            for head, each in targets.values.items()
        }
        return Predicted(values=values, probs={"quadrant": rng.dirichlet(np.ones(4), len(labels))})

    judged = Judged(
        labels=labels,
        tasks_N=np.arange(len(labels)) // 2,
        targets=targets,
        said={"mlp": said(0.5), "ridge": said(0.9)},
        model="mlp",
    )
    write_json(folder / "evaluation_metrics.json", evaluation(judged, Randomness(1)))


def write_selection(folder: Path, *, evaluated: bool = True, study: bool = False) -> None:
    """selection_summary.json and what became of each method: an evaluation, or a study's runs."""
    methods = []
    for place, method in enumerate(METHODS):
        methods.append(
            {
                "method": method, "n_selected": 50, "n_examples": 50,
                "stats": {"n": 50, "uncertainty_mean": 0.6 + 0.1 * place,
                          "uncertainty_std": 0.1, "elp_mean": 0.05 * place, "elp_std": 0.1},
                "output_dir": method, "training_summary_path": f"{method}/training_summary.json",
            }
        )  # fmt: skip
        if evaluated:
            write_evaluation(folder / method / "eval", [f"selection_{method}"], seed=20 + place)
    if study:
        write_selection_study(folder)
    config = {"budget": 50, "supervision_format": "demo"}
    write_json(
        folder / "selection_summary.json",
        {"config": config, "n_input_records": 120, "methods": methods},
    )


def write_selection_study(folder: Path, seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    """The study that a selection leaves: runs that evaluate themselves before and after."""
    study = {
        "name": "teach_selection", "question": "Does the predictor select better?",
        "recipe": "teach.finetune", "seeds": list(seeds),
        "conditions": [{"label": method.upper()} for method in METHODS],
    }  # fmt: skip
    (folder / "study.toml").write_text(tomli_w.dumps(study))
    entries = []
    for place, method in enumerate(METHODS):
        for seed in seeds:
            label = method.upper()
            run = folder / "runs" / f"{label}_s{seed}"
            run.mkdir(parents=True)
            entries.append({"condition": label, "seed": seed, "folder": f"runs/{label}_s{seed}"})
            _write_run(run, method, seed, gain=0.1 * place + 0.01 * seed, drop=0.02 * seed)
    write_json(folder / "manifest.json", {"schema": 1, "name": "teach_selection", "runs": entries})


def _write_run(run: Path, method: str, seed: int, *, gain: float, drop: float) -> None:
    label = method.upper()
    cell = {"condition": label, "seed": seed}
    resolved = {"run_id": f"selection_{method}"}
    write_json(run / "config.json", {"recipe": "teach.finetune", **cell, "resolved": resolved})
    write_json(run / "run.json", {"schema": 1, **cell, "status": "done", "events": []})
    write_json(run / "result.json", {"schema": 1, **cell, "values": {}, "streams": {}})
    rows = [
        {"step": 0, **cell, "panel_success_rate": 0.2, "retention_rate": 0.9},
        {"step": 30, **cell, "panel_success_rate": 0.2 + gain, "retention_rate": 0.9 - drop},
    ]
    (run / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
