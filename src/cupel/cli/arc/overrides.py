"""Settings as `key=value` words, under our names or under those of the ETRM and TRM repositories.

Pure. Knows which of our settings a Hydra key of those repositories means, and in which other words
its values were said. Refuses to drop a key: what has no counterpart is refused with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cupel.arc.encoder_config import ENCODER_KINDS
from cupel.config import did_you_mean, merge, parse_value, setting_fields
from cupel.errors import ConfigError

if TYPE_CHECKING:
    from cupel.config import Config

PROJECT, RUN = "project_name", "run_name"

ALIASES: Mapping[str, str] = {
    "encoder_type": "encoder.kind",
    "recurrent_encoder_type": "encoder.kind",
    "encoder_num_layers": "encoder.num_layers",
    "encoder_pooling_method": "encoder.pooling",
    "encoder_set_layers": "encoder.set_layers",
    "encoder_layer_scale_init": "encoder.layer_scale_init",
    "encoder_norm_style": "encoder.norm",
    "encoder_qk_norm": "encoder.qk_norm",
    "encoder_h_cycles": "encoder.h_cycles",
    "encoder_l_cycles": "encoder.l_cycles",
    "encoder_l_layers": "encoder.l_layers",
    "lpn_latent_dim": "encoder.latent_dim",
    "kl_weight": "encoder.kl_weight",
    "puzzle_emb_len": "n_context",
    "encoder_freeze_steps": "freeze_encoder_steps",
    "halt_explore_prob": "halt_exploration_prob",
    "eval_interval": "eval_every",
    "log_predictions_max_samples": "prediction_samples",
}
"""Keys of those repositories that are named otherwise here; `arch.` and `arch.loss.` in front of
them are dropped first."""

WORDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "encoder_type": {
        "lpn_var": {"kind": "lpn", "variational": True},
        "lpn_standard": {"kind": "lpn"},
        "lpn_variational": {"kind": "lpn", "variational": True},
        "hybrid_standard": {"kind": "hybrid"},
        "hybrid_variational": {"kind": "hybrid", "variational": True},
    },
    "recurrent_encoder_type": {
        "trm_style": {"kind": "recurrent"},
        "recurrent_standard": {"kind": "recurrent"},
    },
}
"""Values of those repositories that are several settings of the encoder here."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "loss_type": {"stablemax_cross_entropy": "stablemax", "softmax_cross_entropy": "softmax"},
}

WITHOUT: Mapping[str, str] = {
    "data_paths": "there is no prebuilt data set; name the puzzles with source.train",
    "data_paths_test": "there is no prebuilt data set; name the puzzles with source.evaluation",
    "evaluators": "voting is always on: cupel arc evaluate",
    "H_layers": "it did nothing: one stack updates both states",
    "freeze_encoder": "it froze a random encoder; freeze_encoder_steps=N does so for N updates",
    "checkpoint_every_eval": "checkpoints are written every save_every updates",
    "log_predictions_every": "predictions are kept at every evaluation: eval_every",
    "log_predictions_crop": "predictions are always cropped",
    "pos_encodings": "positions are rotary; rope=1d numbers them as that repository does, rope=2d "
    "by row and column",
    "freeze_weights": "it did nothing; use freeze_decoder_steps or freeze_encoder_steps",
    "puzzle_emb_ndim": "for a learned table a puzzle use encoder.kind=embedding",
    "mlp_t": "this variant was made for Sudoku; attention is used",
    "no_ACT_continue": "the continue value is never trained",
    "checkpoint_path": "a checkpoint lies in its run folder; choose it with --log-dir",
    "load_checkpoint": "continue a run with --resume, or start from load_pretrained_decoder",
    "epochs": "training is counted in updates, where the schedule ends too: max_steps",
    "min_eval_interval": "evaluate a run when you want: cupel arc evaluate",
    "eval_save_outputs": "every prediction is kept in predictions.jsonl",
    "name": "the model is named by encoder.kind; no script or class decides it",
}
"""Keys of those repositories that mean nothing here, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What `key=value` words asked for.

    Attributes:
        settings: a nested table of our settings, holding nothing else.
        project, run: names of the run folder, None where not given.
        seed: the run's seed, None where not given.
    """

    settings: dict[str, Any]
    project: str | None
    run: str | None
    seed: int | None


def read_overrides(words: Sequence[str], config_type: type[Config]) -> Overrides:
    """Read `key=value` words; a leading `+` or `++`, as Hydra wants for new keys, changes nothing.

    Raises:
        ConfigError: a word without `=`, an unknown key, a key without counterpart, two settings for
            one key, or a seed that is no whole number.
    """
    paths = [path for path, _ in setting_fields(config_type)]
    settings: dict[str, Any] = {}
    given: dict[str, str] = {}
    names: dict[str, Any] = {}
    for word in words:
        key, text = _split(word)
        if key in (PROJECT, RUN, "seed"):
            names[key] = parse_value(text)
            continue
        for path, value in _meaning(key, text, paths):
            if path in given:
                raise ConfigError(f"{word}: {path} was set before, by {given[path]}; drop one")
            given[path] = word
            settings = merge(settings, _nested(path, value))
    return Overrides(
        settings=settings,
        project=_name(names.get(PROJECT)),
        run=_name(names.get(RUN)),
        seed=_seed(names.get("seed")),
    )


def words_of(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a nested table of settings as the `key=value` words that give it.

    >>> list(words_of({"lr": 0.001, "encoder": {"kind": "set"}}))
    ['lr=0.001', 'encoder.kind=set']
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from words_of(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{prefix}{name}={text}"


def _meaning(key: str, text: str, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that one word stands for."""
    bare = key.removeprefix("arch.").removeprefix("loss.")
    if bare in WORDS and (bare != "encoder_type" or text not in ENCODER_KINDS):
        if text not in WORDS[bare]:
            raise ConfigError(f"{key}={text}: {did_you_mean(text, list(WORDS[bare]))}")
        for name, value in WORDS[bare][text].items():
            yield find_setting(f"encoder.{name}", paths), value
        return
    path = find_setting(key, paths)
    yield path, VALUES.get(bare, {}).get(text, parse_value(text))


def find_setting(key: str, paths: Sequence[str]) -> str:
    """Return the dotted path of the setting that a key means.

    In this order: our own path; an alias; the only setting whose last word it is.

    Raises:
        ConfigError: no setting, several, or one that has no counterpart here.
    """
    if key in paths:
        return key
    bare = key.removeprefix("arch.").removeprefix("loss.")
    wanted = ALIASES.get(bare, bare)
    if wanted in paths:
        return wanted
    ending = [path for path in paths if path.endswith(f".{wanted}")]
    if len(ending) == 1:
        return ending[0]
    if len(ending) > 1:
        raise ConfigError(f"{key}: which of {', '.join(ending)}? Give the whole path")
    if bare in WITHOUT:
        raise ConfigError(f"{key} has no counterpart: {WITHOUT[bare]}")
    last_words = [path.rpartition(".")[2] for path in paths]
    raise ConfigError(f"unknown setting '{key}'; {did_you_mean(bare, [*paths, *last_words])}")


def _split(word: str) -> tuple[str, str]:
    key, separator, text = word.partition("=")
    key = key.strip()
    if key.startswith("~"):
        raise ConfigError(f"{word!r}: a setting cannot be removed; leave it out, or set it")
    if not separator or not key:
        raise ConfigError(f"{word!r}: expected key=value, e.g. max_train_groups=32")
    return key.lstrip("+"), text.strip()


def _nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: None if value == "null" else value}
    result: dict[str, Any] = value
    return result


def _name(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    if not text or any(part in ("", ".", "..") for part in text.split("/")):
        raise ConfigError(f"{text!r} cannot name a run folder")
    return text


def _seed(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ConfigError(f"seed = {value!r}: a seed is a whole number >= 0")
    return value
