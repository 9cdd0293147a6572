"""What can be evaluated by name: a training run, one of its checkpoints, its start, or a model.

Knows how a path is told from a model's name, and which settings each brings along. Refuses to
guess: what is neither is an error that says what it looked for. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cupel.config import nearest
from cupel.errors import ConfigError, DataError
from cupel.rlvr.evaluation_config import laid_over, settings_of
from cupel.rlvr.trained import (
    Training,
    find_checkpoint,
    is_checkpoint,
    kept_checkpoints,
    open_training,
    recipe_of,
    training_of,
)

Which = Literal["last", "all"] | int
"""The newest checkpoint of a run, every one it kept, or that of one step; 0: its start."""

MODELS_HOME = Path("logs/evaluate")
"""Where evaluations of models stand, which have no run folder of their own."""

_MODEL_MARKS = ("config.json", "adapter_config.json")
_OF_THE_MODEL = ("backend", "model", "policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing to evaluate.

    Attributes:
        name: for the screen.
        label: name of the evaluation's folder, before its id.
        settings: of `rlvr.evaluate`, before anything the user passed.
        seed: the training's own, under which its evaluations were sampled; None for a model.
        home: the folder in which evaluations of it stand.
        training: None for a model.
        note: what a reader should know of it beside its name; empty when nothing.
    """

    name: str
    label: str
    settings: Mapping[str, Any]
    seed: int | None
    home: Path
    training: Training | None
    note: str = ""

    def passed(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings to plan with: the target's, and over them what the user passed."""
        if "checkpoint" in self.settings:
            return {**overrides, **self.settings}
        return laid_over(self.settings, overrides)


def find_targets(texts: Sequence[str], which: Which | None) -> list[Target]:
    """Resolve names; models are asked as the first training among them was.

    Args:
        which: checkpoint of every run named; None: the newest.

    Raises:
        DataError: nothing has the name, a run kept no checkpoint, or not that one.
        ConfigError: `which` with something that has no checkpoints to choose from.
    """
    like = next((found for found in map(_training_in, texts) if found is not None), None)
    return [target for text in texts for target in _targets(text, which, like)]


def _targets(text: str, which: Which | None, like: Training | None) -> list[Target]:
    path = Path(text)
    if is_checkpoint(path):
        _refuse_choice(which, text, "one checkpoint already")
        return [_checkpoint_target(training_of(path), path)]
    if recipe_of(path) is not None:
        training = open_training(path)
        if which == 0:
            return [_start_target(training)]
        if which == "all":
            kept = kept_checkpoints(training)
            return [_checkpoint_target(training, folder) for folder in kept.values()]
        if isinstance(which, int):
            return [_checkpoint_target(training, find_checkpoint(path, which))]
        return [_checkpoint_target(training, find_checkpoint(path), newest=True)]
    _refuse_choice(which, text, "no training run")
    return [_model_target(text, like)]


def _training_in(text: str) -> Training | None:
    path = Path(text)
    if is_checkpoint(path):
        return training_of(path)
    return open_training(path) if recipe_of(path) is not None else None


def _checkpoint_target(training: Training, folder: Path, *, newest: bool = False) -> Target:
    step = int(folder.name.removeprefix("step_"))
    last = training.config.max_steps
    behind = f"the run ends at step {last}, its newest checkpoint is of step {step}"
    return Target(
        name=f"{training.folder} step {step}",
        label=folder.name,
        settings={"checkpoint": str(folder)},
        seed=training.seed,
        home=training.folder / "evaluations",
        training=training,
        note=behind if newest and step < last else "",
    )


def _start_target(training: Training) -> Target:
    return Target(
        name=f"{training.folder} step 0",
        label="step_000000",
        settings=settings_of(training.config),
        seed=training.seed,
        home=training.folder / "evaluations",
        training=training,
    )


def _model_target(text: str, like: Training | None) -> Target:
    named = {"backend": text} if text in ("tiny", "toy") else {"backend": "torch", "model": text}
    if named["backend"] == "torch":
        _refuse_mistyped(text)
    asked: dict[str, Any] = {}
    if like is not None:
        asked = {k: v for k, v in settings_of(like.config).items() if k not in _OF_THE_MODEL}
    return Target(
        name=text,
        label=re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "model",
        settings={**asked, **named},
        seed=None if like is None else like.seed,
        home=MODELS_HOME,
        training=None,
        note="" if like is None else f"asked as {like.folder} was",
    )


def _refuse_choice(which: Which | None, text: str, what: str) -> None:
    if which is not None:
        raise ConfigError(f"--checkpoint {which} with {text}, which is {what}; leave it out")


def _refuse_mistyped(text: str) -> None:
    """Let a hub id `owner/name` pass, and a folder that holds a model or adapters.

    Raises:
        DataError: it is neither.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        if not any((path / mark).is_file() for mark in _MODEL_MARKS):
            raise DataError(
                f"{text}: neither a run folder, nor a checkpoint, nor a model or adapter folder "
                f"(no run.json, state.json, {', '.join(_MODEL_MARKS)} in it)"
            )
        return
    owner, _, name = text.partition("/")
    is_hub_id = bool(owner) and bool(name) and "/" not in name and not Path(owner).exists()
    if not is_hub_id or text.startswith((".", "~")):
        there = [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else []
        match = nearest(path.name, there)
        hint = f"; did you mean '{path.parent / match}'?" if match is not None else ""
        raise DataError(
            f"{text}: no such run, checkpoint or model folder; 'tiny', 'toy' and hub ids "
            f"(owner/name) are allowed too{hint}"
        )
