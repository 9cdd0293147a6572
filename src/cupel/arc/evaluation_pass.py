"""One batch of an evaluation: test inputs in, what the model answered out.

Knows how to run a model without training: demonstrations encoded once per (puzzle, augmentation),
then a fixed number of steps, or until every query would halt. Refuses to know votes and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.arc.encoders.contract import Encoded
from cupel.arc.halting import Carry
from cupel.arc.items import Item
from cupel.arc.losses import sequence_losses
from cupel.arc.model import ARCModel
from cupel.arc.model_config import LossKind
from cupel.arc.slots import Batch, collate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the model answered to one item.

    Losses and counts are over the item's labelled cells, and None where its answer is not known.

    Attributes:
        tokens: most likely token of every cell [S], at the last step taken.
        q: probability, by the halting head, that they are right.
        steps: steps taken.
        halted_at: first step whose halt value was positive; None: never, the end was forced.
        exact_at_halt: every labelled cell right at that step (at the last one, where forced).
        halt_right: the halting head was right about `exact`.
    """

    item: Item
    tokens: NDArray[np.uint8]
    q: float
    steps: int
    halted_at: int | None
    accuracy: float | None
    exact: bool | None
    exact_at_halt: bool | None
    lm_loss: float | None
    q_halt_loss: float | None
    halt_right: bool | None


@dataclass(slots=True, kw_only=True)
class _Record:
    """What is known of B items so far, on the device; read back once, at the end."""

    tokens: Tensor
    values: Tensor
    halted_at: Tensor
    exact_at_halt: Tensor
    labelled: Tensor


def answer_items(
    model: ARCModel,
    items: Sequence[Item],
    *,
    steps: int,
    early_exit: bool = False,
    loss_type: LossKind = "stablemax",
    device: torch.device | None = None,
) -> list[Outcome]:
    """Answer items of one canvas side.

    Args:
        early_exit: an item stops at the first step whose halt value is positive; its answer, q and
            losses are those of that step.

    Raises:
        DataError: no items, or items of several sides.
    """
    side = max((item.side for item in items), default=0)
    batch = collate(items, side, device=device)
    record = _blank(batch)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            _run(model, batch, record, steps, early_exit=early_exit, loss_type=loss_type)
    finally:
        model.train(was_training)
    return _read_back(record, items)


def share_encoding(model: ARCModel, batch: Batch) -> Encoded:
    """Encode the demonstrations of every (puzzle, augmentation) once, for all its test inputs."""
    keys = [(item.puzzle_id, item.augmentation, item.demo_indices) for item in batch.items]
    first = {key: slot for slot, key in reversed(list(enumerate(keys)))}
    shown = sorted(first.values())
    if len(shown) == batch.n_slots:
        return model.encode(batch)
    place = {slot: row for row, slot in enumerate(shown)}
    rows = torch.tensor([place[first[key]] for key in keys], device=batch.query.device)
    encoded = model.encode(batch.select(shown))
    return Encoded(
        context=encoded.context[rows],
        carry=None if encoded.carry is None else encoded.carry[rows],
    )


def _run(
    model: ARCModel,
    batch: Batch,
    record: _Record,
    steps: int,
    *,
    early_exit: bool,
    loss_type: LossKind,
) -> None:
    """Take the steps, writing every running item's latest answer into the record."""
    rows = torch.arange(batch.n_slots, device=batch.query.device)
    encoded = share_encoding(model, batch)
    carry: Carry | None = None
    for step in range(1, steps + 1):
        if carry is not None and encoded.carry is not None:
            encoded = model.encode(batch, encoded.carry)
        output = model(batch, carry, encoded=encoded)
        carry = output.carry
        losses = sequence_losses(output.logits, output.q_halt, batch.label, loss_type=loss_type)
        halts = (output.q_halt > 0) | (step == steps)
        newly = halts & (record.halted_at[rows] == 0)
        record.exact_at_halt[rows] = torch.where(newly, losses.exact_B, record.exact_at_halt[rows])
        forced = torch.where(output.q_halt > 0, step, -step)
        record.halted_at[rows] = torch.where(newly, forced, record.halted_at[rows])
        record.tokens[rows] = output.logits.argmax(dim=-1).to(torch.uint8)
        record.values[rows] = torch.stack(
            [
                torch.sigmoid(output.q_halt),
                torch.full_like(output.q_halt, step),
                losses.correct_B / losses.tokens_B.clamp(min=1),
                losses.exact_B.float(),
                losses.lm_B,
                losses.q_halt_B,
                losses.halt_right_B.float(),
            ],
            dim=1,
        ).float()
        if early_exit and step < steps:
            kept = torch.nonzero(output.q_halt <= 0).flatten()
            if len(kept) == 0:
                return
            if len(kept) < len(rows):
                rows, carry = rows[kept], carry.select(kept)
                batch = batch.select(kept.tolist())
                encoded = Encoded(
                    context=encoded.context[kept],
                    carry=None if encoded.carry is None else encoded.carry[kept],
                )


def _blank(batch: Batch) -> _Record:
    slots, device = batch.n_slots, batch.query.device
    return _Record(
        tokens=torch.zeros(batch.query.shape, dtype=torch.uint8, device=device),
        values=torch.zeros(slots, 7, device=device),
        halted_at=torch.zeros(slots, dtype=torch.int64, device=device),
        exact_at_halt=torch.zeros(slots, dtype=torch.bool, device=device),
        labelled=(batch.label >= 0).any(dim=1),
    )


def _read_back(record: _Record, items: Sequence[Item]) -> list[Outcome]:
    tokens_BS = record.tokens.cpu().numpy()
    columns = (record.values, record.halted_at, record.exact_at_halt, record.labelled)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    outcomes = []
    for item, tokens_S, (values, halted_at, exact_at_halt, known) in zip(
        items, tokens_BS, rows, strict=True
    ):
        q, steps, accuracy, exact, lm_loss, q_halt_loss, halt_right = values
        outcomes.append(
            Outcome(
                item=item,
                tokens=tokens_S,
                q=q,
                steps=int(steps),
                halted_at=halted_at if halted_at > 0 else None,
                accuracy=accuracy if known else None,
                exact=bool(exact) if known else None,
                exact_at_halt=exact_at_halt if known else None,
                lm_loss=lm_loss if known else None,
                q_halt_loss=q_halt_loss if known else None,
                halt_right=bool(halt_right) if known else None,
            )
        )
    return outcomes
