"""Which puzzles a run learns from, is probed on, and is judged by: three views, never mixed.

Knows caps, the side filter, and whether anything held out is learned from. Refuses to read
files and to let one setting serve two views.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cupel.arc.contamination import find_leaks
from cupel.arc.grids import Puzzle
from cupel.arc.puzzles import PuzzleSet
from cupel.errors import ConfigError, DataError
from cupel.lab.randomness import Randomness, counter_of

Contamination = Literal["clean", "contaminated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """`train_groups` are learned from, `train_probe` are the same groups, `heldout` are unseen."""

    train_groups: tuple[Puzzle, ...]
    train_probe: tuple[Puzzle, ...]
    heldout: tuple[Puzzle, ...]
    contamination: Contamination
    """`contaminated`: pairs of held-out puzzles are learned from."""
    contaminated_by: tuple[str, ...] = ()
    """Ids of the held-out puzzles whose pairs are learned from."""
    over_side: int = 0
    """Puzzles of either set left out because a grid is larger than `max_side`."""

    def shared_with_train(self, view: Literal["train_probe", "heldout"]) -> tuple[str, ...]:
        """Return the ids of a view's puzzles that are also learned from, sorted."""
        trained = {puzzle.id for puzzle in self.train_groups}
        puzzles = self.train_probe if view == "train_probe" else self.heldout
        return tuple(sorted(trained & {puzzle.id for puzzle in puzzles}))

    def counts(self) -> dict[str, int | str]:
        """Return the sizes of the views and the label, for a manifest."""
        return {
            "train_groups": len(self.train_groups),
            "train_probe": len(self.train_probe),
            "heldout": len(self.heldout),
            "train_probe_shared": len(self.shared_with_train("train_probe")),
            "heldout_shared": len(self.contaminated_by),
            "over_side": self.over_side,
            "contamination": self.contamination,
        }


def make_views(
    puzzles: PuzzleSet,
    *,
    max_train_groups: int | None = None,
    max_eval_groups: int | None = None,
    max_side: int | None = None,
    order_seed: int = 0,
    train_on_heldout_demos: bool = False,
) -> Views:
    """Cut the three views.

    Caps take the first groups of an order drawn from `order_seed` and the ids alone, so that a
    smaller cap is a prefix of a larger one and a filter moves no other puzzle.

    Args:
        max_train_groups: cap of `train_groups`, and so of `train_probe`; None for all.
        max_eval_groups: cap of `heldout`; None for all.
        max_side: only puzzles all of whose grids, tests included, fit this side.
        train_on_heldout_demos: also learn from the demonstrations of the held-out puzzles, never
            their tests: TRM's protocol, and what learned embeddings need. Labels the run.

    Raises:
        ConfigError: a cap or side below 1.
        DataError: no puzzle of a set fits `max_side`.
    """
    for name, value in (
        ("max_train_groups", max_train_groups),
        ("max_eval_groups", max_eval_groups),
        ("max_side", max_side),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value}; give 1 or more, or none for no limit")
    train, train_over = _fitting(puzzles.train, max_side)
    heldout, heldout_over = _fitting(puzzles.evaluation, max_side)
    groups = _first(train, max_train_groups, order_seed)
    judged = _first(heldout, max_eval_groups, order_seed)
    for name, chosen, known in (
        ("training", groups, puzzles.train),
        ("evaluation", judged, puzzles.evaluation),
    ):
        if known and not chosen:
            raise DataError(
                f"none of {len(known)} {name} puzzles fits max_side = {max_side}; the smallest "
                f"has a side of {min(puzzle.max_side for puzzle in known)}"
            )
    learned_from = {leak.heldout.id for leak in find_leaks(groups, judged)}
    trained = groups
    if train_on_heldout_demos:
        trained = groups + tuple(_demos_only(puzzle) for puzzle in judged)
        learned_from |= {puzzle.id for puzzle in judged}
    return Views(
        train_groups=trained,
        train_probe=groups,
        heldout=judged,
        contamination="contaminated" if learned_from else "clean",
        contaminated_by=tuple(sorted(learned_from)),
        over_side=train_over + heldout_over,
    )


def _fitting(puzzles: Sequence[Puzzle], max_side: int | None) -> tuple[tuple[Puzzle, ...], int]:
    kept = tuple(p for p in puzzles if max_side is None or p.max_side <= max_side)
    return kept, len(puzzles) - len(kept)


def _first(puzzles: Sequence[Puzzle], cap: int | None, order_seed: int) -> tuple[Puzzle, ...]:
    keys = [(counter_of(puzzle.id),) for puzzle in puzzles]
    draws = Randomness(order_seed).uniforms("arc.view_order", keys, 1)[:, 0].tolist()
    order = sorted(range(len(puzzles)), key=lambda i: (draws[i], puzzles[i].id))
    return tuple(puzzles[i] for i in order[:cap])


def _demos_only(puzzle: Puzzle) -> Puzzle:
    return dataclasses.replace(puzzle, tests=())
