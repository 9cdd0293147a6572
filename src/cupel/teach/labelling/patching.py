"""The notes of the contextual patch test: what each condition writes into the prompt.

Knows templates of few, short, lower-case words, and how long a neutral note must be. Refuses to
know where a note goes (`build_prompt`) and for how many steps it stays (the branching engine),
and to write a note that would say nothing: a format without content has no note.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from cupel.lab.randomness import counter_of
from cupel.teach.records import FORMATS, Condition, Hint, Moment

_DEMO = "in a case like this do"
_AVOID = "do not"
_INSTEAD = "here . do"
_STOP = "."
_NEUTRAL = (
    "this is a note . please look at the page with care and take your time . "
    "read all of the text you see and then go on as you would go on without this note ."
)

PATCH_WORDS: tuple[str, ...] = tuple(
    sorted({word for text in (_DEMO, _AVOID, _INSTEAD, _STOP, _NEUTRAL) for word in text.split()})
)
"""Every word that a template or a neutral note adds to what teacher and environment wrote."""


def count_words(text: str) -> int:
    """Return the number of words, the default measure of a note's length."""
    return len(text.split())


def build_notes(
    moment: Moment,
    hint: Hint,
    *,
    shuffled: str | None = None,
    count: Callable[[str], int] = count_words,
) -> dict[Condition, str]:
    """Return the note of each condition that has one.

    demo: the teacher's action and why. contrast: not the student's action, but the teacher's, and
    why. hint: what went wrong and why, without naming an action. placebo: neutral words, as many
    as the median of these three. shuffled: the hint note of another task, as given.

    An invalid hint has no notes at all, not even a placebo: there is nothing to compare it with.

    Args:
        shuffled: `hint_note` of another task's hint; None leaves the condition out.
        count: measures a note; the length of the placebo is matched in its unit.
    """
    made = {
        "demo": demo_note(hint),
        "contrast": contrast_note(moment, hint),
        "hint": hint_note(hint),
    }
    notes: dict[Condition, str] = {
        name: text for name in FORMATS if (text := made[name]) is not None
    }
    if not notes:
        return {}
    lengths = [count(text) for text in notes.values()]
    notes["placebo"] = neutral_note(round(statistics.median(lengths)), count=count)
    if shuffled is not None:
        notes["shuffled"] = shuffled
    return notes


def demo_note(hint: Hint) -> str | None:
    """Return the teacher's action as an example to follow, with its reason."""
    if not hint.valid or hint.suggested_action is None:
        return None
    return _joined(f"{_DEMO} {hint.suggested_action}", hint.rationale)


def contrast_note(moment: Moment, hint: Hint) -> str | None:
    """Return what to avoid and what to do instead; None where no other action exists."""
    if not hint.valid or hint.suggested_action is None:
        return None
    rejected = rejected_action(moment, hint.suggested_action)
    if rejected is None:
        return None
    return _joined(f"{_AVOID} {rejected} {_INSTEAD} {hint.suggested_action}", hint.rationale)


def hint_note(hint: Hint) -> str | None:
    """Return diagnosis and reason without an action of ours; None where the teacher gave none.

    The teacher's words may still name the action: `Hint.leaks_action` says so.
    """
    if not hint.valid:
        return None
    return _joined(hint.diagnosis, hint.rationale) or None


def rejected_action(moment: Moment, chosen: str) -> str | None:
    """Return the action to set against the chosen one: the student's own.

    Where the student did the chosen one, its likeliest other action (the first other action when
    no distribution is known); None where there is no other.
    """
    if moment.student_action != chosen:
        return moment.student_action
    others = [action for action in moment.valid_actions if action != chosen]
    if not others:
        return None
    if moment.student_probs is None:
        return others[0]
    probs = dict(zip(moment.valid_actions, moment.student_probs, strict=True))
    return max(others, key=lambda action: probs[action])


def neutral_note(length: int, *, count: Callable[[str], int] = count_words) -> str:
    """Return neutral words whose count comes closest to `length`, at least one.

    >>> neutral_note(4)
    'this is a note'
    """
    cycle = _NEUTRAL.split()
    best, words = cycle[0], [cycle[0]]
    while count(best) < length:
        words.append(cycle[len(words) % len(cycle)])
        longer = " ".join(words)
        if count(longer) - length > length - count(best):
            break
        best = longer
    return best


def shuffled_notes(moments: Sequence[Moment], hints: Mapping[str, Hint]) -> dict[str, str]:
    """Return, by snapshot id, the hint note of a snapshot of another task.

    The partner is the next one of another task, in the order of a hash of the ids: it depends on
    the set of hints only. A snapshot is left out when all hints are of its own task.
    """
    owners = sorted(moments, key=lambda moment: (counter_of(f"shuffled/{moment.id}"), moment.id))
    texts = [(moment, hint_note(hints[moment.id])) for moment in owners if moment.id in hints]
    donors = [(moment, text) for moment, text in texts if text is not None]
    notes: dict[str, str] = {}
    for at, (moment, _) in enumerate(donors):
        for donor, text in [*donors[at + 1 :], *donors[:at]]:
            if donor.task_id != moment.task_id:
                notes[moment.id] = text
                break
    return notes


def _joined(*parts: str) -> str:
    """Join parts with full stops that stand apart, as in all texts of a word-level model."""
    texts = [part.strip().rstrip(".").strip() for part in parts]
    return f" {_STOP} ".join(text for text in texts if text)
