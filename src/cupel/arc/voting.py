"""Votes: from the predictions of one evaluation to ranked answers and pass@k.

Pure. Knows predictions already mapped back into a puzzle's own frame, who was to be evaluated, and
the true outputs. Refuses to keep a vote between two evaluations, to infer who was evaluated from
whose predictions happen to be there, and to state a rate without its n and interval.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cupel.arc.grids import Grid
from cupel.errors import DataError
from cupel.stats.intervals import wilson

Target = tuple[str, int]
"""A test input: puzzle id and index of the input in the puzzle."""

PASS_AT = (1, 2, 5, 10, 100, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One predicted output, in the puzzle's own frame.

    Attributes:
        augmentation: which variant of the puzzle it was predicted from; one vote each.
        q: the halting head's probability that the grid is right.
    """

    puzzle_id: str
    test_index: int
    augmentation: str
    grid: Grid
    q: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer that got votes."""

    grid: Grid
    votes: int
    mean_q: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """The answers to one test input, best first.

    Attributes:
        empty: predictions without a single cell; no answer can be empty, so they are no candidates.
    """

    candidates: tuple[Candidate, ...]
    empty: int

    def rank_of(self, truth: Grid) -> int | None:
        """Return the place of the truth, 1 for the best; None when nobody voted for it."""
        places = (n for n, each in enumerate(self.candidates, 1) if same(each.grid, truth))
        return next(places, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate out of n puzzles, with its Wilson interval of 95 %.

    `successes` may be fractional where inputs of a puzzle give partial credit; the interval then
    reaches from the lower limit of the whole number below to the upper limit of the one above,
    which is wider than necessary and never too narrow.
    """

    successes: float
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one evaluation achieved.

    Attributes:
        partial: by k: mean over puzzles of the share of test inputs whose truth is among the
            first k answers (the metric called ARC/pass@k).
        official: by k: share of puzzles whose every test input is solved (the rule of the
            competition, with k = 2).
        ranks: by test input: place of the truth among the answers, None where it got no vote.
        without_votes: test inputs of puzzles declared lost that nobody voted on; unsolved.
        votes: predictions counted; empty: those of them without a cell.
    """

    partial: Mapping[int, Rate]
    official: Mapping[int, Rate]
    ranks: Mapping[Target, int | None]
    without_votes: tuple[Target, ...]
    votes: int
    empty: int


def same(grid: Grid, other: Grid) -> bool:
    """Say whether two grids are the same, shape and cells."""
    return grid.shape == other.shape and bool(np.array_equal(grid, other))


def grid_key(grid: Grid) -> bytes:
    """Return a hash of a grid's shape and cells; a 2x3 and a 3x2 grid never share one."""
    shape = np.asarray(grid.shape, dtype="<u4").tobytes()
    cells = np.ascontiguousarray(grid, dtype=np.uint8).tobytes()
    return hashlib.blake2b(shape + cells, digest_size=16).digest()


def rate(successes: float, n: int) -> Rate:
    """Return a rate with its interval.

    >>> r = rate(4, 32)
    >>> round(r.low, 2), round(r.high, 2)
    (0.05, 0.28)

    Raises:
        DataError: n is 0, or successes outside [0, n].
    """
    counted = round(successes, 9)  # a sum of thirds is a whole number but for rounding
    low = wilson(math.floor(counted), n).low
    high = wilson(math.ceil(counted), n).high
    return Rate(successes=successes, n=n, value=successes / n, low=low, high=high)


def ballots(predictions: Iterable[Prediction]) -> dict[Target, Ballot]:
    """Count the votes of one evaluation for every test input.

    Answers are ranked by number of votes, then by mean q; equal ones by their hash, so that the
    order never depends on the order of the predictions.

    Raises:
        DataError: an augmentation voted twice on one test input, or a q is no probability.
    """
    qs: dict[Target, dict[bytes, list[float]]] = defaultdict(lambda: defaultdict(list))
    grids: dict[bytes, Grid] = {}
    voted: dict[Target, set[str]] = defaultdict(set)
    empty: dict[Target, int] = defaultdict(int)
    for each in predictions:
        target = (each.puzzle_id, each.test_index)
        _check(each, voted[target])
        voted[target].add(each.augmentation)
        if each.grid.size == 0:
            empty[target] += 1
            continue
        key = grid_key(each.grid)
        grids.setdefault(key, each.grid)
        qs[target][key].append(each.q)
    return {
        target: Ballot(candidates=_ranked(qs[target], grids), empty=empty[target])
        for target in voted
    }


def score(
    predictions: Iterable[Prediction],
    truths: Mapping[str, Sequence[Grid]],
    *,
    evaluated: Sequence[str],
    lost: Collection[str] = (),
    ks: Sequence[int] = PASS_AT,
) -> Score:
    """Score the predictions of one evaluation.

    Args:
        truths: the true output of every test input, by puzzle.
        evaluated: the ids of the puzzles that were to be evaluated: the denominator.
        lost: ids among them whose test inputs may lack votes; such inputs count as unsolved.

    Raises:
        DataError: nothing was to be evaluated, an id twice or without truth, a prediction for
            something that was not to be evaluated, or a test input without votes whose puzzle was
            not declared lost.
    """
    _check_ids(evaluated, truths, lost)
    counted = ballots(predictions)
    targets = [(puzzle, index) for puzzle in evaluated for index in range(len(truths[puzzle]))]
    _check_coverage(counted, targets, lost)
    ranks = {
        target: counted[target].rank_of(truths[target[0]][target[1]]) if target in counted else None
        for target in targets
    }
    partial: dict[int, Rate] = {}
    official: dict[int, Rate] = {}
    for k in ks:
        shares = [_share_solved(ranks, puzzle, len(truths[puzzle]), k) for puzzle in evaluated]
        partial[k] = rate(math.fsum(shares), len(shares))
        official[k] = rate(sum(share == 1.0 for share in shares), len(shares))
    votes = [sum(each.votes for each in b.candidates) + b.empty for b in counted.values()]
    return Score(
        partial=partial,
        official=official,
        ranks=ranks,
        without_votes=tuple(target for target in targets if target not in counted),
        votes=sum(votes),
        empty=sum(ballot.empty for ballot in counted.values()),
    )


def _share_solved(ranks: Mapping[Target, int | None], puzzle: str, inputs: int, k: int) -> float:
    places = [ranks[puzzle, index] for index in range(inputs)]
    return sum(place is not None and place <= k for place in places) / inputs


def _ranked(
    qs: Mapping[bytes, Sequence[float]], grids: Mapping[bytes, Grid]
) -> tuple[Candidate, ...]:
    found = [(len(q), math.fsum(q) / len(q), key) for key, q in qs.items()]
    found.sort(key=lambda each: (-each[0], -each[1], each[2]))
    return tuple(
        Candidate(grid=grids[key], votes=votes, mean_q=mean_q) for votes, mean_q, key in found
    )


def _check(prediction: Prediction, voted: Collection[str]) -> None:
    where = f"votes: puzzle {prediction.puzzle_id}, test input {prediction.test_index}"
    if prediction.augmentation in voted:
        raise DataError(
            f"{where}: two predictions from augmentation '{prediction.augmentation}'; "
            "each has one vote, and votes of different evaluations are never put together"
        )
    if not 0.0 <= prediction.q <= 1.0:
        raise DataError(f"{where}: q = {prediction.q} is no probability")


def _check_ids(
    evaluated: Sequence[str], truths: Mapping[str, Sequence[Grid]], lost: Collection[str]
) -> None:
    if not evaluated:
        raise DataError("score: no puzzle was to be evaluated; a rate of nothing does not exist")
    if len(set(evaluated)) != len(evaluated):
        twice = sorted({each for each in evaluated if list(evaluated).count(each) > 1})
        raise DataError(f"score: evaluated ids named twice: {', '.join(twice[:5])}")
    unknown = sorted({each for each in evaluated if not truths.get(each)})
    if unknown:
        raise DataError(f"score: no true outputs for {_some(unknown)}; a score needs them")
    strangers = sorted(set(lost) - set(evaluated))
    if strangers:
        raise DataError(f"score: declared lost but not evaluated: {_some(strangers)}")


def _check_coverage(
    counted: Mapping[Target, Ballot], targets: Sequence[Target], lost: Collection[str]
) -> None:
    strangers = sorted(set(counted) - set(targets))
    if strangers:
        raise DataError(
            f"score: predictions for {_some([f'{p}[{i}]' for p, i in strangers])}, which were not "
            "to be evaluated; name them among the evaluated ids, or leave their predictions out"
        )
    missing = [f"{p}[{i}]" for p, i in targets if (p, i) not in counted and p not in lost]
    if missing:
        raise DataError(
            f"score: no predictions for {_some(missing)}, which were to be evaluated; a lost "
            "puzzle would raise the score in silence: evaluate it again, or declare it lost"
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
