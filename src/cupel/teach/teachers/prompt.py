"""What an API teacher is asked, and how strictly its answer is read.

Pure: a moment in, messages and a JSON schema out; a reply in, an answer or the reason why it is
none. Refuses to shorten: instruction, observation and every valid action stand in the question as
the student saw them. Refuses to repair: an answer outside the list is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.teach.records import Moment
from cupel.teach.teachers.teacher import CONFIDENCES, ERROR_TYPES

FREE_QUERY = "search[...]"
"""A valid action of this name stands for any query; its text is the answer's `search_query`."""
RECENT = 8
"""How many of the student's last actions are shown."""
_ECHO = 500

_SYSTEM = """\
You correct an agent that acts in a text environment. You see its task, what it sees now, every \
action it may take now, what it did before, and the action it chose here. Name the best action to \
take now and say briefly why.
suggested_action: copied exactly from the list of valid actions.
rationale: why, in one or two sentences, for an agent that will read them before it chooses. Speak \
of what matters for the choice; do not spell out the action itself.
diagnosis: what the agent gets wrong here, in one or two sentences; do not spell out the action.
error_type: affordance_miss (an available action was overlooked), attribute_confusion (attributes \
of things were mixed up), planning_error (right steps in the wrong order), exploration_failure \
(too little was looked at before deciding).
confidence: low, medium or high.
Answer with one JSON object holding these fields and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A usable reply."""

    suggested_action: str
    rationale: str
    diagnosis: str
    error_type: str
    confidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back from the API, before it is judged.

    Attributes:
        content: the text, None where there was none.
        refusal: the model's refusal, None where it did not refuse.
        finish_reason: `stop`, `length`, `content_filter`, ...
    """

    content: str | None
    refusal: str | None
    finish_reason: str
    tokens_in: int
    tokens_out: int


def messages_of(moment: Moment) -> list[dict[str, str]]:
    """Return the chat messages that ask about a moment."""
    way = moment.snapshot.actions[-RECENT:]
    earlier = len(moment.snapshot.actions) - len(way)
    shown = " ; ".join(way) if way else "nothing yet"
    before = f"{shown} (after {earlier} earlier actions)" if earlier else shown
    actions = "\n".join(f"- {action}" for action in moment.valid_actions)
    question = (
        f"Task: {moment.task}\n\nWhat it sees now:\n{moment.observation}\n\n"
        f"Valid actions ({len(moment.valid_actions)}):\n{actions}\n\n"
        f"What it did before: {before}\n\nThe action it chose here: {moment.student_action}"
    )
    if FREE_QUERY in moment.valid_actions:
        question += f"\n\nWith {FREE_QUERY}, put the query into search_query; otherwise ''."
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]


def schema_of(actions: Sequence[str]) -> dict[str, Any]:
    """Return the response format: a strict JSON schema whose action is one of `actions`."""
    properties: dict[str, Any] = {
        "diagnosis": {"type": "string"},
        "rationale": {"type": "string"},
        "suggested_action": {"type": "string", "enum": list(actions)},
        "error_type": {"type": "string", "enum": list(ERROR_TYPES)},
        "confidence": {"type": "string", "enum": list(CONFIDENCES)},
    }
    if FREE_QUERY in actions:
        properties["search_query"] = {"type": "string"}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "hint",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }


def read_reply(reply: Reply, actions: Sequence[str]) -> Answer | str:
    """Return the answer in a reply, or in one line why there is none."""
    if reply.refusal:
        return f"the teacher refused: {_short(reply.refusal)}"
    if reply.finish_reason == "length":
        return "the answer was cut off at the limit of tokens"
    if reply.finish_reason == "content_filter":
        return "the answer was withheld by the API's content filter"
    try:
        value = json.loads(reply.content or "")
    except json.JSONDecodeError:
        return f"the answer is not JSON: {_short(reply.content or '(empty)')}"
    if not isinstance(value, dict):
        return f"the answer is no JSON object: {_short(reply.content or '')}"
    return _judged(value, actions)


def correction(messages: Sequence[Mapping[str, str]], reply: str, problem: str) -> list[Any]:
    """Return the messages that ask again, with the unusable reply and what was wrong with it."""
    return [
        *messages,
        {"role": "assistant", "content": reply[:_ECHO] or "(no text)"},
        {
            "role": "user",
            "content": f"That cannot be used: {problem}. Answer again: one JSON object with the "
            "fields named above, suggested_action copied exactly from the list.",
        },
    ]


def _judged(value: Mapping[str, Any], actions: Sequence[str]) -> Answer | str:
    wanted = list(schema_of(actions)["json_schema"]["schema"]["properties"])
    for name in wanted:
        if not isinstance(value.get(name), str):
            return f"the answer has no text '{name}'"
    unknown = sorted(set(value) - set(wanted))
    if unknown:
        return f"the answer has the unknown field '{_short(unknown[0])}'"
    action = value["suggested_action"]
    if action not in actions:
        return f"the action '{_short(action)}' is none of the {len(actions)} valid actions"
    for name, allowed in (("error_type", ERROR_TYPES), ("confidence", CONFIDENCES)):
        if value[name] not in allowed:
            return f"{name} '{_short(value[name])}' is none of {', '.join(allowed)}"
    if not value["rationale"].strip():
        return "the rationale is empty"
    if action == FREE_QUERY:
        query = value["search_query"].strip()
        if not query:
            return f"{FREE_QUERY} without a query"
        action = f"search[{query}]"
    return Answer(
        suggested_action=action,
        rationale=value["rationale"].strip(),
        diagnosis=value["diagnosis"].strip(),
        error_type=value["error_type"],
        confidence=value["confidence"],
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:117]}..."
