"""The teacher behind an API: every moment asked about at most once, whatever happens between.

Knows requests, their hashes, bounded retries of unusable answers, and threads. Refuses to fill in
for an answer that stays unusable: its hint is invalid and says what was wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cupel.config import canonical_json
from cupel.lab.randomness import Randomness
from cupel.teach.records import Hint, Moment
from cupel.teach.teachers.cache import HintCache, HintRow
from cupel.teach.teachers.calls import Caller, Stopped, provider_of
from cupel.teach.teachers.price import TYPICAL_ANSWER, likely_tokens, most_tokens, price_of
from cupel.teach.teachers.prompt import (
    Answer,
    Reply,
    correction,
    messages_of,
    read_reply,
    schema_of,
)
from cupel.teach.teachers.teacher import (
    BudgetExhausted,
    TeacherConfig,
    TeacherForecast,
    TeacherRequest,
    leaks_action,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is sent for one moment; equal questions have equal hashes and are asked once."""

    hash: str
    actions: tuple[str, ...]
    messages: Sequence[Mapping[str, str]]
    response_format: Mapping[str, Any]


class ApiTeacher:
    """Answers by a chat completions API, with a cache and a budget."""

    def __init__(
        self, config: TeacherConfig, *, cache: Path | None, randomness: Randomness
    ) -> None:
        """Open the cache; nothing is called, and no key is needed, before something is asked.

        Raises:
            ConfigError: there is a budget in dollars, and the model's price is not known.
            DataError: the cache cannot be used.
        """
        self.name = f"api:{config.model}"
        self._config = config
        self._price = price_of(config)
        self._provider = provider_of(config)
        self._cache = HintCache(cache)
        self._randomness = randomness

    def answer(self, requests: Sequence[TeacherRequest]) -> list[Hint]:
        """Return one hint a request, in the order of the requests; see `Teacher.answer`."""
        questions = [self._question(request.moment) for request in requests]
        open_ones = {
            question.hash: question
            for question in questions
            if question.actions and not self._is_closed(question)
        }
        if open_ones:
            self._ask_all(list(open_ones.values()))
        return [
            self._hint(request.moment, question)
            for request, question in zip(requests, questions, strict=True)
        ]

    def estimate(self, requests: Sequence[TeacherRequest]) -> TeacherForecast:
        """Say what `answer` would take: calls, tokens and US dollars."""
        questions = [self._question(request.moment) for request in requests]
        asked = {question.hash: question for question in questions if question.actions}
        left = [question for question in asked.values() if not self._is_closed(question)]
        tokens_in = sum(likely_tokens(each.messages, each.response_format) for each in left)
        tokens_out = len(left) * min(TYPICAL_ANSWER, self._config.max_tokens)
        price, tries = self._price, self._config.retries + 1
        return TeacherForecast(
            requests=len(requests),
            cached=sum(self._is_closed(question) for question in questions),
            calls=len(left),
            calls_at_most=len(left) * tries,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=price.cost(tokens_in, tokens_out) if price else None,
            cost_at_most=sum(self._most(question) for question in left) if price else None,
        )

    def _question(self, moment: Moment) -> Question:
        messages = messages_of(moment)
        response_format = schema_of(moment.valid_actions)
        parts = {
            "provider": self._provider or "openai",
            "model": self._config.model,
            "messages": messages,
            "response_format": response_format,
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
        }
        return Question(
            hash=hashlib.sha256(canonical_json(parts).encode()).hexdigest(),
            actions=moment.valid_actions,
            messages=messages,
            response_format=response_format,
        )

    def _is_closed(self, question: Question) -> bool:
        """Whether nothing is left to be asked: an answer is there, or all attempts were in vain."""
        rows = self._cache.replies(question.hash)
        return bool(rows) and (rows[-1].valid or len(rows) > self._config.retries)

    def _most(self, question: Question) -> float:
        assert self._price is not None
        total = 0.0
        for attempt in range(self._config.retries + 1):
            messages = question.messages
            if attempt:
                messages = correction(messages, "\U0001f600" * 500, "x" * 300)
            tokens_in = most_tokens(messages, question.response_format)
            total += self._price.cost(tokens_in, self._config.max_tokens)
        return total

    def _ask_all(self, questions: Sequence[Question]) -> None:
        caller = Caller(
            self._config,
            provider=self._provider,
            price=self._price,
            cache=self._cache,
            randomness=self._randomness,
        )
        threads = self._config.concurrency
        with closing(caller), ThreadPoolExecutor(threads, thread_name_prefix="teacher") as pool:
            futures = [
                pool.submit(self._settle_or_stop, question, caller) for question in questions
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                caller.stop()
                for future in futures:
                    future.cancel()
        error = _error(futures)
        if isinstance(error, BudgetExhausted):
            raise self._exhausted(questions) from None
        if error is not None:
            raise error

    def _settle_or_stop(self, question: Question, caller: Caller) -> None:
        """Settle a question; whatever goes wrong ends the batch before another call begins."""
        try:
            self._settle(question, caller)
        except BaseException:
            caller.stop()
            raise

    def _settle(self, question: Question, caller: Caller) -> None:
        """Ask until the answer can be used or the retries are spent; write each reply at once."""
        rows = self._cache.replies(question.hash)
        while len(rows) <= self._config.retries and not (rows and rows[-1].valid):
            messages = question.messages
            if rows:
                messages = correction(messages, rows[-1].raw, rows[-1].problem)
            reply = caller.ask(question.hash, len(rows), messages, question.response_format)
            row = self._row(question, len(rows), messages, reply)
            self._cache.keep(row)
            rows.append(row)

    def _row(
        self,
        question: Question,
        attempt: int,
        messages: Sequence[Mapping[str, str]],
        reply: Reply,
    ) -> HintRow:
        read = read_reply(reply, question.actions)
        answer = read if isinstance(read, Answer) else None
        price = self._price
        return HintRow(
            request_hash=question.hash,
            attempt=attempt,
            provider=self._provider or "openai",
            model=self._config.model,
            prompt=json.dumps(messages, ensure_ascii=False),
            raw=reply.content or reply.refusal or "",
            parsed=json.dumps(asdict(answer), ensure_ascii=False) if answer else None,
            valid=answer is not None,
            problem=read if isinstance(read, str) else "",
            leak_flags=",".join(_leaks(answer)) if answer else "",
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=price.cost(reply.tokens_in, reply.tokens_out) if price else None,
        )

    def _hint(self, moment: Moment, question: Question) -> Hint:
        rows = self._cache.replies(question.hash) if question.actions else []
        if not rows or not rows[-1].valid:
            problem = rows[-1].problem if rows else "there is no valid action here"
            tried = f" ({len(rows)} attempts)" if rows else ""
            return Hint(
                snapshot_id=moment.id,
                teacher=self.name,
                valid=False,
                problem=f"{problem}{tried}",
                usage=_usage(rows),
            )
        answer = Answer(**json.loads(rows[-1].parsed or "{}"))
        return Hint(
            snapshot_id=moment.id,
            teacher=self.name,
            valid=True,
            suggested_action=answer.suggested_action,
            rationale=answer.rationale,
            diagnosis=answer.diagnosis,
            error_type=answer.error_type,
            confidence=answer.confidence,
            leaks_action=bool(_leaks(answer)),
            usage=_usage(rows),
        )

    def _exhausted(self, questions: Sequence[Question]) -> BudgetExhausted:
        spent, config = self._cache.spent(), self._config
        left = sum(not self._is_closed(question) for question in questions)
        where = self._cache.path
        cost = f" and {spent.cost:.4f} US dollars" if self._price else ""
        kept = (
            f"All answers given are kept in {where}. To go on, run again in a new output folder "
            f"with a larger teacher.max_calls or teacher.max_cost and teacher.cache = {where}: "
            "only the rest is asked"
            if where is not None
            else "Answers are kept in memory only; give teacher.cache a file"
        )
        return BudgetExhausted(
            f"teacher {config.model}: the budget (max_calls {config.max_calls}, max_cost "
            f"{config.max_cost}) does not hold the next call after {spent.calls} calls{cost}; "
            f"{left} of {len(questions)} moments asked about now remain. {kept}"
        )


def _error(futures: Sequence[Future[None]]) -> BaseException | None:
    """Return what ended a batch, a spent budget last, or None where nothing did."""
    ended = [future.exception() for future in futures if not future.cancelled()]
    errors = [error for error in ended if error and not isinstance(error, Stopped)]
    return next(iter(sorted(errors, key=lambda error: isinstance(error, BudgetExhausted))), None)


def _leaks(answer: Answer) -> list[str]:
    fields = {"rationale": answer.rationale, "diagnosis": answer.diagnosis}
    return [name for name, text in fields.items() if leaks_action(text, answer.suggested_action)]


def _usage(rows: Sequence[HintRow]) -> dict[str, float]:
    usage: dict[str, float] = {
        "attempts": len(rows),
        "tokens_in": sum(row.tokens_in for row in rows),
        "tokens_out": sum(row.tokens_out for row in rows),
    }
    costs = [row.cost for row in rows if row.cost is not None]
    return usage | ({"cost": sum(costs)} if costs else {})
