"""What a training writes down: rows, evaluations, health notes, predictions, gates, the result.

Knows how numbers become rows and when a run is stopped for its health. Refuses to compute any of
them: diagnostics, probe, health and gates do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from cupel.arc.config import ArcTrainConfig
from cupel.arc.diagnostics import read_scalars
from cupel.arc.evaluation_rows import grid_text
from cupel.arc.gates import criterion_1, criterion_2
from cupel.arc.health import CHECK_AT, KEPT, Health, assess, must_stop
from cupel.arc.items import Item
from cupel.arc.probe import Answered, answer_fixed, probe_values, view_values
from cupel.arc.tokens import decode
from cupel.arc.train_state import TrainState, contamination_of, heldout_of, probe_of
from cupel.arc.voting import rate
from cupel.errors import AlgorithmicFailure
from cupel.lab.files import write_json
from cupel.lab.metrics import Scalar
from cupel.lab.recipe import Result, RunContext

PREDICTIONS = "predictions.jsonl"
GATES = "gates.json"


def log_row(
    state: TrainState,
    config: ArcTrainConfig,
    context: RunContext,
    rates: Mapping[str, float],
    snapshot: Mapping[str, Tensor | None],
) -> None:
    """Write the row of the updates since the last one, and check the run's health.

    Raises:
        AlgorithmicFailure: a number is not finite, or a health rule ends the run.
    """
    means = state.window.read(state.ranks)
    now = time.perf_counter()
    elapsed, state.clock = now - state.clock, now
    if not state.ranks.is_first:
        return
    updates, slot_steps = means.pop("updates") or 0.0, means.pop("slot_steps") or 0.0
    halted = means["em_at_halt_n"] or 0.0
    frozen = {part: float(rates.get(part, 0.0) == 0.0) for part in ("encoder", "inner")}
    row: dict[str, Scalar] = {
        "step": state.updates,
        "condition": context.condition,
        "seed": context.seed,
        "encoder": config.encoder.kind,
        **means,
        **read_scalars(snapshot),
        "train/lr": rates.get("inner", 0.0),
        "train/encoder_lr": rates.get("encoder", 0.0),
        "train/decoder_frozen": int(frozen["inner"]),
        "train/encoder_frozen": int(frozen["encoder"]),
        **_interval("em_at_halt", means["em_at_halt"], int(halted)),
        "em_at_halt_n": int(halted),
        "epoch": min(state.items.progress(side) for side in state.items.sides),
        "num_params": state.num_params,
        "samples_per_s": slot_steps / elapsed,
        "items_per_s": halted / elapsed,
        "step_time_s": elapsed / updates if updates else None,
    }
    context.recorder.log("metrics.jsonl", row)
    if state.updates <= config.health.early_steps:
        state.history.append({key: row[key] for key in KEPT})
        check_health(state, config, context)


def check_health(state: TrainState, config: ArcTrainConfig, context: RunContext) -> None:
    """Note the run's health at the appointed updates; stop it where the rules and settings say so.

    Raises:
        AlgorithmicFailure: the run is lost and `stop_when_unhealthy` is "stop".
    """
    health = health_of(state, config)
    due = {-(-step // config.log_every) * config.log_every for step in CHECK_AT}
    lost = must_stop(health, config.health)
    if state.updates in due or (lost and config.stop_when_unhealthy == "stop"):
        text = "; ".join(f"{f.level} {f.topic}: {f.words}" for f in health.findings)
        context.recorder.event(f"health {health.level}: {text}")
    if lost and config.stop_when_unhealthy == "stop":
        raise AlgorithmicFailure(f"unhealthy at step {state.updates}: {health.reason}")


def health_of(state: TrainState, config: ArcTrainConfig) -> Health:
    """Judge the rows kept for the early check."""
    return assess(
        state.history,
        config.health,
        halt_max_steps=config.halt_max_steps,
        matched_scale=config.encoder.context_scale == "matched",
    )


def log_evaluation(state: TrainState, config: ArcTrainConfig, context: RunContext) -> None:
    """Evaluate with the averaged weights, where there are any, and write the row."""
    if not state.ranks.is_first:
        return
    started = time.perf_counter()
    context.recorder.doing = "evaluating"
    averaged = nullcontext() if state.ema is None else state.ema.applied()
    with averaged:
        values, answered = _evaluate(state, config)
    row: dict[str, Scalar] = {
        "step": state.updates,
        "condition": context.condition,
        "seed": context.seed,
        "weights": "raw" if state.ema is None else "ema",
        **values,
        "contamination": contamination_of(state, config),
        "health": health_of(state, config).level,
        "evaluation_time_s": time.perf_counter() - started,
    }
    state.latest = {k: v for k, v in row.items() if k not in ("condition", "evaluation_time_s")}
    context.recorder.log_many(PREDICTIONS, prediction_rows(state.updates, answered, config))
    context.recorder.log("evaluations.jsonl", row)
    context.recorder.doing = ""
    state.clock += time.perf_counter() - started  # an evaluation is no training time


def conclude(state: TrainState, config: ArcTrainConfig, context: RunContext) -> Result:
    """Apply the gates to the last evaluation and return the run's numbers."""
    row = state.latest
    if state.ranks.is_first:
        gates = {gate.name: gate.as_dict() for gate in (criterion_1(row), criterion_2(row))}
        write_json(context.folder / GATES, {"step": state.updates, **gates})
    kept = ("em_at_halt", "context_gain", "null_gain", "heldout_em_at_halt")
    values = {
        f"{name}{end}": row.get(f"{name}{end}") for name in kept for end in ("", "_lo", "_hi")
    }
    return Result(
        values={
            "steps": state.updates,
            "num_params": state.num_params,
            **values,
            "em_swapped": row.get("em_swapped"),
            "em_null": row.get("em_null"),
            "steps_at_halt": row.get("steps_at_halt"),
            "criterion_1": criterion_1(row).passed,
            "criterion_2": criterion_2(row).passed,
            "health": row.get("health"),
            "contamination": row.get("contamination"),
        }
    )


def prediction_rows(step: int, answered: Answered, config: ArcTrainConfig) -> list[dict[str, Any]]:
    """Return a row for the first probed query of each of the first puzzles."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, item in enumerate(answered.items):
        if len(rows) == config.prediction_samples:
            break
        if item.puzzle_id in seen:
            continue
        seen.add(item.puzzle_id)
        rows.append(
            {
                "step": step,
                "view": "train_probe",
                "puzzle": item.puzzle_id,
                "pair_index": item.pair_index,
                "input": _grid(item, item.query),
                "truth": _grid(item, item.label),
                "predicted": _grid(item, answered.tokens[number]),
                "exact": bool(answered.exact_at_halt[number]),
                "steps": int(answered.steps[number]),
                "forced": bool(answered.forced[number]),
                "q": float(answered.q[number]),
            }
        )
    return rows


def _evaluate(state: TrainState, config: ArcTrainConfig) -> tuple[dict[str, Scalar], Answered]:
    settings: dict[str, Any] = {
        "steps": config.halt_max_steps,
        "batch_size": config.eval_batch_size,
        "device": state.device,
    }
    values, answered = probe_values(state.model, probe_of(state, config), **settings)
    if config.evaluate_heldout:
        heldout = answer_fixed(state.model, heldout_of(state, config), **settings)
        values |= view_values(heldout, "heldout_")
    return values, answered


def _interval(name: str, value: float | None, n: int) -> dict[str, Scalar]:
    if value is None or n == 0:
        return {f"{name}_lo": None, f"{name}_hi": None}
    interval = rate(value * n, n)
    return {f"{name}_lo": interval.low, f"{name}_hi": interval.high}


def _grid(item: Item, tokens_S: Any) -> str:
    return grid_text(decode(tokens_S, item.side, item.offset))
