r"""Wrong answers in the right form: what a grader must refuse.

Pure. Knows how to change the value of an answer and keep its shape, so that a grader is tried on
`\frac{8}{15}` against `\frac{9}{15}` and not against nonsense. Refuses to judge: whether the grader
finds the change is `problem_check`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNIT_POWER = re.compile(r"\\(?:text|mbox|mathrm)\{[^{}]*\}\s*\^\s*\{?[0-9]+")
_WORDS = re.compile(r"\\(text|mbox|textbf|textrm|mathrm)\{([^{}]*)\}")
_INTERVAL = re.compile(r"^([\[(])(.*,.*)([\])])$", re.DOTALL)


def perturbations(answer: str, others: Sequence[str] = ()) -> dict[str, str]:
    r"""Return wrong answers by the name of what was changed; at least one.

    Args:
        others: answers of other problems; the first that differs stands in for an answer of words.

    - `first_number`, `last_number`: that number plus one (the last digit of a decimal counts).
    - `sign`: the whole answer negated, unless it is zero, an interval, a list or a set.
    - `endpoint`: an interval with one finite end closed instead of open, or the other way round.
    - `member`: a list, a set or a point with one more member.
    - `words`: words swapped for other words.
    - `added`: one added to an expression that holds no number.

    >>> perturbations("(2,5]")["endpoint"]
    '[2,5]'
    """
    words = _WORDS.fullmatch(answer.strip())
    if words is not None:
        return {"words": _other_words(answer, others)}
    changed: dict[str, str] = {}
    units = [
        match.span() for match in _UNIT_POWER.finditer(answer)
    ]  # cm^2 against cm^3 is no value
    numbers = [
        number
        for number in re.finditer(r"[0-9]+", answer)
        if not any(start <= number.start() < end for start, end in units)
    ]
    if numbers:
        changed["first_number"] = _raised(answer, numbers[0])
        if len(numbers) > 1:
            changed["last_number"] = _raised(answer, numbers[-1])
    interval = _INTERVAL.match(answer.strip())
    if interval is not None and answer.count(",") == 1:
        flipped = _other_endpoint(*interval.groups())
        if flipped is not None:
            changed["endpoint"] = flipped
    if _is_plain(answer) and answer.strip("0., "):
        changed["sign"] = _negated(answer.strip())
    if answer.strip().startswith(r"\{") or re.fullmatch(r"-?[0-9]+(\s*,\s*-?[0-9]+)+", answer):
        changed["member"] = _with_member(answer)
    if not changed:
        changed["added"] = f"{answer} + 1"
    return changed


def _raised(answer: str, number: re.Match[str]) -> str:
    digits = number.group()
    if digits.startswith("0") and len(digits) > 1:
        raised = digits[:-1] + str((int(digits[-1]) + 1) % 10)
    else:
        raised = str(int(digits) + 1)
    return answer[: number.start()] + raised + answer[number.end() :]


def _other_endpoint(left: str, inside: str, right: str) -> str | None:
    """Return the interval with its first finite end flipped; None where both ends are infinite."""
    first, _, last = inside.partition(",")
    if "infty" not in first:
        return f"{'(' if left == '[' else '['}{inside}{right}"
    if "infty" not in last:
        return f"{left}{inside}{')' if right == ']' else ']'}"
    return None


def _is_plain(answer: str) -> bool:
    """One value, whose negative is another value of the same form."""
    return not re.search(
        r"[,=:]|\\(?:cup|cap|in|pm|mp|le|ge|text|mbox|begin|\{|circ|%)", answer
    ) and (re.search(r"[0-9]", answer) is not None and "_" not in answer and "%" not in answer)


def _negated(answer: str) -> str:
    if answer.startswith("-"):
        return answer[1:]
    return f"-{answer}" if re.fullmatch(r"[0-9.,]+", answer) else f"-({answer})"


def _with_member(answer: str) -> str:
    closing = r"\}" if answer.strip().endswith(r"\}") else ""
    body = answer.strip().removesuffix(closing) if closing else answer.strip()
    return f"{body}, 98765{closing}"


def _other_words(answer: str, others: Sequence[str]) -> str:
    for other in others:
        match = _WORDS.fullmatch(other.strip())
        if match is not None and _bare(other) != _bare(answer):
            return other
    words = _WORDS.fullmatch(answer.strip())
    assert words is not None  # the caller looked
    return f"\\{words.group(1)}{{not {words.group(2)}}}"


def _bare(text: str) -> str:
    return re.sub(r"\W+", "", text).casefold()
