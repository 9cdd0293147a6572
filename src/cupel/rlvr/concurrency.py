"""Back pressure at work: the controller's choice goes into the policy, a step's timing comes back.

Knows which throughput belongs to which setting. Refuses to choose anything itself: the choice is
`cupel.rlvr.backpressure`'s.
"""

from __future__ import annotations

from cupel.errors import ConfigError
from cupel.policy.protocol import Adjustable, Policy
from cupel.rlvr.backpressure import BackPressure, Reading, update_work
from cupel.rlvr.config import TrainConfig


def in_force(pressure: BackPressure | None, policy: Policy, config: TrainConfig) -> TrainConfig:
    """Set the coming step's concurrency; return the config it samples with.

    That is the run's own config, unless the batch size may change.

    Raises:
        ConfigError: the policy's concurrency cannot be set.
    """
    if pressure is None:
        return config
    if pressure.setting == "batch_size":
        return config.model_copy(update={"batch_size": pressure.value})
    if not isinstance(policy, Adjustable):
        raise ConfigError(
            f"backpressure: {type(policy).__name__} has no {pressure.setting} that could change; "
            "leave back pressure off, or use backend 'tiny', 'torch' or 'openai'"
        )
    policy.set_concurrency(pressure.setting, pressure.value)
    return config


def observe_step(
    pressure: BackPressure | None,
    *,
    step: int,
    sampled_tokens: int,
    trained_tokens: int,
    sample_time_s: float,
    train_time_s: float,
) -> tuple[BackPressure | None, Reading | None]:
    """Return the controller of the next step, and what this step's row says."""
    if pressure is None:
        return None, None
    match pressure.setting:
        case "sample_rows":
            found = sampled_tokens / sample_time_s
        case "microbatch_tokens":
            found = update_work(sampled_tokens, trained_tokens) / train_time_s
        case "batch_size":
            found = sampled_tokens / (sample_time_s + train_time_s)
    following = pressure.observe(step, found)
    return following, following.reading(pressure.level, found)
