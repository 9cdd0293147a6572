"""The training loop of recursive models on ARC, and its recipe.

Reads like the algorithm: choose a canvas side, refill the slots that halted, take one step of the
recursion, one update, decide who halts. Whatever has a formula stands in a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cupel.arc.config import ArcTrainConfig
from cupel.arc.diagnostics import Update, UpdateRatio, context_statistics, gradient_coverage
from cupel.arc.forecast import forecast, prepare
from cupel.arc.halting import halt, halting_draws, out_of_phase
from cupel.arc.losses import sequence_losses, total_loss
from cupel.arc.metrics import EVALUATIONS, METRICS
from cupel.arc.optimizer import GradientNorms, clip_gradients, prepare_update, reduce_gradients
from cupel.arc.records import PREDICTIONS, conclude, log_evaluation, log_row
from cupel.arc.sides import choose_side
from cupel.arc.train_state import TrainState, generator_of, open_state, refill, save
from cupel.lab.metrics import Metric
from cupel.lab.recipe import Forecast, Result, RunContext


class TrainRecipe:
    """`arc.train`: one training of an encoder and a recursive decoder."""

    name = "arc.train"
    together = True
    config_type = ArcTrainConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": METRICS,
        "evaluations.jsonl": EVALUATIONS,
        PREDICTIONS: None,
    }
    preload = ("torch", "torch._dynamo", "cupel.arc.train")

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Lay a named `preset` under the settings; count the rows of a learned embedding."""
        return prepare(data)

    def forecast(self, config: ArcTrainConfig) -> Forecast:
        """Bound the cost of a run; refuse data that cannot be read."""
        return forecast(config)

    def run(self, config: ArcTrainConfig, context: RunContext) -> Result:
        """Train to the last update, evaluating on the way."""
        return train(config, context)


RECIPE = TrainRecipe()


def train(config: ArcTrainConfig, context: RunContext) -> Result:
    """Run the training loop from the start or from the checkpoint in `context`."""
    state = open_state(config, context)
    while state.updates < config.max_steps:
        train_step(state, config, context)
        at_end = state.updates == config.max_steps
        if at_end or _every(config.eval_every, state.updates):
            log_evaluation(state, config, context)
        if at_end or _every(config.save_every, state.updates):
            save(state, config, context)
    return conclude(state, config, context)


def train_step(state: TrainState, config: ArcTrainConfig, context: RunContext) -> None:
    """Take one step of the recursion in every slot of one side, and one update."""
    update = state.updates + 1
    model, optimizer, ranks = state.model, state.optimizer, state.ranks
    logs = update % config.log_every == 0 or update == config.max_steps

    side = choose_side(state.items, context.randomness, update)
    pool = state.pools[side]
    batch = refill(state, pool)
    rates = prepare_update(optimizer, update, total_steps=config.max_steps, config=config)
    noise = generator_of(context.randomness, "arc.latent", update, ranks.index, device=state.device)
    output = model(batch, pool.carry, generator=noise)
    losses = sequence_losses(output.logits, output.q_halt, batch.label, loss_type=config.loss_type)
    loss = total_loss(
        losses,
        output.encoder_losses,
        q_halt_weight=config.q_halt_weight,
        encoder_weights=config.encoder.loss_weights(),
    )
    watched = _watch(output.context) if logs else None
    torch.autograd.backward(loss)
    norms = reduce_and_clip(state, config)
    ratios = _ratios(state) if logs else {}
    optimizer.step()
    if state.ema is not None:
        state.ema.update()
    carry, first_slot = output.carry, ranks.index * pool.slots
    if pool.carry is None and config.out_of_phase:
        every = pool.slots * ranks.count
        carry = out_of_phase(carry, most=config.halt_max_steps, first_slot=first_slot, slots=every)
    draws = halting_draws(
        context.randomness, step=update, side=side, slots=pool.slots, first_slot=first_slot
    )
    carry = halt(carry, output.q_halt, draws.to(state.device), config)
    pool.settle(carry)

    state.updates = update
    state.window.add(
        Update(
            losses=losses,
            carry=carry,
            q_halt_B=output.q_halt,
            loss=loss,
            kl_B=output.encoder_losses.get("kl"),
            norms=norms,
        )
    )
    if logs:
        snapshot: dict[str, Tensor | None] = {
            **context_statistics(output.context),
            "gradient_coverage": gradient_coverage(None if watched is None else watched.grad),
            **{name: ratio.measure() for name, ratio in ratios.items()},
        }
        log_row(state, config, context, rates, snapshot)


def reduce_and_clip(state: TrainState, config: ArcTrainConfig) -> GradientNorms:
    """Average the gradients over all processes, then clip; the only place where ranks meet them."""
    if state.ranks.count > 1:
        reduce_gradients(state.optimizer, ranks=state.ranks.count, sum_over_ranks=state.ranks.sum)
    return clip_gradients(state.optimizer, config.grad_clip_norm)


def _every(interval: int, updates: int) -> bool:
    return interval > 0 and updates % interval == 0


def _watch(context: Tensor) -> Tensor | None:
    """Keep the gradient of the encoder's output, to see which slots gave it one."""
    if not context.requires_grad:
        return None
    context.retain_grad()
    return context


def _ratios(state: TrainState) -> dict[str, UpdateRatio]:
    return {
        "update/encoder_ratio": UpdateRatio(state.model.encoder_parameters()),
        "update/inner_ratio": UpdateRatio(state.model.inner_parameters()),
    }


if __name__ == "__main__":
    from cupel.arc.launch import main

    main()
