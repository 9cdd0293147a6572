"""The API teacher against a local server: what it asks, what it accepts, and what it pays."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cupel.errors import ConfigError, InfrastructureFailure
from cupel.lab.randomness import Randomness
from cupel.teach.environments.base import EnvironmentConfig, make_environment, take_snapshot
from cupel.teach.records import Moment, hint_of, to_row
from cupel.teach.teachers.teacher import (
    BudgetExhausted,
    Teacher,
    TeacherConfig,
    TeacherRequest,
    build_teacher,
)

pytest.importorskip("openai")
ENVIRONMENT = EnvironmentConfig(name="corridor")
KEY = "secret-key-of-the-test"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


served = _load("teacher_server")
Said, hint_text, actions_of = served.Said, served.hint_text, served.actions_of


def good(request: dict[str, Any], number: int) -> Any:
    return Said(hint_text(actions_of(request)[-1]))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    servers = []

    def start(script: Any) -> Any:
        servers.append(served.TeacherServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def moments(count: int) -> list[TeacherRequest]:
    """The starts of corridors, walked to and fro so that every moment is another one."""
    made = []
    for number in range(count):
        environment = make_environment(ENVIRONMENT)
        environment.reset(1 + number % 2)
        for turn in range(number // 2):
            environment.step("right" if turn % 2 == 0 else "left")
        made.append(
            TeacherRequest(
                moment=Moment(
                    snapshot=take_snapshot(environment),
                    task=environment.task(),
                    observation=environment.observe(),
                    valid_actions=environment.valid_actions(),
                    step_idx=len(environment.actions),
                    trajectory_id=f"t{number}",
                    outcome="failure",
                    student_action="left",
                    student_probs=None,
                    failure_type="timeout",
                    anchor_step=0,
                    anchor_rule="timeout",
                    offset=0,
                    key_hash="k",
                )
            )
        )
    return made


def teacher_at(url: str, cache: Path | None = None, **settings: Any) -> Teacher:
    quick = {"kind": "api", "base_url": url, "backoff_s": 0.01, "timeout_s": 5.0} | settings
    return build_teacher(TeacherConfig(**quick), ENVIRONMENT, cache=cache, randomness=Randomness(1))


def test_a_valid_answer_becomes_a_hint_of_the_shared_schema(serve: Any, tmp_path: Path) -> None:
    server = serve(good)
    (hint,) = teacher_at(server.url, tmp_path / "hint.sqlite").answer(moments(1))
    assert hint.valid
    assert hint.suggested_action == "leap"
    assert hint.teacher == "api:gpt-4o-mini"
    assert hint.error_type == "planning_error"
    assert hint.confidence == "high"
    assert not hint.leaks_action
    assert hint.usage["attempts"] == 1
    assert hint.usage["cost"] > 0
    assert hint_of(json.loads(json.dumps(to_row(hint)))) == hint
    assert server.keys == [f"Bearer {KEY}"]


def test_the_teacher_sees_all_that_the_student_saw(serve: Any) -> None:
    server = serve(good)
    request = moments(6)[-1]
    teacher_at(server.url).answer([request])
    (sent,) = server.requests
    question = sent["messages"][1]["content"]
    moment = request.moment
    for part in (moment.task, moment.observation, *moment.valid_actions, "right ; left"):
        assert part in question
    assert "chose here: left" in question
    assert actions_of(sent) == list(moment.valid_actions)
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert sent["temperature"] == 0.0
    assert sent["max_tokens"] == 256


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (Said(hint_text("fly")), "the action 'fly' is none of the 3 valid actions"),
        (Said("I would go right."), "not JSON"),
        (Said("[1]"), "no JSON object"),
        (Said(hint_text("right", rationale=None)), "no text 'rationale'"),
        (Said(hint_text("right", rationale=" ")), "the rationale is empty"),
        (Said(hint_text("right", error_type="typo")), "error_type 'typo'"),
        (Said(hint_text("right", mood="good")), "unknown field 'mood'"),
        (Said(None, refusal="I cannot help with that."), "refused: I cannot help"),
        (Said('{"suggested_action": "ri', finish_reason="length"), "cut off"),
        (Said("", finish_reason="content_filter"), "content filter"),
    ],
)
def test_an_unusable_answer_is_asked_again_then_marked_invalid(
    serve: Any, said: Any, problem: str
) -> None:
    server = serve(lambda request, number: said)
    (hint,) = teacher_at(server.url, retries=2).answer(moments(1))
    assert not hint.valid
    assert hint.suggested_action is None
    assert problem in hint.problem
    assert "(3 attempts)" in hint.problem
    assert len(server.requests) == 3
    assert hint.usage["attempts"] == 3


def test_a_corrected_answer_counts_and_the_correction_names_the_problem(serve: Any) -> None:
    script = [Said(hint_text("fly")), Said(hint_text("right"))]
    server = serve(lambda request, number: script[number])
    (hint,) = teacher_at(server.url).answer(moments(1))
    assert hint.valid
    assert hint.suggested_action == "right"
    assert "'fly' is none of" in server.requests[1]["messages"][-1]["content"]


def test_a_hint_that_names_its_action_is_flagged(serve: Any) -> None:
    server = serve(lambda request, number: Said(hint_text("leap", rationale="Leap, you fool.")))
    (hint,) = teacher_at(server.url).answer(moments(1))
    assert hint.valid
    assert hint.leaks_action


@pytest.mark.parametrize(
    "first",
    [
        Said(status=500),
        Said(status=503),
        Said(status=429, error={"message": "slow down", "code": "rate_limit_exceeded"}),
        Said(hint_text("right"), delay_s=0.6),
        Said(body=b"<html>gateway</html>"),
    ],
    ids=["500", "503", "429", "timeout", "not-json"],
)
def test_a_failure_that_passes_is_waited_out(serve: Any, first: Any) -> None:
    server = serve(lambda request, number: first if number == 0 else good(request, number))
    (hint,) = teacher_at(server.url, timeout_s=0.3).answer(moments(1))
    assert hint.valid
    assert hint.usage["attempts"] == 1
    assert len(server.requests) == 2


def test_retry_after_is_respected(serve: Any) -> None:
    busy = Said(status=429, headers={"Retry-After": "1"})
    server = serve(lambda request, number: busy if number == 0 else good(request, number))
    started = time.monotonic()
    teacher_at(server.url).answer(moments(1))
    assert time.monotonic() - started >= 1.0


def test_failing_until_the_deadline_is_the_machines_failure(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda request, number: Said(status=500))
    teacher = teacher_at(server.url, tmp_path / "hint.sqlite", deadline_s=0.2)
    with pytest.raises(InfrastructureFailure, match=r"failed calls in .*Run again"):
        teacher.answer(moments(1))


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, {"message": f"bad key {KEY}"}, "401: the key in OPENAI_API_KEY is not accepted"),
        (403, {"message": "no"}, "403: the key in OPENAI_API_KEY may not use"),
        (404, {"message": "no such model"}, "404: no such model or address"),
        (400, {"message": "bad schema"}, "400: the request itself is refused"),
        (429, {"message": "no", "code": "insufficient_quota"}, "no credit left"),
    ],
)
def test_a_failure_that_lasts_stops_at_once_without_the_key(
    serve: Any, status: int, error: dict[str, str], said: str
) -> None:
    server = serve(lambda request, number: Said(status=status, error=error))
    with pytest.raises(ConfigError, match=said) as caught:
        teacher_at(server.url, concurrency=1).answer(moments(4))
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)
    assert "--skip-api" in str(caught.value)


def test_a_question_too_long_for_the_model_costs_only_itself(serve: Any) -> None:
    long = Said(status=400, error={"message": "too long", "code": "context_length_exceeded"})
    server = serve(lambda request, number: long if number == 0 else good(request, number))
    hints = teacher_at(server.url, concurrency=1, retries=0).answer(moments(2))
    assert [hint.valid for hint in hints] == [False, True]
    assert "too long" in hints[0].problem


def test_without_key_or_server_the_message_names_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    teacher = build_teacher(
        TeacherConfig(kind="api"), ENVIRONMENT, cache=None, randomness=Randomness(1)
    )
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY holds no key.*--skip-api"):
        teacher.answer(moments(1))


def test_the_address_may_come_from_the_environment(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(good)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.delenv("OPENAI_API_KEY")
    teacher = build_teacher(
        TeacherConfig(kind="api"), ENVIRONMENT, cache=None, randomness=Randomness(1)
    )
    assert teacher.answer(moments(1))[0].valid


def test_a_model_of_unknown_price_needs_one_for_a_budget_in_dollars() -> None:
    with pytest.raises(ConfigError, match=r"price is not known.*price_in"):
        teacher_at("http://127.0.0.1:1/v1", model="own-model")
    free = teacher_at("http://127.0.0.1:1/v1", model="own-model", price_in=0.0, price_out=0.0)
    assert free.estimate(moments(2)).cost == 0.0
    unlimited = teacher_at("http://127.0.0.1:1/v1", model="own-model", max_cost=None)
    assert unlimited.estimate(moments(2)).cost is None


def test_nothing_is_asked_twice(serve: Any, tmp_path: Path) -> None:
    server = serve(good)
    cache = tmp_path / "hint.sqlite"
    first = teacher_at(server.url, cache).answer(moments(6))
    again = teacher_at(server.url, cache).answer(moments(6))
    assert again == first
    assert len(server.requests) == 6
    other = teacher_at(server.url, cache, temperature=0.7).answer(moments(1))
    assert other[0].valid
    assert len(server.requests) == 7


def test_equal_moments_are_asked_about_once(serve: Any) -> None:
    server = serve(good)
    hints = teacher_at(server.url).answer(moments(1) * 5)
    assert len(server.requests) == 1
    assert len(hints) == 5


def test_an_exhausted_budget_keeps_its_answers_and_a_larger_one_continues(
    serve: Any, tmp_path: Path
) -> None:
    server = serve(good)
    cache = tmp_path / "hint.sqlite"
    with pytest.raises(BudgetExhausted, match=r"after 4 calls.*6 of 10 moments") as caught:
        teacher_at(server.url, cache, max_calls=4).answer(moments(10))
    assert str(cache) in str(caught.value)
    assert len(server.requests) == 4
    with pytest.raises(BudgetExhausted):
        teacher_at(server.url, cache, max_calls=4).answer(moments(10))
    assert len(server.requests) == 4
    hints = teacher_at(server.url, cache, max_calls=20).answer(moments(10))
    assert all(hint.valid for hint in hints)
    assert len(server.requests) == 10


def test_the_budget_in_dollars_is_never_passed(serve: Any, tmp_path: Path) -> None:
    server = serve(good)
    cache = tmp_path / "hint.sqlite"
    one = teacher_at(server.url, cache).answer(moments(1))[0].usage["cost"]
    budget = one * 12
    with pytest.raises(BudgetExhausted, match=r"US dollars; \d+ of 29 moments"):
        teacher_at(server.url, cache, max_cost=budget, concurrency=4).answer(moments(30))
    with sqlite3.connect(cache) as connection:
        (spent,) = connection.execute("SELECT SUM(cost) FROM call").fetchone()
    connection.close()
    assert 0.5 * budget < spent <= budget


def test_answers_come_in_order_and_calls_run_at_once(serve: Any) -> None:
    def slow_first(request: dict[str, Any], number: int) -> Any:
        actions = actions_of(request)
        return Said(hint_text(actions[number % len(actions)]), delay_s=0.3 if number < 2 else 0.05)

    server = serve(slow_first)
    asked = moments(8)
    hints = teacher_at(server.url, concurrency=4).answer(asked)
    assert [hint.snapshot_id for hint in hints] == [request.moment.id for request in asked]
    assert 2 <= server.most_under_way <= 4


def test_the_forecast_holds(serve: Any, tmp_path: Path) -> None:
    server = serve(good)
    teacher = teacher_at(server.url, tmp_path / "hint.sqlite")
    told = teacher.estimate(moments(8))
    assert server.requests == []
    hints = teacher.answer(moments(8))
    tokens_in = sum(hint.usage["tokens_in"] for hint in hints)
    cost = sum(hint.usage["cost"] for hint in hints)
    assert told.calls == len(server.requests) == 8
    assert 0.5 <= told.tokens_in / tokens_in <= 2.0
    assert told.cost is not None
    assert told.cost_at_most is not None
    assert 0.5 <= told.cost / cost <= 2.0
    assert cost <= told.cost_at_most
    after = teacher.estimate(moments(10))
    assert (after.cached, after.calls) == (8, 2)


def test_a_killed_process_pays_for_no_answer_twice(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda request, number: Said(hint_text("right"), delay_s=0.05))
    cache = tmp_path / "hint.sqlite"
    script = (
        "import importlib.util, sys, pathlib\n"
        f"spec = importlib.util.spec_from_file_location('t', {str(Path(__file__))!r})\n"
        "t = importlib.util.module_from_spec(spec); sys.modules['t'] = t\n"
        "spec.loader.exec_module(t)\n"
        f"t.teacher_at({server.url!r}, pathlib.Path({str(cache)!r}), concurrency=1)"
        ".answer(t.moments(40))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while len(server.requests) < 5:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = len(server.requests)
    hints = teacher_at(server.url, cache).answer(moments(40))
    assert all(hint.valid for hint in hints)
    assert len(server.requests) - before >= 40 - before
    assert len(server.requests) <= 41  # only the call that was under way is made again
    with sqlite3.connect(cache) as connection:
        calls = connection.execute("SELECT outcome, COUNT(*) FROM call GROUP BY 1").fetchall()
    connection.close()
    assert dict(calls)["answered"] == 40


def test_the_cache_holds_the_documented_columns_and_no_key(serve: Any, tmp_path: Path) -> None:
    server = serve(good)
    cache = tmp_path / "hint.sqlite"
    teacher_at(server.url, cache).answer(moments(1))
    connection = sqlite3.connect(cache)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(hint)")}
    connection.close()
    documented = "request_hash provider model prompt raw parsed valid leak_flags tokens_in"
    assert columns >= {*documented.split(), "tokens_out", "cost", "created"}
    assert KEY.encode() not in cache.read_bytes()
