"""Campaigns as data: the documented conditions, arms and defaults."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.config import merge, validate
from cupel.errors import ConfigError
from cupel.lab.study import DEFAULT_SEEDS, StudyConfig
from cupel.rlvr.campaign import (
    AB_DEFAULTS,
    CAMPAIGN_CONDITIONS,
    ab_study,
    campaign_study,
    condition_settings,
)
from cupel.rlvr.config import TrainConfig, with_backend_defaults


def resolved(study: StudyConfig) -> dict[str, TrainConfig]:
    """Return each condition's settings as a run would get them."""
    return {
        c.label: validate(
            TrainConfig, with_backend_defaults(merge(study.config, c.config)), where=c.label
        )
        for c in study.conditions
    }


def test_the_campaign_has_the_five_conditions_and_its_key_comparison() -> None:
    data = campaign_study(name="c", seeds=DEFAULT_SEEDS, shared={})
    study = validate(StudyConfig, data, where="campaign")
    assert tuple(study.labels) == CAMPAIGN_CONDITIONS
    assert study.primary == ("maxrl+gtpo_hicra", "maxrl+gtpo_sepa")
    assert study.decision.secondary == [
        ("grpo+none", "maxrl+none"),
        ("maxrl+none", "maxrl+gtpo"),
        ("maxrl+gtpo", "maxrl+gtpo_hicra"),
    ]
    for label, config in resolved(study).items():
        assert config.label == label
        assert config.max_steps == 100


def test_the_order_of_conditions_never_changes_the_key_comparison() -> None:
    data = campaign_study(
        name="c", seeds=[1], shared={}, conditions=list(reversed(CAMPAIGN_CONDITIONS))
    )
    study = validate(StudyConfig, data, where="campaign")
    assert study.primary == ("maxrl+gtpo_hicra", "maxrl+gtpo_sepa")


def test_one_condition_has_no_contrast() -> None:
    data = campaign_study(name="c", seeds=[1], shared={}, conditions=["grpo+none"])
    assert validate(StudyConfig, data, where="campaign").primary is None


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("grpo", {"algorithm": "grpo"}),
        ("full", {"algorithm": "full"}),
        ("grpo+none", {"advantage_mode": "grpo", "transform_mode": "none"}),
        (
            "maxrl+gtpo_sepa+hicra",
            {
                "advantage_mode": "maxrl",
                "transform_mode": "gtpo_sepa",
                "hicra_after_sepa": True,
            },
        ),
    ],
)
def test_a_label_stands_for_settings(label: str, expected: dict[str, Any]) -> None:
    assert condition_settings(label) == expected


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("grop", "did you mean 'grpo'"),
        ("maxrl+gtpo_spea", "did you mean 'gtpo_sepa'"),
        ("maxlr+gtpo", "did you mean 'maxrl'"),
        ("maxrl+gtpo+hicra", "only gtpo_sepa\\+hicra"),
        ("", "expected an algorithm"),
    ],
)
def test_a_label_that_stands_for_nothing_is_refused(label: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        condition_settings(label)


def test_each_arm_runs_at_its_own_learning_rate() -> None:
    data = ab_study(
        name="ab", seeds=[1, 2], shared={"lr": 4e-5}, baseline_lr=5e-4, candidate_lr=5e-5
    )
    arms = resolved(validate(StudyConfig, data, where="ab"))
    assert {label: config.lr for label, config in arms.items()} == {"grpo": 5e-4, "full": 5e-5}
    assert arms["full"].label == "maxrl+gtpo_sepa"


def test_a_shared_learning_rate_holds_where_an_arm_has_none() -> None:
    data = ab_study(name="ab", seeds=[1], shared={"lr": 4e-5}, candidate_lr=5e-5)
    arms = resolved(validate(StudyConfig, data, where="ab"))
    assert (arms["grpo"].lr, arms["full"].lr) == (4e-5, 5e-5)


def test_a_real_model_gets_the_documented_defaults_and_a_tiny_one_its_own() -> None:
    real = ab_study(name="ab", seeds=[1], shared={"backend": "torch", "model": "m", "lr": 1.0})
    settings = resolved(validate(StudyConfig, real, where="ab"))["grpo"].model_dump()
    assert settings["lr"] == 1.0
    for key, value in AB_DEFAULTS.items():
        assert key == "lr" or settings[key] == value
    tiny = ab_study(name="ab", seeds=[1], shared={})
    assert tiny["config"] == {}


def test_an_a_a_test_tells_its_arms_apart() -> None:
    data = ab_study(name="aa", seeds=[1], shared={}, baseline="grpo", candidate="grpo")
    study = validate(StudyConfig, data, where="aa")
    assert study.primary == ("grpo~baseline", "grpo~candidate")
    assert study.conditions[0].config == study.conditions[1].config
