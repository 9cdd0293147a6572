"""From labelled moments to training examples: prompt, completion, and what else a format needs.

Knows the three formats and their two kinds each. Refuses to build a prompt of its own: training
reads what acting reads, character for character. A moment whose hint is unusable gives no example
and is counted, and how often the note in the prompt gives the answer away is counted too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cupel.errors import DataError
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.patching import contrast_note, hint_note, rejected_action
from cupel.teach.students.prompts import build_prompt, completion_of
from cupel.teach.teachers.teacher import leaks_action

Format = Literal["demo", "contrast", "hint"]
"""demo: state, then the teacher's action; contrast: beside the student's own; hint: with the
teacher's diagnosis."""
ContrastAs = Literal["text", "loss"]
"""text: a note in the prompt names both actions, as the documents have it: the answer stands in
the prompt, so the loss is largely a copy task, and at test time the note is absent; loss: no note,
the teacher's action is raised against the student's."""
HintAs = Literal["text", "distill"]
"""text: the hint is a note in the prompt; distill: the model with the note teaches the model
without it (context distillation), so that nothing is missing at test time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training example. At most one of `rejected` and `guided_prompt` is set.

    Attributes:
        prompt: what the model reads, from `build_prompt`.
        completion: what it is to write; the end token follows.
        rejected: the completion it is to write less (contrast as loss).
        guided_prompt: the prompt with the note, whose distribution over `actions` is the target
            (hint as distillation).
        actions: the state's valid actions.
        weight: share of this example in the loss.
        answer_in_prompt: the note in `prompt` contains the completion's action.
    """

    prompt: str
    completion: str
    rejected: str | None = None
    guided_prompt: str | None = None
    actions: tuple[str, ...] = ()
    snapshot_id: str = ""
    task_id: str = ""
    format: Format = "demo"
    weight: float = 1.0
    answer_in_prompt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """The examples of a set of moments.

    Attributes:
        dropped: moments that gave no example, by reason.
        answer_in_prompt_rate: share of the examples whose note gives the answer away; None
            without examples.
    """

    examples: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def answer_in_prompt_rate(self) -> float | None:
        """Share of examples with the answer in the prompt's note."""
        if not self.examples:
            return None
        return sum(example.answer_in_prompt for example in self.examples) / len(self.examples)


def usable(labels: Sequence[LabelledMoment]) -> list[LabelledMoment]:
    """Return the moments whose hint names an action to be taught, in order."""
    return [label for label in labels if _problem(label, "demo") is None]


def supervise(
    labels: Sequence[LabelledMoment],
    format: Format,
    *,
    contrast_as: ContrastAs = "text",
    hint_as: HintAs = "text",
    targets: Mapping[str, str] | None = None,
) -> Supervision:
    """Make the examples of `labels`, in their order.

    Args:
        targets: another action to write instead of the teacher's, by moment id (controls); demo
            only, because a note would contradict it.

    Raises:
        DataError: `targets` with another format than demo, or a target that is not valid.
    """
    if targets is not None and format != "demo":
        raise DataError(
            f"supervise: targets other than the teacher's go with format demo, not {format}; "
            "its note would name the teacher's action"
        )
    made: list[Example] = []
    dropped: Counter[str] = Counter()
    for label in labels:
        problem = _problem(label, format)
        if problem is not None:
            dropped[problem] += 1
        elif format == "demo":
            made.append(_demo(label, (targets or {}).get(label.id)))
        elif format == "contrast" and contrast_as == "loss":
            made.append(_contrast_as_loss(label))
        else:
            distill = format == "hint" and hint_as == "distill"
            made.append(_with_note(label, format, distill=distill))
    return Supervision(examples=tuple(made), dropped=dict(sorted(dropped.items())))


def examples(
    labels: Sequence[LabelledMoment],
    format: Format,
    *,
    contrast_as: ContrastAs = "text",
    hint_as: HintAs = "text",
) -> list[Example]:
    """Return the examples alone; see `supervise`.

    Raises:
        DataError: no moment gives an example; says why for each reason.
    """
    made = supervise(labels, format, contrast_as=contrast_as, hint_as=hint_as)
    if not made.examples:
        reasons = ", ".join(f"{count} {reason}" for reason, count in made.dropped.items())
        raise DataError(
            f"supervision {format}: {len(labels)} moments give no example ({reasons or 'none'}); "
            "label with a teacher, or choose other moments"
        )
    return list(made.examples)


def _problem(label: LabelledMoment, format: Format) -> str | None:
    """Return why a moment gives no example of a format, or None where it gives one."""
    hint, actions = label.hint, label.moment.valid_actions
    if hint is None:
        return "no hint"
    if not hint.valid:
        return "invalid hint"
    if hint.suggested_action is None or hint.suggested_action not in actions:
        return "hint names no valid action"
    if format == "contrast" and rejected_action(label.moment, hint.suggested_action) is None:
        return "no other action to contrast with"
    if format == "hint" and hint_note(hint) is None:
        return "hint without words"
    return None


def _demo(label: LabelledMoment, target: str | None) -> Example:
    moment = label.moment
    action = target if target is not None else _answer(label)
    if action not in moment.valid_actions:
        raise DataError(
            f"supervise: moment {label.id}: target '{action}' is not valid there; valid: "
            f"{', '.join(moment.valid_actions)}"
        )
    return _example(label, "demo", _plain_prompt(label), action)


def _contrast_as_loss(label: LabelledMoment) -> Example:
    other = rejected_action(label.moment, _answer(label))
    assert other is not None
    prompt = _plain_prompt(label)
    return _example(label, "contrast", prompt, _answer(label), rejected=completion_of(other))


def _with_note(label: LabelledMoment, format: Format, *, distill: bool) -> Example:
    moment, hint = label.moment, label.hint
    assert hint is not None
    note = contrast_note(moment, hint) if format == "contrast" else hint_note(hint)
    assert note is not None
    guided = build_prompt(moment.task, moment.observation, moment.valid_actions, patch=note)
    answer = _answer(label)
    if distill:
        return _example(label, format, _plain_prompt(label), answer, guided_prompt=guided)
    leaks = leaks_action(note, answer)
    return _example(label, format, guided, answer, answer_in_prompt=leaks)


def _example(
    label: LabelledMoment,
    format: Format,
    prompt: str,
    action: str,
    *,
    rejected: str | None = None,
    guided_prompt: str | None = None,
    answer_in_prompt: bool = False,
) -> Example:
    return Example(
        prompt=prompt,
        completion=completion_of(action),
        rejected=rejected,
        guided_prompt=guided_prompt,
        actions=label.moment.valid_actions,
        snapshot_id=label.id,
        task_id=label.moment.task_id,
        format=format,
        answer_in_prompt=answer_in_prompt,
    )


def _plain_prompt(label: LabelledMoment) -> str:
    moment = label.moment
    return build_prompt(moment.task, moment.observation, moment.valid_actions)


def _answer(label: LabelledMoment) -> str:
    assert label.hint is not None
    assert label.hint.suggested_action is not None
    return label.hint.suggested_action
