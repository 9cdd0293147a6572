"""One problem, and which of two fixed splits its text falls into.

Knows a problem's fields and a hash. Refuses to know where problems come from. A problem's split
depends on a hash of its text and on nothing else, so that no order, seed or file can move a
held-out problem into training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One prompt with a checkable answer.

    Attributes:
        id: first 12 hex digits of the SHA-256 of the problem's text, before the template.
        prompt: what the policy is given, template applied.
        answer: the reference answer, never empty.
        subject, level: for breakdowns; None where the source does not say.
    """

    id: str
    prompt: str
    answer: str
    subject: str | None = None
    level: str | None = None


def text_hash(text: str) -> str:
    """Return the SHA-256 of a problem's text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_held_out(text: str, fraction: float) -> bool:
    """Say whether a problem's text falls into the held-out split."""
    return int(text_hash(text)[:13], 16) < fraction * 16.0**13
