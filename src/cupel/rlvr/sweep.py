"""Learning-rate sweeps as studies: every algorithm at every rate, on the same probe seeds.

Pure: words and settings in, the data of a study file out. Knows how a sweep's conditions are named
and which labels mean the same method. Refuses to run a probe or to choose a rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cupel.config import merge, to_dict
from cupel.errors import ConfigError
from cupel.policy.config import PolicySettings
from cupel.rlvr.algorithms import label_of, label_of_algorithm
from cupel.rlvr.campaign import condition_settings
from cupel.rlvr.config import TrainConfig, with_backend_defaults

PROBE_STEPS = 20
"""Steps of a probe when none were asked for."""

PROBE_SEEDS = (9001, 9002, 9003)
"""Seeds of the probes; far from the seeds of any standard campaign, and never to be among them."""

SWEEP_ALGORITHMS = ("grpo", "full")

SCORE: Mapping[str, Any] = {"metric": "correct_rate", "over": "last 50%"}
"""What a probe is scored by: its correct rate over the last half of its steps."""

GRIDS: Mapping[str, tuple[float, ...]] = {
    "torch": (5e-5, 2e-4, 5e-4, 1e-3),
    "tiny": (5e-5, 2e-4, 5e-4, 1e-3),
    "toy": (10.0, 30.0, 100.0, 300.0, 1000.0),
}
"""Default grid by backend; the table of the toy backend learns at other rates than a model."""

SWEEP_DEFAULTS: Mapping[str, Any] = {
    "batch_size": 4,
    "group_size": 16,
    "max_tokens": 2048,
    "temperature": 0.7,
    "sepa_steps": 100,
    "sepa_schedule": "linear",
    "sepa_delay_steps": 10,
    "sepa_correct_rate_gate": 0.1,
}
"""Settings of the documented sweep; they are those of a real language model, so they are laid
under a study whose backend is `torch` or `openai`. The tiny and toy models keep their own
defaults."""

SWEPT = ("lr", "max_steps")
"""Settings that a sweep gives itself."""

SHARED_KEYS = (
    *("backend", "model", "batch_size", "group_size", "max_tokens", "temperature"),
    "policy.lora.rank",
)
"""Settings on which the best rate depends so strongly that a campaign should share them."""


def sweep_study(
    *,
    name: str,
    shared: Mapping[str, Any],
    algorithms: Sequence[str] = SWEEP_ALGORITHMS,
    lr_values: Sequence[float] | None = None,
    probe_seeds: Sequence[int] = PROBE_SEEDS,
    probe_steps: int = PROBE_STEPS,
    select: str = "within_1se",
    extend: int = 2,
) -> dict[str, Any]:
    """Build a study whose conditions are every algorithm at every learning rate.

    Args:
        lr_values: the grid, in the order in which ties are settled; None: that of the backend.

    Raises:
        ConfigError: an algorithm is unknown or named twice, or a rate is not positive or comes
            twice.
    """
    backend = str(shared.get("backend", "tiny"))
    grid = tuple(GRIDS.get(backend, GRIDS["torch"]) if lr_values is None else lr_values)
    _check_grid(grid)
    _check_algorithms(algorithms)
    under = SWEEP_DEFAULTS if backend in ("torch", "openai", "tinker") else {}
    return {
        "name": name,
        "question": f"Which learning rate suits {' and '.join(algorithms)} best?",
        "seeds": list(probe_seeds),
        "config": merge(merge(under, shared), {"max_steps": probe_steps}),
        "conditions": [probe_condition(algorithm, lr) for algorithm in algorithms for lr in grid],
        "endpoint": dict(SCORE),
        "tuning": {"setting": "lr", "select": select, "extend": extend, "values": list(grid)},
    }


def probe_condition(algorithm: str, lr: float) -> dict[str, Any]:
    """Return the condition of one algorithm at one rate, named by the exact value of the rate.

    >>> probe_condition("grpo", 1.5e-05)["label"]
    'grpo_lr1.5e-05'

    Raises:
        ConfigError: the algorithm is unknown.
    """
    settings = {**condition_settings(algorithm), "lr": float(lr)}
    return {"label": probe_label(algorithm, lr), "config": settings}


def probe_label(algorithm: str, lr: float) -> str:
    """Return `<algorithm>_lr<rate>`; different rates never share a label."""
    return f"{algorithm}_lr{float(lr)!r}"


def method_of(label: str) -> str:
    """Return the one name of a method: `grpo` and `grpo+none` are the same.

    >>> method_of("full"), method_of("grpo+none")
    ('maxrl+gtpo_sepa', 'grpo+none')

    Raises:
        ConfigError: the label stands for nothing.
    """
    settings = condition_settings(label)
    if "algorithm" in settings:
        return label_of_algorithm(settings["algorithm"])
    return label_of(settings)


def shared_settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `SHARED_KEYS` that a study's shared config amounts to.

    Raises:
        ConfigError: the config contradicts itself.
    """
    resolved = merge(_field_defaults(), with_backend_defaults({"backend": "tiny", **config}))
    return {key: setting_at(resolved, key) for key in SHARED_KEYS}


def setting_at(config: Mapping[str, Any], path: str) -> Any:
    """Return a setting by its dotted path; None where it is not there.

    >>> setting_at({"policy": {"lora": {"rank": 64}}}, "policy.lora.rank")
    64
    """
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _field_defaults() -> dict[str, Any]:
    fields = TrainConfig.model_fields
    return {
        "policy": to_dict(PolicySettings()),
        **{key: fields[key].default for key in SHARED_KEYS if key in fields},
    }


def _check_grid(grid: Sequence[float]) -> None:
    seen: set[float] = set()
    if not grid:
        raise ConfigError("the grid of learning rates is empty; give at least one, e.g. 5e-5,2e-4")
    for lr in grid:
        if not (math.isfinite(lr) and lr > 0):
            raise ConfigError(f"learning rate {lr!r}: give finite rates above 0")
        if lr in seen:
            raise ConfigError(f"learning rate {lr!r} comes twice in the grid")
        seen.add(lr)


def _check_algorithms(algorithms: Sequence[str]) -> None:
    methods: dict[str, str] = {}
    for label in algorithms:
        twin = methods.setdefault(method_of(label), label)
        if twin is not label or list(algorithms).count(label) > 1:
            raise ConfigError(f"algorithms '{twin}' and '{label}' are the same; name each once")
