"""A study from its file to its verdict, through the real command line and the toy backend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, Shell, says_one_line

INLINE = ("--executor", "inline", "--no-figures")
STUDY = """
name = "toy"
question = "Does MaxRL learn faster than GRPO on a table?"
seeds = [1, 2, 3, 4, 5, 6]

[config]
backend = "toy"
max_steps = {steps}

[[conditions]]
label = "grpo+none"
config = {{ advantage_mode = "grpo", transform_mode = "none" }}

[[conditions]]
label = "maxrl+none"
config = {{ advantage_mode = "maxrl", transform_mode = "none" }}

[endpoint]
metric = "eval/accuracy"
over = "last"

[decision]
resamples = 200
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write a small study of the toy backend."""
    path = tmp_path / "toy.toml"
    path.write_text(STUDY.format(steps=5))
    return path


def test_a_plan_says_what_would_run_and_runs_nothing(cupel: Invoke, study: Path) -> None:
    result = cupel("plan", study)
    assert result.exit_code == 0, result.output
    assert "12 runs = 2 conditions x 6 seeds" in result.stdout
    assert "smallest reachable p = 0.03125" in result.stdout
    folder = Path("results/toy")
    for name in ("study.toml", "plan.lock", "manifest.json", "run_commands.sh"):
        assert (folder / name).is_file()
    assert len(list((folder / "runs").iterdir())) == 12
    assert not list(folder.rglob("metrics.jsonl"))


def test_a_plan_as_json_is_json_alone(cupel: Invoke, study: Path) -> None:
    plan = json.loads(cupel("plan", study, "--json", "--set", "seeds=[1,2,3]").stdout)
    assert plan["smallest_p"] == 0.25
    assert [run["seed"] for run in plan["runs"]] == [1, 1, 2, 2, 3, 3]
    assert any("cannot reach significance" in text for text in plan["warnings"])


def test_a_study_runs_is_judged_and_reported(cupel: Invoke, study: Path) -> None:
    result = cupel("run", study, "--executor", "inline")
    assert result.exit_code == 0, result.output
    assert "Over 6 training seeds" in result.stdout
    assert "report: results/toy/report.html" in result.stdout
    folder = Path("results/toy")
    assert len(list(folder.glob("runs/*/result.json"))) == 12
    for name in ("comparison", "significance", "litmus"):
        assert (folder / "analysis" / f"{name}.json").is_file()
        assert (folder / "analysis" / f"{name}.md").is_file()
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "figures" / "effect.svg").is_file()


def test_running_again_runs_nothing_and_says_the_same(cupel: Invoke, study: Path) -> None:
    first = cupel("run", study, *INLINE)
    stamps = {path: path.stat().st_mtime_ns for path in Path("results").rglob("result.json")}
    second = cupel("run", study, *INLINE)
    assert second.exit_code == 0, second.output
    assert second.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_processes_write_the_bytes_that_inline_writes(shell: Shell, study: Path) -> None:
    words = ("--set", "config.max_steps=3", "--set", "seeds=[1,2]", "--no-figures")
    for executor in ("inline", "processes"):
        done = shell("run", study, "--executor", executor, "--out", executor, *words)
        assert done.returncode == 0, done.stderr
    generations = "runs/maxrl+none_s2/emergence/generations.jsonl"
    one, other = (study.parent / name / generations for name in ("inline", "processes"))
    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes()


def test_status_tells_what_is_done(cupel: Invoke, study: Path) -> None:
    assert "no study and no run" in cupel("status").stdout
    cupel("plan", study)
    listed = json.loads(cupel("status", "results/toy", "--json").stdout)
    assert {run["status"] for run in listed["runs"]} == {"planned"}
    cupel("resume", "results/toy/runs/grpo+none_s1")
    cupel("train", "--backend", "toy", "--max-steps", 2, "--log-dir", "logs/one")
    entries = {
        Path(entry["folder"]).as_posix(): entry
        for entry in json.loads(cupel("status", "--json").stdout)
    }
    assert entries["results/toy"]["counts"] == {"done": 1, "planned": 11}
    assert entries["logs/one"]["kind"] == "run"
    assert "1 done, 11 planned" in cupel("status", "results/toy").stdout


def test_a_silent_run_is_called_stale(cupel: Invoke, study: Path) -> None:
    cupel("plan", study)
    folder = Path("results/toy/runs/grpo+none_s1")
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"status": "running"}))
    beat = {"time": time.time() - 600, "pid": 1, "step": 3, "doing": "sampling"}
    (folder / "heartbeat.json").write_text(json.dumps(beat))
    runs = json.loads(cupel("status", "results/toy", "--json").stdout)["runs"]
    assert runs[0]["status"] == "stale"
    assert runs[0]["note"].startswith("silent for 10 min")


def test_the_analysis_commands_read_a_study_and_its_folders(cupel: Invoke, study: Path) -> None:
    cupel("run", study, *INLINE)
    runs = Path("results/toy/runs")
    arms = ["--baseline", *sorted(runs.glob("grpo+none_s*"))]
    arms += ["--candidate", *sorted(runs.glob("maxrl+none_s*"))]
    shown = cupel(
        "significance", *arms, "--resamples", 200, "--output", "s.json", "--markdown", "s.md"
    )
    assert shown.exit_code == 0, shown.output
    report = json.loads(Path("s.json").read_text())
    assert report["recommendation"] in (
        "statistically_significant_improvement",
        "insufficient_statistical_evidence",
        "significant_degradation",
    )
    assert Path("s.md").read_text().strip() in shown.stdout
    assert cupel("significance", "results/toy").exit_code == 0
    compared = cupel("compare", "results/toy", "--json")
    assert compared.exit_code == 0, compared.output
    assert json.loads(compared.stdout)


def test_litmus_sets_its_exit_code(cupel: Invoke, study: Path) -> None:
    cupel("run", study, *INLINE)
    words = (
        "litmus",
        "results/toy",
        "--mode",
        "point",
        "--min-steps-per-run",
        1,
        "--min-generations-per-run",
        1,
        "--min-gram-pairs-per-run",
        0,
    )
    low = cupel(
        *words,
        "--min-reward-lift",
        -1,
        "--min-correct-rate-lift",
        -1,
        "--min-gram-entropy-delta-lift",
        -9,
    )
    high = cupel(*words, "--min-reward-lift", 1, "--min-correct-rate-lift", 1)
    scarce = cupel("litmus", "results/toy", "--min-run-pairs", 100)
    assert [low.exit_code, high.exit_code, scarce.exit_code] == [0, 1, 4], low.output


def test_a_report_can_be_written_again(cupel: Invoke, study: Path) -> None:
    cupel("run", study, *INLINE)
    page = Path("results/toy/report.html")
    before = page.read_bytes()
    page.unlink()
    result = cupel("report", "results/toy", "--no-figures")
    assert result.exit_code == 0, result.output
    assert len(page.read_bytes()) == len(before)


def test_ctrl_c_leaves_a_study_that_continues(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(STUDY.format(steps=400))
    line = [sys.executable, "-m", "cupel", "run", "toy.toml", "--workers", "2"]
    running = subprocess.Popen(
        line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    rows = tmp_path / "results/toy/runs"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in rows.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("cupel: interrupted; ")
    assert last.endswith("continue with: cupel run results/toy")
    assert "Traceback" not in stderr


def test_a_planned_study_refuses_to_be_another_one(cupel: Invoke, study: Path) -> None:
    cupel("run", study, *INLINE, "--set", "seeds=[1,2]")
    changed = cupel("plan", study, "--set", "seeds=[1,2,3]")
    says_one_line(changed, "differs from plan.lock in", "seeds")
    assert cupel("plan", study, "--set", "seeds=[1,2,3]", "--amend", "one more").exit_code == 0
    says_one_line(cupel("run", "results/toy", "--set", "seeds=[1]"), "planned already")
