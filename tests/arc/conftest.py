"""Items, runs and small models for the tests of the recursive model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cupel.arc.augmentations import Augmentation
from cupel.arc.items import Item

sys.path.insert(0, str(Path(__file__).parent))

from arc_runs import settings, tasks

__all__ = ["settings", "tasks"]

MakeItem = Callable[..., Item]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_item() -> MakeItem:
    """Return `make(number, side=4, **changes)`: an item of random tokens, fixed by its number."""

    def make(number: int, side: int = 4, **changes: object) -> Item:
        rng = np.random.default_rng(number)
        pairs, cells = 1 + number % 3, side * side

        def tokens(*shape: int) -> np.ndarray:
            return rng.integers(1, 12, shape).astype(np.uint8)

        item = Item(
            puzzle_id=f"puzzle{number}",
            puzzle_index=number,
            augmentation=Augmentation(dihedral=number % 8, colours=tuple(range(10))),
            side=side,
            demo_inputs=tokens(pairs, cells),
            demo_outputs=tokens(pairs, cells),
            query=tokens(cells),
            label=tokens(cells),
            pair_index=pairs,
            demo_indices=tuple(range(pairs)),
            offset=(0, 0),
            epoch=0,
            test_index=None,
        )
        return replace(item, **changes)

    return make
