"""Evaluating during training: exact match at halt and at fixed ages, and what demonstrations bring.

Knows how to answer fixed items with their own demonstrations, with another task's, and with none,
and how answers become numbers with intervals. Refuses to know training, and to compare items that
had no other task to swap with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.arc.answering import unroll
from cupel.arc.diagnostics import Spread
from cupel.arc.items import Item
from cupel.arc.losses import IGNORE
from cupel.arc.metrics import AGES
from cupel.arc.model import ARCModel
from cupel.arc.slots import Batch, collate
from cupel.arc.voting import rate
from cupel.lab.metrics import Scalar
from cupel.stats.clustered import clustered_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a model answered to N items.

    Attributes:
        exact_at_halt: [N] every labelled cell right at the first step that would halt, or the last.
        accuracy_at_halt: [N] share of labelled cells right there.
        steps: [N] that step.
        forced: [N] no step would have halted.
        exact_at: [N] by age, as far as steps were taken.
        tokens: [S] answered tokens of each item, at halt.
        q: [N] the halt head's probability, at halt.
    """

    items: tuple[Item, ...]
    exact_at_halt: NDArray[np.float64]
    accuracy_at_halt: NDArray[np.float64]
    steps: NDArray[np.float64]
    forced: NDArray[np.float64]
    exact_at: Mapping[int, NDArray[np.float64]]
    tokens: tuple[NDArray[np.uint8], ...]
    q: NDArray[np.float64]


def answer_fixed(
    model: ARCModel,
    items: Sequence[Item],
    *,
    steps: int,
    batch_size: int,
    device: torch.device,
    empty_context: bool = False,
    spread: Spread | None = None,
) -> Answered:
    """Answer items for a fixed number of steps.

    Args:
        empty_context: give the decoder zeros instead of what the encoder made.
        spread: where the contexts of the items are counted, by puzzle index.
    """
    columns: list[NDArray[np.float64]] = []
    tokens: list[NDArray[np.uint8]] = []
    ordered: list[Item] = []
    for chunk in _batches(items, batch_size):
        batch = collate(chunk, chunk[0].side, device=device)
        numbers, answered = _answer(model, batch, steps, empty_context, spread)
        columns.append(numbers)
        tokens += list(answered)
        ordered += chunk
    table = np.concatenate(columns, axis=1)
    ages = [age for age in AGES if age <= steps]
    return Answered(
        items=tuple(ordered),
        exact_at_halt=table[0],
        accuracy_at_halt=table[1],
        steps=table[2],
        forced=table[3],
        q=table[4],
        exact_at={age: table[5 + i] for i, age in enumerate(ages)},
        tokens=tuple(tokens),
    )


def swap_demonstrations(items: Sequence[Item]) -> list[Item | None]:
    """Return each item with the demonstrations of the next puzzle of its side; None without one.

    The donor's own item of the same number lends them, so that the number of pairs is a usual one.
    """
    swapped: list[Item | None] = [None] * len(items)
    by_side: dict[int, dict[str, list[int]]] = {}
    for number, item in enumerate(items):
        by_side.setdefault(item.side, {}).setdefault(item.puzzle_id, []).append(number)
    for puzzles in by_side.values():
        groups = list(puzzles.values())
        if len(groups) < 2:
            continue
        for group, donors in zip(groups, [*groups[1:], groups[0]], strict=True):
            for place, number in enumerate(group):
                donor = items[donors[place % len(donors)]]
                swapped[number] = replace(
                    items[number],
                    demo_inputs=donor.demo_inputs,
                    demo_outputs=donor.demo_outputs,
                    demo_indices=donor.demo_indices,
                    puzzle_index=donor.puzzle_index,
                )
    return swapped


def view_values(answered: Answered, prefix: str = "") -> dict[str, Scalar]:
    """Return the metrics of one view; intervals count puzzles, whose items are not independent."""
    puzzles = len({item.puzzle_id for item in answered.items})
    return {
        f"{prefix}puzzles": puzzles,
        f"{prefix}items": len(answered.items),
        f"{prefix}accuracy": float(answered.accuracy_at_halt.mean()),
        **_rate(f"{prefix}em_at_halt", answered.exact_at_halt, puzzles),
        f"{prefix}steps_at_halt": float(answered.steps.mean()),
        f"{prefix}forced_fraction": float(answered.forced.mean()),
    }


def age_values(answered: Answered) -> dict[str, Scalar]:
    """Return exact match at each age that was reached."""
    puzzles = len({item.puzzle_id for item in answered.items})
    values: dict[str, Scalar] = {}
    for age, exact_N in answered.exact_at.items():
        values.update(_rate(f"em_at_{age}", exact_N, puzzles))
    return values


def gain_values(
    name: str, with_demos: NDArray[np.float64], without: NDArray[np.float64], puzzles: Sequence[str]
) -> dict[str, Scalar]:
    """Return the mean of paired differences with its interval clustered by puzzle.

    Differences that do not vary have no interval. Without any pair nothing is measured.
    """
    differences = with_demos - without
    names = sorted(set(puzzles))
    if not len(differences):
        return {name: None, f"{name}_lo": None, f"{name}_hi": None}
    gain = float(differences.mean())
    if len(names) < 2:
        return {name: gain, f"{name}_lo": None, f"{name}_hi": None}
    place = {puzzle: number for number, puzzle in enumerate(names)}
    labels = np.array([place[puzzle] for puzzle in puzzles], dtype=np.int64)
    interval = clustered_mean(differences, labels).interval
    return {
        name: gain,
        f"{name}_lo": None if interval is None else interval.low,
        f"{name}_hi": None if interval is None else interval.high,
    }


def probe_values(
    model: ARCModel, items: Sequence[Item], *, steps: int, batch_size: int, device: torch.device
) -> tuple[dict[str, Scalar], Answered]:
    """Answer the probe three ways and return its metrics, and the answers with true demonstrations.

    Raises:
        DataError: no items.
    """
    config = model.config.core
    groups = 1 + max((item.puzzle_index for item in items), default=0)
    spread = Spread.empty(groups, config.n_context * config.hidden_size, device)

    def run(chosen: Sequence[Item], *, empty: bool = False, of: Spread | None = None) -> Answered:
        return answer_fixed(
            model, chosen, steps=steps, batch_size=batch_size, device=device,
            empty_context=empty, spread=of,
        )  # fmt: skip

    true = run(items, of=spread)
    null = run(true.items, empty=True)
    swaps = swap_demonstrations(true.items)
    kept = [number for number, item in enumerate(swaps) if item is not None]
    swapped = run([item for item in swaps if item is not None]) if kept else None
    ids = [item.puzzle_id for item in true.items]
    em_swapped = np.zeros(0) if swapped is None else swapped.exact_at_halt
    values = {
        **view_values(true),
        **age_values(true),
        **gain_values(
            "context_gain", true.exact_at_halt[kept], em_swapped, [ids[number] for number in kept]
        ),
        "context_gain_n": len(kept),
        "em_swapped": float(em_swapped.mean()) if kept else None,
        **gain_values("null_gain", true.exact_at_halt, null.exact_at_halt, ids),
        "em_null": float(null.exact_at_halt.mean()),
        "between_task_share": spread.between_share(),
    }
    return values, true


def _answer(
    model: ARCModel, batch: Batch, steps: int, empty_context: bool, spread: Spread | None
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return [5 + ages, B] numbers (as `Answered` orders them) and the tokens [B, S] at halt."""
    config, asked_BS = model.config.core, batch.label != IGNORE
    context = None
    if empty_context:
        shape = (batch.n_slots, config.n_context, config.hidden_size)
        context = torch.zeros(shape, dtype=model.core.dtype, device=batch.query.device)
    blank = torch.zeros(batch.n_slots, device=batch.query.device)
    exact, accuracy, at, q, done = blank, blank, blank, blank, blank.bool()
    tokens_BS, ages = torch.zeros_like(batch.query), []
    for step, output in enumerate(unroll(model, batch, steps, context=context), 1):
        answered_BS = output.logits.argmax(dim=-1)
        right_B = (asked_BS & (answered_BS == batch.label)).sum(dim=1) / asked_BS.sum(dim=1)
        now_B = ~done & ((output.q_halt > 0) | (step == steps))
        exact = torch.where(now_B, (right_B == 1).float(), exact)
        accuracy = torch.where(now_B, right_B, accuracy)
        at = torch.where(now_B, step * torch.where(output.q_halt > 0, 1.0, -1.0), at)
        q = torch.where(now_B, torch.sigmoid(output.q_halt), q)
        tokens_BS = torch.where(now_B[:, None], answered_BS, tokens_BS)
        done = done | now_B
        if step in AGES:
            ages.append((right_B == 1).float())
        if step == 1 and spread is not None:
            spread.add(output.context.flatten(1), batch.puzzle_ids)
    table = torch.stack([exact, accuracy, at.abs(), (at < 0).float(), q, *ages])
    return _numpy(table), tokens_BS.to(torch.uint8).cpu().numpy()


def _numpy(table: Tensor) -> NDArray[np.float64]:
    return table.double().cpu().numpy()


def _batches(items: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    for _, group in itertools.groupby(items, key=lambda item: item.side):
        same_side = list(group)
        for first in range(0, len(same_side), batch_size):
            yield same_side[first : first + batch_size]


def _rate(name: str, values_N: NDArray[np.float64], puzzles: int) -> dict[str, Scalar]:
    value = float(values_N.mean())
    interval = rate(value * puzzles, puzzles)
    return {name: value, f"{name}_lo": interval.low, f"{name}_hi": interval.high}
