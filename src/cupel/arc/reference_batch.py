"""Items as one padded batch: a common canvas, a fixed number of demonstration slots.

Knows what the padded computation is fed. Refuses to know what it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupel.arc.items import Item
from cupel.arc.losses import IGNORE
from cupel.arc.tokens import PAD
from cupel.errors import DataError

CANVAS, MAX_DEMOS = 30, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedBatch:
    """B items on one canvas, K demonstration slots each, S = side².

    Attributes:
        demo_inputs, demo_labels: [B, K, S] int32 token ids, PAD in absent slots.
        demo_mask: [B, K] bool, True where a demonstration stands.
        inputs, labels: [B, S] int32; labels `IGNORE` on padding.
        puzzle_ids: [B] int32.
    """

    demo_inputs: Tensor
    demo_labels: Tensor
    demo_mask: Tensor
    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor


def pad_items(
    items: Sequence[Item], *, side: int = CANVAS, max_demos: int = MAX_DEMOS
) -> PaddedBatch:
    """Lay items into the corner of the common canvas, demonstrations into the first slots.

    Raises:
        DataError: an item has a larger canvas or more demonstrations than there is room for.
    """
    cells = side * side
    demos_BK2S = np.full((len(items), max_demos, 2, cells), PAD, dtype=np.int32)
    grids_B2S = np.full((len(items), 2, cells), PAD, dtype=np.int32)
    mask_BK = np.zeros((len(items), max_demos), dtype=np.bool_)
    for row, item in enumerate(items):
        count = len(item.demo_inputs)
        if item.side > side or count > max_demos:
            raise DataError(
                f"pad_items: {item.puzzle_id} has side {item.side} and {count} demonstrations; "
                f"there is room for side {side} and {max_demos}"
            )
        shown = np.stack([item.demo_inputs, item.demo_outputs], axis=1)
        corner = np.s_[: item.side, : item.side]
        canvas = demos_BK2S[row].reshape(max_demos, 2, side, side)
        canvas[:count, :, *corner] = shown.reshape(count, 2, item.side, item.side)
        asked = np.stack([item.query, item.label]).reshape(2, item.side, item.side)
        grids_B2S[row].reshape(2, side, side)[:, *corner] = asked
        mask_BK[row, :count] = True
    labels = torch.from_numpy(grids_B2S[:, 1].copy())
    return PaddedBatch(
        demo_inputs=torch.from_numpy(demos_BK2S[:, :, 0].copy()),
        demo_labels=torch.from_numpy(demos_BK2S[:, :, 1].copy()),
        demo_mask=torch.from_numpy(mask_BK),
        inputs=torch.from_numpy(grids_B2S[:, 0].copy()),
        labels=labels.masked_fill(labels == PAD, IGNORE),
        puzzle_ids=torch.tensor([item.puzzle_index for item in items], dtype=torch.int32),
    )
