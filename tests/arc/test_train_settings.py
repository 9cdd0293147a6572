"""Every setting of a training does something, or is held to by name elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arc_runs import Settings, finished, weights

from cupel.arc.config import ArcTrainConfig
from cupel.arc.items import ItemConfig
from cupel.lab.store import read_jsonl

CHANGES: dict[str, Any] = {
    "hidden_size": 24,
    "num_heads": 1,
    "L_layers": 2,
    "expansion": 8.0,
    "H_cycles": 1,
    "L_cycles": 2,
    "n_context": 3,
    "rope": "1d",
    "scale_context": True,
    "forward_dtype": "bfloat16",
    "halt_max_steps": 2,
    "out_of_phase": True,
    "loss_type": "softmax",
    "q_halt_weight": 0.1,
    "optimizer": "adamw",
    "lr": 2e-3,
    "lr_warmup_steps": 1,
    "lr_min_ratio": 0.1,
    "beta1": 0.5,
    "beta2": 0.5,
    "weight_decay": 0.9,
    "grad_clip_norm": 0.01,
    "encoder_lr_scale": 0.5,
    "freeze_decoder_steps": 1,
    "freeze_encoder_steps": 1,
    "ema": False,
    "ema_rate": 0.9,
    "encoder.kind": "set",
    "items.dihedral": False,
    "items.colours": False,
    "items.translate": False,
    "items.shuffle_demos": False,
    "items.subset_prob": 1.0,
    "items.max_demos": 1,
    "items.together": True,
    "items.sides": [5],
    "max_train_groups": 2,
    "train_on_heldout_demos": True,
    "max_steps": 5,
    "global_batch_size": 2,
    "log_every": 1,
    "eval_every": 1,
    "probe_groups": 2,
    "evaluate_heldout": True,
    "prediction_samples": 1,
}
"""A value of each setting that must change what a run of four updates writes."""

HELD_ELSEWHERE = {
    "encoder": "tests/arc/test_encoders_config.py",
    "health": "tests/arc/test_health.py",
    "source": "tests/arc/test_puzzles.py",
    "halt_exploration_prob": "tests/arc/test_halting.py: nothing halts early in four updates",
    "mask_padding": "tests/arc/test_decoder.py: every item here fills its canvas",
    "max_eval_groups": "tests/arc/test_views.py",
    "max_side": "tests/arc/test_views.py",
    "order_seed": "tests/arc/test_views.py",
    "load_pretrained_decoder": "test_a_decoder_is_taken_over_and_the_run_is_labelled",
    "pretrained_decoder_weights": "the same",
    "trust_pretrained_decoder": "tests/arc/test_checkpoints.py",
    "compile": "tests/arc/test_decoder.py",
    "save_every": "test_a_run_killed_at_any_update_ends_with_the_same_bytes",
    "eval_batch_size": "tests/arc/test_probe.py: it changes nothing but memory",
    "stop_when_unhealthy": "test_a_starved_encoder_stops_the_run_when_asked_and_warns_otherwise",
}


def setting_names() -> set[str]:
    items = {f"items.{name}" for name in ItemConfig.model_fields}
    return (set(ArcTrainConfig.model_fields) - {"items"}) | items


def test_every_setting_is_held_to_do_something() -> None:
    held = {name for name in CHANGES if name != "encoder.kind"} | set(HELD_ELSEWHERE)
    assert setting_names() == held


def written(folder: Path, passed: dict[str, Any]) -> list[Any]:
    """Return what a run of these settings leaves behind, timings and settings apart."""
    finished(folder, passed)
    found: list[Any] = []
    for stream in ("metrics.jsonl", "evaluations.jsonl", "predictions.jsonl"):
        for row in read_jsonl(folder / stream):
            found.append({k: v for k, v in row.items() if not k.endswith(("_s", "encoder"))})
    return [*found, {name: value.tolist() for name, value in weights(folder).items()}]


@pytest.fixture(scope="module")
def unchanged() -> dict[str, Any]:
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CHANGES))
def test_every_setting_changes_the_run(
    tmp_path: Path, settings: Settings, unchanged: dict[str, Any], name: str
) -> None:
    base = settings(max_steps=4, eval_every=2, log_every=2)
    if not unchanged:
        unchanged["written"] = written(tmp_path / "base", base)
    table, _, key = name.rpartition(".")
    changed = {**base, table: {**base[table], key: CHANGES[name]}} if table else {}
    changed = changed or {**base, key: CHANGES[name]}
    if name == "items.sides":
        changed["max_side"] = 5
    assert written(tmp_path / "changed", changed) != unchanged["written"]
