"""What a training would cost and imply, told before anything runs.

Looks at the settings and at the puzzles they name; builds no model and imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupel.arc.config import ArcTrainConfig
from cupel.arc.items import ItemStream
from cupel.arc.presets import preset
from cupel.arc.puzzles import load_puzzles
from cupel.arc.views import Views, make_views
from cupel.config import merge, validate
from cupel.errors import PlanError
from cupel.lab.recipe import Forecast


def views_of(config: ArcTrainConfig) -> Views:
    """Load the puzzles and name the three views.

    Raises:
        DataError: a source cannot be read, or leaks into the held-out puzzles.
    """
    return make_views(
        load_puzzles(config.source),
        max_train_groups=config.max_train_groups,
        max_eval_groups=config.max_eval_groups,
        max_side=config.max_side,
        order_seed=config.order_seed,
        train_on_heldout_demos=config.train_on_heldout_demos,
    )


def prepare(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lay a preset under the settings, where one is named, and count an embedding's rows.

    Raises:
        ConfigError: no such preset, or the settings are not valid.
        DataError: the puzzles cannot be read.
    """
    if "preset" in data:
        rest = {key: value for key, value in data.items() if key != "preset"}
        data = merge(preset(str(data["preset"])), rest)
    encoder = data.get("encoder")
    if not isinstance(encoder, Mapping) or encoder.get("kind") != "embedding":
        return data
    if encoder.get("num_puzzles"):
        return data
    config = validate(ArcTrainConfig, data, where="settings")
    rows = len(views_of(config).train_groups)
    return merge(data, {"encoder": {"num_puzzles": rows}})


def forecast(config: ArcTrainConfig) -> Forecast:
    """Return cost bounds, notes and warnings.

    Raises:
        DataError: the puzzles cannot be read, or none can be learned from.
        PlanError: the decoder to start from is not there.
    """
    decoder = config.load_pretrained_decoder
    if decoder is not None and not Path(decoder).exists():
        raise PlanError(
            f"load_pretrained_decoder = {decoder}: no such file or folder; name a checkpoint of a "
            "training, e.g. with --set config.load_pretrained_decoder=RUN/checkpoints/step_N"
        )
    views = views_of(config)
    items = ItemStream(views.train_groups, 0, config.items)
    a_pass = sum(items.epoch_size.values())
    least = config.max_steps * config.global_batch_size / config.halt_max_steps
    notes = [
        ", ".join(f"{key} {value}" for key, value in views.counts().items()),
        f"{a_pass} queries a pass on canvases {', '.join(map(str, items.sides))}; at least "
        f"{least / a_pass:.1f} passes, more as items halt early",
    ]
    warnings = []
    if items.skipped:
        warnings.append(f"{len(items.skipped)} puzzles have too few pairs to learn from")
    if config.freeze_decoder_steps >= config.max_steps:
        notes.append("the decoder stays frozen to the end")
    if config.freeze_encoder_steps >= config.max_steps:
        warnings.append("the encoder is never trained: whatever it says is random")
    if config.lr_warmup_steps >= config.max_steps:
        warnings.append(
            f"lr_warmup_steps = {config.lr_warmup_steps} with max_steps = {config.max_steps}: the "
            "learning rate stays below lr to the end; shorten the warm-up"
        )
    if config.ema and config.max_steps * (1 - config.ema_rate) < 3:
        warnings.append(
            f"ema_rate = {config.ema_rate:g} over {config.max_steps} updates evaluates weights "
            "close to the initial ones; lower it, or set ema = false"
        )
    return Forecast(
        costs={
            "steps": config.max_steps,
            "slot_steps": config.max_steps * config.global_batch_size,
        },
        notes=notes,
        warnings=warnings,
    )
