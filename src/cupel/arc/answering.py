"""Answering without training: a fixed number of steps, or until every slot would halt.

Knows how to run a model's steps over a batch. Refuses to know votes, metrics and labels. The
demonstrations do not change from step to step, so they are encoded once, unless the encoder
itself is recurrent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cupel.arc.encoders import Encoded
from cupel.arc.halting import Carry
from cupel.arc.model import ARCModel, StepOutput
from cupel.arc.model_config import VOCABULARY
from cupel.arc.slots import Batch
from cupel.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model answers to B queries, each at the step it stopped.

    Attributes:
        logits: [B, S, 12] float32.
        q_halt: [B] float32.
        steps: [B] int32, steps taken.
    """

    logits: Tensor
    q_halt: Tensor
    steps: Tensor

    @property
    def tokens(self) -> Tensor:
        """Most likely token of every cell [B, S]."""
        return self.logits.argmax(dim=-1)


def unroll(
    model: ARCModel, batch: Batch, steps: int, *, context: Tensor | None = None
) -> Iterator[StepOutput]:
    """Yield the output of each of `steps` steps of fresh slots, in evaluation mode, no gradient.

    Args:
        context: used at every step instead of the encoder's (swapped or zero contexts).

    Raises:
        ConfigError: fewer than one step.
    """
    if steps < 1:
        raise ConfigError(f"unroll: {steps} steps; take at least 1 (halt_max_steps)")
    carry, given = model.start(batch), context
    for _ in range(steps):
        output = _step(model, batch, carry, context)
        carry, context = output.carry, _context_to_keep(output) if given is None else given
        yield output


def answer(
    model: ARCModel, batch: Batch, *, halt_max_steps: int, early_exit: bool = False
) -> Answers:
    """Answer every query.

    Args:
        early_exit: a query stops at the first step whose halt value is positive, and the batch
            goes on without it; otherwise every query takes `halt_max_steps` steps.

    Raises:
        ConfigError: `halt_max_steps` is below 1.
    """
    if early_exit:
        return _answer_early(model, batch, halt_max_steps)
    *_, last = unroll(model, batch, halt_max_steps)
    return Answers(logits=last.logits.float(), q_halt=last.q_halt, steps=last.carry.steps)


def _answer_early(model: ARCModel, batch: Batch, most: int) -> Answers:
    """Drop every query once it halts; one read-back a step."""
    if most < 1:
        raise ConfigError(f"answer: {most} steps; take at least 1 (halt_max_steps)")
    device = batch.query.device
    slots = torch.arange(batch.n_slots, device=device)
    logits = torch.zeros(*batch.query.shape, VOCABULARY, device=device)
    q_halt = torch.zeros(batch.n_slots, device=device)
    steps = torch.zeros(batch.n_slots, dtype=torch.int32, device=device)
    carry, context = model.start(batch), None
    for step in range(1, most + 1):
        output = _step(model, batch, carry, context)
        done = output.q_halt > 0 if step < most else torch.ones_like(output.q_halt).bool()
        stopped = slots[done]
        logits[stopped] = output.logits[done].float()
        q_halt[stopped] = output.q_halt[done]
        steps[stopped] = step
        left = (~done).nonzero().flatten()
        if left.numel() == 0:
            break
        slots, carry = slots[left], output.carry
        context = _context_to_keep(output)
        if left.numel() < batch.n_slots:
            batch, carry = batch.select(left.tolist()), carry.select(left)
            context = None if context is None else context[left]
    return Answers(logits=logits, q_halt=q_halt, steps=steps)


def _step(model: ARCModel, batch: Batch, carry: Carry, context: Tensor | None) -> StepOutput:
    encoded = None if context is None else Encoded(context=context)
    with _encoder_evaluating(model), torch.no_grad():
        output: StepOutput = model(batch, carry, encoded=encoded)
    return output


def _context_to_keep(output: StepOutput) -> Tensor | None:
    return output.context if output.carry.encoder is None else None


@contextmanager
def _encoder_evaluating(model: ARCModel) -> Iterator[None]:
    """Take latents at their mean; the core has no training mode."""
    training = model.encoder.training
    model.encoder.eval()
    try:
        yield
    finally:
        model.encoder.train(training)
