"""What a teacher is: asked about moments, it answers one hint each, or says that it could not.

Knows the settings, the protocol and which class answers to which kind. Refuses to invent: where
a teacher has no action to suggest, the hint is marked invalid and says why, and nothing stands in
for it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from cupel.config import Config
from cupel.errors import UsageError
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.records import Hint, Moment

if TYPE_CHECKING:
    from cupel.lab.randomness import Randomness

TeacherKind = Literal["expert", "noisy_expert", "api"]

ERROR_TYPES = (
    "affordance_miss",
    "attribute_confusion",
    "planning_error",
    "exploration_failure",
)
"""What a student got wrong: an available action overlooked, two things mixed up, the right steps
in the wrong order, or too little looked at before deciding."""
CONFIDENCES = ("low", "medium", "high")


class TeacherConfig(Config):
    """Who answers, and what an answer may cost."""

    kind: TeacherKind = "expert"
    """expert: the environment's symbolic expert, offline; noisy_expert: the same with flipped
    actions, for ablations; api: a model behind an OpenAI-compatible chat completions API."""
    flip_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of answers in which the noisy expert names another valid action."""
    model: str = "gpt-4o-mini"
    """Model of the API."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """Sampling temperature of the API; null: not sent, for models that refuse it."""
    max_tokens: Annotated[int, Field(ge=16)] = 256
    """Tokens an answer may have."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the API calls that limit; reasoning models want max_completion_tokens."""
    base_url: str | None = None
    """Address of the API; default: OPENAI_BASE_URL, then OpenAI's own."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is never a setting."""
    cache: str | None = None
    """File of answers (sqlite); default: hint.sqlite in the run folder. Answers found there are
    not asked again, and what they cost counts towards the budget."""
    max_calls: Annotated[int, Field(ge=0)] | None = 10_000
    """Calls that the cache may record, those of earlier runs included, those that the API turned
    away (overload) not; null: no limit."""
    max_cost: Annotated[float, Field(ge=0)] | None = 5.0
    """US dollars that the calls which the cache records may cost; null: no limit."""
    price_in: Annotated[float, Field(ge=0)] | None = None
    """US dollars per million prompt tokens; default: the list price of a model known here."""
    price_out: Annotated[float, Field(ge=0)] | None = None
    """US dollars per million answer tokens; default: the list price of a model known here."""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds one call may take."""
    deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds after which a call that keeps failing (overload, timeouts) stops the run."""
    backoff_s: Annotated[float, Field(gt=0)] = 0.5
    """Seconds before a failed call is repeated; doubled each time, up to 60, with jitter."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often an unusable answer is asked for again, with what was wrong with it."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Calls under way at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRequest:
    """A moment to be judged; the state is restored from its snapshot by whoever needs it."""

    moment: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherForecast:
    """What asking would take, told without asking.

    Attributes:
        requests: moments asked about; `cached` of them are answered already.
        calls: calls still to be made if every answer is usable; `calls_at_most` with retries.
        tokens_in, tokens_out: expected tokens of `calls`.
        cost: expected US dollars; None where the model's price is not known.
        cost_at_most: US dollars if every answer is as long as allowed and asked for again.
    """

    requests: int
    cached: int = 0
    calls: int = 0
    calls_at_most: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0
    cost_at_most: float | None = 0.0


class Teacher(Protocol):
    """Answers about moments.

    Attributes:
        name: as in `Hint.teacher`.
    """

    name: str

    def answer(self, requests: Sequence[TeacherRequest]) -> list[Hint]:
        """Return one hint a request, in the order of the requests.

        Raises:
            BudgetExhausted: the budget ends before the last answer; all answers given are kept.
            InfrastructureFailure: the teacher cannot be reached; all answers given are kept.
            ConfigError: an API's key or package is missing, or it refuses the request.
            DataError: a snapshot does not restore.
        """
        ...

    def estimate(self, requests: Sequence[TeacherRequest]) -> TeacherForecast:
        """Say what `answer` would take, without asking anybody."""
        ...


class BudgetExhausted(UsageError):
    """The teacher's budget is spent; a larger one continues where this one ended."""


def build_teacher(
    config: TeacherConfig,
    environment: EnvironmentConfig,
    *,
    cache: Path | None,
    randomness: Randomness,
) -> Teacher:
    """Make the teacher that a config names.

    Args:
        environment: where the moments were mined; the expert restores them there.
        cache: file of answers when the config names none; None: answers are kept nowhere.
        randomness: of the noisy expert's flips and of the waits between retries.

    An API teacher needs its package and its key only when something must be asked: a run whose
    answers are all in the cache repeats without either.

    Raises:
        ConfigError: kind `api` with a budget in dollars, and the model's price is not known.
    """
    if config.kind == "api":
        from cupel.teach.teachers.api import ApiTeacher

        file = Path(config.cache) if config.cache is not None else cache
        return ApiTeacher(config, cache=file, randomness=randomness)
    from cupel.teach.teachers.expert import ExpertTeacher

    flip_rate = config.flip_rate if config.kind == "noisy_expert" else 0.0
    return ExpertTeacher(environment, flip_rate=flip_rate, randomness=randomness)


def leaks_action(text: str, action: str | None) -> bool:
    """Say whether a text contains an action's name, letter case and punctuation aside.

    >>> leaks_action("Try Click[Buy-Now] at once.", "click[buy now]")
    True
    >>> leaks_action("Look at the price first.", "click[buy now]")
    False
    """
    words = _words(action or "")
    return bool(words) and f" {words} " in f" {_words(text)} "


def _words(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded.replace("_", " ")))
