"""The settings of one evaluation, and how they follow from the training that is evaluated.

Knows which settings of a training decide what a problem looks like and how an answer is sampled
and graded. Refuses to let any of them change unsaid: `changes` names them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from cupel.config import Config, merge, to_dict
from cupel.errors import ConfigError, DataError
from cupel.policy.config import Backend, PolicySettings
from cupel.rlvr.config import (
    BACKEND_DEFAULTS,
    EvaluationConfig,
    HeldOutConfig,
    TrainConfig,
    with_backend_defaults,
)
from cupel.rlvr.problems import ProblemsConfig
from cupel.rlvr.trained import find_checkpoint, seal_of, training_of


class EvaluateConfig(Config):
    """Held-out problems put to one checkpoint of an `rlvr.train` run, or to a model as it is."""

    checkpoint: str | None = None
    """Run folder of a training (its newest checkpoint is taken), or one step_N folder in it; what
    is not set here is as in that training. None: the model itself."""
    checkpoint_sha256: str | None = None
    """Hash under which the checkpoint is sealed, filled in when the evaluation is planned: a
    training that was done again is another evaluation."""
    backend: Backend = "tiny"
    """tiny: a model shipped with Cupel; torch: any Hugging Face causal LM; toy: a numpy table."""
    model: str | None = None
    """Model folder or hub id (backend torch)."""
    max_tokens: int = Field(default=2048, ge=1)
    """Longest completion, in tokens."""
    replicate: int = Field(default=0, ge=0)
    """Another replicate draws other samples for the same seed."""
    policy: PolicySettings = Field(default_factory=PolicySettings)
    """Backend settings."""
    problems: ProblemsConfig = Field(default_factory=ProblemsConfig)
    """Where problems come from."""
    evaluation: HeldOutConfig = Field(default_factory=HeldOutConfig)
    """How many problems, how many completions each, and what is reported."""

    @model_validator(mode="after")
    def _model_is_named(self) -> EvaluateConfig:
        if self.backend == "openai":
            raise ValueError(
                "backend 'openai' samples beside a training; evaluate its model with backend "
                "'torch'"
            )
        if self.backend == "torch" and self.model is None:
            raise ValueError("backend 'torch' needs a model: a folder or a hub id")
        return self

    @property
    def as_training(self) -> TrainConfig:
        """The training whose own held-out evaluation asks exactly as this one does."""
        shared = {name: getattr(self, name) for name in SHARED}
        more = BACKEND_DEFAULTS[self.backend]
        kind = {name: more[name] for name in ("uncertainty_kind",) if name in more}
        return TrainConfig(**shared, **kind, evaluation=EvaluationConfig(**dict(self.evaluation)))


_PLAIN = ProblemsConfig.model_fields["prompt_template"].default

SHARED = tuple(
    name
    for name in EvaluateConfig.model_fields
    if name in TrainConfig.model_fields and name != "evaluation"
)
"""Settings that a training and an evaluation both have, beside `evaluation`."""


def settings_of(training: TrainConfig) -> dict[str, Any]:
    """Return the settings of an evaluation that asks as this training's own evaluations do.

    One process evaluates, so layers that were divided over several are whole in it.
    """
    resolved = to_dict(training)
    asked = {name: resolved["evaluation"][name] for name in HeldOutConfig.model_fields}
    shared = {name: resolved[name] for name in SHARED}
    shared["policy"] = {**shared["policy"], "shard": "none"}
    if training.backend == "openai":  # its checkpoints are the trainer's
        policy = {name: value for name, value in shared["policy"].items() if name != "openai"}
        shared |= {"backend": "torch", "policy": policy}
    return {**shared, "evaluation": asked}


def with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the training's settings, or the backend's defaults, under what the user passed.

    Raises:
        DataError: no such checkpoint, a damaged one, or another than `checkpoint_sha256` says.
        ConfigError: another backend than the checkpoint's.
    """
    path = data.get("checkpoint")
    if not isinstance(path, str):
        return laid_over(_backend_settings(data), data)
    folder = find_checkpoint(Path(path))
    base = settings_of(training_of(folder).config)
    backend = data.get("backend", base["backend"])
    if backend != base["backend"]:
        raise ConfigError(
            f"backend = '{backend}' with {folder}, a checkpoint of backend '{base['backend']}'; "
            "leave backend out"
        )
    seal = seal_of(folder)
    if data.get("checkpoint_sha256") not in (None, seal):
        raise DataError(
            f"{folder} is sealed as {seal[:16]}, not as {str(data['checkpoint_sha256'])[:16]}: "
            "another checkpoint than the one that was asked for"
        )
    return {**laid_over(base, data), "checkpoint": str(folder), "checkpoint_sha256": seal}


def laid_over(base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over those of a training, table by table.

    Another source of problems brings its own columns, files and grading, which mean nothing in
    another; of the training it keeps the prompt, where that is more than the bare problem.
    """
    asked, known = data.get("problems"), base.get("problems", {})
    source = known.get("source")
    if isinstance(asked, Mapping) and asked.get("source", source) != source:
        template = known.get("prompt_template", _PLAIN)
        kept = {} if template == _PLAIN else {"prompt_template": template}
        base = {**base, "problems": kept}
    return merge(base, data)


def changes(config: EvaluateConfig, training: TrainConfig) -> list[str]:
    """Return in words what this evaluation does otherwise than the training's own.

    What depends on the machine's share alone, such as `policy.sample_rows`, is named too.
    """
    have, had = dict(_flat(settings_of(config.as_training))), dict(_flat(settings_of(training)))
    keys = [*had, *(key for key in have if key not in had)]
    return [
        f"{key} = {_word(have.get(key))} (the run: {_word(had.get(key))})"
        for key in keys
        if have.get(key) != had.get(key)
    ]


def _backend_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the backend's defaults of what an evaluation can set."""
    known = {key: data[key] for key in ("backend", "model") if key in data}
    found = with_backend_defaults(known)
    asked = found.pop("evaluation", {})
    held_out = {key: value for key, value in asked.items() if key in HeldOutConfig.model_fields}
    return {**{key: found[key] for key in SHARED if key in found}, "evaluation": held_out}


def _flat(table: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    for key, value in table.items():
        here = f"{path}.{key}" if path else key
        entries += _flat(value, here) if isinstance(value, Mapping) else [(here, value)]
    return entries


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
