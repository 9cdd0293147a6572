"""Studies built from a few words: the five-condition campaign, and two arms side by side.

Pure: labels, seeds and settings in, the data of a study file out. Knows the conditions of the
standard ablation and the settings of the documented A/B campaign. Refuses to plan, run or judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cupel.config import did_you_mean, merge
from cupel.errors import ConfigError
from cupel.rlvr.advantages import ADVANTAGE_MODES
from cupel.rlvr.algorithms import (
    ALGORITHMS,
    OBJECTIVES,
    label_of_algorithm,
    objective_settings,
)
from cupel.rlvr.credit import BATCH_TRANSFORMS, TRANSFORM_MODES

CAMPAIGN_CONDITIONS = (
    "grpo+none",
    "maxrl+none",
    "maxrl+gtpo",
    "maxrl+gtpo_hicra",
    "maxrl+gtpo_sepa",
)
"""The five conditions of the standard ablation, each adding one layer of credit assignment."""

CAMPAIGN_PRIMARY = ("maxrl+gtpo_hicra", "maxrl+gtpo_sepa")
"""The key comparison: both use planning tokens; SEPA pools execution entropy, HICRA amplifies."""

CAMPAIGN_MAX_STEPS = 100
"""Steps a run of a campaign when none were asked for."""

AB_DEFAULTS: Mapping[str, Any] = {
    "max_steps": 100,
    "batch_size": 4,
    "group_size": 8,
    "max_tokens": 2048,
    "temperature": 0.7,
    "lr": 4e-5,
    "save_every": 20,
    "gtpo_beta": 0.1,
    "hicra_alpha": 0.2,
    "sepa_steps": 100,
    "sepa_schedule": "linear",
    "sepa_delay_steps": 10,
    "sepa_correct_rate_gate": 0.1,
}
"""Settings of the documented A/B campaign; they are those of a real language model, so they are
laid under a study whose backend is `torch` or `openai`. The tiny and toy models keep their own
defaults."""


def condition_settings(label: str) -> dict[str, Any]:
    """Return the settings a condition label stands for.

    >>> condition_settings("maxrl+gtpo_hicra")
    {'advantage_mode': 'maxrl', 'transform_mode': 'gtpo_hicra'}
    >>> condition_settings("full")
    {'algorithm': 'full'}
    >>> condition_settings("grpo+none+dapo")
    {'algorithm': 'dapo'}
    >>> condition_settings("maxrl+gtpo+cispo")["loss"]["kind"]
    'cispo'

    Raises:
        ConfigError: the label is neither an algorithm nor advantage+transform.
    """
    if label in ALGORITHMS:
        return {"algorithm": label}
    for algorithm, fixed in ALGORITHMS.items():
        if "loss" in fixed and label == label_of_algorithm(algorithm):
            return {"algorithm": algorithm}
    advantage, plus, rest = label.partition("+")
    transform, _, suffix = rest.partition("+")
    if not plus:
        known = [*ALGORITHMS, *CAMPAIGN_CONDITIONS]
        raise ConfigError(
            f"condition '{label}': expected an algorithm ({', '.join(ALGORITHMS)}) or "
            f"advantage+transform; {did_you_mean(label, known)}"
        )
    _check_mode(label, "advantage mode", advantage, ADVANTAGE_MODES)
    _check_mode(label, "transform mode", transform, (*TRANSFORM_MODES, *BATCH_TRANSFORMS))
    settings: dict[str, Any] = {"advantage_mode": advantage, "transform_mode": transform}
    parts = suffix.split("+") if suffix else []
    if parts[:1] == ["hicra"] and transform == "gtpo_sepa":
        settings["hicra_after_sepa"] = True
        parts = parts[1:]
    if parts and parts[0] in OBJECTIVES:
        settings |= objective_settings(parts[0], advantage=advantage)
        parts = parts[1:]
    if parts:
        raise ConfigError(
            f"condition '{label}': '+{'+'.join(parts)}' is unknown; a third part is the loss "
            f"({', '.join(OBJECTIVES)}), and only gtpo_sepa+hicra has another"
        )
    return settings


def campaign_study(
    *,
    name: str,
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    conditions: Sequence[str] = CAMPAIGN_CONDITIONS,
    rates: Mapping[str, float] | None = None,
    decision: Mapping[str, Any] | None = None,
    endpoint: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build a study of several conditions at the shared settings, each at its own rate if given.

    The primary contrast is SEPA against HICRA where both are there, else the last condition
    against the first; neighbours in the list are the secondary contrasts.

    Args:
        rates: learning rate by condition label; None: the shared one for all.

    Raises:
        ConfigError: a condition label is unknown.
    """
    labels = list(conditions)
    baseline, candidate = _primary(labels, decision or {})
    neighbours = pairwise(labels)
    secondary = [list(pair) for pair in neighbours if pair != (baseline, candidate)]
    contrast = {"baseline": baseline, "candidate": candidate, "secondary": secondary}
    if len(labels) < 2:
        contrast = {}
    return {
        "name": name,
        "question": f"Does {candidate} do better than {baseline}?" if len(labels) > 1 else "",
        "seeds": list(seeds),
        "config": merge({"max_steps": CAMPAIGN_MAX_STEPS}, shared),
        "conditions": [
            {"label": label, "config": _arm(label, (rates or {}).get(label))} for label in labels
        ],
        "endpoint": merge(default_endpoint(), endpoint or {}),
        "decision": merge(contrast, decision or {}),
    }


def ab_study(
    *,
    name: str,
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    baseline: str = "grpo",
    candidate: str = "full",
    baseline_lr: float | None = None,
    candidate_lr: float | None = None,
    decision: Mapping[str, Any] | None = None,
    endpoint: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build a study of two arms on the same seeds, each at its own learning rate where given.

    Two arms of the same name (an A/A test) are told apart as `NAME~baseline`, `NAME~candidate`.

    Raises:
        ConfigError: an arm is neither an algorithm nor advantage+transform.
    """
    arms = [
        _arm(baseline, baseline_lr),
        _arm(candidate, candidate_lr),
    ]
    labels = [baseline, candidate]
    if baseline == candidate:
        labels = [f"{baseline}~baseline", f"{candidate}~candidate"]
    return {
        "name": name,
        "question": f"Does {candidate} do better than {baseline} at equal budget?",
        "seeds": list(seeds),
        "config": merge(ab_defaults(shared), shared),
        "conditions": [
            {"label": label, "config": arm} for label, arm in zip(labels, arms, strict=True)
        ],
        "endpoint": merge(default_endpoint(), endpoint or {}),
        "decision": merge({"baseline": labels[0], "candidate": labels[1]}, decision or {}),
    }


def ab_defaults(shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the defaults that an A/B study lays under these shared settings."""
    return AB_DEFAULTS if shared.get("backend", "tiny") in ("torch", "openai", "tinker") else {}


def default_endpoint() -> dict[str, Any]:
    """Return the default endpoint: the final held-out evaluation."""
    return {"metric": "eval/accuracy", "over": "last"}


def _arm(label: str, lr: float | None) -> dict[str, Any]:
    settings = condition_settings(label)
    return settings if lr is None else {**settings, "lr": lr}


def _primary(labels: Sequence[str], decision: Mapping[str, Any]) -> tuple[str, str]:
    first, last = labels[0] if labels else "", labels[-1] if labels else ""
    if all(label in labels for label in CAMPAIGN_PRIMARY):
        first, last = CAMPAIGN_PRIMARY
    return decision.get("baseline", first), decision.get("candidate", last)


def _check_mode(label: str, what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ConfigError(
            f"condition '{label}': {what} '{given}' is unknown; {did_you_mean(given, allowed)}"
        )
