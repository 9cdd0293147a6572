"""`--watch`: what a person sees in a terminal, what a file is told, and what is refused."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cupel.cli.app import program
from cupel.cli.progress import run_state
from cupel.cli.views import RunState
from cupel.cli.watch import Lines, follow
from cupel.lab.run_dir import RunFolder

SETTINGS = "backend='toy'", "max_steps=3", "batch_size=4", "group_size=4", "save_every=0"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A planned study of one condition and one seed."""
    file = tmp_path / "study.toml"
    settings = "\n".join(SETTINGS)
    file.write_text(
        'name = "watched"\nrecipe = "rlvr.train"\nseeds = [1]\n'
        'conditions = [{ label = "only" }]\n[endpoint]\nmetric = "correct_rate"\nover = "all"\n'
        f"[config]\n{settings}\n[config.evaluation]\nproblems = 1\n"
    )
    folder = tmp_path / "watched"
    result = CliRunner().invoke(program, ["plan", str(file), "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def state(name: str, status: str, **more: object) -> RunState:
    return RunState(name=name, status=status, steps=10, **more)  # type: ignore[arg-type]


def test_a_file_is_told_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    looks = [
        [state("a", "planned"), state("b", "planned")],
        [state("a", "running", step=0), state("b", "planned")],
        [state("a", "running", step=5), state("b", "planned")],
        [state("a", "done", step=9), state("b", "failed", failure="gate: no")],
    ]
    rest = iter(looks)
    follow("study", lambda: next(rest), every_s=0.0)
    assert capsys.readouterr().out.splitlines() == [
        "study: 2 planned; 0 steps done",
        "a: running, step 1/10",
        "study: 1 running, 1 planned; 1 steps done",
        "a: done, step 10/10",
        "b: failed, gate: no",
        "study: 1 done, 1 failed; 10 steps done",
    ]


def test_a_file_is_told_now_and_then_though_nothing_began_or_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cupel.cli.watch.TELL_EVERY_S", 0.0)
    lines = Lines("study")
    for step in (0, 1, 1):
        lines.show([state("a", "running", step=step)])
    assert capsys.readouterr().out.splitlines() == [
        "study: 1 running; 1 steps done",
        "study: 1 running; 2 steps done",
    ]


def test_watching_survives_a_file_that_is_being_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cupel.errors import DataError

    looks = iter([[state("a", "planned")], None, [state("a", "done", step=9)]])

    def look() -> list[RunState]:
        found = next(looks)
        if found is None:
            raise DataError("run.json: not strict JSON")
        return found

    follow("study", look, every_s=0.0)
    assert "a: done" in capsys.readouterr().out


def read_until(descriptor: int, wanted: str, *, seconds: float = 30.0) -> str:
    """Read a terminal until a text stands there."""
    deadline, text = time.monotonic() + seconds, ""
    while wanted not in text:
        assert time.monotonic() < deadline, text
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                text += os.read(descriptor, 65536).decode(errors="replace")
            except OSError:  # the other end was closed
                break
    return text


def in_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start `cupel` in a terminal of its own and return it with our end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cupel", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
    )
    os.close(theirs)
    return process, ours


def test_a_person_sees_a_table_that_moves(study: Path) -> None:
    process, terminal = in_terminal("status", str(study), "--watch")
    assert "1 planned" in read_until(terminal, "1 planned")
    folder = RunFolder(next((study / "runs").iterdir()))
    folder.start({})
    assert "1 running" in read_until(terminal, "1 running")
    folder.finish({}, {}, fsync=False)
    assert "1 done" in read_until(terminal, "1 done")
    assert process.wait(30) == 0
    os.close(terminal)


def test_ctrl_c_ends_the_showing_and_nothing_else(study: Path) -> None:
    process, terminal = in_terminal("status", str(study), "--watch")
    read_until(terminal, "1 planned")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    os.close(terminal)
    assert run_state(next((study / "runs").iterdir())).status == "planned"


def test_nohup_writes_plain_lines_and_outlives_its_terminal(study: Path, tmp_path: Path) -> None:
    log = tmp_path / "nohup.out"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["nohup", sys.executable, "-m", "cupel", "run", str(study), "--executor", "inline"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while "started" not in log.read_text() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(120) == 0, log.read_text()
    text = log.read_text()
    assert "[1/1] only_s1: done, step 3/3" in text
    assert "\x1b" not in text
    assert "\r" not in text


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("status", "--watch"), "needs the folder of one study or of one run"),
        (("status", "STUDY", "--watch", "--json"), "exclude each other"),
        (("report", "STUDY", "--watch", "--json"), "exclude each other"),
        (("report", "STUDY", "--port", "80"), "only with --watch"),
        (("report", "STUDY", "--watch", "--host", "0.0.0.0"), "--allow-remote"),
        (("report", "STUDY", "--watch", "--port", "99999"), "99999"),
    ],
)
def test_refuses_in_one_line(
    study: Path, words: tuple[str, ...], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(study) if word == "STUDY" else word for word in words]
    result = CliRunner().invoke(program, given)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert part in lines[0]


def test_a_served_report_ends_with_ctrl_c_and_tells_its_address(study: Path) -> None:
    process, terminal = in_terminal("report", str(study), "--watch")
    text = read_until(terminal, "Ctrl-C ends it")
    assert "http://127.0.0.1:" in text
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    os.close(terminal)
    assert not (study / "report.html").exists()
