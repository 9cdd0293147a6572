"""One run by flags: recorded as passed, never overwritten, resumed when asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cupel.rlvr.config import BACKEND_DEFAULTS
from tests.cli.conftest import Invoke, says_one_line

TOY_LR = BACKEND_DEFAULTS["toy"]["lr"]
TOY = ("--backend", "toy", "--max-steps", 4)


def test_a_run_records_what_was_passed_and_what_was_resolved(cupel: Invoke) -> None:
    result = cupel("train", *TOY, "--seed", 7, "--set", "evaluation.problems=4")
    assert result.exit_code == 0, result.output
    config = json.loads(Path("logs/train/config.json").read_text())
    assert config["passed"] == {
        "backend": "toy",
        "max_steps": 4,
        "evaluation": {"problems": 4},
    }
    assert config["seed"] == 7
    assert config["condition"] == "maxrl+gtpo_sepa"
    assert config["resolved"]["lr"] == TOY_LR
    rows = [json.loads(row) for row in Path("logs/train/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert "run folder: logs/train" in result.stdout


def test_a_flag_wins_over_the_file(cupel: Invoke) -> None:
    Path("settings.toml").write_text('backend = "toy"\nmax_steps = 9\nlr = 0.1\n')
    result = cupel("train", "--config", "settings.toml", "--max-steps", 2, "--json")
    assert result.exit_code == 0, result.output
    resolved = json.loads(Path("logs/train/config.json").read_text())["resolved"]
    assert (resolved["max_steps"], resolved["lr"]) == (2, 0.1)
    assert json.loads(result.stdout)["condition"] == "maxrl+gtpo_sepa"


def test_a_folder_with_something_in_it_is_left_alone(cupel: Invoke) -> None:
    cupel("train", *TOY)
    rows = Path("logs/train/metrics.jsonl").read_bytes()
    says_one_line(cupel("train", *TOY), "logs/train is not empty", "--resume")
    assert Path("logs/train/metrics.jsonl").read_bytes() == rows
    assert cupel("train", *TOY, "--resume").exit_code == 0
    says_one_line(cupel("train", *TOY, "--lr", 0.9, "--resume"), "holds another run")
    assert Path("logs/train/metrics.jsonl").read_bytes() == rows


def test_an_algorithm_and_its_modes_exclude_each_other(cupel: Invoke) -> None:
    clash = cupel("train", *TOY, "--algorithm", "grpo", "--transform-mode", "gtpo")
    says_one_line(clash, "algorithm = 'grpo' means transform_mode = 'none'")
    assert not Path("logs").exists()


def test_a_run_that_fails_exits_with_3(cupel: Invoke) -> None:
    result = cupel("train", *TOY, "--evaluation.start-band", "0.99,1.0")
    assert result.exit_code == 3, result.output
    assert result.stderr.splitlines()[-1].startswith("cupel: logs/train: the run failed (")
    assert json.loads(Path("logs/train/run.json").read_text())["status"] == "failed"


def test_two_runs_are_told_apart(cupel: Invoke) -> None:
    cupel("train", *TOY, "--log-dir", "a")
    cupel("train", *TOY, "--log-dir", "b", "--lr", 0.2)
    result = cupel("diff", "a", "b", "--json")
    assert result.exit_code == 1
    changed = {row["key"]: (row["a"], row["b"]) for row in json.loads(result.stdout)}
    assert changed["config.lr"] == (TOY_LR, 0.2)
    assert not any(key.startswith("config.") and key != "config.lr" for key in changed)
    assert cupel("diff", "a", "a").exit_code == 0


def test_a_run_that_was_given_what_it_cannot_use_exits_with_2(cupel: Invoke) -> None:
    plan = cupel("train", *TOY, "--log-dir", "run", "--save-every", 0)
    assert plan.exit_code == 0
    state = json.loads(Path("run/config.json").read_text())
    state["resolved"]["max_steps"] = -1
    Path("run/config.json").write_text(json.dumps(state))
    Path("run/result.json").unlink()
    resumed = cupel("resume", "run")
    assert resumed.exit_code == 2, resumed.output
    assert resumed.stderr.splitlines()[-1].startswith("cupel: run/config.json: resolved: max_steps")


def test_ctrl_c_leaves_a_run_that_continues(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "cupel", "train", "--backend", "toy", "--max-steps", "300"]
    running = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "logs/train/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (rows.is_file() and rows.read_bytes().count(b"\n") > 25):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    last = stderr.splitlines()[-1]
    assert last == "cupel: interrupted; continue with: cupel resume logs/train"
    resume = [sys.executable, "-m", "cupel", "resume", "logs/train", "--json"]
    done = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["values"]["steps"] == 300
    assert [json.loads(row)["step"] for row in rows.read_text().splitlines()] == list(range(300))


def test_a_report_opens_in_a_browser(cupel: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    cupel(
        "ab",
        *TOY,
        "--seeds",
        "1",
        "--campaign-root",
        "ab",
        "--execute",
        "--executor",
        "inline",
        "--no-figures",
    )
    assert cupel("report", "ab", "--open", "--no-figures").exit_code == 0
    assert opened == [Path("ab/report.html").resolve().as_uri()]
