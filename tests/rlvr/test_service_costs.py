"""The bounds of a plan on a service hold what a step, an evaluation and a checkpoint ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.forecast import forecast
from cupel.rlvr.problem import Problem
from cupel.rlvr.service_costs import CHAT_TOKENS, OPENING_REQUESTS, longest_prompt, service_costs


def config(**settings: Any) -> TrainConfig:
    data = {
        "backend": "tinker",
        "max_steps": 10,
        "batch_size": 4,
        "group_size": 8,
        "max_tokens": 100,
        "save_every": 5,
        "problems": {"source": "arithmetic", "chat_template": False},
        "evaluation": {"every": 10, "problems": 16, "greedy": False},
        **settings,
    }
    return validate(TrainConfig, with_backend_defaults(data), where="test")


def test_every_request_is_counted_once() -> None:
    costs = service_costs(config(), rounds=1, evaluations=2, prompt_tokens=50)
    groups, asked, steps, saves = 10 * 4, 2 * 16, 10 * 5 + 2, 2
    assert costs["requests"] == OPENING_REQUESTS + groups + asked + steps + saves
    assert costs["prompt tokens"] == (groups + asked) * 50
    assert costs["trained tokens"] == 10 * 4 * 8 * 150
    assert costs["scored tokens"] >= 2 * costs["trained tokens"]


@pytest.mark.parametrize(
    "more",
    [
        {"evaluation": {"every": 10, "problems": 16, "greedy": True}},
        {"evaluation": {"every": 5, "problems": 16, "greedy": False}},
        {"updates_per_batch": 2, "loss": {"kind": "ppo"}},
        {"save_every": 1},
        {"batch_size": 5},
    ],
)
def test_whatever_asks_more_costs_more(more: dict[str, Any]) -> None:
    pytest.importorskip("tinker")
    few, many = forecast(config()).costs, forecast(config(**more)).costs
    assert many["requests"] > few["requests"]
    assert all(many[unit] >= cost for unit, cost in few.items())


def test_bytes_bound_the_tokens_of_a_prompt() -> None:
    problems = [
        Problem(id="a", prompt="2 + 2", answer="4"),
        Problem(id="b", prompt="π", answer="3"),
    ]
    assert longest_prompt(problems, config()) == 5 + 1
    chat = config(problems={"source": "arithmetic", "chat_template": True})
    assert longest_prompt(problems, chat) == 5 + 1 + CHAT_TOKENS


def test_a_plan_says_whether_prompts_are_in_its_bounds(tmp_path: Path) -> None:
    pytest.importorskip("tinker")
    path = tmp_path / "p.jsonl"
    rows = [{"problem": f"what is {n} + {n} ?", "answer": str(2 * n)} for n in range(100)]
    path.write_text("\n".join(map(json.dumps, rows)))
    listed = config(
        problems={"source": "jsonl", "path": str(path), "chat_template": False},
        evaluation={"every": 10, "problems": 2, "greedy": False},
    )
    assert "prompt tokens" in forecast(listed).costs
    assert any("prompts included" in note for note in forecast(listed).notes)
    assert "prompt tokens" not in forecast(config()).costs
    assert any("prompts come on top" in note for note in forecast(config()).notes)
