"""One call to a chat completions API, made until it is answered, or loudly not at all.

Knows the official `openai` client, which failures pass and which do not, waits, and the budget.
Refuses to spend what the budget does not hold, to repeat a call that cannot succeed, and to let
the key appear in any message.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cupel.errors import ConfigError, CupelError, InfrastructureFailure
from cupel.lab.randomness import Randomness, counter_of
from cupel.policy.api_calls import hidden, open_client, passes, wait_before
from cupel.teach.teachers.cache import HintCache
from cupel.teach.teachers.price import Price, most_tokens
from cupel.teach.teachers.prompt import Reply
from cupel.teach.teachers.teacher import BudgetExhausted, TeacherConfig

_PURPOSE = "teacher_backoff"
_OF_THIS_QUESTION = frozenset({"context_length_exceeded", "content_filter"})
"""Codes of refusals that concern one question; the others would refuse every question."""
_WHAT_TO_DO = {
    401: "the key in {key} is not accepted; export a valid one",
    403: "the key in {key} may not use this model or this address; check both",
    404: "no such model or address; check teacher.model and teacher.base_url",
}


class Stopped(CupelError):
    """Another call of the same batch has ended it; this one was not made."""


class Caller:
    """Makes calls; one for all threads of a teacher."""

    def __init__(
        self,
        config: TeacherConfig,
        *,
        provider: str | None,
        price: Price | None,
        cache: HintCache,
        randomness: Randomness,
    ) -> None:
        self._config = config
        self._price = price
        self._cache = cache
        self._randomness = randomness
        self._key = os.environ.get(config.api_key_variable, "")
        self._client = _client(config, provider, self._key)
        self._settled = threading.Condition()
        self._under_way = 0
        self._stop = threading.Event()

    def close(self) -> None:
        """Close the connections to the API."""
        self._client.close()

    def stop(self) -> None:
        """End all waiting; calls not yet begun raise `Stopped`."""
        self._stop.set()
        with self._settled:
            self._settled.notify_all()

    def ask(
        self,
        request_hash: str,
        attempt: int,
        messages: Sequence[Mapping[str, str]],
        response_format: Mapping[str, Any],
    ) -> Reply:
        """Return the reply; failures that pass are waited out until the deadline.

        Raises:
            BudgetExhausted: the call could cost more than the budget has left.
            InfrastructureFailure: it kept failing until the deadline.
            ConfigError: it can never succeed: key, model, address or request refused.
            Stopped: `stop` was called.
        """
        started = time.monotonic()
        most = (most_tokens(messages, response_format), self._config.max_tokens)
        at_most = self._cost(*most)
        failures = 0
        while True:
            number = self._begin(request_hash, at_most)
            try:
                reply = self._call(number, messages, response_format, most)
            finally:
                with self._settled:
                    self._under_way -= 1
                    self._settled.notify_all()
            if isinstance(reply, Reply):
                return reply
            wait = self._wait(reply, request_hash, attempt, failures)
            failures += 1
            spent = time.monotonic() - started
            if spent + wait > self._config.deadline_s:
                raise InfrastructureFailure(
                    f"teacher {self._config.model}: {failures} failed calls in {spent:.0f} s, the "
                    f"last: {self._hidden(reply)}; all answers given so far are kept. Run again "
                    "to continue, or raise teacher.deadline_s"
                )
            if self._stop.wait(wait):
                raise Stopped("stopped while waiting")

    def _begin(self, request_hash: str, at_most: float | None) -> int:
        """Write the call into the budget, when need be after those under way have settled."""
        with self._settled:
            while True:
                if self._stop.is_set():
                    raise Stopped("stopped before the call")
                number = self._cache.begin_call(
                    request_hash,
                    cost_at_most=at_most,
                    max_calls=self._config.max_calls,
                    max_cost=self._config.max_cost,
                )
                if number is not None:
                    self._under_way += 1
                    return number
                if self._under_way == 0:
                    raise BudgetExhausted("the budget is spent")
                self._settled.wait()

    def _call(
        self,
        number: int,
        messages: Sequence[Mapping[str, str]],
        response_format: Mapping[str, Any],
        most: tuple[int, int],
    ) -> Reply | Exception:
        """Make one call and write what became of it; return a failure that may pass."""
        import openai

        config, at_most = self._config, self._cost(*most)
        settings: dict[str, Any] = {config.max_tokens_name: config.max_tokens}
        if config.temperature is not None:
            settings["temperature"] = config.temperature
        try:
            completion: Any = self._client.chat.completions.create(
                model=config.model,
                messages=list(messages),
                response_format=response_format,
                **settings,
            )
            reply = _reply(completion, most)
        except openai.APIStatusError as error:
            self._cache.end_call(number, "turned_away", cost=0.0)
            if error.code in _OF_THIS_QUESTION:
                refusal = self._hidden(error)
                return Reply(
                    content=None, refusal=refusal, finish_reason="stop", tokens_in=0, tokens_out=0
                )
            if not passes(error):
                raise self._refused(error) from None
            return error
        except openai.APITimeoutError as error:
            self._cache.end_call(number, "unanswered", cost=at_most)
            return error
        except openai.APIConnectionError as error:
            self._cache.end_call(number, "turned_away", cost=0.0)
            return error
        except (openai.OpenAIError, ValueError) as error:
            self._cache.end_call(number, "unanswered", cost=at_most)
            return error
        self._cache.end_call(
            number,
            "answered",
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=self._cost(reply.tokens_in, reply.tokens_out),
        )
        return reply

    def _cost(self, tokens_in: int, tokens_out: int) -> float | None:
        return None if self._price is None else self._price.cost(tokens_in, tokens_out)

    def _refused(self, error: Any) -> ConfigError:
        todo = _WHAT_TO_DO.get(error.status_code, "the request itself is refused")
        if error.code == "insufficient_quota":
            todo = "the account has no credit left; add some"
        return ConfigError(
            f"teacher {self._config.model} at {self._client.base_url}: {error.status_code}: "
            f"{todo.format(key=self._config.api_key_variable)} ({self._hidden(error)}). All "
            "answers given so far are kept; the symbolic expert works offline: --skip-api "
            "(teacher.kind = expert)"
        )

    def _wait(self, error: Exception, request_hash: str, attempt: int, failures: int) -> float:
        """Return seconds to wait: doubled each time, with jitter, and no less than asked for."""
        counters = (counter_of(request_hash), attempt, failures)
        jitter = float(self._randomness.uniforms(_PURPOSE, [counters], 1)[0, 0])
        return wait_before(
            error, failures=failures, backoff_s=self._config.backoff_s, jitter=jitter
        )

    def _hidden(self, error: Exception) -> str:
        return hidden(error, self._key)


def provider_of(config: TeacherConfig) -> str | None:
    """Return the API's address where one is given, without any credentials in it."""
    url = config.base_url or os.environ.get("OPENAI_BASE_URL") or None
    if url is None:
        return None
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _client(config: TeacherConfig, provider: str | None, key: str) -> Any:
    if not key and provider is None:
        raise ConfigError(
            f"teacher {config.model}: the environment variable {config.api_key_variable} holds no "
            "key. Export one, name another variable (teacher.api_key_variable), give the address "
            "of a server of your own (teacher.base_url), or work offline with the symbolic "
            "expert: --skip-api (teacher.kind = expert)"
        )
    return open_client(
        base_url=provider or "https://api.openai.com/v1",
        key=key,
        timeout_s=config.timeout_s,
        what=f"teacher {config.model}",
    )


def _reply(completion: Any, most: tuple[int, int]) -> Reply:
    """Read a completion; one that does not say what it took is counted at the most it can."""
    choices = getattr(completion, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise ValueError("the answer is no chat completion")
    choice, usage = choices[0], completion.usage
    return Reply(
        content=choice.message.content,
        refusal=getattr(choice.message, "refusal", None),
        finish_reason=str(choice.finish_reason),
        tokens_in=most[0] if usage is None else int(usage.prompt_tokens),
        tokens_out=most[1] if usage is None else int(usage.completion_tokens),
    )
