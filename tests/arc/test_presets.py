"""Presets are settings; each can be changed, and a study names one in a word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cupel.arc.config import ArcTrainConfig
from cupel.arc.presets import PRESETS, preset
from cupel.config import validate
from cupel.errors import ConfigError
from cupel.lab.registry import load_recipe


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_valid_and_can_be_changed_without_changing_it(name: str) -> None:
    config = validate(ArcTrainConfig, preset(name), where=name)
    changed = preset(name)
    changed["encoder"]["kind"] = "set"
    assert validate(ArcTrainConfig, preset(name), where=name) == config


def test_the_anchors_of_the_paper_are_what_the_paper_ran() -> None:
    paper, original = (
        validate(ArcTrainConfig, preset(name), where=name)
        for name in ("paper", "cfg_pretrain_encoder_original_arc_agi_1")
    )
    assert (paper.L_cycles, paper.halt_exploration_prob, paper.global_batch_size) == (4, 0.1, 768)
    assert (original.L_cycles, original.halt_exploration_prob) == (6, 0.5)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        preset("papers")


def test_a_study_lays_its_settings_over_a_preset() -> None:
    recipe = load_recipe("arc.train")
    made = recipe.prepare({"preset": "cpu", "hidden_size": 16, "encoder": {"kind": "set"}})
    config = validate(ArcTrainConfig, made, where="made")
    assert (config.hidden_size, config.encoder.kind) == (16, "set")
    assert (config.max_train_groups, config.max_side) == (32, 10)


def test_settings_health_gates_and_forecasts_need_no_torch() -> None:
    names = ("config", "presets", "metrics", "health", "gates", "forecast", "sides")
    imports = "; ".join(f"import cupel.arc.{name}" for name in names)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
