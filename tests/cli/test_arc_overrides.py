"""ArcTrainConfig under their other names: every key finds its setting, or says why it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cupel.arc.config import ArcTrainConfig
from cupel.arc.presets import PRESETS, preset
from cupel.cli.arc.overrides import read_overrides, words_of
from cupel.config import setting_fields, validate
from cupel.errors import ConfigError


def read(*words: str) -> dict[str, Any]:
    return read_overrides(words, ArcTrainConfig).settings


@pytest.mark.parametrize(
    ("word", "table"),
    [
        ("arch.halt_max_steps=8", {"halt_max_steps": 8}),
        ("+arch.halt_exploration_prob=0.7", {"halt_exploration_prob": 0.7}),
        ("items.max_demos=8", {"items": {"max_demos": 8}}),
        ("max_demos=8", {"items": {"max_demos": 8}}),
        ("eval_interval=100", {"eval_every": 100}),
        ("arch.loss.kl_weight=1e-3", {"encoder": {"kl_weight": 1e-3}}),
        ("arch.kl_weight=1e-3", {"encoder": {"kl_weight": 1e-3}}),
        ("arch.encoder_num_layers=4", {"encoder": {"num_layers": 4}}),
        ("encoder.num_layers=4", {"encoder": {"num_layers": 4}}),
        ("arch.L_cycles=6", {"L_cycles": 6}),
        ("arch.loss.loss_type=softmax_cross_entropy", {"loss_type": "softmax"}),
        ("arch.encoder_type=set", {"encoder": {"kind": "set"}}),
        (
            "arch.encoder_type=hybrid_variational",
            {"encoder": {"kind": "hybrid", "variational": True}},
        ),
        ("recurrent_encoder_type=trm_style", {"encoder": {"kind": "recurrent"}}),
        ("max_train_groups=32", {"max_train_groups": 32}),
        ("max_train_groups=null", {"max_train_groups": None}),
    ],
)
def test_a_key_of_the_repositories_finds_its_setting(word: str, table: dict[str, Any]) -> None:
    assert read(word) == table
    validate(ArcTrainConfig, read("encoder.kind=hybrid", "encoder.variational=true"), where="flags")


def test_project_run_and_seed_are_names_and_no_settings() -> None:
    given = read_overrides(
        ["+project_name=etrm-dev", "++run_name=x_overfit", "seed=3"], ArcTrainConfig
    )
    assert (given.project, given.run, given.seed, given.settings) == (
        "etrm-dev",
        "x_overfit",
        3,
        {},
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("halt_max_step=8", "unknown setting 'halt_max_step'; did you mean 'halt_max_steps'"),
        ("arch.hidden_sise=8", "did you mean 'hidden_size'"),
        ("max_train_groups", "expected key=value"),
        ("=3", "expected key=value"),
        ("~arch.ema", "cannot be removed"),
        ("arch.H_layers=2", "no counterpart: it did nothing"),
        ("epochs=100", "no counterpart: training is counted in updates"),
        ("arch.encoder_type=hybrid_standart", "did you mean 'hybrid_standard'"),
        ("run_name=../up", "cannot name a run folder"),
        ("seed=-1", "a seed is a whole number"),
    ],
)
def test_what_cannot_be_set_is_one_clear_line(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_overrides([word], ArcTrainConfig)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_setting_under_two_names_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set before, by arch\.halt_max_steps=8"):
        read("arch.halt_max_steps=8", "halt_max_steps=16")


def test_every_setting_can_be_reached_by_its_path() -> None:
    paths = [path for path, _ in setting_fields(ArcTrainConfig)]
    assert "encoder.kind" in paths
    for path in paths:
        assert read(f"{path}=1")


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_words_of_a_preset_give_the_preset(name: str) -> None:
    assert read(*words_of(PRESETS[name])) == json.loads(json.dumps(preset(name)))
    validate(ArcTrainConfig, preset(name), where=name)
