"""The slot pool: B items in flight on one canvas side, replaced exactly where they are done.

Knows items, how they become tensors, and which slots halted. Refuses to know models and losses.
A slot's label is always that of the item in the slot: both are made from it, together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.arc.augmentations import Augmentation
from cupel.arc.halting import Carry
from cupel.arc.items import Item
from cupel.arc.losses import IGNORE
from cupel.arc.tokens import PAD, Tokens
from cupel.errors import ConfigError, DataError

_ARRAYS = ("demo_inputs", "demo_outputs", "query", "label")


class ItemSource(Protocol):
    """Where a pool gets its items: `ItemStream`, or anything that can hand out n of a side."""

    def take(self, n: int, side: int) -> list[Item]:
        """Return exactly n items whose canvases are no larger than `side`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B items as tensors, real demonstration pairs packed, equal pairs held once.

    Attributes:
        side: side of the canvas, S = side * side.
        pair_tokens: [U, 2, S] int64, input and output of each pair, no two alike, in the order in
            which the slots first show them.
        demo_pair: [R] int64, which pair a row shows.
        demo_slot: [R] int64, the slot a row is shown to; ascending.
        query: [B, S] int64 token ids.
        label: [B, S] int64 token ids, `IGNORE` where nothing is asked.
        active: [B, S] bool, False on cells outside an item's own canvas; None when every item
            fills the batch's canvas.
        puzzle_ids: [B] int64, the items' puzzle indices.
        items: the items themselves, in slot order.
    """

    side: int
    pair_tokens: Tensor
    demo_pair: Tensor
    demo_slot: Tensor
    query: Tensor
    label: Tensor
    active: Tensor | None
    puzzle_ids: Tensor
    items: tuple[Item, ...]

    @property
    def n_slots(self) -> int:
        """How many items, B."""
        return self.query.shape[0]

    def select(self, slots: Sequence[int]) -> Batch:
        """Return the batch of some slots, renumbered in the order given."""
        return collate([self.items[s] for s in slots], self.side, device=self.query.device)


def collate(items: Sequence[Item], side: int, *, device: torch.device | None = None) -> Batch:
    """Put items on one canvas side; a smaller canvas lies in the top left corner.

    Raises:
        DataError: no items, or one whose canvas is larger than `side`.
    """
    too_large = [item for item in items if item.side > side]
    if not items or too_large:
        what = f"{too_large[0].puzzle_id} has side {too_large[0].side}" if items else "no items"
        raise DataError(f"collate: {what}; a batch of side {side} needs 1 or more items within it")
    label_BS = np.stack([_on_canvas(item.label, item.side, side) for item in items])
    query_BS = np.stack([_on_canvas(item.query, item.side, side) for item in items])
    demos_R2S = np.concatenate(
        [
            _on_canvas(np.stack([item.demo_inputs, item.demo_outputs], axis=1), item.side, side)
            for item in items
        ]
    )
    pairs_U2S, pair_R = _distinct(demos_R2S)
    slot_R = np.repeat(np.arange(len(items)), [len(item.demo_inputs) for item in items])
    active = None
    if any(item.side < side for item in items):
        ones = [np.ones(item.side**2, dtype=np.uint8) for item in items]
        rows = zip(ones, items, strict=True)
        active = np.stack([_on_canvas(one, item.side, side) for one, item in rows]).astype(np.bool_)

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(device=device)

    label = label_BS.astype(np.int64)
    return Batch(
        side=side,
        pair_tokens=tensor(pairs_U2S.astype(np.int64)),
        demo_pair=tensor(pair_R),
        demo_slot=tensor(slot_R.astype(np.int64)),
        query=tensor(query_BS.astype(np.int64)),
        label=tensor(np.where(label_BS == PAD, IGNORE, label)),
        active=None if active is None else tensor(active),
        puzzle_ids=tensor(np.array([item.puzzle_index for item in items], dtype=np.int64)),
        items=tuple(items),
    )


class SlotPool:
    """B slots of one side. One training step is `refill`, the model's step, `settle`.

    Attributes:
        carry: what the slots carried out of the last step; None before the first.
    """

    def __init__(self, *, slots: int, side: int, device: torch.device | None = None) -> None:
        if slots < 1:
            raise ConfigError(f"SlotPool: {slots} slots; a pool needs at least 1")
        self.slots = slots
        self.side = side
        self.carry: Carry | None = None
        self._device = device
        self._items: list[Item] = []
        self._batch: Batch | None = None

    def refill(self, source: ItemSource) -> Batch:
        """Give every halted slot its next item, asking the source for exactly so many.

        Reads from the device which slots halted: the one read-back of a training step.
        """
        halted = self._halted()
        if halted:
            fresh = source.take(len(halted), self.side)
            if len(fresh) != len(halted):
                raise DataError(
                    f"SlotPool: asked for {len(halted)} items of side {self.side}, got {len(fresh)}"
                )
            if self._items:
                for slot, item in zip(halted, fresh, strict=True):
                    self._items[slot] = item
            else:
                self._items = list(fresh)
            self._batch = None
        if self._batch is None:
            self._batch = collate(self._items, self.side, device=self._device)
        return self._batch

    def settle(self, carry: Carry) -> None:
        """Keep what a step carried out, `halted` decided."""
        self.carry = carry

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs, as tensors and plain data."""
        carry = self.carry
        return {
            "slots": self.slots,
            "side": self.side,
            "items": [_item_state(item) for item in self._items],
            "carry": None
            if carry is None
            else {field.name: getattr(carry, field.name) for field in fields(carry)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state.

        Raises:
            DataError: the state is of a pool of another size or side.
        """
        given = (state["slots"], state["side"])
        if given != (self.slots, self.side):
            raise DataError(
                f"SlotPool: the checkpoint holds {given[0]} slots of side {given[1]}, this run "
                f"has {self.slots} of side {self.side}; resume with the settings of the checkpoint"
            )
        self._items = [_item_of(item) for item in state["items"]]
        self._batch = None
        carry = state["carry"]
        self.carry = None if carry is None else Carry(**_moved(carry, self._device))

    def _halted(self) -> list[int]:
        if not self._items or self.carry is None:
            return [] if self._items else list(range(self.slots))
        flags: list[bool] = self.carry.halted.tolist()
        return [slot for slot, halted in enumerate(flags) if halted]


def _distinct(demos_R2S: Tokens) -> tuple[Tokens, NDArray[np.int64]]:
    """Return each pair once, and which of them every row is; found here, before any device."""
    number: dict[bytes, int] = {}
    rows = [number.setdefault(demo_2S.tobytes(), len(number)) for demo_2S in demos_R2S]
    pair_R = np.array(rows, dtype=np.int64)
    first_U = np.unique(pair_R, return_index=True)[1]
    return demos_R2S[first_U], pair_R


def _on_canvas(tokens: NDArray[np.uint8], inner: int, side: int) -> NDArray[np.uint8]:
    """Lay flat canvases [..., inner * inner] into the corner of larger ones [..., side * side]."""
    if inner == side:
        return tokens
    lead = tokens.shape[:-1]
    canvas = np.full((*lead, side, side), PAD, dtype=np.uint8)
    canvas[..., :inner, :inner] = tokens.reshape(*lead, inner, inner)
    return canvas.reshape(*lead, side * side)


def _item_state(item: Item) -> dict[str, Any]:
    state: dict[str, Any] = {field.name: getattr(item, field.name) for field in fields(item)}
    for name in _ARRAYS:
        state[name] = torch.from_numpy(np.array(state[name]))
    augmentation = item.augmentation
    state["augmentation"] = (augmentation.dihedral, tuple(augmentation.colours))
    return state


def _item_of(state: Mapping[str, Any]) -> Item:
    values = dict(state)
    for name in _ARRAYS:
        values[name] = state[name].numpy()
    dihedral, colours = state["augmentation"]
    values["augmentation"] = Augmentation(dihedral=dihedral, colours=tuple(colours))
    return Item(**values)


def _moved(carry: Mapping[str, Tensor | None], device: torch.device | None) -> dict[str, Any]:
    return {k: None if v is None else v.to(device=device) for k, v in carry.items()}
