"""Everything that changes while a model is trained: built, restored to the bit, and saved.

Knows which parts a training has and what a checkpoint must hold. Refuses to know the algorithm:
`train` has it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cupel.arc.checkpoints import load_decoder, restore_checkpoint, write_checkpoint
from cupel.arc.config import ArcTrainConfig
from cupel.arc.diagnostics import Window
from cupel.arc.ema import Ema
from cupel.arc.fixed_items import evaluation_items, probe_items
from cupel.arc.forecast import views_of
from cupel.arc.items import Item, ItemStream
from cupel.arc.model import ARCModel
from cupel.arc.optimizer import build_optimizer
from cupel.arc.ranks import SharedStream, own_slots
from cupel.arc.slots import Batch, SlotPool
from cupel.arc.views import Views
from cupel.errors import DataError
from cupel.lab.checkpoint import Checkpoint
from cupel.lab.metrics import Scalar
from cupel.lab.randomness import Randomness
from cupel.lab.ranks import Ranks
from cupel.lab.recipe import RunContext

OTHER_RANKS = "other_ranks.pt"


@dataclass(slots=True, kw_only=True)
class TrainState:
    """One training in one process.

    Attributes:
        pools: the slots, by canvas side.
        source: where the slots get their items; the same in every process.
        updates: updates done.
        history: what the health check reads of the rows so far.
        latest: values of the last evaluation.
    """

    model: ARCModel
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    pools: Mapping[int, SlotPool]
    source: SharedStream
    views: Views
    window: Window
    ranks: Ranks
    device: torch.device
    updates: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    latest: dict[str, Scalar] = field(default_factory=dict)
    clock: float = field(default_factory=time.perf_counter)

    @property
    def items(self) -> ItemStream:
        """The stream of training items."""
        return self.source.stream

    @property
    def num_params(self) -> int:
        """Parameters of the encoder and the decoder."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def open_state(config: ArcTrainConfig, context: RunContext) -> TrainState:
    """Build everything from the seed; restore it when resuming."""
    ranks = context.ranks
    torch.set_num_threads(context.slot.threads)
    resume: Checkpoint | None = ranks.share(context.resume)
    device, views = torch.device(context.slot.device), views_of(config)
    model = ARCModel(config.model, generator=generator_of(context.randomness, "init"))
    if config.load_pretrained_decoder is not None and resume is None:
        _load_decoder(config, model, context)
    model.to(device)
    items = ItemStream(views.train_groups, context.seed, config.items)
    slots = own_slots(ranks, config.global_batch_size)
    state = TrainState(
        model=model,
        optimizer=build_optimizer(model.encoder_parameters(), model.inner_parameters(), config),
        ema=Ema(model, rate=config.ema_rate) if config.ema else None,
        pools={side: SlotPool(slots=slots, side=side, device=device) for side in items.sides},
        source=SharedStream(items, ranks, device),
        views=views,
        window=Window(device),
        ranks=ranks,
        device=device,
    )
    if resume is not None:
        _restore(state, resume)
    elif ranks.is_first:
        _describe(state, config, context)
    if config.compile:
        model.compile_core()
    return state


def refill(state: TrainState, pool: SlotPool) -> Batch:
    """Give a pool's halted slots their next items, the same as one process would."""
    carry = pool.carry
    wanted = pool.slots if carry is None else int(carry.halted.sum())
    state.source.announce(wanted, pool.side)
    return pool.refill(state.source)


def generator_of(
    randomness: Randomness, purpose: str, *counters: int, device: torch.device | None = None
) -> torch.Generator:
    """Return a torch generator that depends on the seed, a purpose and counters alone."""
    seed = int(randomness.generator(purpose, *counters).integers(2**62))
    return torch.Generator(device=device or "cpu").manual_seed(seed)


def save(state: TrainState, config: ArcTrainConfig, context: RunContext) -> None:
    """Write a checkpoint from which the run continues to the same bytes."""
    own = {
        "pools": {side: pool.state() for side, pool in state.pools.items()},
        "window": state.window.sums,
    }
    others = state.ranks.gather(own)[1:]
    if not state.ranks.is_first:
        return

    def write(folder: Path) -> None:
        write_checkpoint(
            folder,
            model=state.model,
            ema=state.ema,
            optimizer=state.optimizer,
            pools=state.pools,
            streams={"items": state.items.state(), "window": state.window.sums},
            config=config,
        )
        if others:
            torch.save(others, folder / OTHER_RANKS)

    counters = {"updates": state.updates, "history": state.history, "latest": state.latest}
    context.checkpoints.save(state.updates, write, {**counters, "ranks": state.ranks.count})


def probe_of(state: TrainState, config: ArcTrainConfig) -> list[Item]:
    """Return the fixed queries on the training groups."""
    return list(probe_items(state.views.train_probe[: config.probe_groups], 1, 0, config.sides))


def heldout_of(state: TrainState, config: ArcTrainConfig) -> list[Item]:
    """Return the test inputs of held-out puzzles whose answers are known."""
    solved = [puzzle for puzzle in state.views.heldout if puzzle.solved]
    known = {puzzle.id: number for number, puzzle in enumerate(state.views.train_groups)}
    items = evaluation_items(solved, 1, 0, config.sides)
    return [replace(item, puzzle_index=known.get(item.puzzle_id, -1)) for item in items]


def contamination_of(state: TrainState, config: ArcTrainConfig) -> str:
    """Say whether held-out puzzles were learned from; unknown with a decoder from elsewhere."""
    label: str = state.views.contamination
    known = label == "contaminated" or config.load_pretrained_decoder is None
    return label if known else "unknown"


def _restore(state: TrainState, resume: Checkpoint) -> None:
    folder, saved = resume.folder, resume.state
    if saved["ranks"] != state.ranks.count:
        raise DataError(
            f"{folder}: was written by {saved['ranks']} processes, this run has "
            f"{state.ranks.count}; resume with as many"
        )
    streams = restore_checkpoint(
        folder, model=state.model, ema=state.ema, optimizer=state.optimizer, pools=state.pools
    )
    state.items.restore(streams["items"])
    window = streams["window"]
    if not state.ranks.is_first:
        own = torch.load(folder / OTHER_RANKS, map_location="cpu", weights_only=True)
        own = own[state.ranks.index - 1]
        window = own["window"]
        for side, pool in state.pools.items():
            pool.restore(own["pools"][side])
    state.window.sums.copy_(window)
    state.updates = saved["updates"]
    state.history, state.latest = list(saved["history"]), dict(saved["latest"])


def _load_decoder(config: ArcTrainConfig, model: ARCModel, context: RunContext) -> None:
    path = Path(config.load_pretrained_decoder or "")
    loaded = load_decoder(
        path,
        model,
        which=config.pretrained_decoder_weights,
        architecture_of_file=config.core if config.trust_pretrained_decoder else None,
    )
    context.recorder.event(
        f"decoder from {path.name}: {len(loaded.loaded)} tensors, weights {loaded.which}; left "
        f"alone: {len(loaded.dropped)}"
    )


def _describe(state: TrainState, config: ArcTrainConfig, context: RunContext) -> None:
    parts = {"encoder": state.model.encoder_parameters(), "inner": state.model.inner_parameters()}
    sizes = ", ".join(f"{name} {sum(p.numel() for p in ps):,}" for name, ps in parts.items())
    counts = ", ".join(f"{key} {value}" for key, value in state.views.counts().items())
    items = ", ".join(f"side {side}: {n}" for side, n in state.items.epoch_size.items())
    context.recorder.event(
        f"model: {type(state.model.encoder).__name__} ({config.encoder.kind}), parameters: {sizes}"
    )
    context.recorder.event(f"views: {counts}; queries a pass: {items}")
    if state.items.skipped:
        context.recorder.event(f"too few pairs to learn from: {', '.join(state.items.skipped)}")
    if state.ranks.count > 1:
        context.recorder.event(f"{state.ranks.count} processes train together")
