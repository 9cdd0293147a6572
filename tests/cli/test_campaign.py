"""campaign and ab: plan by default, run when asked, stop or go on after a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.config import load_toml
from tests.cli.conftest import Invoke, says_one_line

TOY = ("--backend", "toy", "--max-steps", 3, "--seeds", "1,2", "--eval-problems", 4)
FAILING = (*TOY, "--evaluation.start-band", "0.99,1.0")
RUN = ("--execute", "--executor", "inline", "--no-figures")


def test_a_campaign_is_planned_in_a_folder_named_by_its_time(cupel: Invoke) -> None:
    result = cupel("campaign", "--backend", "toy")
    assert result.exit_code == 0, result.output
    assert "40 runs = 5 conditions x 8 seeds" in result.stdout
    (root,) = Path("logs").iterdir()
    assert root.name.startswith("campaign_2")
    study = load_toml(root / "study.toml")
    assert study["config"] == {"backend": "toy", "max_steps": 100}
    assert study["decision"]["candidate"] == "maxrl+gtpo_sepa"
    assert not list(root.rglob("metrics.jsonl"))
    assert (root / "runs" / "maxrl+gtpo_sepa_s707" / "config.json").is_file()


def test_the_tracker_project_is_in_the_record(
    cupel: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["campaign", "--backend", "toy", "--campaign-root", "c", "--wandb-project", "mine"]
    monkeypatch.setattr("sys.argv", ["cupel", *words])
    assert cupel(*words).exit_code == 0
    argv = json.loads(Path("c/manifest.json").read_text())["argv"]
    assert argv[:2] == ["cupel", "campaign"]
    assert argv[-2:] == ["--wandb-project", "mine"]


def test_shared_settings_come_from_file_set_and_flags_in_this_order(cupel: Invoke) -> None:
    Path("shared.toml").write_text('backend = "toy"\nlr = 0.1\ngroup_size = 2\nbatch_size = 2\n')
    result = cupel(
        "campaign",
        "--config",
        "shared.toml",
        "--set",
        "group_size=3",
        "--set",
        "batch_size=3",
        "--batch-size",
        5,
        "--seeds",
        "1",
        "--conditions",
        "grpo+none,maxrl+none",
        "--campaign-root",
        "c",
    )
    assert result.exit_code == 0, result.output
    assert load_toml(Path("c/study.toml"))["config"] == {
        "backend": "toy",
        "lr": 0.1,
        "group_size": 3,
        "batch_size": 5,
        "max_steps": 100,
    }


def test_an_ab_runs_both_arms_on_the_same_seeds_at_their_own_rates(cupel: Invoke) -> None:
    words = ("--baseline-lr", 0.2, "--candidate-lr", 0.4, "--campaign-root", "ab")
    result = cupel("ab", *TOY, *words, *RUN)
    assert result.exit_code == 0, result.output
    assert "Over 2 training seeds" in result.stdout
    runs = {
        path.name: json.loads((path / "config.json").read_text())
        for path in Path("ab/runs").iterdir()
    }
    assert sorted(runs) == ["full_s1", "full_s2", "grpo_s1", "grpo_s2"]
    assert {name: run["resolved"]["lr"] for name, run in runs.items()} == {
        "grpo_s1": 0.2,
        "grpo_s2": 0.2,
        "full_s1": 0.4,
        "full_s2": 0.4,
    }


def test_one_seed_names_its_runs_by_their_role(cupel: Invoke) -> None:
    result = cupel("ab", *TOY, "--seeds", 7, "--campaign-root", "ab", *RUN)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("ab/runs").iterdir()) == ["baseline", "candidate"]
    assert json.loads(Path("ab/analysis/significance.json").read_text())["verdict"] != "improvement"


def test_the_first_failure_stops_an_ab(cupel: Invoke) -> None:
    result = cupel("ab", *FAILING, "--campaign-root", "ab", *RUN)
    assert result.exit_code == 3, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("cupel: grpo_s1 failed: ")
    assert last.endswith("so does: cupel run ab")
    statuses = json.loads(cupel("status", "ab", "--json").stdout)["runs"]
    assert [run["status"] for run in statuses] == ["failed", "planned", "planned", "planned"]


def test_continue_on_error_runs_every_run_and_still_exits_with_3(cupel: Invoke) -> None:
    result = cupel("ab", *FAILING, "--continue-on-error", "--campaign-root", "ab", *RUN)
    assert result.exit_code == 3, result.output
    statuses = json.loads(cupel("status", "ab", "--json").stdout)["runs"]
    assert [run["status"] for run in statuses] == ["failed"] * 4
    assert result.stderr.count("warning: ") >= 4
    assert Path("ab/report.html").is_file()


def test_a_plan_can_be_run_later(cupel: Invoke) -> None:
    assert cupel("ab", *TOY, "--campaign-root", "ab").exit_code == 0
    assert not list(Path("ab").rglob("metrics.jsonl"))
    result = cupel("run", "ab", "--executor", "inline", "--no-figures", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["verdict"] == "inconclusive"
    assert facts["report"] == "ab/report.html"


def test_an_unknown_condition_writes_nothing(cupel: Invoke) -> None:
    says_one_line(cupel("campaign", "--conditions", "grpo+none,maxlr+none"), "did you mean 'maxrl'")
    assert not Path("logs").exists()
