"""What progress shows, for a person and for a pipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.cli.progress import Board, last_row, run_state
from cupel.cli.views import BarsView, LinesView, RunState
from cupel.lab.executors.base import Progress


def state(name: str, status: str, **more: object) -> RunState:
    """Return the state of a run of ten steps."""
    return RunState(name=name, status=status, steps=10, **more)  # type: ignore[arg-type]


def test_lines_tell_starts_ends_and_reasons_once(capsys: pytest.CaptureFixture[str]) -> None:
    view = LinesView()
    waiting = state("b", "planned")
    view.update([state("a", "planned"), waiting])
    view.update([state("a", "running", step=0), waiting])
    view.update([state("a", "running", step=4), waiting])
    view.update([state("a", "done", step=9, correct_rate=0.25), waiting])
    view.update([state("a", "done", step=9), state("b", "running")])
    view.update([state("a", "done", step=9), state("b", "failed", failure="gate: no")])
    assert capsys.readouterr().err.splitlines() == [
        "a: started",
        "[1/2] a: done, step 10/10, correct_rate 0.250",
        "b: started",
        "[2/2] b: failed, gate: no",
    ]


def test_a_run_that_was_done_before_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    LinesView().update([state("a", "done", step=9)])
    assert capsys.readouterr().err == ""


def test_a_board_keeps_what_an_event_does_not_say(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board([RunState(name="a", status="planned")])
    row = {"step": 3, "correct_rate": 0.5}
    told = {"run": "a", "condition": "c", "seed": 1}
    board.hear(Progress(**told, status="running", total=10, step=3, row=row))
    board.hear(Progress(**told, status="done"))
    board.close()
    assert "[1/1] a: done, step 4/10, correct_rate 0.500" in capsys.readouterr().err


def test_bars_draw_running_runs_and_the_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    view = BarsView()
    view.update([state("alpha", "running", step=4), state("beta", "planned")])
    view.update([state("alpha", "failed", failure="gate: no"), state("beta", "running", step=1)])
    view.close()
    drawn = capsys.readouterr().err
    assert "all runs" in drawn
    assert "1/2 runs, 1 failed" in drawn
    assert "alpha: failed, gate: no" in drawn
    assert "step 2/10" in drawn


def test_the_last_row_is_the_last_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_row(path) == {}
    rows = [json.dumps({"step": step, "pad": "x" * 300}) for step in range(200)]
    path.write_text("\n".join(rows) + '\n{"step": 200, "pa')
    assert last_row(path)["step"] == 199
    path.write_text('{"step": 0')
    assert last_row(path) == {}


def test_rows_of_an_earlier_system_have_no_status(tmp_path: Path) -> None:
    assert run_state(tmp_path).status == "planned"
    (tmp_path / "metrics.jsonl").write_text('{"step": 6, "correct_rate": 0.5}\n')
    found = run_state(tmp_path)
    assert (found.status, found.steps_done, found.correct_rate) == ("unknown", 7, 0.5)
