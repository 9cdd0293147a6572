"""Settings of backend tinker: the seeds' defaults, and one line for what no server honours."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, PlanError
from cupel.policy.config import PolicyConfig
from cupel.policy.tinker.config import TinkerSettings, missing_key
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.forecast import forecast


def train_config(**settings: Any) -> TrainConfig:
    data = with_backend_defaults({"backend": "tinker", **settings})
    return validate(TrainConfig, data, where="config")


def test_defaults_are_what_every_server_honours() -> None:
    config = train_config()
    assert config.policy.lora.rank == 64
    assert config.policy.grad_clip == 0
    assert config.uncertainty_kind == "surprisal"
    assert config.model == "Qwen/Qwen3-4B-Instruct-2507"
    assert config.gate_tolerance == 0.05


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"policy": {"dtype": "bfloat16"}}, "policy.dtype"),
        ({"policy": {"microbatch_tokens": 64}}, "policy.microbatch_tokens"),
        ({"policy": {"compile": True}}, "policy.compile"),
        ({"policy": {"shard": "layers"}}, "policy.shard"),
        ({"policy": {"lora": {"rank": 0}}}, "policy.lora.rank"),
        ({"policy": {"lora": {"rank": 8, "alpha": 16.0}}}, "policy.lora.alpha"),
        ({"policy": {"lora": {"rank": 8, "rslora": True}}}, "policy.lora.rslora"),
        ({"policy": {"tinker": {"base_url": "gpu-1:8000"}}}, "base_url"),
        ({"policy": {"tinker": {"base_url": "http://me:secret@gpu-1"}}}, "api_key_variable"),
        ({"uncertainty_kind": "entropy"}, "surprisal"),
        ({"transform_mode": "entropy_mask", "uncertainty_kind": "entropy"}, "surprisal"),
        ({"loss": {"kind": "gspo"}}, "importance_sampling, ppo, cispo"),
        ({"loss": {"kind": "ppo", "dual_clip": 3.0}}, "loss.dual_clip"),
        ({"loss": {"kl_coef": 0.1}}, "loss.kl_coef"),
    ],
)
def test_what_a_server_cannot_honour_is_refused_by_name(
    settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        train_config(**settings)


def test_other_backends_refuse_its_settings() -> None:
    with pytest.raises(ConfigError, match=r"policy\.tinker with backend 'tiny'"):
        validate(PolicyConfig, {"tinker": {"max_in_flight": 4}}, where="policy")


def test_the_hosted_service_needs_a_key_and_a_server_of_ones_own_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    assert "TINKER_API_KEY" in str(missing_key(TinkerSettings()))
    assert "api_key_variable" in str(missing_key(TinkerSettings(api_key_variable=None)))
    assert missing_key(TinkerSettings(base_url="http://localhost:1")) is None
    monkeypatch.setenv("TINKER_API_KEY", "tml-x")
    assert missing_key(TinkerSettings()) is None


def test_a_plan_needs_no_key_and_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tinker")
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    found = forecast(train_config(problems={"source": "arithmetic"}))
    assert any("TINKER_API_KEY" in text for text in found.warnings)
    assert any("the hosted service" in text for text in found.notes)
    assert found.preload == ()


def test_back_pressure_has_nothing_to_steer_there() -> None:
    pytest.importorskip("tinker")
    config = train_config(problems={"source": "arithmetic"}, backpressure={"enabled": True})
    with pytest.raises(PlanError, match="max_in_flight"):
        forecast(config)
