"""The four panels to watch a training by: keys, who writes them, and what to read beside them.

Pure data. The panels are those of the ETRM project's guide, key by key. Refuses to list a key that
no recipe declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cupel.arc.evaluation_metrics import EVALUATIONS as VOTED
from cupel.arc.metrics import EVALUATIONS, METRICS

PANELS: Mapping[str, tuple[str, ...]] = {
    "Success Metrics": ("train/exact_accuracy", "all.exact_accuracy", "ARC/pass@1"),
    "Encoder Health": ("train/encoder_cross_sample_var", "grad/encoder_norm", "grad/total_norm"),
    "Learning Dynamics": ("train/lm_loss", "train/q_halt_loss", "train/steps"),
    "Encoder Statistics": (
        "train/encoder_output_norm",
        "train/encoder_output_std",
        "train/encoder_token_std",
    ),
}
PRIMARY = "train/exact_accuracy"
"""The guide's measure of success."""

READ_WITH: Mapping[str, tuple[str, ...]] = {
    "train/exact_accuracy": ("em_at_halt", "context_gain"),
    "all.exact_accuracy": ("em_at_halt",),
    "ARC/pass@1": ("ARC/official@1",),
    "train/encoder_cross_sample_var": ("between_task_share",),
    "grad/encoder_norm": ("update/encoder_ratio", "gradient_coverage"),
    "grad/total_norm": ("grad/clip_rate",),
    "train/q_halt_loss": ("q_calibration_error", "q_brier"),
    "train/steps": ("steps_at_halt", "forced_fraction"),
    "train/encoder_token_std": ("encoder_position_std",),
}
"""Keys without which the guide's can mislead."""

_STREAMS = (
    ("arc.train", "metrics.jsonl", METRICS),
    ("arc.train", "evaluations.jsonl", EVALUATIONS),
    ("arc.evaluate", "evaluations.jsonl", VOTED),
)


def dashboard() -> dict[str, Any]:
    """Return the panels as plain data: title, and for every key its source and meaning."""
    return {
        "x": "step",
        "panels": [
            {"title": title, "metrics": [_entry(key) for key in keys]}
            for title, keys in PANELS.items()
        ],
    }


def _entry(key: str) -> dict[str, Any]:
    recipe, stream, metric = next(
        (recipe, stream, metric)
        for recipe, stream, declared in _STREAMS
        for metric in declared
        if metric.name == key
    )
    return {
        "key": key,
        "primary": key == PRIMARY,
        "recipe": recipe,
        "stream": stream,
        "unit": metric.unit,
        "meaning": metric.meaning,
        "read_with": list(READ_WITH.get(key, ())),
    }
