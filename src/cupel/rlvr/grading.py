"""Verdicts on answers by text alone: correct, incorrect, or ungradable, and why.

Pure text work. Knows how to find an answer in a completion, how to compare two answers as text and
as exact numbers, and where such a comparison is certain. Refuses algebra, processes and clocks, and
refuses to guess: what cannot be read is ungradable, counted apart from what is wrong, and a
reference that is empty is an error in the data, never a free point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from cupel.config import did_you_mean
from cupel.errors import ConfigError, DataError

TextKind = Literal["boxed", "numeric", "string"]
GradingKind = Literal["boxed", "numeric", "string", "math", "custom"]
Outcome = Literal["correct", "incorrect", "ungradable"]
Cause = Literal["unparsable", "timeout", "error"]

KINDS: tuple[TextKind, ...] = ("boxed", "numeric", "string")

RULES_VERSION = 2
"""Raised whenever a rule of this module changes a verdict; part of every run's record."""

ROUNDING = Fraction(1, 100_000)
"""Numbers that lie apart by a larger share of the reference are no roundings of each other."""

LONGEST_ANSWER = 2000
"""Characters; a longer answer is not read as mathematics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The verdict on one completion.

    Attributes:
        outcome: `ungradable` when no answer could be read; it earns no reward and is counted apart.
        answer_found: the answer as read from the completion, None where there was none.
        reason: one clause saying why the outcome is not `correct`; empty when it is.
        cause: what kind of ungradable: `unparsable` lies in the completion, `timeout` and `error`
            in the grader; None for the other outcomes.
    """

    outcome: Outcome
    answer_found: str | None
    reason: str = ""
    cause: Cause | None = None

    @property
    def reward(self) -> float:
        """1 for a correct answer, else 0."""
        return 1.0 if self.outcome == "correct" else 0.0

    @property
    def correct(self) -> bool | None:
        """True or False, or None where the completion was ungradable."""
        return None if self.outcome == "ungradable" else self.outcome == "correct"

    @property
    def grader_failed(self) -> bool:
        """True where the instrument failed: it ran out of time, or broke."""
        return self.cause in ("timeout", "error")


def grade(completion: str, answer: str, kind: TextKind) -> Grade:
    r"""Grade one completion against the reference answer.

    `boxed` reads the last `\boxed{...}` with balanced braces, `numeric` the last number in the
    text, `string` the whole text. Answers are equal as numbers when both are numbers (1/2 = 0.5,
    1,000 = 1000.0, 50% = 0.5), else as text after whitespace and LaTeX spacing are removed.

    >>> grade(r"so the answer is \boxed{\frac{1}{2}}", "0.5", "boxed").outcome
    'correct'

    Raises:
        DataError: the reference answer is empty.
        ConfigError: the kind is unknown.
    """
    if not answer.strip():
        raise DataError("grade: the reference answer is empty; mend or drop the problem")
    match kind:
        case "boxed":
            found, reason = find_boxed(completion)
        case "numeric":
            found, reason = _last_number(completion)
        case "string":
            found, reason = _whole_text(completion)
        case _:
            raise ConfigError(f"grading kind '{kind}' is unknown; {did_you_mean(kind, KINDS)}")
    if found is None:
        return unanswered(reason)
    if same_answer(found, answer):
        return Grade(outcome="correct", answer_found=found)
    return Grade(outcome="incorrect", answer_found=found, reason=f"{found!r} is not {answer!r}")


def unanswered(reason: str) -> Grade:
    """Return the grade of a completion in which no answer can be read."""
    return Grade(outcome="ungradable", answer_found=None, reason=reason, cause="unparsable")


def grade_batch(completions: Sequence[str], answers: Sequence[str], kind: TextKind) -> list[Grade]:
    """Grade completions against answers, one to one.

    Raises:
        DataError: the two differ in length, or a reference answer is empty (names the row).
    """
    check_answers(completions, answers)
    return [
        grade(completion, answer, kind)
        for completion, answer in zip(completions, answers, strict=True)
    ]


def check_answers(completions: Sequence[str], answers: Sequence[str]) -> None:
    """Refuse to grade without one reference answer a completion.

    Raises:
        DataError: the two differ in length, or a reference answer is empty (names the row).
    """
    if len(completions) != len(answers):
        raise DataError(
            f"grade_batch: {len(completions)} completions but {len(answers)} answers; "
            "give one answer a completion"
        )
    for row, answer in enumerate(answers):
        if not answer.strip():
            raise DataError(f"grade_batch: the answer of row {row} is empty; mend the problem")


def find_boxed(text: str) -> tuple[str | None, str]:
    r"""Return the content of the last `\boxed{...}`, or None and the reason why there is none.

    `\fbox{...}` counts as well, and so does white space before the brace.
    """
    begin = max((match.end() for match in _BOX.finditer(text)), default=-1)
    if begin < 0:
        return None, "no \\boxed{...} in the completion"
    depth = 1
    position = begin
    while position < len(text):
        match text[position]:
            case "\\":
                position += 1  # an escaped brace is text, not structure
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if depth == 0:
                    content = text[begin:position].strip()
                    return (content, "") if content else (None, "the last \\boxed{} is empty")
        position += 1
    return None, "the last \\boxed{ is never closed"


def same_answer(found: str, answer: str) -> bool:
    """Say whether two answers are equal as numbers, or else as normalised text."""
    left, right = _normalised(found), _normalised(answer)
    if left == right:
        return True
    left_number, right_number = _number(left), _number(right)
    return left_number is not None and left_number == right_number


def certain_verdict(found: str, answer: str) -> bool | None:
    r"""Say whether two answers are equal where text alone makes it certain, else None.

    Equal are the same normalised text and the same exact number. Different are two whole numbers;
    two other numbers that lie apart by more than 1e-5 of the reference, so that rounding is no
    matter, unless only one of them is a percentage; two numerals of which both name a base; and a
    reference of words, such as `\text{even}` or `\text{(C)}`, and other words. All else is for
    algebra.

    >>> certain_verdict("12", "13"), certain_verdict("x+1", "1+x")
    (False, None)
    """
    if same_answer(found, answer):
        return True
    left, right = _normalised(found), _normalised(answer)
    if _WHOLE.fullmatch(left) and _WHOLE.fullmatch(right):
        return False
    if left.endswith("%") == right.endswith("%"):
        left_number, right_number = _number(left), _number(right)
        if left_number is not None and right_number is not None:
            apart = abs(left_number - right_number) > ROUNDING * abs(right_number)
            return False if apart else None
    if _NUMERAL.fullmatch(left) and _NUMERAL.fullmatch(right):
        return _braceless(left) == _braceless(right)
    if _WORDS.fullmatch(answer.strip()):
        return _letters(found) == _letters(answer)
    return None


def reference_answer(solution: str) -> str | None:
    r"""Return the answer a worked solution ends with: the content of its last box, or None.

    Besides `\boxed{...}` and `\fbox{...}` this reads `\boxed 5$`, a form that some solutions of
    the MATH benchmark have and that is not accepted from completions.
    """
    bare = list(_BARE_BOX.finditer(solution))
    box = max((match.start() for match in _BOX.finditer(solution)), default=-1)
    if bare and bare[-1].start() > box:
        return bare[-1].group(1).strip() or None
    return find_boxed(solution)[0]


_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s+([^{}$\s][^{}$\n]*?)\s*(?:\$|\n|$)")
_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_NUMERAL = re.compile(r"[0-9A-Za-z]+_(?:\{[0-9]+\}|[0-9]+)")
_WORDS = re.compile(
    r"\\(?:text|mbox|textbf|textrm|textit|mathrm)\{[^{}0-9\\$]*[A-Za-z][^{}0-9\\$]*\}"
)
_MARKUP = re.compile(r"\\(?:text|mbox|textbf|textrm|textit|mathrm)(?![A-Za-z])")
_LONGEST_NUMBER = 400  # a longer run of digits is babble, and costly to convert
_SPACING = re.compile(
    r"\\[!,;: ]|\s+|\\left(?![a-z])|\\right(?![a-z])|\\(?:text|mathrm)(?=\{)|\$|~"
)
_FRACTION = re.compile(
    r"([+-]?)\\frac(?:\{([0-9]+)\}|([0-9]))(?:\{([0-9]+)\}|([0-9]))"  # \frac12 is a half
)
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:/[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?%?")
_NUMBER_IN_TEXT = re.compile(
    r"(?<![0-9.])[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?%?"
)


def _braceless(text: str) -> str:
    return text.replace("{", "").replace("}", "")


def _letters(text: str) -> str:
    """Return what words say: no markup, no punctuation, no case."""
    return re.sub(r"[\W_]+", "", _MARKUP.sub("", text)).casefold()


def _last_number(text: str) -> tuple[str | None, str]:
    numbers = _NUMBER_IN_TEXT.findall(text)
    return (numbers[-1], "") if numbers else (None, "no number in the completion")


def _whole_text(text: str) -> tuple[str | None, str]:
    stripped = text.strip()
    return (stripped, "") if stripped else (None, "the completion is empty")


def _normalised(answer: str) -> str:
    """Drop what never changes an answer's meaning: spacing, sizing, dollar signs, a final stop."""
    text = answer.replace("\\$", "").replace("\\%", "%").replace("\\dfrac", "\\frac")
    text = text.replace("\\tfrac", "\\frac")
    text = _SPACING.sub("", text).replace("^{\\circ}", "").replace("^\\circ", "")
    text = text.rstrip(".") if not text.endswith("..") else text
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _number(text: str) -> Fraction | None:
    """Read a normalised answer as an exact number, or None where it is not one."""
    if len(text) > _LONGEST_NUMBER:
        return None
    scale = Fraction(1)
    if text.endswith("%"):
        text, scale = text[:-1], Fraction(1, 100)
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None:
        sign, *parts = fraction.groups()
        over, under = (part for part in parts if part is not None)
        return scale * Fraction(int(sign + over), int(under)) if int(under) else None
    if not _PLAIN.fullmatch(text):
        return None
    over, _, under = text.partition("/")
    if under and not int(under):
        return None
    return scale * Fraction(over) / (int(under) if under else 1)
