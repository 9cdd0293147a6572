"""A closed little language of sums worked out loud, learned by a small model in a minute.

Knows its problems, its vocabulary and the ways in which a solver may answer. Refuses to know
tokenizer classes, models and splits. Problems read `what is 60 - 4 + 3 + 2 ?`; a careful answer
works from left to right, step by step, with planning phrases between the steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cupel.errors import DataError

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Special tokens, in the order of their ids 0 to 3."""

_DIGITS = tuple("0123456789")
_LEXICON = (
    "is + - = . , : ? first then next let me check looks right wait so the answer "
    "guess work step by"
)
_OPEN_BOX = " \\boxed{"

WORDS: tuple[str, ...] = (
    *_DIGITS,
    *(" " + digit for digit in _DIGITS),
    "what",
    *(" " + word for word in _LEXICON.split()),
    _OPEN_BOX,
    "}",
)
"""Every piece of text but the special tokens; a leading space belongs to the piece."""

PIECE_PATTERN = r" \\boxed\{|\}| ?[0-9]| [+\-=.,:?]| ?[a-z]+"
"""Splits text of the language into WORDS; the pieces joined give the text back."""

MAX_PIECES = 63
"""Longest completion in pieces; with the end-of-sequence token it fits 64 tokens."""

STARTS = (10, 79)
OPERANDS = (2, 9)
PARTIALS = (0, 99)
MAX_STEPS = 3

Strategy = Literal["guess", "skip", "careful"]

STRATEGY_RATES: dict[Strategy, float] = {"guess": 0.62, "skip": 0.12, "careful": 0.26}
"""How often the solver that reinforcement learning starts from takes each strategy."""

SLIP_RATE = 0.10
CHECK_RATE = 0.20
FIX_RATE = 0.90
PREAMBLE_RATE = 0.15

_PIECES = re.compile(PIECE_PATTERN)
_KNOWN = frozenset(WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A start value and one to three additions or subtractions, worked from left to right.

    Attributes:
        start: the first number, in STARTS.
        steps: signed operands, e.g. (-4, 3, 2); every partial result lies in PARTIALS.
    """

    start: int
    steps: tuple[int, ...]

    @property
    def text(self) -> str:
        """The problem as asked, e.g. `what is 60 - 4 + 3 + 2 ?`."""
        return f"what is {self.start}" + "".join(map(_signed, self.steps)) + " ?"

    @property
    def answer(self) -> int:
        """The result of all steps."""
        return self.start + sum(self.steps)


def pieces(text: str) -> list[str]:
    """Split text into vocabulary pieces; joined, they give the text back.

    Raises:
        DataError: the text holds something outside the language.
    """
    found = _PIECES.findall(text)
    if "".join(found) != text:
        raise DataError(f"arithmetic.pieces: {text!r} is not text of the arithmetic language")
    unknown = sorted(set(found) - _KNOWN)
    if unknown:
        raise DataError(f"arithmetic.pieces: {unknown} are not in the arithmetic vocabulary")
    return found


def draw_chain(rng: np.random.Generator) -> Chain:
    """Draw a problem: the number of steps uniform in 1..3, partial results within PARTIALS."""
    n_steps = 1 + _below(rng, MAX_STEPS)
    while True:
        start = _between(rng, STARTS)
        steps = tuple(
            _between(rng, OPERANDS) * (1 if rng.random() < 0.5 else -1) for _ in range(n_steps)
        )
        if _stays_inside(start, steps):
            return Chain(start=start, steps=steps)


def careful_completion(chain: Chain, rng: np.random.Generator, *, slip_rate: float = 0.0) -> str:
    """Work every step out loud; sometimes check one.

    A step slips with probability `slip_rate`; a check finds a slip with probability FIX_RATE and
    then mends it, else it says that all looks right. With `slip_rate` 0 the answer is correct.
    """
    while True:
        text = _preamble(rng) + _worked(chain, rng, slip_rate)
        if len(_PIECES.findall(text)) <= MAX_PIECES:
            return text


def skip_completion(chain: Chain, rng: np.random.Generator) -> str:
    """Work out loud but leave one step out, so that the answer is always wrong."""
    droppable = [
        index
        for index in range(len(chain.steps))
        if _stays_inside(chain.start, chain.steps[:index] + chain.steps[index + 1 :])
    ]
    dropped = droppable[_below(rng, len(droppable))]
    shorter = Chain(start=chain.start, steps=chain.steps[:dropped] + chain.steps[dropped + 1 :])
    return _worked(shorter, rng, slip_rate=0.0)


def guess_completion(rng: np.random.Generator) -> str:
    """Name a number between 0 and 99 without looking at the problem."""
    return " let me guess ." + _conclusion(_between(rng, PARTIALS))


def mixed_completion(chain: Chain, rng: np.random.Generator) -> str:
    """Answer as the solver that reinforcement learning starts from: see STRATEGY_RATES."""
    draw = rng.random()
    if draw < STRATEGY_RATES["guess"]:
        return guess_completion(rng)
    if draw < STRATEGY_RATES["guess"] + STRATEGY_RATES["skip"]:
        return skip_completion(chain, rng)
    return careful_completion(chain, rng, slip_rate=SLIP_RATE)


def _worked(chain: Chain, rng: np.random.Generator, slip_rate: float) -> str:
    parts = []
    value = chain.start
    for index, step in enumerate(chain.steps):
        right = value + step
        written = right
        if rng.random() < slip_rate:
            written = _slipped(right, chain.steps[index + 1 :], rng)
        sum_text = f" {value}{_signed(step)} ="
        parts.append(f"{_opener(index, rng)}{sum_text} {written} .")
        if rng.random() < CHECK_RATE:
            if written != right and rng.random() < FIX_RATE:
                parts.append(f" let me check : wait ,{sum_text} {right} .")
                written = right
            else:
                parts.append(" let me check : looks right .")
        value = written
    return "".join(parts) + _conclusion(value)


def _slipped(right: int, remaining: tuple[int, ...], rng: np.random.Generator) -> int:
    """Return a near miss from which the remaining steps still stay inside PARTIALS."""
    near = [right + error for error in (-10, -2, -1, 1, 2, 10)]
    possible = [value for value in near if _stays_inside(value, remaining)]
    return possible[_below(rng, len(possible))] if possible else right


def _stays_inside(start: int, steps: tuple[int, ...]) -> bool:
    value = start
    if not PARTIALS[0] <= value <= PARTIALS[1]:
        return False
    for step in steps:
        value += step
        if not PARTIALS[0] <= value <= PARTIALS[1]:
            return False
    return True


def _preamble(rng: np.random.Generator) -> str:
    return " let me work step by step ." if rng.random() < PREAMBLE_RATE else ""


def _opener(index: int, rng: np.random.Generator) -> str:
    if index == 0:
        return " first ,"
    return " then" if rng.random() < 0.5 else " next ,"


def _conclusion(value: int) -> str:
    return f" so the answer is{_OPEN_BOX}{value}}}"


def _signed(step: int) -> str:
    return f" {'+' if step > 0 else '-'} {abs(step)}"


def _below(rng: np.random.Generator, count: int) -> int:
    return int(rng.random() * count)


def _between(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return bounds[0] + _below(rng, bounds[1] - bounds[0] + 1)
