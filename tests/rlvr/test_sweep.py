"""Sweeps as data: names that never collide, documented defaults, refused grids and algorithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.config import merge, validate
from cupel.errors import ConfigError
from cupel.lab import load_recipe, plan_study
from cupel.lab.study import StudyConfig
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.sweep import (
    PROBE_SEEDS,
    SWEEP_DEFAULTS,
    method_of,
    probe_label,
    shared_settings_of,
    sweep_study,
)

TOY = {"backend": "toy"}


def sweep(**given: Any) -> StudyConfig:
    data = sweep_study(name="s", shared=given.pop("shared", TOY), **given)
    return validate(StudyConfig, data, where="s")


def folders(study: StudyConfig) -> list[str]:
    return [run.folder for run in plan_study(study, load_recipe("rlvr.train")).runs]


def test_rates_that_round_alike_have_folders_of_their_own() -> None:
    study = sweep(lr_values=(1.5e-05, 2e-05, 2.4e-05), algorithms=("grpo",), probe_seeds=(7,))
    assert folders(study) == ["grpo_lr1.5e-05", "grpo_lr2e-05", "grpo_lr2.4e-05"]


def test_several_probe_seeds_stand_in_the_folder_names() -> None:
    study = sweep(lr_values=(0.1,), probe_seeds=(7, 8))
    assert folders(study) == ["grpo_lr0.1_s7", "full_lr0.1_s7", "grpo_lr0.1_s8", "full_lr0.1_s8"]


def test_two_rates_and_one_seed_are_no_baseline_and_candidate() -> None:
    study = sweep(lr_values=(0.1, 0.2), algorithms=("full",), probe_seeds=(7,))
    assert study.primary is None
    assert folders(study) == ["full_lr0.1", "full_lr0.2"]


@given(st.lists(st.floats(1e-12, 1e12), min_size=2, max_size=20, unique=True))
def test_different_rates_never_share_a_label(rates: list[float]) -> None:
    assert len({probe_label("grpo", rate).casefold() for rate in rates}) == len(rates)


def test_the_documented_sweep_is_the_default_of_a_real_model() -> None:
    study = sweep(shared={"backend": "torch", "model": "m"})
    assert [c.config["lr"] for c in study.conditions] == [5e-5, 2e-4, 5e-4, 1e-3] * 2
    assert tuple(study.seeds) == PROBE_SEEDS
    for condition in study.conditions:
        config = validate(
            TrainConfig, with_backend_defaults(merge(study.config, condition.config)), where="c"
        )
        assert config.max_steps == 20
        settings = config.model_dump()
        assert {key: settings[key] for key in SWEEP_DEFAULTS} == SWEEP_DEFAULTS
    assert (study.endpoint.metric, study.endpoint.over) == ("correct_rate", "last 50%")


def test_a_tiny_model_keeps_its_own_settings() -> None:
    assert sweep(shared={}).config == {"max_steps": 20}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lr_values": ()}, "empty"),
        ({"lr_values": (1e-4, 0.0001)}, "comes twice"),
        ({"lr_values": (0.0,)}, "above 0"),
        ({"lr_values": (float("nan"),)}, "finite"),
        ({"algorithms": ("grpo", "grpo+none")}, "are the same"),
        ({"algorithms": ("full", "full")}, "are the same"),
        ({"algorithms": ("fall",)}, "did you mean 'full'"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        sweep(**given)


def test_a_method_has_one_name() -> None:
    assert method_of("grpo") == method_of("grpo+none") == "grpo+none"
    assert method_of("full") == method_of("maxrl+gtpo_sepa")
    assert method_of("maxrl+gtpo_sepa+hicra") != method_of("full")


def test_shared_settings_are_those_a_run_would_get() -> None:
    found = shared_settings_of({"backend": "toy", "group_size": 3})
    assert (found["batch_size"], found["group_size"], found["max_tokens"]) == (8, 3, 4)


def test_the_shipped_study_is_the_default_sweep() -> None:
    from cupel.config import load_toml

    root = Path(__file__).parents[2]
    shipped = load_toml(root / "studies" / "lr_sweep.toml")
    assert (root / "src/cupel/templates/sweep.toml").read_text() == (
        root / "studies/lr_sweep.toml"
    ).read_text()
    built = sweep_study(name="lr_sweep", shared={"backend": "tiny"})
    ours, theirs = (validate(StudyConfig, data, where="s") for data in (built, shipped))
    assert ours.conditions == theirs.conditions
    assert (ours.tuning, ours.endpoint) == (theirs.tuning, theirs.endpoint)
    assert (ours.config, ours.seeds) == (theirs.config, theirs.seeds)
