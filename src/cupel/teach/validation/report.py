"""What phase 1B concludes from its rows: two documented files, a verdict and its reasons.

Knows rows and their figures. Refuses to train or measure, and to hide a figure that was not
defined: it is null, and the gate does not pass on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cupel.config import to_dict
from cupel.lab.files import write_json
from cupel.lab.metrics import Scalar
from cupel.lab.recipe import Result, RunContext
from cupel.stats.ranking import spearman
from cupel.teach.validation.config import Sample, ValidateConfig
from cupel.teach.validation.correlation import Agreement, Gate, Pair, Statistic, agreement, gate

RESULTS = "micro_training_results.json"
CORRELATION = "cpt_correlation.json"
FLAT = 1e-3
"""Effects all smaller than this say that the training was too weak, not that labels are wrong."""


def conclude(
    config: ValidateConfig, context: RunContext, sample: Sample, rows: Sequence[Mapping[str, Any]]
) -> Result:
    """Write both files and return the verdict."""
    write_json(
        context.folder / RESULTS,
        {
            "timestamp": None,
            "config": {
                "labeled": config.labels,
                "panel": config.panel,
                "base_model": config.student.model or config.student.backend,
                "micro": to_dict(config.micro),
                "seed": context.seed,
                "n_selected": len(rows),
                "retention_tasks": config.retention_tasks,
                "n_per_quadrant": config.n_per_quadrant,
                "splits": list(config.splits),
                "short": sample.short,
                "dropped": dict(sample.dropped),
            },
            "results": list(rows),
        },
    )
    pairs = [_pair(row) for row in rows if _measured(row)]
    found = agreement(pairs, rng=context.randomness.generator("validation_intervals"))
    verdict = gate(found, least=config.least_spearman)
    flat = all(abs(pair.effect) < FLAT for pair in pairs)
    advice = (
        "all effects are about 0: raise micro.learning_rate or micro.n_steps (validation only)"
        if flat
        else None
    )
    write_json(context.folder / CORRELATION, _correlation_file(rows, found, verdict, advice))
    for reason in verdict.reasons:
        context.recorder.event(f"revise: {reason}")
    return Result(values=_values(found, verdict, rows, pairs, advice))


def _correlation_file(
    rows: Sequence[Mapping[str, Any]], found: Agreement, verdict: Gate, advice: str | None
) -> dict[str, Any]:
    """Return cpt_correlation.json: the documented keys, then ours."""
    return {
        "pearson_r": found.pearson.value,
        "pearson_p": found.pearson.p,
        "n": found.n,
        "data_points": [
            {
                "snapshot_id": row["snapshot_id"],
                "quadrant": row["quadrant"],
                "cpt": row["cpt_gain"],
                "elp": row["delta_success_rate"],
                "route_net": row["route_net"],
                "base": row["base_success_rate"],
                "delta_log_pi": row["delta_log_pi"],
            }
            for row in rows
            if _measured(row)
        ],
        "n_tasks": found.n_tasks,
        "n_unmeasured": sum(not _measured(row) for row in rows),
        "pearson_ci": _interval(found.pearson),
        "spearman_rho": found.spearman.value,
        "spearman_p": found.spearman.p,
        "spearman_ci": _interval(found.spearman),
        "partial_spearman_given_p_base": asdict(found.partial),
        "spearman_delta_log_pi": asdict(found.spearman_log_pi),
        "mean_effect": asdict(found.mean_effect),
        "q1_minus_q2": asdict(found.q1_minus_q2),
        "per_quadrant": {name: asdict(block) for name, block in found.quadrants.items()},
        "noise_ceiling": {
            "cpt": found.cpt_ceiling,
            "effect": found.effect_ceiling,
            "spearman": found.ceiling,
        },
        "rivals": _rivals(rows),
        "pass": {
            "spearman_at_least": verdict.spearman_at_least,
            "positive_overall": verdict.positive_overall,
            "q1_above_q2": verdict.q1_above_q2,
        },
        "proceed": verdict.proceed,
        "reasons": list(verdict.reasons),
        "advice": advice,
    }


def _rivals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Spearman's rho of the effect with simpler scores, where all of them are known."""
    found: dict[str, Any] = {}
    columns = {"ELP_split": "cpt_elp_split", "U": "U", "L_local": "L_local"}
    for name, key in columns.items():
        known = [row for row in rows if _measured(row) and row[key] is not None]
        found[name] = _rho([(row[key], row["delta_success_rate"]) for row in known])
    measured = [row for row in rows if _measured(row)]
    headroom = [(1 - row["base_success_rate"], row["delta_success_rate"]) for row in measured]
    return {**found, "headroom": _rho(headroom)}


def _rho(points: Sequence[tuple[float, float]]) -> float | None:
    if len(points) < 4:
        return None
    first, second = zip(*points, strict=True)
    return spearman(np.array(first), np.array(second)).rho


def _values(
    found: Agreement,
    verdict: Gate,
    rows: Sequence[Mapping[str, Any]],
    pairs: Sequence[Pair],
    advice: str | None,
) -> dict[str, Scalar]:
    return {
        "verdict": "proceed" if verdict.proceed else "revise",
        "proceed": verdict.proceed,
        "n": len(pairs),
        "n_unmeasured": len(rows) - len(pairs),
        "spearman_rho": found.spearman.value,
        "spearman_lo": found.spearman.lo,
        "spearman_hi": found.spearman.hi,
        "spearman_p": found.spearman.p,
        "partial_rho": found.partial.value,
        "partial_lo": found.partial.lo,
        "partial_hi": found.partial.hi,
        "spearman_delta_log_pi": found.spearman_log_pi.value,
        "noise_ceiling": found.ceiling,
        "mean_effect": found.mean_effect.value,
        "q1_minus_q2": found.q1_minus_q2.value,
        "q1_minus_q2_lo": found.q1_minus_q2.lo,
        "q1_minus_q2_hi": found.q1_minus_q2.hi,
        "reasons": "; ".join(verdict.reasons) or None,
        "advice": advice,
    }


def _pair(row: Mapping[str, Any]) -> Pair:
    return Pair(
        snapshot_id=row["snapshot_id"],
        task_id=row["task_id"],
        quadrant=row["quadrant"],
        cpt=row["cpt_gain"],
        effect=row["delta_success_rate"],
        base=row["base_success_rate"],
        log_pi=row["delta_log_pi"],
        cpt_noise=row["cpt_noise"],
        effect_noise=row["effect_noise"],
    )


def _measured(row: Mapping[str, Any]) -> bool:
    return row["delta_success_rate"] is not None and row["cpt_gain"] is not None


def _interval(statistic: Statistic) -> list[float] | None:
    if statistic.lo is None or statistic.hi is None:
        return None
    return [statistic.lo, statistic.hi]
