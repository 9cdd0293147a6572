"""Which puzzles a run learns from, is probed on, and is judged by: three views, never mixed.

Knows caps, the side filter and what a view shares with the training groups. Refuses to read
files and to let one setting serve two views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cupel.arc.grids import Puzzle
from cupel.arc.puzzles import PuzzleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """`train_groups` are learned from, `train_probe` are the same groups, `heldout` are unseen."""

    train_groups: tuple[Puzzle, ...]
    train_probe: tuple[Puzzle, ...]
    heldout: tuple[Puzzle, ...]
    contamination: Literal["clean", "contaminated"]
    """`contaminated`: demonstrations of held-out puzzles are learned from (TRM's protocol)."""


def make_views(
    puzzles: PuzzleSet,
    *,
    max_train_groups: int | None = None,
    max_eval_groups: int | None = None,
    max_side: int | None = None,
    order_seed: int = 0,
    train_on_heldout_demos: bool = False,
) -> Views:
    """Cut the three views; a smaller cap is a prefix of a larger one."""
    raise NotImplementedError
