"""`cupel teach hints` with a teacher behind an API: a local server, budgets, keys, the cache."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result

from cupel.teach.records import to_row

pytest.importorskip("openai")
Invoke = Callable[..., Result]
KEY = "secret-key-of-the-test"


def _load(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "teach" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"cli_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


served = _load("teacher_server")
asked = _load("test_teacher_api")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = served.TeacherServer(
        lambda request, number: served.Said(served.hint_text(served.actions_of(request)[-1]))
    )
    monkeypatch.setenv("OPENAI_BASE_URL", found.url)
    yield found
    found.close()


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    path = tmp_path / "failure_snapshots.jsonl"
    rows = [to_row(request.moment) for request in asked.moments(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hints(cupel: Invoke, snapshots: Path, out: Path, *more: str) -> Result:
    return cupel(
        "teach", "hints", "--input", snapshots, "--output-dir", out, "--teacher-model",
        "gpt-4o-mini", *more,
    )  # fmt: skip


def test_hints_of_the_api_stand_in_the_labels(
    cupel: Invoke, server: Any, snapshots: Path, tmp_path: Path
) -> None:
    done = hints(cupel, snapshots, tmp_path / "out")
    assert done.exit_code == 0, done.output
    rows = [
        json.loads(line)
        for line in (tmp_path / "out/labeled_snapshots.jsonl").read_text().splitlines()
    ]
    assert len(rows) == len(server.requests) == 9
    assert all(row["hint"]["valid"] for row in rows)
    assert {row["snapshot"]["teacher_hint"]["model"] for row in rows} == {"api:gpt-4o-mini"}
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_spent_budget_stops_in_one_line_and_the_answers_are_used_later(
    cupel: Invoke, server: Any, snapshots: Path, tmp_path: Path
) -> None:
    spent = hints(cupel, snapshots, tmp_path / "a", "--set", "teacher.max_calls=4")
    assert spent.exit_code == 2
    (line,) = [line for line in spent.stderr.splitlines() if line.startswith("cupel: ")]
    assert "after 4 calls" in line
    cache = next((tmp_path / "a").rglob("hint.sqlite"))
    assert str(cache) in line
    more = ("--set", "teacher.max_calls=20", "--set", f"teacher.cache={cache}")
    done = hints(cupel, snapshots, tmp_path / "b", *more)
    assert done.exit_code == 0, done.output
    assert len(server.requests) == 9


def test_without_a_key_the_line_names_the_variable_and_the_way_offline(
    cupel: Invoke, snapshots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    done = hints(cupel, snapshots, tmp_path / "out")
    assert done.exit_code == 2
    assert "OPENAI_API_KEY holds no key" in done.stderr
    assert "--skip-api" in done.stderr
    offline = hints(cupel, snapshots, tmp_path / "offline", "--skip-api")
    assert offline.exit_code == 0, offline.output
