"""The three phases on a real server: tune each arm, run matched arms at their rates, judge."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.e2e.program import call, succeed
from tests.tinker.servers import RealServer
from tests.tinker.studies import (
    assert_once_each,
    manifest_of,
    on,
    rows_of,
    state_of,
    without_rate,
)

pytestmark = pytest.mark.tinker
STEPS = 20
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both phases run."""
    return tmp_path_factory.mktemp("phases")


@pytest.fixture(scope="module")
def sweep(folder: Path, tinker_server: RealServer) -> str:
    """Run phase 1; return what it printed."""
    return succeed(
        folder,
        *("sweep", "--sweep-root", "lr_sweep", "--lr-values", "1e-3", "--extend", 0),
        *("--probe-seeds", 9001, "--probe-steps", 2, "--workers", 2),
        *without_rate(on(tinker_server)),
    )


@pytest.fixture(scope="module")
def verdict(folder: Path, sweep: str, tinker_server: RealServer) -> str:
    """Run phase 2 with the rates of phase 1; return what it printed."""
    words = (
        *("ab", "--lr-from", "lr_sweep", "--campaign-root", "ab", "--max-steps", STEPS),
        *("--seeds", ",".join(map(str, SEEDS)), "--resamples", 200, "--no-figures"),
        *without_rate(on(tinker_server)),
    )
    planned = succeed(folder, *words)
    assert "nothing has run" in planned
    assert not list((folder / "ab").rglob("metrics.jsonl"))
    return succeed(folder, *words, "--execute", "--workers", 2)


def test_the_sweep_leaves_the_documented_files_and_says_the_next_command(
    folder: Path, sweep: str
) -> None:
    root = folder / "lr_sweep"
    results = json.loads((root / "sweep_results.json").read_text())
    assert results["best_lr"].keys() == {"grpo", "full"}
    assert results["lora_rank"] == 8
    assert [row["status"] for row in results["results"]] == ["ok", "ok"]
    for label in ("grpo_lr0.001", "full_lr0.001"):
        assert len(rows_of(root / "runs" / label)) == 2
    assert "LEARNING RATE SWEEP RESULTS" in sweep
    assert "cupel ab --baseline grpo --candidate full --baseline-lr 0.001" in sweep
    assert "--base-url http://127.0.0.1" in sweep


def test_the_arms_ran_their_steps_and_learned(folder: Path, verdict: str) -> None:
    runs = [folder / "ab/runs" / f"{arm}_s{seed}" for seed in SEEDS for arm in ("grpo", "full")]
    for run in runs:
        assert_once_each(run, STEPS)
        rates = [row["correct_rate"] for row in rows_of(run)]
        assert sum(rates[-5:]) / 5 > sum(rates[:5]) / 5 + 0.1, (run.name, rates)
        ends = [row["accuracy"] for row in rows_of(run, "evaluations.jsonl")]
        assert ends[-1] > ends[0], (run.name, ends)
    assert {rows_of(run)[0]["condition"] for run in runs} == {"grpo", "full"}
    assert "report: ab/report.html" in verdict


def test_the_campaign_leaves_the_documented_files(folder: Path, verdict: str) -> None:
    root = folder / "ab"
    for name in ("comparison", "significance"):
        assert (root / "analysis" / f"{name}.json").is_file()
        assert (root / "analysis" / f"{name}.md").is_file()
    script = root / "run_commands.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().count("cupel resume runs/") == 4
    report = json.loads((root / "analysis/significance.json").read_text())
    assert report["metrics"]["correct_rate"]["legacy"], "the documented pooled tests"


def test_the_manifest_says_with_what_each_run_was_made(folder: Path, verdict: str) -> None:
    manifest = manifest_of(folder / "ab")
    assert {arm["settings"]["lr"] for arm in manifest["conditions"].values()} == {1e-3}
    assert manifest["learning_rates_from"]["grpo"]["probe_seeds"] == [9001]
    for entry in manifest["runs"]:
        assert entry["status"] == "done"
        (found,) = entry["made_with"]
        assert found["sdk"] == manifest["provenance"]["packages"]["tinker"]
        assert found["server_reduction"] == "seq_mean"
        assert found["server"]


def test_no_run_spent_more_than_its_plan_said(folder: Path, verdict: str) -> None:
    for run in (folder / "ab/runs").iterdir():
        bounds = json.loads((run / "config.json").read_text())["costs"]
        values = json.loads((run / "result.json").read_text())["values"]
        assert 0 < values["spent_requests"] <= bounds["requests"]
        assert 0 < values["spent_sampled_tokens"] <= bounds["sampled tokens"]


def test_running_it_again_runs_nothing(folder: Path, verdict: str) -> None:
    runs = list((folder / "ab/runs").iterdir())
    before = {run: (run / "result.json").stat().st_mtime_ns for run in runs}
    again = call(folder, "run", "ab", "--no-figures")
    assert again.returncode == 0, again.stderr
    assert again.stdout == verdict[-len(again.stdout) :]
    assert {run: (run / "result.json").stat().st_mtime_ns for run in runs} == before
    assert {state_of(run)["attempts"] for run in runs} == {1}


def test_a_campaign_on_the_probe_seeds_is_refused(
    folder: Path, sweep: str, tinker_server: RealServer
) -> None:
    done = call(
        folder,
        *("ab", "--lr-from", "lr_sweep", "--campaign-root", "no", "--seeds", 9001),
        *without_rate(on(tinker_server)),
    )
    assert done.returncode == 2
    assert "probe seeds" in done.stderr
