"""What a run would cost, warn of, or be refused for, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, CupelError, DataError, PlanError
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.forecast import evaluation_steps, forecast
from tests.rlvr.toy_runs import Ran, toy_config, toy_run


def config_of(**settings: Any) -> TrainConfig:
    return validate(TrainConfig, with_backend_defaults(settings), where="here")


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(5, 2, [0, 2, 4, 5]), (4, 2, [0, 2, 4]), (1, 20, [0, 1]), (3, 1, [0, 1, 2, 3])],
)
def test_evaluations_frame_the_training(steps: int, every: int, expected: list[int]) -> None:
    found = evaluation_steps(toy_config(max_steps=steps, evaluation={"every": every}))
    assert found == expected


def test_the_bounds_are_kept_by_the_run(tmp_path: Path) -> None:
    settings = {"max_steps": 3, "evaluation": {"samples": 4, "every": 2, "greedy": True}}
    costs = forecast(toy_config(**settings)).costs
    ran: Ran = toy_run(tmp_path, **settings)
    assert costs["steps"] == len(ran.steps) == 3
    assert costs["training completions"] == len(ran.generations) == 3 * 8 * 8
    greedy = len(ran.evaluations) * 8
    evaluated = sum(row["problems"] * row["samples"] for row in ran.evaluations)
    assert costs["completions"] == len(ran.generations) + evaluated + greedy
    assert costs["sampled tokens"] == 4 * costs["completions"]
    assert sum(row["num_tokens"] for row in ran.generations) <= costs["sampled tokens"]


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"backend": "toy", "problems": {"source": "arithmetic"}}, PlanError, "backend 'toy'"),
        (
            {"backend": "tiny", "problems": {"source": "jsonl", "path": "problems.jsonl"}},
            PlanError,
            "backend 'tiny' cannot run problems.source 'jsonl'",
        ),
        ({"backend": "tiny", "problems": {"source": "toy"}}, PlanError, "closed vocabulary"),
        (
            {"backend": "torch", "model": "./nowhere/model"},
            PlanError,
            "model './nowhere/model': no such model folder",
        ),
        ({"backend": "toy", "evaluation": {"problems": 9}}, DataError, "9 were asked for"),
        ({"backend": "toy", "strategic_grams": []}, ConfigError, "phrase"),
        ({"backend": "toy", "strategic_grams": ["  "]}, ConfigError, "has no word"),
    ],
)
def test_what_a_backend_cannot_honour_is_refused(
    settings: dict[str, Any], kind: type[CupelError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        forecast(config_of(**settings))
    assert says in str(caught.value)


def test_a_lambda_that_never_rises_is_warned_of() -> None:
    late = forecast(toy_config(max_steps=10, sepa_steps=100, sepa_delay_steps=0))
    assert any("sepa_lambda reaches only 0.09 by step 9" in text for text in late.warnings)
    assert "sepa_lambda on the linear ramp at the last step: 0.09" in late.notes
    ready = forecast(toy_config(max_steps=10, sepa_steps=5, sepa_delay_steps=0))
    assert not ready.warnings
    other = forecast(toy_config(max_steps=10, sepa_steps=100, transform_mode="gtpo"))
    assert not any("sepa" in text for text in [*other.warnings, *other.notes])


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"group_size": 1}, "every advantage is 0"), ({"top_p": 0.9}, "the sampler is truncated")],
)
def test_settings_that_teach_little_are_warned_of(settings: dict[str, Any], says: str) -> None:
    assert any(says in text for text in forecast(toy_config(**settings)).warnings)
