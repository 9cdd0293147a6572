"""The field's algorithms by name: which settings each fixes, and what its conditions are called.

Pure data and dictionaries. Knows what a paper's name stands for in settings of `TrainConfig`.
Refuses to know how any of it is computed, and to let a setting contradict the name beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from cupel.config import merge
from cupel.errors import ConfigError

Algorithm = Literal["grpo", "full", "rloo", "reinforce_pp", "dr_grpo", "dapo", "gspo", "cispo"]

_GRPO = {"advantage_mode": "grpo", "transform_mode": "none"}

ALGORITHMS: dict[str, dict[str, Any]] = {
    "grpo": _GRPO,
    "full": {"advantage_mode": "maxrl", "transform_mode": "gtpo_sepa"},
    "rloo": {
        "advantage_mode": "rloo",
        "transform_mode": "none",
        "loss": {"kind": "importance_sampling", "normaliser": "constant"},
    },
    "reinforce_pp": {
        "advantage_mode": "reinforce_pp",
        "transform_mode": "none",
        "loss": {"kind": "ppo", "normaliser": "token"},
    },
    "dr_grpo": {**_GRPO, "normalize": "none", "loss": {"kind": "ppo", "normaliser": "constant"}},
    "dapo": {
        **_GRPO,
        "normalize": "std",
        "uninformative_groups": "resample",
        "loss": {"kind": "ppo", "normaliser": "token"},
    },
    "gspo": {**_GRPO, "normalize": "std", "loss": {"kind": "gspo", "normaliser": "sequence"}},
    "cispo": {**_GRPO, "normalize": "std", "loss": {"kind": "cispo", "normaliser": "token"}},
}
"""What each `algorithm` stands for; another value beside the name is a contradiction."""

CONSTANTS: dict[str, dict[str, Any]] = {
    "dapo": {"overlong_buffer_rate": 0.2, "loss": {"clip_eps": 0.2, "clip_eps_high": 0.28}},
    "gspo": {"loss": {"clip_eps": 3e-4, "clip_eps_high": 4e-4}},
    "cispo": {"loss": {"clip_eps_high": 4.0}},
}
"""Constants of an algorithm, those of its paper; CISPO's paper tells none, its cap of 5 is that of
arXiv:2510.13786. They lie under what is passed, so they may be tuned."""

OBJECTIVES = ("ppo", "dr_grpo", "dapo", "gspo", "cispo")
"""Losses that are methods of their own: the last part of a condition's label."""


def expanded(data: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    """Lay passed settings over defaults, and over those that `algorithm` stands for.

    Raises:
        ConfigError: a passed setting contradicts the algorithm; both are named.
    """
    algorithm = data.get("algorithm")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return merge(under, data)
    fixed = ALGORITHMS[algorithm]
    for path, value in _flat(fixed):
        given = _at(data, path, value)
        if given != value:
            raise ConfigError(
                f"algorithm = '{algorithm}' means {path} = '{value}', but {path} = '{given}' was "
                "given; drop one of them"
            )
    return merge(merge(merge(under, CONSTANTS.get(algorithm, {})), data), fixed)


def objective_of(*, kind: str, normaliser: str, uninformative_groups: str) -> str | None:
    """Return which of `OBJECTIVES` these settings amount to, None for a plain one."""
    if kind != "ppo":
        return kind if kind in OBJECTIVES else None
    if normaliser == "constant":
        return "dr_grpo"
    if normaliser == "token" and uninformative_groups == "resample":
        return "dapo"
    return "ppo"


def objective_settings(objective: str, *, advantage: str) -> dict[str, Any]:
    """Return what one of `OBJECTIVES` stands for beside an advantage and a transform of one's own.

    All that the algorithm of this name has, but what the advantage cannot honour: only grpo is
    divided by a deviation, and maxrl takes no penalties.
    """
    if objective == "ppo":
        return {"loss": {"kind": "ppo"}}
    without = {"advantage_mode", "transform_mode"}
    without |= {"normalize"} if advantage != "grpo" else set()
    without |= {"overlong_buffer_rate"} if advantage == "maxrl" else set()
    whole = merge(CONSTANTS.get(objective, {}), ALGORITHMS[objective])
    return {key: value for key, value in whole.items() if key not in without}


def condition_label(advantage: str, transform: str, *, hicra: bool, objective: str | None) -> str:
    """Join the parts of a condition's label.

    >>> condition_label("grpo", "none", hicra=False, objective="dapo")
    'grpo+none+dapo'
    """
    parts = [advantage, transform]
    parts += ["hicra"] if hicra and transform == "gtpo_sepa" else []
    parts += [objective] if objective else []
    return "+".join(parts)


def label_of_algorithm(algorithm: str) -> str:
    """Return the condition label of an algorithm at its own constants.

    >>> label_of_algorithm("full"), label_of_algorithm("gspo")
    ('maxrl+gtpo_sepa', 'grpo+none+gspo')
    """
    return label_of(ALGORITHMS[algorithm])


def label_of(settings: Mapping[str, Any]) -> str:
    """Return the condition label of settings that name both modes; the rest is as by default."""
    loss = settings.get("loss", {})
    return condition_label(
        settings["advantage_mode"],
        settings["transform_mode"],
        hicra=bool(settings.get("hicra_after_sepa")),
        objective=objective_of(
            kind=loss.get("kind", "importance_sampling"),
            normaliser=loss.get("normaliser", "token"),
            uninformative_groups=settings.get("uninformative_groups", "drop"),
        ),
    )


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _at(table: Mapping[str, Any], path: str, default: Any) -> Any:
    """Return the value at a dotted path; the default where there is none."""
    here: Any = table
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return default
        here = here[key]
    return here
